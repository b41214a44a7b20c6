"""A trial on each kind of data set, from its settings to its result, at the smallest size that works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ablations.datasets import registry
from ablations.datasets.builtin import Expected
from ablations.datasets.registry import facts_of, get_folder_set
from ablations.spec.parts import DataSpec
from runners.data.readers.cifar import FILES
from runners.state.nodes import NodeState
from runners.training.network import augmentation_of, open_source
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench
from tests.runners.data.cifar_files import write_cifar

AUGMENTED: dict[str, Any] = {
    "data__augmentation": "resized_crop_flip",
    "data__rand_augment": 1,
    "data__mixup": 0.2,
    "data__cutmix": 1.0,
}


def run(bench: Bench, **settings: Any) -> NodeState:
    node = bench.trial(train__epochs=1, **settings)
    run_node(Task(bench.root, node.fingerprint, device="cpu"))
    state = bench.states[node.fingerprint]
    assert state.is_done, state.failure()
    return state


def classes_measured(state: NodeState) -> int:
    result = state.result()
    assert result is not None
    assert 0 <= result["metrics"]["test/top1"] <= 100
    return sum(key.startswith("test/top1.class.") for key in result["metrics"])


def write_images(root: Path, counts: dict[str, int], size: int = 20) -> Path:
    """Writes noisy images of three classes, each of another colour."""
    generator = np.random.default_rng(0)
    for part, count in counts.items():
        for label, name in enumerate(("ant", "bee", "cat")):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 80, (size, size, 3), dtype=np.uint8)
                pixels[..., label] += 150
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.mark.parametrize("augmentation", [{"data__augmentation": "crop"}, AUGMENTED], ids=["shifted", "everything"])
def test_digits(bench: Bench, augmentation: dict[str, Any]) -> None:
    state = run(bench, data__name="digits", **augmentation)
    assert classes_measured(state) == 10


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    facts = facts_of(name)
    counts = {"train_images": 300, "validation_images": 100, "test_images": 200}
    monkeypatch.setitem(registry.DATASETS, name, dataclasses.replace(facts, digest=None, **counts))
    monkeypatch.setitem(FILES, name, write_cifar(tmp_path / "files", FILES[name], (400, 200), facts.num_classes))
    sizes = {"data__validation_images": None, "data__test_images": None}
    assert classes_measured(run(bench, data__name=name, data__root=str(tmp_path / "files"), **sizes)) == len(
        facts.class_names
    )


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_image_folder_whatever_the_number_of_worker_processes(bench: Bench, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"train": 24, "test": 10})
    settings = {"data__name": "image_folder", "data__root": str(root), "data__image_size": 16, **AUGMENTED}
    weights = []
    for workers in (0, 2):
        other = Bench(tmp_path / f"{workers} workers")
        sizes = {"data__validation_images": 6, "data__workers": workers}
        state = run(other, **settings, **sizes)
        assert classes_measured(state) == 3
        weights.append(load_file(state.weights_file))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_workers_of_the_spec_reach_the_loader(tmp_path: Path, bench: Bench) -> None:
    root = write_images(tmp_path / "images", {"train": 24, "test": 10})
    node = bench.trial(
        data__name="image_folder",
        data__root=str(root),
        data__augmentation="none",
        data__validation_images=6,
        data__workers=3,
        data__image_size=24,
    )
    source = open_source(node.spec, torch.device("cpu"), torch.contiguous_format)
    assert source._settings.workers == 3  # type: ignore[attr-defined]
    assert source.facts == node.spec.data.facts
    assert source.digest == node.spec.data.facts.digest
    assert source.facts.image_size == 24


def test_a_folder_that_changes_after_the_plan_is_not_trained_under_the_old_fingerprint(
    bench: Bench, tmp_path: Path
) -> None:
    root = write_images(tmp_path / "images", {"train": 24, "test": 10})
    settings = {"data__name": "image_folder", "data__augmentation": "none", "data__image_size": 16}
    node = bench.trial(**settings, data__root=str(root), data__validation_images=6)
    (root / "train" / "ant" / "0.png").unlink()
    registry.forget_folders()  # as in a worker process, which has not looked yet
    assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "failed"
    failure = bench.states[node.fingerprint].failure()
    assert failure is not None
    assert "have changed since this was planned" in failure["message"]


def test_a_validation_folder_is_the_validation_split(bench: Bench, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"train": 24, "val": 5, "test": 10})
    settings = {"data__name": "image_folder", "data__augmentation": "none", "data__image_size": 20}
    node = bench.trial(**settings, data__root=str(root), data__validation_images=15, data__train_images=72)
    source = open_source(node.spec, torch.device("cpu"), torch.contiguous_format)
    assert [source.num_images(split) for split in ("train", "validation", "test")] == [72, 15, 30]  # type: ignore[arg-type]
    assert source._files["validation"].paths[:2] == ("val/ant/0.png", "val/ant/1.png")  # type: ignore[attr-defined]


def test_imagenet_and_tiny_imagenet(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "imagenet", {"train": 24, "val": 10})
    tiny = write_images(tmp_path / "pool", {"train": 24, "val": 10})
    for name in ("ant", "bee", "cat"):
        (tiny / "train" / name).rename(tiny / "train" / "images")
        (tiny / "train" / name).mkdir()
        (tiny / "train" / "images").rename(tiny / "train" / name / "images")
        (tiny / "val" / "images").mkdir(exist_ok=True)
        with (tiny / "val" / "val_annotations.txt").open("a") as notes:
            for i in range(10):
                (tiny / "val" / name / f"{i}.png").rename(tiny / "val" / "images" / f"{name}{i}.png")
                notes.write(f"{name}{i}.png\t{name}\t0\t0\t9\t9\n")
    (tiny / "wnids.txt").write_text("ant\nbee\ncat\n")
    small = Expected(num_classes=3, train_images=60, validation_images=12, test_images=30)
    for name, root in (("imagenet", tmp_path / "imagenet"), ("tiny_imagenet", tiny)):
        monkeypatch.setitem(registry.FOLDERS, name, dataclasses.replace(get_folder_set(name), expected=small))
        settings = {"data__name": name, "data__root": str(root), "data__image_size": 16, "data__validation_images": 12}
        assert classes_measured(run(bench, **settings, data__augmentation="resized_crop_flip")) == 3


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        ("none", (0, False, False)),
        ("crop", (2, False, False)),
        ("crop_flip", (2, False, True)),
        ("resized_crop_flip", (0, True, True)),
    ],
)
def test_what_an_augmentation_means(augmentation: Any, expected: tuple[int, bool, bool]) -> None:
    padding = 2 if augmentation.startswith("crop") else None
    data = DataSpec(augmentation=augmentation, crop_padding=padding, rand_augment=3, rand_augment_magnitude=7)
    found = augmentation_of(data)
    assert (found.crop_padding, found.resized_crop, found.flip) == expected
    assert (found.rand_augment, found.rand_augment_magnitude) == (3, 7)


def test_augmentation_and_mixing_change_what_is_trained(bench: Bench) -> None:
    kinds: list[dict[str, Any]] = [
        {"data__augmentation": "none"},
        {"data__augmentation": "crop"},
        {"data__augmentation": "none", "data__rand_augment": 2},
        {"data__augmentation": "none", "data__mixup": 0.5},
        {"data__augmentation": "none", "data__cutmix": 0.5},
    ]
    weights = [load_file(run(bench, data__name="digits", **kind).weights_file) for kind in kinds]
    first = [tuple(found["features.0.0.weight"].flatten().tolist()) for found in weights]
    assert len(set(first)) == len(kinds)
