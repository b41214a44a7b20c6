"""ARCHITECTURE.md shows the rooms as they are, and the pages for who comes next name nothing that is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import PAGE, _needed, draw, picture_of

ROOT = PAGE.parent
_PATH = re.compile(r"`((?:ablations|dyconv|runners|reports|tests|docs|benchmarks)/[\w./]*)`")
_MODULE = re.compile(r"`((?:ablations|dyconv|runners|reports)(?:\.\w+)+)`")


def test_the_picture_is_that_of_the_code() -> None:
    assert picture_of(PAGE.read_text(encoding="utf-8")) == draw(), "write it anew: python -m tests.architecture"


def test_an_arrow_that_a_longer_way_stands_for_is_left_out() -> None:
    assert _needed({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths, modules = _PATH.findall(text), _MODULE.findall(text)
    assert paths or modules
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [module for module in modules if not _is_there(module)] == []


def _is_there(name: str) -> bool:
    """Return True if a dotted name is a package, a module, or a name that its module defines."""
    path = ROOT / Path(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, _, member = name.rpartition(".")
    file = (ROOT / Path(*module.split("."))).with_suffix(".py")
    package = ROOT / Path(*module.split(".")) / "__init__.py"
    source = next((path.read_text(encoding="utf-8") for path in (file, package) if path.is_file()), "")
    return re.search(rf"\b{member}\b", source) is not None
