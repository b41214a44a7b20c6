"""Adds to the site the generated pages of the reference, and the pages that lie beside `docs/`: the README is the first."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from reference import pages

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "developing/architecture.md",
    "CONTRIBUTING.md": "developing/contributing.md",
    "CHANGELOG.md": "developing/changelog.md",
}
"""Pages at the root of the repository, and where they stand on the site."""


def moved(name: str) -> str:
    """Return the text of a page at the root of the repository, with its links as they are from its place on the site."""
    here = posixpath.dirname(BESIDE[name])

    def link(match: re.Match[str]) -> str:
        path, _, anchor = match[1].partition("#")
        target = BESIDE.get(path, path.removeprefix("docs/"))
        return f"]({posixpath.relpath(target, here or '.')}{'#' + anchor if anchor else ''})"

    # Links to other pages and pictures; addresses and anchors of the page itself stay as they are.
    return re.sub(r"\]\(((?:docs/)?[\w./-]+\.(?:md|png|pdf|html|zip)(?:#[\w-]+)?)\)", link, (ROOT / name).read_text(encoding="utf-8"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made from the code and what lies beside `docs/`."""
    texts = {page: moved(name) for name, page in BESIDE.items()}
    for path, text in {**texts, **pages()}.items():
        files.append(File.generated(config, path, content=text))
    return files
