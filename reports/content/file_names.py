"""What files of reports are called: two requests never share a name, and one request always has the same.

The defaults stay plain, `aggregation`; what differs from them follows: `aggregation--temperature-small-9seeds-3f2a91`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_LIKE_WORDS = re.compile(rf"-({'|'.join(PRESETS)}|studies|\d+seeds?|canary|tuned|[0-9a-f]{{6}})$")
"""The end of a study's name that reads like what is added to names here."""
_LONGEST = 36
"""Characters of studies' names that a file name lists; of more it has their number."""


@dataclass(frozen=True)
class Destination:
    """Where a report goes.

    Attributes:
        folder: Its folder.
        stem: Its file name without the ending, or `None` for the one that its request has.
    """

    folder: Path
    stem: str | None = None

    @classmethod
    def of(cls, output: Path | None, folder: Path, formats: Iterable[str]) -> Destination:
        """Return where `--output` leads: into a folder that is there, or to a file, whose ending is each format's.

        Args:
            output: What the user gave, or `None`.
            folder: Where reports go otherwise.
            formats: Names of formats, which are endings too.
        """
        if output is None:
            return cls(folder)
        if output.is_dir():
            return cls(output)
        return cls(output.parent, output.stem if output.suffix.removeprefix(".") in set(formats) else output.name)


def report_stem(plan: Plan) -> str:
    """Return the name of the report on a plan."""
    return _named([slug(study.name) for study in plan.studies], plan.request)


def search_stem(plan: SearchPlan) -> str:
    """Return the name of the report on a search; more trials and repeats of it go on from what is there."""
    return f"search-{_named([slug(plan.search.name)], plan.request)}"


def comparison_stem(left: str, right: str, sides: Iterable[Any], matched: Iterable[tuple[str, str]]) -> str:
    """Return the name of a comparison of two studies, with a digest unless nothing but their names was given.

    Args:
        left, right: Names of both studies.
        sides: What was asked of each: study, commit, store and request (`reports.collect.side_results.Wanted`).
        matched: Rows that are held against each other on request.
    """
    sides, pairs = list(sides), sorted(matched)
    stem = f"compare-{slug(left)}-{slug(right)}"
    asked = [[side.commit, _words(side.request), _digested(side.request)] for side in sides]
    stores = [str(side.uri) for side in sides] if len({str(side.uri) for side in sides}) > 1 else []
    if not pairs and not stores and all(words == ["", [], {}] for words in asked):
        return stem
    return f"{stem}-{_short([asked, stores, pairs])}"


def _named(names: list[str], request: Request) -> str:
    listed = _BETWEEN.join(names)
    more = _digested(request)
    if len(names) > 1 and len(listed) > _LONGEST:
        listed = f"{len(names)}-studies"
        more["studies"] = names
    elif any(_BETWEEN in name or _LIKE_WORDS.search(name) for name in names):
        # Such a study's report would have the name of another's at another scale.
        more["studies"] = names
    words = [listed, *_words(request)]
    return "-".join([*words, _short(more)] if more else words)


def _words(request: Request) -> list[str]:
    words = [request.preset.name] if request.preset.name != _PLAIN_PRESET else []
    if request.seeds is not None:
        words.append(f"{request.seeds}seed{'s' if request.seeds != 1 else ''}")
    words += ["canary"] if request.canary else []
    return [*words, "tuned"] if request.tuned is not None else words


def _digested(request: Request) -> dict[str, Any]:
    """Return what a request has beyond the words of a name."""
    return {"overrides": dict(request.overrides)} if request.overrides else {}


def _short(content: Any) -> str:
    return digest({"asked": content})[:_DIGITS]
