"""This module reads a report's file, PDF or HTML: its manifest, the words on its pages, and a digest of their drawing.

Files come from anywhere: nothing in them is run, and a file that cannot be read is an error that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ablations.errors import ReportError
from reports.evidence.manifest import NAME

_LINES = frozenset({"p", "h1", "h2", "h3", "tr", "li", "dt", "dd", "figcaption", "title", "div", "caption", "summary"})
_WITHOUT_END = frozenset({"meta", "link", "br", "img", "input", "hr", "use"})
_DEEP = 30


@dataclass(frozen=True)
class Page:
    """The content of one page; a page of HTML is all of it.

    Attributes:
        lines: Its words, line by line.
        drawn: Digest of its drawing instructions: lines and pictures as well as letters.
        extras: Number of objects on top of it beside its links: annotations, fields.
    """

    lines: tuple[str, ...]
    drawn: str
    extras: int = 0


@dataclass(frozen=True)
class Carried:
    """The content of a report's file: the text of its manifest, and its pages."""

    manifest: str
    pages: tuple[Page, ...]


def read_report(path: Path) -> Carried:
    """Return the content of a report's file.

    Raises:
        ReportError: If it cannot be read, or carries no manifest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror or error}.") from None
    try:
        return carried(content)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from None


def carried(content: bytes) -> Carried:
    """Return the content of a report's file from its bytes.

    Raises:
        ReportError: If it is neither PDF nor HTML, is broken, or carries no manifest.
    """
    # By its content and not by its name, which anyone may change.
    if content.startswith(b"%PDF-"):
        return _of_pdf(content)
    if content.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return _of_html(content.decode("utf-8", "replace"))
    raise ReportError("this is neither a PDF nor an HTML report; only these carry a manifest.")


def _of_pdf(content: bytes) -> Carried:
    import io

    from pypdf import PdfReader

    try:
        reader = PdfReader(io.BytesIO(content))
        manifests = reader.attachments.get(NAME, [])
        pages = tuple(map(_page, reader.pages)) if manifests else ()
    except Exception as error:  # pypdf raises whatever a broken file makes it stumble over
        raise ReportError(f"its pages cannot be read ({type(error).__name__}: {error}).") from None
    if len(manifests) != 1:
        raise ReportError(
            f"it carries {len(manifests) or 'no'} {NAME}, a report carries one. Make it again with `report`."
        )
    return Carried(manifests[0].decode("utf-8", "replace"), pages)


def _page(page: Any) -> Page:
    lines = _lines(page.extract_text())
    sha = hashlib.sha256()
    contents = page.get_contents()
    if contents is not None:
        sha.update(contents.get_data())
    for data in _pictures(page.get("/Resources"), _DEEP):
        sha.update(data)
    # Links are part of every report; any other annotation was put there afterwards.
    extras = [note for note in page.get("/Annots") or () if note.get_object().get("/Subtype") != "/Link"]
    return Page(lines, sha.hexdigest(), len(extras))


def _pictures(resources: Any, depth: int) -> Iterator[bytes]:
    """Yield the pictures that a page draws, and those that they draw."""
    # A file may be made so that a picture draws itself: the depth puts an end to that.
    if resources is None or not depth:
        return
    # Sorted by name: the order in a file may change without any change in the drawing.
    for _, reference in sorted((resources.get_object().get("/XObject") or {}).items()):
        picture = reference.get_object()
        yield picture.get_data()
        yield from _pictures(picture.get("/Resources"), depth - 1)


def _lines(text: str) -> tuple[str, ...]:
    # Places where a long word may be broken are no part of it.
    lines = text.replace("\u200b", "").splitlines()
    squeezed = (" ".join(line.split()) for line in lines)
    return tuple(filter(None, squeezed))


def _of_html(text: str) -> Carried:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    count = len(reader.manifests)
    if count != 1:
        raise ReportError(
            f"it carries {count or 'no'} {NAME}; what `run` and `report` write as PDF or HTML carries one."
        )
    manifest = reader.manifests[0]
    # The manifest is compared number by number, so that its bytes are no part of the drawing.
    drawing = text.replace(manifest, "", 1).encode("utf-8", "replace")
    return Carried(manifest, (Page(_lines("".join(reader.words)), hashlib.sha256(drawing).hexdigest()),))


class _Reader(HTMLParser):
    """The parser of a page, which collects the manifest and the words that it shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.manifests: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._is_manifest = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag that opens."""
        if tag not in _WITHOUT_END:
            self._open.append(tag)
        self._is_manifest = tag == "script" and dict(attrs).get("id") == NAME
        if self._is_manifest:
            self.manifests.append("")
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note the tag that closes."""
        # A tag that was left open inside is closed with it, as a browser does.
        while tag in self._open and self._open.pop() != tag:
            pass
        self._is_manifest = False
        self._part(tag)

    def _part(self, tag: str) -> None:
        if tag in _LINES:
            self.words.append("\n")
        elif tag in ("td", "th"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        """Keep visible words; text that only takes up room is left out."""
        if self._is_manifest:
            self.manifests[-1] += data
        elif not {"script", "style", "i"} & set(self._open):
            self.words.append(" ".join(data.splitlines()) if data.strip() else " ")
