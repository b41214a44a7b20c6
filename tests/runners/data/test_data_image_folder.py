"""Folders of image files: the contract of a batch source, whatever the number of workers, and plain errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError, SpecError
from runners.data import Augmentation, Batch, BatchSettings, Normalization, SplitName, SplitSizes, open_batches
from runners.data.readers.image_folder import FolderSource

CROPPED = Augmentation(resized_crop=True, flip=True)
SETTINGS = BatchSettings(batch_size=4, evaluation_batch_size=4, seed=1, augmentation=CROPPED)
PLAIN = Normalization(torch.zeros(3), torch.full((3,), 1 / 255))
CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def facts(make_facts: Callable[..., DatasetFacts]) -> DatasetFacts:
    return make_facts(channels=3, image_size=16, validation_images=6)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight training and three test images per class; image files differ in size, format and colour mode."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for name in CLASSES:
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8)
                image = Image.fromarray(pixels).convert("L" if i == 1 else "RGB")
                image.save(folder / f"{i}.{'JPEG' if i % 2 else 'png'}")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    return tmp_path


def same(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def test_splits_have_the_sizes_asked_for_and_are_balanced(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS)
    assert [source.num_images(split) for split in ("train", "validation", "test")] == [18, 6, 9]
    assert (source.steps_per_epoch, source.class_names) == (4, CLASSES)
    labels = torch.cat([labels for _, labels in source.evaluation("validation")])
    assert labels.bincount().tolist() == [2, 2, 2]


def test_training_and_validation_share_no_image(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS)
    train, validation = (
        {image.numpy().tobytes() for images, _ in source.evaluation(split) for image in images}
        for split in ("train", "validation")
    )
    assert len(train | validation) == 24
    assert not train & validation


def test_equal_images_are_augmented_each_in_its_own_way(facts: DatasetFacts, root: Path) -> None:
    example = Image.fromarray(np.arange(30 * 30 * 3, dtype=np.int64).astype(np.uint8).reshape(30, 30, 3))
    for path in root.glob("train/*/*.png"):
        example.save(path)
    for path in root.glob("train/*/*.JPEG"):
        path.unlink()
        example.save(path.with_suffix(".png"))

    def views(seed: int, epoch: int) -> set[bytes]:
        batches = FolderSource(facts, root, replace(SETTINGS, seed=seed)).training(epoch)
        return {image.numpy().tobytes() for images, _ in batches for image in images}

    first, next_epoch, other_seed = views(0, 0), views(0, 1), views(1, 0)
    assert len(first) == 16
    assert not first & next_epoch
    assert not first & other_seed


def test_training_batches_are_a_function_of_seed_epoch_and_step(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS)
    whole = list(source.training(3))
    assert [tuple(images.shape) for images, _ in whole] == [(4, 3, 16, 16)] * 4
    assert same(list(source.training(3, start_step=2)), whole[2:])
    assert not same(list(source.training(4)), whole)
    other_seed = FolderSource(facts, root, replace(SETTINGS, seed=2))
    assert not same(list(other_seed.training(3)), whole)


def test_a_source_tells_which_image_is_measured_when(facts: DatasetFacts, root: Path) -> None:
    """The files of a split are listed class by class: three ants, three bees, three cats."""
    source = FolderSource(facts, root, SETTINGS)
    labels = torch.cat([labels for _, labels in source.evaluation("test")])
    assert labels.tolist() == [place // 3 for place in source.evaluation_order("test")]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_change_nothing(facts: DatasetFacts, root: Path) -> None:
    settings = replace(SETTINGS, augmentation=replace(CROPPED, rand_augment=2))
    alone, two = (FolderSource(facts, root, replace(settings, workers=n)) for n in (0, 2))
    assert same(list(two.training(1)), list(alone.training(1)))
    assert same(list(two.evaluation("test")), list(alone.evaluation("test")))


def test_evaluation_is_resize_and_centre_crop_in_a_fixed_mixed_order(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS, normalization=PLAIN)
    batches = list(source.evaluation("test"))
    assert [len(labels) for _, labels in batches] == [4, 5]
    found = {(int(y), x.to(torch.uint8).numpy().tobytes()) for images, ys in batches for x, y in zip(images, ys)}  # noqa: B905
    expected = set()
    for label, name in enumerate(CLASSES):
        for path in (root / "val" / name).iterdir():
            image = v2.functional.resize(Image.open(path).convert("RGB"), [18])
            crop = v2.functional.pil_to_tensor(v2.functional.center_crop(image, [16]))
            expected.add((label, crop.numpy().tobytes()))
    assert found == expected
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() != sorted(labels.tolist())


def test_flip_is_drawn_only_when_asked_for(facts: DatasetFacts, root: Path) -> None:
    def epoch(flip: bool) -> torch.Tensor:
        source = FolderSource(facts, root, replace(SETTINGS, augmentation=replace(CROPPED, flip=flip)))
        return torch.cat([images for images, _ in source.training(0)])

    plain, mirrored = epoch(False), epoch(True)
    flipped = [not torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)]
    assert 2 <= sum(flipped) <= 14
    for a, b, was_flipped in zip(plain, mirrored, flipped, strict=True):
        assert torch.equal(b, a.flip(-1) if was_flipped else a)


def test_without_augmentation_training_images_are_those_of_an_evaluation(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, replace(SETTINGS, batch_size=6, augmentation=Augmentation()))
    trained, evaluated = (
        {image.numpy().tobytes() for images, _ in batches for image in images}
        for batches in (source.training(0), source.evaluation("train"))
    )
    assert len(trained) == 18
    assert trained == evaluated


def test_rand_augment_is_drawn_for_each_image_and_epoch(facts: DatasetFacts, root: Path) -> None:
    example = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    for path in root.glob("train/*/*.*G"):
        path.unlink()
    for path in root.glob("train/*/*.png"):
        example.save(path)

    def views(operations: int, epoch: int = 0) -> set[bytes]:
        augmentation = Augmentation(rand_augment=operations, rand_augment_magnitude=20)
        source = FolderSource(replace(facts, validation_images=1), root, replace(SETTINGS, augmentation=augmentation))
        return {image.numpy().tobytes() for images, _ in source.training(epoch) for image in images}

    assert len(views(0)) == 1
    drawn = views(3)
    assert len(drawn) >= 6  # of eight; a few operations may leave an image as it is
    assert views(3) == drawn
    assert views(3, epoch=1) != drawn


def test_the_resize_ratio_says_how_much_the_centre_crop_leaves(facts: DatasetFacts, root: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for path in root.glob("val/*/*"):
        path.unlink()
        image.save(path.with_suffix(".png"))
    source = FolderSource(facts, root, SETTINGS, normalization=PLAIN, resize_ratio=1.0)
    (images, _), *_ = source.evaluation("test")
    assert torch.equal(images[0].to(torch.uint8), v2.functional.pil_to_tensor(image))


def test_the_global_generator_is_not_read_or_moved(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS)
    reference = list(source.training(0)) + list(source.evaluation("test"))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert same(list(source.training(0)) + list(source.evaluation("test")), reference)
    assert torch.equal(torch.get_rng_state(), before)


def test_sizes_take_a_balanced_part(facts: DatasetFacts, root: Path) -> None:
    source = FolderSource(facts, root, SETTINGS, sizes=SplitSizes(train=9, test=6))
    assert [source.num_images(split) for split in ("train", "validation", "test")] == [9, 6, 6]
    assert torch.cat([y for _, y in source.evaluation("train")]).bincount().tolist() == [3, 3, 3]
    with pytest.raises(SpecError, match="cannot take 10 images from a split of 9"):
        FolderSource(facts, root, SETTINGS, sizes=SplitSizes(test=10))


def test_a_split_seed_draws_other_validation_files(facts: DatasetFacts, root: Path) -> None:
    def images(split: SplitName, seed: int | None) -> list[bytes]:
        source = FolderSource(facts, root, SETTINGS, sizes=SplitSizes(split_seed=seed))
        batches = list(source.evaluation(split))
        if split == "validation":
            assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [2, 2, 2]
        return sorted(image.numpy().tobytes() for images, _ in batches for image in images)

    drawn = [images("validation", seed) for seed in (None, 1, 2)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    whole = sorted(drawn[0] + images("train", None))
    assert sorted(drawn[1] + images("train", 1)) == whole
    assert images("test", 1) == images("test", None)


def test_the_digest_is_of_names_and_contents_and_of_no_place(facts: DatasetFacts, root: Path, tmp_path: Path) -> None:
    original = FolderSource(facts, root, SETTINGS).digest
    moved = tmp_path / "elsewhere"
    for part in ("train", "val"):
        shutil.copytree(root / part, moved / part)
    assert FolderSource(facts, moved, SETTINGS).digest == original
    renamed = moved / "train" / "ant" / "0.png"
    renamed.rename(renamed.with_name("00.png"))
    after_rename = FolderSource(facts, moved, SETTINGS).digest
    other = Image.open(moved / "val" / "bee" / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other.save(moved / "val" / "bee" / "0.png")
    assert len({original, after_rename, FolderSource(facts, moved, SETTINGS).digest}) == 3


def test_a_registered_digest_is_checked(facts: DatasetFacts, root: Path) -> None:
    with pytest.raises(DatasetError, match=f"expected SHA-256 {'0' * 64}"):
        FolderSource(replace(facts, digest="0" * 64), root, SETTINGS)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_under_way_is_named(facts: DatasetFacts, root: Path, workers: int) -> None:
    source = FolderSource(facts, root, replace(SETTINGS, workers=workers))
    broken = root / "val" / "cat" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DatasetError, match="cannot be decoded") as caught:
        list(source.evaluation("test"))
    assert str(broken) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_files_that_cannot_be_decoded_are_named_before_the_first_batch(facts: DatasetFacts, root: Path) -> None:
    for name in ("cat/1.JPEG", "ant/0.png"):
        (root / "val" / name).write_bytes((root / "val" / name).read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"(?s)2 of 33 image files.*val/ant/0\.png.*val/cat/1\.JPEG"):
        FolderSource(facts, root, SETTINGS)


def test_a_picture_looks_the_same_in_eight_and_in_sixteen_bits(facts: DatasetFacts, root: Path) -> None:
    def first_images() -> torch.Tensor:
        return next(FolderSource(facts, root, SETTINGS, normalization=PLAIN).evaluation("test"))[0]

    greys = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    for path in root.glob("val/*/*"):
        path.unlink()
        Image.fromarray(greys).resize((18, 18), Image.Resampling.NEAREST).save(path.with_suffix(".png"))
    eight = first_images()
    for path in root.glob("val/*/*"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(path)
    assert 60 < eight.mean() < 200
    assert torch.equal(first_images(), eight)


def break_folder(root: Path, how: str) -> None:
    if how == "no val":
        shutil.rmtree(root / "val")
    elif how == "empty class":
        shutil.rmtree(root / "train" / "bee")
        (root / "train" / "bee").mkdir()
    elif how == "too many classes":
        (root / "train" / "dog").mkdir()
    elif how == "other classes":
        (root / "val" / "cat").rename(root / "val" / "cow")
    elif how == "few images":
        for name in CLASSES:
            for i in range(2, 8):
                next((root / "train" / name).glob(f"{i}.*")).unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no val", r"val cannot be read \(No such file or directory\).*data\.root"),
        ("empty class", "bee has no image file"),
        ("too many classes", "train has 4 class folders, expected 3"),
        ("other classes", "only one of them has cat, cow"),
        ("few images", "holds 6 images; 6 of them are to be the validation split"),
    ],
)
def test_a_folder_that_will_not_do_is_explained(facts: DatasetFacts, root: Path, how: str, message: str) -> None:
    break_folder(root, how)
    with pytest.raises(DatasetError, match=message):
        FolderSource(facts, root, SETTINGS)


def test_a_setting_that_is_not_read_is_refused(facts: DatasetFacts, root: Path) -> None:
    with pytest.raises(SpecError, match="crop padding must be 0, found 2"):
        FolderSource(facts, root, replace(SETTINGS, augmentation=Augmentation(crop_padding=2)))


def test_imagenet_says_what_it_needs(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"ImageNet-1k needs data\.root"):
        open_batches("imagenet", SETTINGS)
    with pytest.raises(DatasetError, match="train has 3 class folders, expected 1000"):
        open_batches("imagenet", SETTINGS, root=root)
