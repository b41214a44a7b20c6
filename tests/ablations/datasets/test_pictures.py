"""What a network is shown of each kind of image file: more bits, transparency, orientation, frames, colour modes."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ablations.datasets.contents import read_contents
from ablations.datasets.pictures import PictureError, check_picture, decode_picture, open_picture

RAMP = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4)
"""Grey levels that a picture of 8 bits can hold."""


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shown(content: bytes) -> npt.NDArray[np.uint8]:
    """Returns (H, W, 3) pixels of a file that the check accepts."""
    check_picture(content)
    picture = decode_picture(io.BytesIO(content))
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_look_like_the_same_picture_of_eight(kind: str) -> None:
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert (shown(saved(sixteen, kind))[..., 0] == RAMP).all()
    assert (shown(saved(Image.fromarray(RAMP), kind))[..., 0] == RAMP).all()


def test_a_dark_picture_of_sixteen_bits_stays_dark() -> None:
    assert shown(saved(Image.fromarray(np.full((4, 4), 600, dtype=np.uint16)), "PNG")).max() == 2


def test_big_endian_sixteen_bits_are_read() -> None:
    header = b"P5 4 4 65535\n" + (RAMP.astype(">u2") * 257).tobytes()
    assert (shown(header)[..., 0] == RAMP).all()
    image = Image.frombytes("I;16B", (4, 4), (RAMP.astype(">u2") * 257).tobytes())
    assert (shown(saved(image, "TIFF"))[..., 0] == RAMP).all()


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (RAMP.astype(np.int32), 255),
        (RAMP.astype(np.int32) * 257, 65_535),
        (RAMP.astype(np.int32) * ((2**31 - 1) // 255), 2**31 - 1),
        ((RAMP / 255).astype(np.float32), 1),
        (RAMP.astype(np.float32), 255),
        (RAMP.astype(np.float32) * 257, 65_535),
    ],
)
def test_wide_integers_and_floats_are_scaled_by_the_least_full_scale_that_holds_them(
    values: npt.NDArray[Any], white: int
) -> None:
    assert values.max() <= white
    assert (shown(saved(Image.fromarray(values), "TIFF"))[..., 0] == RAMP).all()


@pytest.mark.parametrize("values", [[[-1.0, 1.0]], [[np.nan, 1.0]], [[np.inf, 1.0]]])
def test_numbers_that_are_no_brightness_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(PictureError, match="holds values"):
        shown(saved(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF"))


def half_transparent(mode: str) -> Image.Image:
    """A picture of grey 100, of which the right half is transparent, over black."""
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:, :2] = (100, 100, 100, 255)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    "content",
    [
        saved(half_transparent("RGBA"), "PNG"),
        saved(half_transparent("LA"), "PNG"),
        saved(half_transparent("RGBA"), "WEBP", lossless=True),
        saved(half_transparent("RGBA"), "TIFF"),
        saved(half_transparent("RGBA"), "GIF"),
        saved(half_transparent("RGBA").convert("RGB"), "PNG", transparency=(0, 0, 0)),
        saved(half_transparent("RGBA").convert("L"), "PNG", transparency=0),
        saved(half_transparent("RGBA").convert("RGB").quantize(2, dither=Image.Dither.NONE), "PNG", transparency=1),
        saved(Image.fromarray(np.array([[25_700, 25_700, 0, 0]] * 4, dtype=np.uint16)), "PNG", transparency=0),
    ],
    ids=["RGBA", "LA", "WebP", "TIFF", "GIF", "a colour", "a grey", "a palette", "16 bits"],
)
def test_transparency_is_laid_on_white(content: bytes) -> None:
    pixels = shown(content)
    assert np.abs(pixels[:, :2].astype(int) - 100).max() <= 1
    assert (pixels[:, 2:] == 255).all()


def test_half_a_transparency_is_half_white() -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[..., 3] = 128
    assert np.abs(shown(saved(Image.fromarray(pixels), "PNG")).astype(int) - 127).max() <= 1


def test_an_alpha_channel_that_hides_nothing_changes_nothing() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    opaque = np.dstack([colours, np.full((5, 5), 255, dtype=np.uint8)])
    assert (shown(saved(Image.fromarray(opaque), "PNG")) == colours).all()


def upright(turn: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(turn(np.dstack([np.arange(15, dtype=np.uint8).reshape(3, 5) * 17] * 3)))


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
        (0, lambda a: a),
        (9, lambda a: a),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_the_orientation_of_the_camera_is_applied(orientation: int, undo: Callable[..., Any], kind: str) -> None:
    """`undo` turns the scene into what the sensor has stored; numpy is the independent word on it."""
    scene, exif = upright(lambda a: a), Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(upright(undo))
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(shown(saved(stored, kind, exif=exif, **options)), scene)


def test_notes_of_a_camera_that_cannot_be_parsed_are_ignored_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(saved(Image.fromarray(RAMP), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffgarbage"))
    assert open_picture(path).size == (4, 4)
    assert read_contents(tmp_path, [path.name], ())[path.name].fault == ""


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), (level, level, level)) for level in (40, 120, 200)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.abs(shown(content).astype(int) - 40).max() <= 1


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.fromarray(RAMP > 100), "PNG", (RAMP > 100) * 255),
        (Image.fromarray(RAMP > 100), "TIFF", (RAMP > 100) * 255),
        (Image.fromarray(RAMP), "PNG", RAMP),
        (Image.fromarray(RAMP).convert("RGB"), "BMP", RAMP),
        (Image.fromarray(RAMP).convert("P"), "PNG", RAMP),
        (Image.fromarray(RAMP).convert("P"), "GIF", RAMP),
        (Image.fromarray(RAMP).convert("RGB").convert("CMYK"), "TIFF", RAMP),
        (Image.fromarray(RAMP), "TGA", RAMP),
    ],
)
def test_colour_modes(image: Image.Image, kind: str, expected: npt.NDArray[Any]) -> None:
    assert np.abs(shown(saved(image, kind)).astype(int) - expected[..., None]).max() <= 1


def test_cmyk_jpegs_are_not_negatives() -> None:
    content = saved(Image.new("RGB", (16, 16), (250, 240, 230)).convert("CMYK"), "JPEG")
    assert shown(content).min() > 200


def test_the_name_does_not_decide_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.JPEG"
    path.write_bytes(saved(Image.fromarray(RAMP), "PNG"))
    assert (np.asarray(open_picture(path))[..., 0] == RAMP).all()


def test_garbage_is_refused_and_never_raises_anything_else() -> None:
    generator = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"):
        whole = saved(Image.fromarray(RAMP).resize((32, 32)), kind)
        for _ in range(60):
            spoilt = bytearray(whole)
            for place in generator.integers(0, len(spoilt), 4):
                spoilt[place] = generator.integers(0, 256)
            with suppress(PictureError):
                check_picture(bytes(spoilt))
            with suppress(PictureError):
                decode_picture(io.BytesIO(spoilt))
