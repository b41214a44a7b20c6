"""Which font files Typst gets, so that every character of a document is seen and common ones look alike everywhere.

Typst embeds Libertinus; matplotlib carries DejaVu, which has the signs that Libertinus lacks. What both lack comes from
the fonts of the machine, and what those lack too is drawn as a box by the Last Resort font instead of not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.ft2font import FT2Font

_DEJAVU = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-BoldOblique.ttf")
_LAST_RESORT = "LastResortHE-Regular.ttf"


@contextmanager
def font_folder(text: str) -> Iterator[Path]:
    """Yields a folder with the fonts that Typst needs beside its own for setting `text`."""
    with tempfile.TemporaryDirectory(prefix="dyconv-fonts-") as folder:
        for file in _font_files(text):
            shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder)


def _font_files(text: str) -> list[Path]:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    files = [folder / name for name in _DEJAVU]
    missing = _uncovered({char for char in set(text) if ord(char) > 0x7F}, files[:1])
    if missing and _uncovered(missing, _machine_fonts()):
        # Only then: Typst might prefer it to a font of the machine that has the character.
        files.append(folder / _LAST_RESORT)
    return files


def _machine_fonts() -> Iterable[Path]:
    import typst

    paths = {font.path for font in typst.Fonts(include_embedded_fonts=False).fonts() if font.path}
    return [Path(path) for path in sorted(paths)]


def _uncovered(chars: set[str], files: Iterable[Path]) -> set[str]:
    missing = set(chars)
    for file in files:
        if not missing:
            break
        try:
            covered = FT2Font(str(file)).get_charmap()
        except (OSError, RuntimeError):
            continue
        missing = {char for char in missing if ord(char) not in covered}
    return missing
