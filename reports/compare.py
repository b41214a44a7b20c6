"""This module makes a comparison from the words of the command line: it reads both sides, shows and writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations.errors import ReportError
from ablations.planning.request import Request
from reports.collect.compared_runs import read_compared_study
from reports.collect.compared_study import ComparedSide, ComparisonRequest
from reports.collect.foreign.cells import cells_of
from reports.collect.foreign.compared import compared_results
from reports.content.file_names import comparison_stem, foreign_comparison_stem
from reports.document.comparison_report import side_by_side
from reports.foreign.make import ForeignRequest
from reports.render import render
from reports.render.terminal import on_terminal

# Four digits at least: fewer would fit many commits, and a study's own name may end in @1.
_AT = re.compile(r"(?P<study>.+)@(?P<commit>[0-9a-f]{4,40})")


SideRequest = ComparisonRequest | ForeignRequest
"""The request for a side: a study in a store, or foreign results."""


def compare_sides(
    left: SideRequest,
    right: SideRequest,
    formats: Sequence[str],
    folder: Path,
    *,
    matched: Iterable[str] = (),
    stem: str | None = None,
) -> tuple[Iterator[Any], dict[str, Path]]:
    """Return the objects that `rich` prints of two sides, and the files by format.

    `matched` are rows that are held against each other, as `left=right`. Without a `stem` the files are named after
    the requests.

    Raises:
        AblationError: If a side is not there, or the two cannot be compared.
    """
    # Equal requests read the same runs, and every difference would be 0.
    if left == right:
        raise ReportError(
            "both sides are the same. Name two studies, two commits (STUDY@COMMIT), or what is different on one side: "
            "--right-uri, --right-preset, --right-set or --right-results."
        )
    pairs = dict(map(parse_match, matched))
    left_side, right_side = _read(left), _read(right)
    document = side_by_side(left_side, right_side, pairs)
    if stem is None:
        if isinstance(left, ComparisonRequest) and isinstance(right, ComparisonRequest):
            stem = comparison_stem(left_side.name, right_side.name, (left, right), pairs.items())
        else:
            stem = foreign_comparison_stem(left_side.name, right_side.name, (left, right), pairs.items())
    return on_terminal(document), render(document, formats, folder, stem)


def _read(request: SideRequest) -> ComparedSide:
    if isinstance(request, ComparisonRequest):
        return read_compared_study(request)
    study, results = request.read()
    return compared_results(study, results.source, cells_of(study, results))


def comparison_request(text: str, uri: str, scale: Request) -> ComparisonRequest:
    """Return the request for the side that `text` names: a study, or `study@commit`."""
    study, commit = parse_side(text)
    return ComparisonRequest(study, commit, uri, scale)


def parse_side(text: str) -> tuple[str, str]:
    """Return the study and the commit in `study@commit`; the commit is empty if none is named."""
    match = _AT.fullmatch(text)
    if match is None:
        return text, ""
    return match["study"], match["commit"]


def parse_match(text: str) -> tuple[str, str]:
    """Return the two rows in `left=right`.

    Raises:
        ReportError: If the text does not name two.
    """
    # At the first sign, so that the name on the right may hold another.
    left, sign, right = text.partition("=")
    if not (sign and left and right):
        raise ReportError(f"--match {text!r} is not of the form LEFT=RIGHT, two names of rows.")
    return left, right
