"""Reading files once: what is remembered, what makes it be read again, and memories that are lost or damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablations.datasets import contents, pictures
from ablations.datasets.contents import UNSETTLED_NS, Content, memory_folders, read_contents
from ablations.datasets.folder_contents import read_folder
from ablations.datasets.folders import FileList, Listing
from ablations.errors import DatasetError

NAMES = tuple(f"{i}.png" for i in range(6))
Reads = Callable[..., tuple[dict[str, Content], list[str]]]


def later() -> int:
    """A time at which all files here are old enough to be trusted."""
    return time.time_ns() + 2 * UNSETTLED_NS


def picture(seed: int, size: int = 6) -> bytes:
    """A PNG file whose size does not depend on what it shows."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(picture(i))
    return folder


@pytest.fixture
def read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Reads all files, and says which of them were opened."""
    opened: list[str] = []
    original = contents._read

    def spy(path: str, clock: contents.Clock) -> tuple[contents.Stamp | None, Content]:
        opened.append(Path(path).name)
        return original(path, clock)

    monkeypatch.setattr(contents, "_read", spy)

    def reading(clock: contents.Clock = later, folders: tuple[Path, ...] | None = None) -> object:
        opened.clear()
        names = sorted(os.listdir(root))
        found = read_contents(root, names, folders or (tmp_path / "cache",), clock=clock)
        assert list(found) == names
        return found, sorted(opened)

    return reading  # type: ignore[return-value]


def test_files_are_read_once(read: Reads) -> None:
    first, opened = read()
    assert opened == list(NAMES)
    assert read() == (first, [])


def overwrite(path: Path, how: str) -> None:
    about = path.stat()
    if how == "written over":
        path.write_bytes(picture(99))
    elif how == "written over, with its mtime put back":
        path.write_bytes(picture(99))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif how == "replaced, with the mtime of the old one":
        other = path.with_name("other")
        other.write_bytes(picture(99))
        os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
        other.replace(path)
    elif how == "resized":
        path.write_bytes(picture(99, size=7))
    elif how == "a link turned to another file":
        target = path.with_name("target")
        target.write_bytes(picture(99))
        path.unlink()
        path.symlink_to(target)
        target.rename(path.parent.parent / "target")
        path.unlink()
        path.symlink_to(path.parent.parent / "target")


WAYS = (
    "written over",
    "written over, with its mtime put back",
    "replaced, with the mtime of the old one",
    "resized",
    "a link turned to another file",
)


@pytest.mark.parametrize("how", WAYS)
def test_a_file_that_changed_is_read_again_and_no_other(read: Reads, root: Path, how: str) -> None:
    first, _ = read()
    time.sleep(0.05)  # the kernel's clock of file times ticks every few milliseconds
    overwrite(root / "2.png", how)
    second, opened = read()
    assert opened == ["2.png"]
    assert [name for name in NAMES if first[name] != second[name]] == ["2.png"]


def test_a_file_that_was_read_as_soon_as_it_was_written_is_not_trusted(
    read: Reads, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one step of the file system's clock a second change of the same size leaves all times as they were."""
    frozen = {name: contents.stamp_of(str(root / name)) for name in NAMES}
    first, _ = read(clock=time.time_ns)
    monkeypatch.setattr(contents, "stamp_of", lambda path: frozen[Path(path).name])
    (root / "4.png").write_bytes(picture(99))
    second, _ = read(clock=time.time_ns)
    assert first["4.png"] != second["4.png"]


def test_a_clock_that_is_behind_trusts_nothing(read: Reads) -> None:
    first, _ = read(clock=lambda: 0)
    assert read(clock=lambda: 0) == (first, list(NAMES))


