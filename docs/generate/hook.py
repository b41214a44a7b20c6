"""Fills the generated parts of pages in, and adds the pages that lie beside `docs/`: the README is the first page."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from reference import filled

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "developing/architecture.md",
    "CONTRIBUTING.md": "developing/contributing.md",
    "CHANGELOG.md": "developing/changelog.md",
}
"""Pages at the root of the repository, and where they stand on the site."""

# Links to other pages and pictures; addresses, and anchors of the page itself, stay as they are.
_LINK = re.compile(r"\]\(((?:docs/)?[\w./-]+\.(?:md|png|pdf|html|zip))(#[\w-]+)?\)")


def moved(name: str) -> str:
    """Return the text of a page at the root of the repository, with links as they are from its place on the site."""
    here = posixpath.dirname(BESIDE[name]) or "."

    def link(match: re.Match[str]) -> str:
        target = BESIDE.get(match[1], match[1].removeprefix("docs/"))
        return f"]({posixpath.relpath(target, here)}{match[2] or ''})"

    return _LINK.sub(link, (ROOT / name).read_text(encoding="utf-8"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside `docs/`."""
    for name, path in BESIDE.items():
        files.append(File.generated(config, path, content=moved(name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the generated parts of a page in."""
    return filled(markdown)
