"""This module reads which test images a foreign run got right: a file of zeros and ones, one for each image.

With it, evaluations of one and the same network are compared image by image.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from ablations.errors import ResultsError
from reports.collect.correctness import Correctness

CORRECT = "correct"
"""The column that names such a file, relative to the results."""

_MOST_BYTES = 64_000_000
_SEPARATORS = re.compile(r"[\s,;]+")
_TOLERANCE = 0.051
"""Points by which an accuracy may differ from its images: it may be rounded to one decimal."""


def read_correct(path: Path, metric: str, value: float, place: str) -> Correctness:
    """Return the images that a run got right.

    Args:
        path: A text of a 0 or a 1 for each image, with or without white space and commas between them.
        value: The accuracy that was measured, in per cent, which must be that of the images.
        place: Begins each message.

    Raises:
        ResultsError: If the file cannot be read, is no such text, or has another accuracy.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ResultsError(f"{place}: {path.name} is larger than {_MOST_BYTES // 1_000_000} MB.")
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ResultsError(f"{place}: the correct images in {path.name} cannot be read: {reason}.") from None
    digits = _SEPARATORS.sub("", text)
    if not digits or digits.strip("01"):
        raise ResultsError(f"{place}: {path.name} is not a 0 or a 1 for each image.")
    bits = np.frombuffer(digits.encode(), dtype=np.uint8) - ord("0")
    share = 100.0 * float(bits.mean())
    if abs(share - value) > _TOLERANCE:
        raise ResultsError(
            f"{place}: {metric} is {value:g}, and {share:.4g} % of the {len(bits)} images in {path.name} are right. "
            "The metric of a study with correct images is their share in per cent."
        )
    return correct_images(bits.tobytes(), metric)


def correct_images(digits: bytes, metric: str) -> Correctness:
    """Return the correct images of a byte 0 or 1 for each."""
    packed = np.packbits(np.frombuffer(digits, dtype=np.uint8)).tobytes()
    # The order of the images is that of the files: one study has one order.
    return Correctness(len(digits), ("", "file"), hashlib.sha256(packed).hexdigest(), {metric: packed})