def test_what_was_added_is_read_and_what_was_removed_is_forgotten(read: Reads, root: Path) -> None:
    read()
    (root / "new.png").write_bytes(picture(7))
    (root / "0.png").unlink()
    found, opened = read()
    assert opened == ["new.png"]
    assert "0.png" not in found


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "lost":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "a digit changed":
        digit = content.rindex(b'"]') - 1
        path.write_bytes(
            content[:digit] + (b"0" if content[digit : digit + 1] != b"0" else b"1") + content[digit + 1 :]
        )
    elif how == "no UTF-8":
        path.write_bytes(b"\xff\xfe" + content)
    elif how == "other JSON with its own checksum":
        body = json.dumps([1, {"a": None}]).encode()
        path.write_bytes(contents._head(body).encode() + b"\n" + body)
    elif how == "rows of another form":
        body = json.dumps({"0.png": ["a"], "1.png": 3}).encode()
        path.write_bytes(contents._head(body).encode() + b"\n" + body)
    elif how == "a folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    "how",
    [
        "lost",
        "empty",
        "cut",
        "a digit changed",
        "no UTF-8",
        "other JSON with its own checksum",
        "rows of another form",
        "a folder",
    ],
)
def test_a_memory_that_is_lost_or_damaged_costs_a_reading(read: Reads, tmp_path: Path, how: str) -> None:
    first, _ = read()
    (memory,) = (tmp_path / "cache").iterdir()
    damage(memory, how)
    assert read() == (first, list(NAMES))
    if how != "a folder":
        assert read() == (first, [])


