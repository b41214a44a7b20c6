"""This module opens one image file as an RGB picture of 8 bits, or raises an error with the reason.

More bits are scaled, transparency is laid on white, the camera's orientation is applied, and of several frames or pages
the first is taken. Training and the check before it use the same function, `decode_picture`.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ablations.errors import DatasetError

BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as on a page."""

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""The formats that are read, under any name. Pillow knows more, EPS among them, which it has Ghostscript execute."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a picture upright, by its EXIF orientation."""

_FULL_SCALES = {"I": (255, 65_535, 2**31 - 1), "F": (1, 255, 65_535)}
"""Values that may mean white if the format does not say, by mode; the smallest that no pixel exceeds is taken."""


class PictureError(DatasetError):
    """A file is no picture that can be used; the message is a clause that follows the file's name."""


def open_picture(path: Path) -> Image.Image:
    """Return the picture in a file, RGB; not to be called by several threads at once.

    Raises:
        PictureError: It cannot be read or decoded.
    """
    try:
        # Pillow warns of odd notes in files that it can decode, once for every file and epoch.
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return decode_picture(file)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from None


def check_picture(content: bytes) -> None:
    """Raise `PictureError` if the content of a file cannot be decoded to its end."""
    if not content:
        raise PictureError("is empty")
    decode_picture(io.BytesIO(content), is_check=True)


def decode_picture(file: Any, *, is_check: bool = False) -> Image.Image:
    """Return the picture in an open file, RGB.

    Args:
        file: Open for reading bytes.
        is_check: Whether only an error is of interest; the picture may then be smaller, which takes less time.

    Raises:
        PictureError: It cannot be decoded.
    """
    try:
        with Image.open(file, formats=_formats()) as image:
            if is_check:
                # A JPEG is still read to its end, but fewer of its pixels are computed.
                image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            return _upright(_to_rgb(image), image)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("is no picture in a format that is read here") from None
    except Exception as error:
        # Decoders of damaged files raise whatever their parsing stumbles over, struct.error and KeyError included.
        raise PictureError(f"cannot be decoded: {error or type(error).__name__}") from None


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(image).convert("RGB")
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.copy()
    if image.has_transparency_data or image.mode in ("RGBa", "La"):
        # Premultiplied grey has no direct way to RGBA.
        with_alpha = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(page, with_alpha).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Return a picture of one channel of more than 8 bits, or of floating-point numbers, on the scale 0 to 255."""
    values: npt.NDArray[Any] = np.asarray(image)
    if not np.isfinite(values).all():
        raise PictureError("holds values that are no numbers. Convert it to 8 or 16 bits")
    low, high = float(values.min()), float(values.max())
    if low < 0:
        raise PictureError(f"holds values below 0, down to {low:g}. Convert it to 8 or 16 bits")
    grey = np.rint(values.astype(np.float64) * (255 / _full_scale(image, high))).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = BACKGROUND[0]
    return Image.fromarray(grey)


def _full_scale(image: Image.Image, highest: float) -> float:
    # Pillow widens 16-bit PNG and PGM files to 32 bits in some of its versions.
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        return 65_535
    return next((scale for scale in _FULL_SCALES[image.mode] if highest <= scale), highest)


def _upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION)
    except Exception:
        # Notes of a camera that cannot be parsed say nothing; the pixels are whole.
        return picture
    # Anything may stand there, a list too.
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)
