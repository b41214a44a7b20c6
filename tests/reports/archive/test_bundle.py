"""The bytes of a bundle: the same files are the same bytes, and whatever is changed in them is named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import BundleError
from reports.archive import bundle as bundles
from reports.archive import layout
from reports.archive.bundle import check_bundle, make_bundle, open_bundle
from reports.archive.listing import NAME, listing_text, read_listing

FILES = {
    "report/a.md": b"# A report\n",
    "runs/1/run.json": b'{"a": 1}\n',
    "README.txt": b"Plain words.\n",
    "empty.txt": b"",
    # What looks like the end of the list and the beginning of a file may stand in any content.
    "hostile.bin": b'}\nPK\x03\x04PK\x05\x06bundle.json{"about":' * 3,
}
ABOUT = {"report": "a", "runs": 1}
BUNDLE = make_bundle(FILES, ABOUT)
SIZES = {NAME: len(listing_text({name: FILES[name] for name in sorted(FILES)}, ABOUT))}
SIZES |= {name: len(FILES[name]) for name in sorted(FILES)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    """Writes bytes into a file that is overwritten each time, as thousands are checked."""
    path = tmp_path_factory.mktemp("bundles") / "report.zip"

    def write(content: bytes) -> Path:
        path.write_bytes(content)
        return path

    return write


def region_of(offset: int) -> layout.Region:
    """Returns the part of the bundle in which a byte lies."""
    (region,) = [region for region in layout.regions(SIZES) if region.start <= offset < region.stop]
    return region


def flipped(offset: int, bits: int) -> bytes:
    """Returns the bundle with some bits of one byte the other way round."""
    return BUNDLE[:offset] + bytes([BUNDLE[offset] ^ bits]) + BUNDLE[offset + 1 :]


def test_any_zip_program_reads_it_and_the_order_of_the_files_does_not_matter(written: Callable[[bytes], Path]) -> None:
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist() if name != NAME} == FILES
        assert archive.namelist() == [NAME, *sorted(FILES)]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert make_bundle(dict(reversed(FILES.items())), ABOUT) == BUNDLE
    bundle = open_bundle(written(BUNDLE))
    assert {name: bundle.read(name) for name in bundle.names} == FILES
    assert bundle.listing.about == ABOUT


def test_regions_are_where_the_zip_has_its_files() -> None:
    regions = list(layout.regions(SIZES))
    # One behind the other, from the first byte to the last.
    assert [region.start for region in regions] == [0, *(region.stop for region in regions[:-1])]
    assert regions[-1].stop == len(BUNDLE) == layout.packed_size(SIZES)
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        headers = {entry.filename: entry.header_offset for entry in archive.infolist()}
        directory = archive.start_dir
    starts = {region.name: region.start for region in regions}
    assert {name: starts[f"the header of {name}"] for name in headers} == headers
    assert starts[f"the zip's directory, at {NAME}"] == directory


def assert_named(offset: int, bits: int, written: Callable[[bytes], Path]) -> None:
    """Fails unless a flipped byte is a difference, and the part in which it lies is named first."""
    _, differences = check_bundle(written(flipped(offset, bits)))
    region = region_of(offset)
    assert differences, region
    named = region.file if region.is_content else region.name
    assert differences[0].startswith(named), (region, differences)


@pytest.mark.parametrize("bits", [1, 0x80])
def test_every_byte_that_is_changed_is_named(bits: int, written: Callable[[bytes], Path]) -> None:
    for offset in range(len(BUNDLE)):
        assert_named(offset, bits, written)


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_whatever_a_byte_is_changed_into(written: Callable[[bytes], Path], offset: int, bits: int) -> None:
    assert_named(offset, bits, written)


@given(st.integers(0, len(BUNDLE)), st.binary(min_size=1, max_size=40))
def test_inserted_bytes_are_a_difference(written: Callable[[bytes], Path], offset: int, inserted: bytes) -> None:
    _, differences = check_bundle(written(BUNDLE[:offset] + inserted + BUNDLE[offset:]))
    assert differences


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 60))
def test_removed_bytes_are_a_difference(written: Callable[[bytes], Path], offset: int, count: int) -> None:
    _, differences = check_bundle(written(BUNDLE[:offset] + BUNDLE[offset + count :]))
    assert differences


@given(st.binary(max_size=300))
def test_any_other_file_is_no_bundle(written: Callable[[bytes], Path], content: bytes) -> None:
    bundle, differences = check_bundle(written(content))
    assert bundle is None
    assert len(differences) == 1


def test_bytes_behind_the_end_and_a_comment(written: Callable[[bytes], Path]) -> None:
    _, (line, *_) = check_bundle(written(BUNDLE + b"more"))
    assert line.startswith("4 bytes were added")
    # The last two bytes are the length of the comment.
    _, (line, *_) = check_bundle(written(BUNDLE[:-2] + b"\x02\x00hi"))
    assert line.startswith("2 bytes were added")


def rewritten(change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Returns the bundle as another program packs it anew after a change of its files."""
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda files: files.update(extra=b"x"), "extra was added"),
        (lambda files: files.update({"../up": b"x"}), "../up was added"),
        (lambda files: files.pop("README.txt"), "README.txt was removed"),
        (lambda files: files.update({"runs/1/run.json": b'{"a": 12}\n'}), "runs/1/run.json was changed"),
    ],
    ids=["added", "added outside", "removed", "changed"],
)
def test_files_that_were_added_removed_or_changed_are_named(
    written: Callable[[bytes], Path], change: Callable[[dict[str, bytes]], None], line: str
) -> None:
    _, differences = check_bundle(written(rewritten(change)))
    assert any(difference.startswith(line) for difference in differences), differences