def test_where_nothing_can_be_written_files_are_read_each_time(read: Reads, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    nowhere = (tmp_path / "file" / "cache",)
    first, _ = read(folders=nowhere)
    assert read(folders=nowhere) == (first, list(NAMES))


def test_the_next_place_is_taken_where_the_first_cannot_be_written(read: Reads, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    places = (tmp_path / "file" / "cache", tmp_path / "second")
    read(folders=places)
    assert read(folders=places)[1] == []


def test_a_place_that_others_can_write_to_is_not_trusted(read: Reads, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    read()
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_remembered_where_others_can_write_now_is_not_believed(read: Reads, tmp_path: Path) -> None:
    read()
    (tmp_path / "cache").chmod(0o777)
    assert read()[1] == list(NAMES)


def test_the_data_folder_is_not_written_to(read: Reads, root: Path) -> None:
    before = sorted(os.listdir(root))
    read()
    assert sorted(os.listdir(root)) == before
    assert all(root not in folder.parents for folder in memory_folders())


def test_memories_of_two_folders_do_not_mix(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes(picture(50))
    for _ in range(2):
        ours, theirs = (read_contents(place, ["0.png"], [tmp_path / "cache"], clock=later) for place in (root, other))
        assert ours != theirs


def test_many_processes_may_read_the_same_folder(root: Path, tmp_path: Path) -> None:
    results: list[dict[str, Content]] = []
    threads = [
        threading.Thread(
            target=lambda: results.extend(
                read_contents(root, NAMES, [tmp_path / "cache"], clock=later) for _ in range(5)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(found == results[0] for found in results)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


def test_what_was_read_before_an_interrupt_is_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_BATCH", 2)
    original, calls = contents._Progress.tell, []

    def interrupt(self: contents._Progress, done: int) -> None:
        calls.append(done)
        if done == 4:
            raise KeyboardInterrupt
        original(self, done)

    monkeypatch.setattr(contents._Progress, "tell", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_contents(root, NAMES, [tmp_path / "cache"], clock=later)
    calls.clear()
    read_contents(root, NAMES, [tmp_path / "cache"], clock=later)
    assert calls == [2]


def test_a_long_reading_says_how_far_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contents, "_BATCH", 2)
    monkeypatch.setattr(contents, "_QUIET_SECONDS", 0.0)
    read_contents(root, NAMES, [tmp_path / "cache"], clock=later)
    assert "reading the 6 image files" in capsys.readouterr().err
    read_contents(root, NAMES, [tmp_path / "cache"], clock=later)
    assert capsys.readouterr().err == ""


def list_of(root: Path, split: str) -> FileList:
    names = sorted(path.name for path in (root / split).iterdir())
    return FileList(root, tuple(f"{split}/{name}" for name in names), (0,) * len(names), ("ant",))


@pytest.fixture
def halves(root: Path) -> Path:
    for split in ("train", "test"):
        (root / split).mkdir()
        for i, name in enumerate(NAMES):
            (root / split / name).write_bytes(picture(i + 10 * len(split)))
    return root


def listing(root: Path) -> Listing:
    return Listing(list_of(root, "train"), None, list_of(root, "test"))


def spoil(path: Path, how: str) -> str:
    """Makes a file unusable, and returns a word of what is said of it."""
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
        return "is empty"
    if how == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
        return "cannot be decoded"
    if how == "text":
        path.write_text("<html>404</html>")
        return "is no picture"
    if how == "a program in PostScript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
        return "is no picture"
    if how == "a link that leads nowhere":
        path.unlink()
        path.symlink_to("nowhere")
        return "cannot be read: No such file"
    if how == "a bomb":
        huge = bytearray(content)
        huge[16:24] = (60_000).to_bytes(4, "big") * 2
        huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
        path.write_bytes(bytes(huge))
        return "cannot be decoded: Image size (3600000000 pixels)"
    raise AssertionError(how)


SPOILT = ("empty", "cut", "text", "a program in PostScript", "a link that leads nowhere", "a bomb")


def test_all_files_that_cannot_be_used_are_named_at_once(halves: Path) -> None:
    said = {}
    for i, how in enumerate(SPOILT):
        split = "train" if i % 2 else "test"
        said[f"{split}/{NAMES[i]}"] = spoil(halves / split / NAMES[i], how)
    with pytest.raises(DatasetError, match="'mine': 6 of 12 image files in") as caught:
        read_folder("mine", listing(halves))
    lines = str(caught.value).splitlines()
    for path, words in said.items():
        assert sum(line.startswith(f"  {path} {words}") for line in lines) == 1, (path, lines)
    assert "Nothing has been trained" in lines[-1]


def test_of_very_many_a_part_is_named_and_the_rest_counted(halves: Path) -> None:
    for i in range(30):
        (halves / "train" / f"line\nbreak{i}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="30 of 42 image files") as caught:
        read_folder("mine", listing(halves))
    assert r"line\nbreak" in str(caught.value)
    assert "  … and 10 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 23


def test_a_file_that_cannot_be_used_is_looked_at_again(read: Reads, root: Path) -> None:
    good = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(b"")
    found, _ = read()
    assert found["1.png"].fault == "is empty"
    assert read()[1] == ["1.png"]
    (root / "1.png").write_bytes(good)
    assert read()[0]["1.png"].fault == ""


def test_test_images_that_are_trained_on_are_counted(halves: Path) -> None:
    assert read_folder("mine", listing(halves)).repeated == 0
    shutil.copy(halves / "train" / "0.png", halves / "test" / "copy.png")
    shutil.copy(halves / "train" / "1.png", halves / "test" / "2.png")
    assert read_folder("mine", listing(halves)).repeated == 2


def test_the_digest_changes_with_the_way_pictures_are_decoded(halves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablations.datasets import folder_contents

    before = read_folder("mine", listing(halves)).digest
    monkeypatch.setattr(folder_contents, "READING", "pictures 2")
    assert read_folder("mine", listing(halves)).digest != before


def test_the_check_and_the_training_refuse_the_same_files(tmp_path: Path) -> None:
    """The check computes fewer pixels of a JPEG than training does; both must refuse a file that is cut."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for ending in ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"):
        file = io.BytesIO()
        image.save(file, ending)
        whole = file.getvalue()
        for end in range(1, len(whole), len(whole) // 12):
            (tmp_path / "x").write_bytes(whole[:end])
            with pytest.raises(pictures.PictureError):
                pictures.check_picture(whole[:end])
            with pytest.raises(pictures.PictureError):
                pictures.open_picture(tmp_path / "x")
