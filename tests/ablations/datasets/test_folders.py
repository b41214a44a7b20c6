"""Listing image folders in their three layouts: splits, labels, digest, what is left out, and what will not do."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from ablations.datasets.contents import Content
from ablations.datasets.folder_contents import digest_of
from ablations.datasets.folders import (
    EXTENSIONS,
    FileList,
    Listing,
    left_out_words,
    list_image_folder,
    list_tiny_imagenet,
    list_train_val,
)
from ablations.errors import DatasetError

CLASSES = ("ant", "bee", "cat")
Maker = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Writes so many files per class into each part; nothing here opens them, so they hold a few letters."""

    def write(**counts: int) -> Path:
        for part, count in counts.items():
            for name in CLASSES:
                folder = tmp_path / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    (folder / f"{i}.{'JPEG' if i % 2 else 'png'}").write_text("x" * (10 + i))
        return tmp_path

    return write


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet with three classes, as its archive unpacks; the classes of `val` are in its notes only."""
    root = tmp_path / "tiny-imagenet-200"
    wnids = ("n03", "n01", "n02")
    for wnid in wnids:
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("boxes")
        for i in range(4):
            (root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_text("x")
    (root / "val" / "images").mkdir(parents=True)
    for i in range(6):
        (root / "val" / "images" / f"val_{i}.JPEG").write_text("x")
    notes = "".join(f"val_{i}.JPEG\t{wnids[i % 3]}\t0\t32\t44\t62\n" for i in range(6))
    (root / "val" / "val_annotations.txt").write_text(notes)
    (root / "wnids.txt").write_text("\n".join(wnids))
    return root


def digest(listing: Listing) -> str:
    """The digest of files that hold a few letters and are no pictures."""
    contents = {}
    for files in listing.splits():
        for path in files.paths:
            contents[path] = Content(hashlib.sha256((files.root / path).read_bytes()).hexdigest())
    return digest_of(listing, contents)


def by_class(files: FileList | None) -> dict[str, int]:
    assert files is not None
    names = [files.class_names[label] for label in files.labels]
    return {name: names.count(name) for name in files.class_names}


def test_classes_are_the_sorted_folders_and_files_are_sorted(make: Maker) -> None:
    root = make(train=2, val=1)
    (root / "train" / ".cache").mkdir()
    (root / "train" / "bee" / "notes.txt").write_text("no image")
    (root / "train" / "bee" / "folder.png").mkdir()
    listing = list_train_val(root, "imagenet", 3)
    assert listing.train == FileList(
        root,
        tuple(f"train/{name}/{file}" for name in CLASSES for file in ("0.png", "1.JPEG")),
        (0, 0, 1, 1, 2, 2),
        CLASSES,
    )
    assert listing.validation is None
    assert listing.test.paths == tuple(f"val/{name}/0.png" for name in CLASSES)


@pytest.mark.parametrize(
    ("parts", "validation", "test"),
    [
        ({"train": 8, "val": 2, "test": 3}, "val", "test"),
        ({"train": 8, "test": 3}, None, "test"),
        ({"train": 8, "val": 2}, None, "val"),
    ],
)
def test_the_test_split_is_test_or_else_val(
    make: Maker, parts: dict[str, int], validation: str | None, test: str
) -> None:
    listing = list_image_folder(make(**parts), "image_folder", None)
    assert by_class(listing.train) == dict.fromkeys(CLASSES, 8)
    assert {path.partition("/")[0] for path in listing.test.paths} == {test}
    assert by_class(listing.test) == dict.fromkeys(CLASSES, parts[test])
    if validation is None:
        assert listing.validation is None
    else:
        assert by_class(listing.validation) == dict.fromkeys(CLASSES, parts[validation])


@pytest.mark.parametrize("up", [0, 1], ids=["the folder", "the one around it"])
def test_tiny_imagenet_takes_classes_of_val_from_its_notes(tiny: Path, up: int) -> None:
    listing = list_tiny_imagenet(tiny.parent if up else tiny, "tiny_imagenet", 3)
    assert listing.train.class_names == ("n01", "n02", "n03")
    assert by_class(listing.train) == {"n01": 4, "n02": 4, "n03": 4}
    assert listing.train.paths[0] == "train/n01/images/n01_0.JPEG"
    assert listing.test.paths == tuple(f"val/images/val_{i}.JPEG" for i in range(6))
    assert listing.test.labels == (2, 0, 1, 2, 0, 1)
    assert all((listing.train.root / path).is_file() for path in (*listing.train.paths, *listing.test.paths))


def change(root: Path, how: str) -> None:
    place = root / "train" / "ant"
    if how == "added":
        (place / "9.png").write_text("x")
    elif how == "removed":
        (place / "0.png").unlink()
    elif how == "renamed":
        (place / "0.png").rename(place / "00.png")
    elif how == "resized":
        (place / "0.png").write_text("x" * 99)
    elif how == "overwritten by another of its size":
        (place / "0.png").write_text("y" * 10)
    elif how == "moved to another class":
        (place / "0.png").rename(root / "train" / "bee" / "00.png")


CHANGES = ("added", "removed", "renamed", "resized", "overwritten by another of its size", "moved to another class")


@pytest.mark.parametrize("how", CHANGES)
def test_the_digest_shows_a_file_that_is(make: Maker, how: str) -> None:
    root = make(train=2, test=1)
    before = digest(list_image_folder(root, "image_folder", None))
    change(root, how)
    assert digest(list_image_folder(root, "image_folder", None)) != before


def test_the_digest_is_of_names_and_contents_and_not_of_the_place(make: Maker, tmp_path: Path) -> None:
    before = digest(list_image_folder(make(train=2, test=1), "image_folder", None))
    moved = tmp_path / "elsewhere"
    for part in ("train", "test"):
        shutil.move(tmp_path / part, moved / part)
    assert digest(list_image_folder(moved, "image_folder", None)) == before
    assert len(before) == 64


def test_the_digest_of_tiny_imagenet_shows_another_label(tiny: Path) -> None:
    before = digest(list_tiny_imagenet(tiny, "tiny_imagenet", 3))
    notes = tiny / "val" / "val_annotations.txt"
    notes.write_text(notes.read_text().replace("val_0.JPEG\tn03", "val_0.JPEG\tn01"))
    assert digest(list_tiny_imagenet(tiny, "tiny_imagenet", 3)) != before


@pytest.mark.parametrize(("agreed", "count"), [(None, 2), (5, 5)])
def test_a_tenth_becomes_the_validation_split_unless_agreed_otherwise(
    make: Maker, agreed: int | None, count: int
) -> None:
    assert list_image_folder(make(train=8, test=1), "image_folder", None).validation_images(agreed) == count


def test_a_folder_of_their_own_is_the_whole_validation_split(make: Maker) -> None:
    listing = list_image_folder(make(train=8, val=2, test=1), "image_folder", None)
    assert listing.validation_images(5) == 6


@pytest.mark.parametrize("agreed", [24, 25])
def test_a_validation_split_that_leaves_nothing_is_refused(make: Maker, agreed: int) -> None:
    listing = list_image_folder(make(train=8, test=1), "image_folder", None)
    with pytest.raises(DatasetError, match=f"holds 24 images; {agreed} of them"):
        listing.validation_images(agreed)


def break_folder(root: Path, how: str) -> None:
    if how == "no test":
        shutil.rmtree(root / "test")
    elif how == "no train":
        shutil.rmtree(root / "train")
    elif how == "no class":
        shutil.rmtree(root / "train")
        (root / "train").mkdir()
    elif how == "empty class":
        for path in (root / "test" / "bee").iterdir():
            path.unlink()
    elif how == "other classes":
        (root / "test" / "cat").rename(root / "test" / "cow")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no test", r"neither test nor val beside train.*Move images of every class"),
        ("no train", r"'image_folder': .*train cannot be read \(No such file or directory\).*data\.root"),
        ("no class", r"train has no class folder; data set 'image_folder' needs train/<class>/"),
        ("empty class", r"test/bee has no image file"),
        ("other classes", r"train and .*test must have the same class folders; only one of them has cat, cow"),
    ],
)
def test_a_folder_that_will_not_do_is_explained(make: Maker, how: str, message: str) -> None:
    root = make(train=4, test=2)
    break_folder(root, how)
    with pytest.raises(DatasetError, match=message):
        list_image_folder(root, "image_folder", None)


def break_tiny(root: Path, how: str) -> None:
    notes = root / "val" / "val_annotations.txt"
    if how == "no wnids":
        (root / "wnids.txt").unlink()
    elif how == "a class less":
        (root / "wnids.txt").write_text("n01 n02")
    elif how == "no folder of a class":
        shutil.rmtree(root / "train" / "n02")
    elif how == "empty class":
        for path in (root / "train" / "n02" / "images").iterdir():
            path.unlink()
    elif how == "torn notes":
        notes.write_text(notes.read_text()[: len(notes.read_text()) // 2])
    elif how == "unknown class":
        notes.write_text(notes.read_text().replace("n02", "n99"))
    elif how == "no val":
        for path in (root / "val" / "images").iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no wnids", r"wnids.txt cannot be read \(No such file or directory\).*as its archive has them.*data\.root"),
        ("a class less", r"wnids.txt names 2 classes, expected 3"),
        ("no folder of a class", r"n02/images cannot be read"),
        ("empty class", r"train/n02/images has no image file"),
        ("torn notes", r"'val_\d.JPEG' the class None, .* 3 of 6 images have no known class"),
        ("unknown class", r"'val_2.JPEG' the class 'n99', .* 2 of 6 images"),
        ("no val", r"val/images has no image file"),
    ],
)
def test_a_tiny_imagenet_that_will_not_do_is_explained(tiny: Path, how: str, message: str) -> None:
    break_tiny(tiny, how)
    with pytest.raises(DatasetError, match=message):
        list_tiny_imagenet(tiny, "tiny_imagenet", 3)


def test_files_are_taken_in_the_order_asked_for(make: Maker) -> None:
    listing: Listing = list_train_val(make(train=2, val=1), "imagenet", 3)
    taken = listing.train.take([4, 1])
    assert (taken.paths, taken.labels) == (("train/cat/0.png", "train/ant/1.JPEG"), (2, 0))
    assert taken.class_names == CLASSES


def listed(root: Path) -> Listing:
    return list_image_folder(root, "image_folder", None)


def test_what_torchvision_takes_is_taken_and_more(make: Maker) -> None:
    assert set(IMG_EXTENSIONS) < set(EXTENSIONS)
    root = make(train=2, test=1)
    endings = ("tif", "TIFF", "gif", "jpe", "Jpeg", "pgm", "PPM", "webp", "jfif", "bmp")
    for number, ending in enumerate(endings):
        (root / "train" / "bee" / f"more{number}.{ending}").write_text("x")
    assert by_class(listed(root).train)["bee"] == 2 + len(endings)


def test_folders_in_a_class_folder_belong_to_the_class_as_in_torchvision(make: Maker) -> None:
    root = make(train=2, test=1)
    for place in ("2023/may", "2024", "2024/a.png"):
        (root / "train" / "bee" / place).mkdir(parents=True)
        (root / "train" / "bee" / place / "7.png").write_text("x")
    theirs = [(str(Path(path).relative_to(root)), label) for path, label in ImageFolder(str(root / "train")).samples]
    files = listed(root).train
    assert sorted(zip(files.paths, files.labels, strict=True)) == sorted(theirs)
    assert "train/bee/2023/may/7.png" in files.paths


LEFT_BEHIND = (".hidden.png", "._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "THUMBS.DB", "__MACOSX", "@eaDir")


@pytest.mark.parametrize("name", LEFT_BEHIND)
@pytest.mark.parametrize("where", ["train", "train/ant", "train/ant/deeper"])
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_what_systems_leave_behind_is_no_class_and_no_image_and_is_counted(
    make: Maker, name: str, where: str, is_folder: bool
) -> None:
    root = make(train=2, test=1)
    before = listed(root)
    (root / where).mkdir(exist_ok=True)
    if is_folder:
        (root / where / name).mkdir()
        (root / where / name / "0.png").write_text("x")
    else:
        (root / where / name).write_text("x")
    after = listed(root)
    assert (after.train, after.test) == (before.train, before.test)
    assert after.left_out == {f"hidden or system {'folder' if is_folder else 'file'}": 1}


def test_a_folder_of_the_system_in_every_split_is_no_class(make: Maker) -> None:
    root = make(train=2, test=1)
    for part in ("train", "test"):
        (root / part / "__MACOSX").mkdir()
        (root / part / "__MACOSX" / "0.png").write_text("x")
    assert listed(root).train.class_names == CLASSES


def test_what_is_left_out_is_counted_by_kind(make: Maker) -> None:
    root = make(train=2, test=1)
    for place in ("train/ant/a.txt", "train/ant/b.TXT", "test/bee/labels", "train/lost.png", "train/bee/x.p\x1bng"):
        (root / place).write_text("x")
    os.mkfifo(root / "train" / "bee" / "pipe.png")
    (root / "train" / "bee" / "round").symlink_to(root / "train" / "bee")
    assert left_out_words(listed(root).left_out) == (
        "left out: 2 × .txt, 1 × .p\\x1bng, 1 × file without extension, 1 × image in no class folder, "
        "1 × link to a folder around it, 1 × other kinds"
    )


def test_a_link_to_a_folder_around_it_ends(make: Maker) -> None:
    root = make(train=2, test=1)
    before = listed(root).train
    (root / "train" / "bee" / "again").symlink_to(root / "train" / "bee")
    (root / "train" / "bee" / "deeper").mkdir()
    (root / "train" / "bee" / "deeper" / "again").symlink_to(root / "train" / "bee")
    after = listed(root)
    assert after.train == before
    assert after.left_out == {"link to a folder around it": 2}


def test_links_to_files_and_folders_are_followed(make: Maker, tmp_path: Path) -> None:
    root = make(train=2, test=1)
    store = tmp_path.parent / f"{tmp_path.name}-store"
    store.mkdir()
    (store / "far.png").write_text("x")
    (root / "train" / "ant" / "link.png").symlink_to(store / "far.png")
    (root / "train" / "bee" / "more").symlink_to(store)
    assert by_class(listed(root).train) == {"ant": 3, "bee": 3, "cat": 2}


@pytest.mark.parametrize("name", ["line\nbreak.png", "\x1b[31mred.png", "\udcff\udcfe.png", "é 猫 🐈.png"])
def test_any_name_of_a_file_will_do(make: Maker, name: str) -> None:
    root = make(train=2, test=1)
    before = digest(listed(root))
    (root / "train" / "ant" / name).write_text("x")
    after = listed(root)
    assert f"train/ant/{name}" in after.train.paths
    assert digest(after) != before


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b[31mred", "\udcff\udcfe"])
def test_a_class_whose_name_no_report_can_print_is_refused(make: Maker, name: str) -> None:
    root = make(train=2, test=1)
    for part in ("train", "test"):
        (root / part / "cat").rename(root / part / name)
    with pytest.raises(DatasetError, match="control characters, or bytes that are no UTF-8") as caught:
        listed(root)
    assert str(caught.value).isprintable()


def test_a_class_folder_without_images_says_what_is_in_it(make: Maker) -> None:
    root = make(train=2, test=1)
    for path in (root / "train" / "bee").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DatasetError, match=r"train/bee has no image file .* \(left out: 2 × \.heic\)"):
        listed(root)


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(train=2, test=1)
    (root / "train" / "ant" / "locked").mkdir()
    original = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"locked cannot be read \(Permission denied\)"):
        listed(root)
