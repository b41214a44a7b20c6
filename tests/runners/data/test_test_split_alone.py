"""A network that was trained elsewhere is measured on the test split alone: training images need not be there."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations.datasets import registry
from ablations.datasets.builtin import Expected
from ablations.datasets.folders import list_held_out, list_tiny_imagenet, list_tiny_imagenet_test
from ablations.datasets.registry import facts_of, forget_folders, get_folder_set
from ablations.errors import DatasetError
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import find_studies
from ablations.spec.inspected import NetworkSpec, resolve_network
from ablations.spec.trial import resolve
from runners.training.evaluation import evaluate
from runners.training.network import build_network, open_source
from tests.runners.bench import TINY
from tests.runners.data.test_data_sets import write_images

STUDY = """\
name: mine
question: Does it need its kernels?
reference: attention
inspect: {checkpoint: theirs.pth}
variants:
  attention: {}
  average: {intervention: {aggregation: average}}
"""


@pytest.fixture(autouse=True)
def _looked_at_anew() -> Iterator[None]:
    forget_folders()
    yield
    forget_folders()


def of_folder(root: Path, **changes: Any) -> dict[str, Any]:
    settings = {"data.name": "image_folder", "data.root": str(root), "data.image_size": 16, "data.test_images": None}
    return {**TINY, **settings, **changes}


def measured(root: Path) -> NetworkSpec:
    return resolve_network([of_folder(root)], {})


def test_the_facts_are_those_of_the_test_split(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"test": 4, "val": 3})
    facts = measured(root).data.facts
    assert (facts.num_classes, facts.test_images, facts.train_images, facts.validation_images) == (3, 12, 0, 0)
    assert facts.class_names == ("ant", "bee", "cat")
    assert facts.is_test_only
    # Without a folder for tests, the validation images are the test split, as for ImageNet.
    shutil.rmtree(root / "test")
    forget_folders()
    assert measured(root).data.facts.test_images == 9


def test_training_images_beside_it_change_nothing(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"test": 4})
    alone = measured(root).data.facts
    write_images(root, {"train": 5})
    (root / "train" / "ant" / "broken.png").write_bytes(b"no picture")
    forget_folders()
    assert measured(root).data.facts == alone


def test_the_content_of_the_test_images_decides_the_digest(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"test": 4})
    digest = measured(root).data.facts.digest
    (root / "test" / "ant" / "0.png").write_bytes((root / "test" / "bee" / "0.png").read_bytes())
    forget_folders()
    assert measured(root).data.facts.digest not in (None, digest)


def test_the_images_are_those_that_a_training_is_measured_on(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"test": 4, "train": 8})
    settings = of_folder(root, **{"data.augmentation": "none", "data.train_images": 20, "data.validation_images": 2})
    whole = resolve([settings], {}, seed=0)
    spec = measured(root)
    model = build_network(spec.model, spec.data.facts, 1)
    measurements = []
    for source in (open_source(spec, torch.device("cpu"), torch.channels_last) for spec in (whole, spec)):
        assert source.num_images("test") == 12
        measurements.append(evaluate(model, source.evaluation("test"), 3))
    assert measurements[0].loss == measurements[1].loss
    assert torch.equal(measurements[0].labels, measurements[1].labels)


def test_nothing_can_be_trained_on_it(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"val": 4})
    with pytest.raises(DatasetError, match="train cannot be read"):
        resolve([of_folder(root, **{"data.augmentation": "none"})], {}, seed=0)
    source = open_source(measured(root), torch.device("cpu"), torch.channels_last)
    assert (source.num_images("train"), source.steps_per_epoch) == (0, 0)
    assert list(source.training(0)) == []


@pytest.mark.parametrize("in_file", [True, False])
def test_a_study_is_planned_without_training_images(tmp_path: Path, in_file: bool) -> None:
    root = write_images(tmp_path / "images", {"val": 4})
    (tmp_path / "theirs.pth").write_bytes(b"PK weights")
    (tmp_path / "mine.yaml").write_text(STUDY)
    overrides = {"data.name": "image_folder", "data.root": str(root), "data.image_size": 32, "data.test_images": 6}
    name = str(tmp_path / "mine.yaml")
    if not in_file:
        overrides["inspect"] = [str(tmp_path / "theirs.pth")]
        name = "aggregation"
    request = Request(get_preset("smoke"), overrides)
    plan = make_plan(find_studies([name], False, request), request)
    assert len(plan.networks) == 1
    assert all(facts.is_test_only for facts in plan.data_facts)
    # Whoever trains is told what is missing.
    training = {key: value for key, value in overrides.items() if key != "inspect"}
    request = Request(get_preset("smoke"), {**training, "data.augmentation": "none"})
    with pytest.raises(DatasetError, match="train cannot be read"):
        make_plan(find_studies(["temperature"], False, request), request)


def test_imagenet_needs_its_validation_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images(tmp_path / "images", {"val": 2})
    small = Expected(num_classes=3, train_images=30, validation_images=3, test_images=6)
    folder = dataclasses.replace(get_folder_set("imagenet"), expected=small)
    monkeypatch.setitem(registry.FOLDERS, "imagenet", folder)
    facts = facts_of("imagenet", root, test_only=True)
    assert (facts.test_images, facts.image_size, facts.train_images) == (6, 224, 0)
    with pytest.raises(DatasetError, match="train cannot be read"):
        facts_of("imagenet", root)
    shutil.rmtree(root / "val" / "cat")
    forget_folders()
    with pytest.raises(DatasetError, match="has 2 class folders, expected 3"):
        facts_of("imagenet", root, test_only=True)


def test_a_folder_without_test_images_says_what_it_needs(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"train": 2})
    with pytest.raises(DatasetError, match=r"val cannot be read.*test/<class>/ \(or val/<class>/\)"):
        list_held_out(root, "image_folder", None)


def test_tiny_imagenet_is_the_same_with_and_without_its_training_images(tmp_path: Path) -> None:
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    images = tmp_path / "val" / "images"
    images.mkdir(parents=True)
    for name in ("a.JPEG", "b.JPEG", "c.JPEG"):
        (images / name).write_bytes(b"")
    (tmp_path / "val" / "val_annotations.txt").write_text("a.JPEG\tn02\t0\nb.JPEG\tn01\t0\nc.JPEG\tn02\t0\n")
    alone = list_tiny_imagenet_test(tmp_path, "tiny_imagenet", 2)
    assert (alone.test.class_names, alone.test.labels, len(alone.train)) == (("n01", "n02"), (1, 0, 1), 0)
    with pytest.raises(DatasetError, match=r"train/n01/images cannot be read"):
        list_tiny_imagenet(tmp_path, "tiny_imagenet", 2)
    for wnid in ("n01", "n02"):
        (tmp_path / "train" / wnid / "images").mkdir(parents=True)
        (tmp_path / "train" / wnid / "images" / "x.JPEG").write_bytes(b"")
    assert list_tiny_imagenet(tmp_path, "tiny_imagenet", 2).test == alone.test
