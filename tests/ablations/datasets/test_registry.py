"""Facts of data sets: registered, or from the user's folders; and what plans and fingerprints make of them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ablations.datasets import folders, registry
from ablations.datasets.builtin import Expected, FolderSet
from ablations.datasets.folder_contents import read_folder
from ablations.datasets.folders import list_image_folder
from ablations.datasets.registry import facts_of, get_folder_set, register_folder_set, stated_facts
from ablations.errors import AblationError, DatasetError, SpecError, UnknownNameError
from ablations.spec.fingerprint import trial_fingerprint
from ablations.spec.parts import DataSpec
from ablations.spec.trial import resolve

FILES = {"data.name": "image_folder", "data.augmentation": "resized_crop_flip", "train.batch_size": 8}


def make_folder(root: Path, train: int = 20, test: int = 4) -> Path:
    """Writes tiny pictures of one colour each."""
    for part, count in (("train", train), ("test", test)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (2, 2), (i, len(part), ord(name[0]))).save(root / part / name / f"{i}.png")
    return root


def test_facts_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    facts = facts_of("image_folder", make_folder(tmp_path))
    assert (facts.num_classes, facts.class_names, facts.channels, facts.image_size) == (2, ("ant", "bee"), 3, 224)
    assert (facts.train_images, facts.validation_images, facts.test_images) == (36, 4, 8)
    assert facts.digest == read_folder("image_folder", list_image_folder(tmp_path, "image_folder", None)).digest


def test_an_own_validation_folder_leaves_the_training_images_alone(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for name in ("ant", "bee"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / "val" / name / "0.png")
    facts = facts_of("image_folder", tmp_path)
    assert (facts.train_images, facts.validation_images, facts.test_images) == (40, 2, 8)


def test_a_folder_is_listed_once_whatever_the_image_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    original = folders._list_images
    monkeypatch.setattr(folders, "_list_images", lambda *places: listed.append(places[1]) or original(*places))
    make_folder(tmp_path)
    sizes = [facts_of("image_folder", tmp_path, size).image_size for size in (32, 64, None)]
    assert sizes == [32, 64, 224]
    assert listed == ["train/ant", "train/bee", "test/ant", "test/bee"]


def test_a_relative_folder_is_the_one_below_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("one", 20), ("two", 30)):
        make_folder(tmp_path / name / "images", count)
        monkeypatch.chdir(tmp_path / name)
        assert facts_of("image_folder", "images").train_images == 2 * count * 0.9


def test_without_files_registered_folder_sets_have_facts_and_no_digest() -> None:
    for name, classes, size in (("imagenet", 1000, 224), ("tiny_imagenet", 200, 64)):
        facts = facts_of(name)
        assert (facts.num_classes, facts.image_size, facts.digest, facts.class_names) == (classes, size, None, ())
        assert facts_of(name, image_size=96).image_size == 96
    tiny = facts_of("tiny_imagenet")
    assert (tiny.train_images, tiny.validation_images, tiny.test_images) == (90_000, 10_000, 10_000)


def test_a_registered_folder_set_must_have_its_classes(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "test").rename(tmp_path / "val")
    with pytest.raises(DatasetError, match="train has 2 class folders, expected 1000"):
        facts_of("imagenet", tmp_path)


def test_an_image_folder_is_nothing_without_its_files() -> None:
    for ask in (facts_of, facts_of):
        with pytest.raises(DatasetError, match=r"Image folder needs data\.root: .*train/<class>/"):
            ask("image_folder")


def test_images_in_memory_do_not_depend_on_a_folder() -> None:
    assert facts_of("digits", "/nowhere", 99) == facts_of("digits")


def test_stated_facts_stand_for_files_that_are_elsewhere(tmp_path: Path) -> None:
    facts = facts_of("image_folder", make_folder(tmp_path / "here"))
    elsewhere = tmp_path / "elsewhere"
    with stated_facts({("image_folder", False): facts}):
        assert facts_of("image_folder", elsewhere) == facts
        assert facts_of("image_folder", elsewhere, 64) == dataclasses.replace(facts, image_size=64)
        # Of the test split alone nothing was stated.
        with pytest.raises(DatasetError, match="elsewhere"):
            facts_of("image_folder", elsewhere, test_only=True)
    with pytest.raises(DatasetError, match="elsewhere"):
        facts_of("image_folder", elsewhere)


def test_what_is_known_without_files_cannot_be_stated_otherwise() -> None:
    facts = facts_of("fashion_mnist_mini")
    with stated_facts({("fashion_mnist_mini", False): dataclasses.replace(facts, digest="0" * 64)}):
        assert facts_of("fashion_mnist_mini") == facts


def test_a_typo_names_the_nearest_of_both_kinds() -> None:
    for typo, nearest in (("cifar_10", "cifar10"), ("image_foldr", "image_folder")):
        with pytest.raises(UnknownNameError, match=nearest):
            facts_of(typo)
    with pytest.raises(UnknownNameError, match="'tiny_imagenet'"):
        get_folder_set("tiny_imagnet")


@pytest.fixture
def own_folder_set(monkeypatch: pytest.MonkeyPatch) -> FolderSet:
    monkeypatch.setattr(registry, "FOLDERS", dict(registry.FOLDERS))
    return register_folder_set(
        FolderSet(
            name="leaves",
            title="Leaves",
            image_size=48,
            layout=list_image_folder,
            source="a test",
            licence="none",
            expected=Expected(num_classes=2, train_images=30, validation_images=10, test_images=8),
        )
    )


@pytest.mark.usefixtures("own_folder_set")
def test_an_own_folder_set_is_known_everywhere(tmp_path: Path) -> None:
    spec = resolve([FILES], {"data.name": "leaves", "data.workers": 2, "data.root": str(make_folder(tmp_path))}, 0)
    assert (spec.data.image_size, spec.data.workers) == (48, 2)
    assert spec.data.facts.train_images == 30
    for name in ("leaves", "digits"):
        with pytest.raises(DatasetError, match=f"'{name}' is registered twice"):
            register_folder_set(dataclasses.replace(get_folder_set("leaves"), name=name))


def fingerprint(root: Path | None, **settings: Any) -> str:
    where = {} if root is None else {"data.root": str(root)}
    return trial_fingerprint(resolve([FILES, settings], where, 0))


def test_a_fingerprint_follows_the_content_of_the_folder_and_not_its_place(tmp_path: Path) -> None:
    one, same, other = (make_folder(tmp_path / name, count) for name, count in (("a", 20), ("b", 20), ("c", 21)))
    found = [fingerprint(root) for root in (one, same, other)]
    assert found[0] == found[1] != found[2]


def test_a_fingerprint_of_imagenet_follows_its_files_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (make_folder(tmp_path) / "test").rename(tmp_path / "val")
    small = Expected(num_classes=2, train_images=36, validation_images=4, test_images=8)
    monkeypatch.setitem(registry.FOLDERS, "imagenet", dataclasses.replace(get_folder_set("imagenet"), expected=small))
    named, unnamed = (fingerprint(root, **{"data.name": "imagenet"}) for root in (tmp_path, None))
    assert named != unnamed


def test_what_cannot_change_a_result_does_not_change_a_fingerprint(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    assert fingerprint(root, **{"data.workers": 4}) == fingerprint(root)
    downloads = [resolve([], {"data.name": "cifar10", "data.download": asked}, 0) for asked in (False, True)]
    assert trial_fingerprint(downloads[0]) == trial_fingerprint(downloads[1])


def test_the_own_size_given_explicitly_is_the_same_trial(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    assert fingerprint(root, **{"data.image_size": 224}) == fingerprint(root)
    assert fingerprint(root, **{"data.image_size": 64}) != fingerprint(root)
    assert resolve([FILES], {"data.root": str(root)}, 0).data.image_size == 224


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.augmentation": "crop_flip"}, "'image_folder' is read from files.*'resized_crop_flip', or 'none'"),
        ({"data.augmentation": "crop"}, "'image_folder' is read from files"),
        ({"data.name": "digits", "data.image_size": 32}, "data.image_size = 32 would be read by nothing"),
        ({"data.name": "digits", "data.workers": 2}, "'image_folder' or 'imagenet' or 'tiny_imagenet'"),
        ({"data.download": True}, "'cifar10' or 'cifar100' or 'fashion_mnist'"),
        ({"data.rand_augment_magnitude": 5}, "only if data.rand_augment is at least 1, and that is 0"),
        ({"data.rand_augment": 17}, "less than or equal to 16"),
        ({"data.rand_augment": 1, "data.rand_augment_magnitude": 31}, "less than or equal to 30"),
        ({"data.image_size": 4}, "greater than or equal to 8"),
        ({"data.workers": -1}, "greater than or equal to 0"),
        ({"data.cutmix": -1.0}, "greater than or equal to 0"),
        ({"data.train_images": 37}, "data.train_images = 37, but 'image_folder' has 36"),
        ({"train.batch_size": 37}, "more than the 36 training images"),
    ],
)
def test_what_cannot_work_is_an_error_of_the_plan(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    base = {**FILES, "data.root": str(make_folder(tmp_path))}
    with pytest.raises(SpecError, match=reason):
        resolve([base], changes, 0)


def test_a_missing_folder_is_an_error_of_the_plan(tmp_path: Path) -> None:
    with pytest.raises(AblationError, match=r"nowhere/train cannot be read .*give it as data\.root"):
        resolve([FILES], {"data.root": str(tmp_path / "nowhere")}, 0)


def test_facts_of_a_folder_need_no_torch_and_no_decoder_once_its_files_are_known(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    code = (
        "import sys; from ablations.datasets import contents; contents.UNSETTLED_NS = -1e11;"
        "from ablations.spec.parts import DataSpec;"
        f"DataSpec(name='image_folder', root={str(tmp_path / 'images')!r}).facts;"
        "print([m for m in ('torch', 'mlflow', 'sklearn', 'numpy', 'PIL') if m in sys.modules])"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, later = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for _ in range(2)
    )
    assert (first, later) == ("['numpy', 'PIL']\n", "[]\n")


@pytest.mark.parametrize("restore_times", [False, True], ids=["plainly", "with its times put back"])
def test_a_picture_that_is_overwritten_by_another_of_its_size_is_another_data_set(
    tmp_path: Path, restore_times: bool
) -> None:
    make_folder(tmp_path)
    before, path = fingerprint(tmp_path), tmp_path / "train" / "ant" / "3.png"
    size, times = path.stat().st_size, path.stat()
    Image.new("RGB", (2, 2), (99, 5, 97)).save(path)
    assert path.stat().st_size == size
    if restore_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(tmp_path) == before  # one process sees one state until it begins a command
    registry.forget_folders()
    assert fingerprint(tmp_path) != before


def test_what_is_left_out_and_what_is_repeated_are_facts(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("x")
    (tmp_path / "test" / "bee" / "again.png").write_bytes((tmp_path / "train" / "ant" / "0.png").read_bytes())
    facts = facts_of("image_folder", tmp_path)
    assert (facts.left_out, facts.repeated_test_images) == ("left out: 1 × .txt", 1)


def test_the_default_data_set_needs_no_files() -> None:
    assert DataSpec().facts is facts_of("fashion_mnist_mini")