def test_what_is_compressed_is_not_unpacked(written: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(*_: object) -> bytes:
        raise AssertionError("it was unpacked")

    content = rewritten(lambda files: files.update({"report/a.md": bytes(10**7)}), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "read", unpacked)
    # The list itself is compressed, too, so that not even that is read.
    bundle, differences = check_bundle(written(content))
    assert bundle is None
    assert differences[0].startswith(NAME)
    behind = BUNDLE + content
    _, differences = check_bundle(written(behind))
    assert "report/a.md is compressed, so that another program has packed the bundle anew" in differences


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", ".x", "a/.x", "C:x", "a\\x", "x\n", "", NAME])
def test_names_that_lead_elsewhere_are_refused(name: str, written: Callable[[bytes], Path]) -> None:
    text = listing_text({name: b""}, ABOUT)
    with pytest.raises(BundleError, match=r"cannot be a file of a bundle"):
        read_listing(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be read"),
        (b"[1]", "cannot be read"),
        (b'{"format": 2}', "has format 2, this version reads 1"),
        (b'{"format": 1, "files": {}}', "not laid out"),
        (b'{"format": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (listing_text({}, ABOUT).replace(b'"runs":1', b'"runs":2'), "was changed"),
        (listing_text({}, ABOUT).replace(b",", b", "), "was changed"),
        (listing_text({"x": b""}, ABOUT).replace(b'"size":0', b'"size":-1'), "not laid out"),
    ],
)
def test_a_list_that_is_none_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_listing(text)


def test_a_file_that_is_too_large_or_not_there_is_not_read(
    written: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundles, "LARGEST", 100)
    with pytest.raises(BundleError, match="larger than any bundle"):
        check_bundle(written(BUNDLE))
    with pytest.raises(BundleError, match="No such file"):
        check_bundle(tmp_path / "none.zip")


def test_a_changed_bundle_is_not_opened(written: Callable[[bytes], Path]) -> None:
    with pytest.raises(BundleError, match=r"not as it was packed: README\.txt was changed"):
        open_bundle(written(BUNDLE.replace(b"Plain words", b"Other words")))
    with pytest.raises(BundleError, match=r"has no other\.txt"):
        open_bundle(written(BUNDLE)).read("other.txt")
