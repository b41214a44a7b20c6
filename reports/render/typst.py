"""This module writes a document as PDF with Typst, and chooses the fonts so that every character is seen.

Common characters look alike on every machine: Typst embeds Libertinus, and matplotlib carries DejaVu, which has the
signs that Libertinus lacks. What both lack comes from the fonts of the machine, and what those lack too is drawn as a
box by the Last Resort font instead of not at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import matplotlib as mpl
from matplotlib.ft2font import FT2Font

from ablations.errors import OutputError
from reports.content.blocks import Document
from reports.render.files import document_path, ensure_folder, write_atomically, write_figures
from reports.render.typst_data import as_json


def render_pdf(document: Document, folder: Path, stem: str) -> Path:
    """Write `folder/<stem>.pdf` and its figures as SVG; equal documents give equal bytes."""
    ensure_folder(folder)
    paths = write_figures(document, folder, stem, "svg")
    drawings = {name: path.read_text("utf-8") for name, path in paths.items()}
    return write_atomically(document_path(folder, stem, "pdf"), compile_pdf(document, drawings))


def compile_pdf(document: Document, drawings: Mapping[str, str]) -> bytes:
    """Return the document as PDF bytes, given its figures as SVG by name.

    Raises:
        OutputError: If Typst refuses it.
    """
    import typst

    template = resources.files("reports.render").joinpath("templates/report.typ").read_bytes()
    data = json.dumps(as_json(document, drawings), ensure_ascii=False)
    try:
        with font_folder(data) as fonts:
            pdf: bytes = typst.compile(
                template,
                format="pdf",
                font_paths=typst.Fonts(font_paths=[str(fonts)]),
                sys_inputs={"document": data},
                # Not the time of day: equal documents give equal bytes.
                timestamp=document.timestamp,
            )
    except typst.TypstError as error:
        raise OutputError(f"Typst could not set the report: {error}") from None
    return pdf


_DEJAVU = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-BoldOblique.ttf")
_LAST_RESORT = "LastResortHE-Regular.ttf"


@contextmanager
def font_folder(text: str) -> Iterator[Path]:
    """Yield a folder with the fonts that Typst needs beside its own for setting `text`."""
    with tempfile.TemporaryDirectory(prefix="dyconv-fonts-") as folder:
        # Copied into one folder, since Typst takes folders and would find every font in theirs.
        for file in _font_files(text):
            shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder)


def _font_files(text: str) -> list[Path]:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    files = [folder / name for name in _DEJAVU]
    # ASCII needs no look: the fonts that Typst embeds have all of it.
    missing = _uncovered(set(text).difference(map(chr, range(0x80))), files[:1])
    if missing and _uncovered(missing, _machine_fonts()):
        # Only then: Typst might prefer it to a font of the machine that has the character.
        files.append(folder / _LAST_RESORT)
    return files


def _machine_fonts() -> Iterable[Path]:
    import typst

    fonts = typst.Fonts(include_embedded_fonts=False).fonts()
    return map(Path, sorted({font.path for font in fonts if font.path}))


def _uncovered(chars: set[str], files: Iterable[Path]) -> set[str]:
    missing = set(chars)
    for file in files:
        if not missing:
            break
        try:
            # A font file that cannot be read is none, whatever is wrong with it.
            covered = FT2Font(str(file)).get_charmap()
        except (OSError, RuntimeError):
            continue
        missing = {char for char in missing if ord(char) not in covered}
    return missing
