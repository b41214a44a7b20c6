"""This module makes a comparison from the words of the command line: it reads both sides, shows and writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations.errors import ReportError
from ablations.planning.request import Request
from reports.collect.compared_runs import read_compared_study
from reports.collect.compared_study import ComparisonRequest
from reports.content.file_names import comparison_stem
from reports.document.comparison_report import side_by_side
from reports.render import render
from reports.render.terminal import on_terminal

# Four digits at least: fewer would fit many commits, and a study's own name may end in @1.
_AT = re.compile(r"(?P<study>.+)@(?P<commit>[0-9a-f]{4,40})")


def compare_sides(
    left: ComparisonRequest,
    right: ComparisonRequest,
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
            "--right-uri, --right-preset or --right-set."
        )
    pairs = dict(map(parse_match, matched))
    left_side, right_side = read_compared_study(left), read_compared_study(right)
    document = side_by_side(left_side, right_side, pairs)
    stem = stem or comparison_stem(left_side.name, right_side.name, (left, right), pairs.items())
    return on_terminal(document), render(document, formats, folder, stem)


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
