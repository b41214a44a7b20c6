"""This module names the files of reports: two requests never share a name, and one request always has the same.

The defaults stay plain, `aggregation`; what differs from them follows: `aggregation--temperature-small-9seeds-3f2a91`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.presets import PRESETS
from ablations.spec.fingerprint import digest
from ablations.vocabulary import slug

if TYPE_CHECKING:
    from ablations.planning.optimisation_plans import SearchPlan
    from ablations.planning.plan import Plan
    from ablations.planning.request import Request

_PLAIN_PRESET = "quick"
_DIGITS = 6
_BETWEEN = "--"
_LIKE_WORDS = re.compile(rf"-({'|'.join(PRESETS)}|studies|rows|brief|seed\d+|\d+seeds?|canary|tuned|[0-9a-f]{{6}})$")
"""The end of a study's name that reads like a word that is added to names here."""
_LONGEST = 36
"""Longest list of studies' names in a file name, in characters; of a longer one it has the number of studies."""


@dataclass(frozen=True)
class Destination:
    """The place that a report is written to; without a stem its file is named after its request."""

    folder: Path
    stem: str | None = None

    @classmethod
    def of(cls, output: Path | None, folder: Path, formats: Iterable[str]) -> Destination:
        """Return the place that `--output` names: an existing folder, or a file, whose ending is each format's.

        `folder` is that of reports without `--output`. Names of formats are endings too.
        """
        if output is None:
            return cls(folder)
        if output.is_dir():
            return cls(output)
        # Only a known ending is cut off: in `report.v2` it is part of the name.
        if output.suffix.removeprefix(".") in set(formats):
            return cls(output.parent, output.stem)
        return cls(output.parent, output.name)


def report_stem(plan: Plan) -> str:
    """Return the name of the report on a plan."""
    return _named([slug(study.name) for study in plan.studies], plan.request, plan.rows_by_study)


def brief_stem(stem: str, *, brief: bool) -> str:
    """Return the name of a report that may be the brief one, which lies beside the whole one."""
    return f"{stem}-brief" if brief else stem


def search_stem(plan: SearchPlan) -> str:
    """Return the name of the report on a search; more trials and repeats of it go on from what is there."""
    return f"search-{_named([slug(plan.search.name)], plan.request)}"


def comparison_stem(left: str, right: str, sides: Iterable[Any], matched: Iterable[tuple[str, str]]) -> str:
    """Return the name of a comparison of two studies, with a digest unless nothing but their names was given.

    `sides` are both requests (`reports.collect.compared_study.ComparisonRequest`); `matched` are rows that are held
    against each other on request.
    """
    stem = f"compare-{slug(left)}-{slug(right)}"
    requests, stores, pairs = [], [], sorted(matched)
    for side in sides:
        requests.append([side.commit, _words(side.scale), _digested(side.scale)])
        stores.append(str(side.uri))
    if len(set(stores)) == 1:
        # Only different stores tell comparisons apart.
        stores.clear()
    # Two bare names at the default scale keep the short name.
    if not pairs and not stores and requests.count(["", [], {}]) == len(requests):
        return stem
    return f"{stem}-{_short([requests, stores, pairs])}"


def foreign_comparison_stem(left: str, right: str, requests: Iterable[Any], matched: Iterable[tuple[str, str]]) -> str:
    """Return the name of a comparison with results from elsewhere, with a digest of both requests."""
    return f"compare-{slug(left)}-{slug(right)}-{_short([list(map(repr, requests)), sorted(matched)])}"


def _named(names: list[str], request: Request, rows: Mapping[str, list[str]] | None = None) -> str:
    """Return a name of studies or a search at a request; `rows` has the rows of each study that is not whole."""
    listed = _BETWEEN.join(names)
    digested = _digested(request)
    if rows:
        digested["rows"] = rows
    # A list that is too long is replaced by its length, and the digest tells such reports apart.
    if len(names) > 1 and len(listed) > _LONGEST:
        listed = f"{len(names)}-studies"
        digested["studies"] = names
    elif any(_BETWEEN in name or _LIKE_WORDS.search(name) for name in names):
        # Such a study's report would have the name of another's at another scale.
        digested["studies"] = names
    name_words = [listed, *(["rows"] if rows else []), *_words(request)]
    if digested:
        name_words.append(_short(digested))
    return "-".join(name_words)


def _words(request: Request) -> list[str]:
    name_words = []
    if request.preset.name != _PLAIN_PRESET:
        name_words.append(request.preset.name)
    if request.seeds is not None:
        noun = "seed" if request.seeds == 1 else "seeds"
        name_words.append(f"{request.seeds}{noun}")
    if request.seed is not None:
        name_words.append(f"seed{request.seed}")
    if request.canary:
        name_words.append("canary")
    if request.tuned is not None:
        name_words.append("tuned")
    return name_words


def _digested(request: Request) -> dict[str, Any]:
    """Return the parts of a request that no word of a name tells."""
    return {"overrides": dict(request.overrides)} if request.overrides else {}


def _short(content: Any) -> str:
    # Another key would give every such file another name.
    return digest({"asked": content})[:_DIGITS]
