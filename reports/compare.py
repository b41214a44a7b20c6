"""This module makes a comparison from the words of the command line: it reads both sides, shows and writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablations.errors import ReportError
from ablations.planning.request import make_request
from reports.collect.compared_runs import read_compared_study
from reports.collect.compared_study import ComparisonRequest
from reports.content.file_names import comparison_stem
from reports.document.comparison_report import side_by_side
from reports.render import get_renderer
from reports.render.terminal import on_terminal

_AT = re.compile(r"(?P<study>.+)@(?P<commit>[0-9a-f]{4,40})")


def compare_sides(
    left: str,
    right: str | None,
    uri: str,
    formats: Sequence[str],
    folder: Path,
    *,
    matched: Iterable[str] = (),
    stem: str | None = None,
    **options: Any,
) -> tuple[Iterator[Any], dict[str, Path]]:
    """Return the objects that `rich` prints of two sides, and the files by format.

    Args:
        left: A study, or `study@commit`.
        right: The same; the study of the left if it is `None`.
        uri: The store of a side that names none.
        formats: Names of renderers.
        folder: The folder of the files.
        stem: The name of the files, or `None` for a name after the request.
        matched: Rows that are held against each other, as `left=right`.
        options: The options of `runners.cli.options.side_options`, and `seeds`.

    Raises:
        AblationError: If a side is not there, or the two cannot be compared.
    """
    pairs = dict(map(parse_match, matched))
    requests = comparison_requests(left, right, uri, **options)
    left_side, right_side = map(read_compared_study, requests)
    document = side_by_side(left_side, right_side, pairs)
    stem = stem or comparison_stem(left_side.name, right_side.name, requests, pairs.items())
    return on_terminal(document), {name: get_renderer(name)(document, folder, stem) for name in formats}


def comparison_requests(
    left: str, right: str | None, uri: str, **options: Any
) -> tuple[ComparisonRequest, ComparisonRequest]:
    """Return the requests for both sides from the words of the command line.

    Args:
        left: A study, or `study@commit`.
        right: The same; the study of the left if it is `None`.
        uri: The store of a side that names none.
        options: The options of `runners.cli.options.side_options`, and `seeds`.

    Raises:
        AblationError: If a setting or a preset is unknown, or both sides are the same.
    """
    study, commit = parse_side(left)
    right_study, right_commit = parse_side(right) if right is not None else (study, commit)
    sides = [
        ComparisonRequest(
            study=name,
            commit=side_commit,
            # An option of one side wins over the one for both.
            uri=options[f"{side}_uri"] or uri,
            scale=make_request(
                options[f"{side}_preset"] or options["preset"],
                (*options["overrides"], *options[f"{side}_set"]),
                options["seeds"],
                tuned_from=options[f"{side}_tuned_from"],
            ),
        )
        for side, name, side_commit in (("left", study, commit), ("right", right_study, right_commit))
    ]
    if sides[0] == sides[1]:
        raise ReportError(
            "both sides are the same. Name two studies, two commits (STUDY@COMMIT), or what is different on one side: "
            "--right-uri, --right-preset or --right-set."
        )
    return sides[0], sides[1]


def parse_side(text: str) -> tuple[str, str]:
    """Return the study and the commit in `study@commit`; the commit is empty if none is named."""
    match = _AT.fullmatch(text)
    return (match["study"], match["commit"]) if match else (text, "")


def parse_match(text: str) -> tuple[str, str]:
    """Return the two rows in `left=right`.

    Raises:
        ReportError: If the text does not name two.
    """
    left, sign, right = text.partition("=")
    if not (sign and left and right):
        raise ReportError(f"--match {text!r} is not of the form LEFT=RIGHT, two names of rows.")
    return left, right
