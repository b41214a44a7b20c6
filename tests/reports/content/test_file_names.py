"""Names of reports: what is asked tells them apart, the same request has the same name, the defaults are plain."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations.planning.optimisation_plans import make_search_plan
from ablations.planning.request import Request
from ablations.planning.search import get_search
from ablations.presets import get_preset
from ablations.vocabulary import slug
from reports.collect.compared_study import ComparisonRequest
from reports.content.file_names import Destination, comparison_stem, report_stem, search_stem


def _request(preset: str = "quick", **more: Any) -> Request:
    return Request(get_preset(preset), **more)


def _stem(studies: Sequence[str], preset: str = "quick", **more: Any) -> str:
    return _stem_of(studies, _request(preset, **more))


def _stem_of(studies: Sequence[str], request: Request, rows: Mapping[str, list[str]] | None = None) -> str:
    named = [SimpleNamespace(name=name) for name in studies]
    plan: Any = SimpleNamespace(studies=named, request=request, rows_by_study=rows or {})
    return report_stem(plan)


@pytest.mark.parametrize(
    ("studies", "preset", "more", "stem"),
    [
        (["aggregation"], "quick", {}, "aggregation"),
        (["aggregation"], "small", {}, "aggregation-small"),
        (["aggregation"], "quick", {"seeds": 9}, "aggregation-9seeds"),
        (["aggregation"], "quick", {"seeds": 1, "canary": True}, "aggregation-1seed-canary"),
        (["aggregation"], "smoke", {"seed": 0}, "aggregation-smoke-seed0"),
        (["aggregation", "temperature"], "small", {}, "aggregation--temperature-small"),
    ],
)
def test_names_can_be_read(studies: list[str], preset: str, more: Mapping[str, Any], stem: str) -> None:
    assert _stem(studies, preset, **more) == stem


def test_two_requests_never_share_a_name() -> None:
    studies = (
        ["a"],
        ["b"],
        ["a", "b"],
        ["b", "a"],
        ["a--b"],
        ["a-small"],
        ["a-9seeds"],
        ["a-canary"],
        ["a-rows"],
        ["a-seed0"],
        ["3-studies"],
        [f"a_long_name_of_study_{n}" for n in range(3)],
        [f"a_long_name_of_study_{n}" for n in range(1, 4)],
        ["../a"],
        ["..-a"],
    )
    overrides: tuple[dict[str, Any], ...] = (
        {},
        {"train.epochs": 4},
        {"train.epochs": 5},
        {"inspect": ["tau_30"]},
        {"train.epochs": 4, "model.width": 0.5},
    )
    scales = itertools.product(("quick", "small"), (None, 9), (False, True), overrides)
    requests = [_request(preset, seeds=seeds, canary=canary, overrides=c) for preset, seeds, canary, c in scales]
    requests += [_request(seed=0), _request(seed=1)]
    stems = [slug(_stem_of(names, request)) for names, request in itertools.product(studies, requests)]
    parts: tuple[dict[str, list[str]], ...] = ({"a": ["x"]}, {"a": ["x", "y"]}, {"a": ["x"], "b": ["x"]}, {"b": ["x"]})
    stems += [slug(_stem_of(["a", "b"], request, rows)) for rows, request in itertools.product(parts, requests)]
    assert len(set(stems)) == len(stems)
    assert len({stem.lower() for stem in stems}) == len(stems)
    assert all(len(stem) < 80 for stem in stems)


def test_the_same_request_has_the_same_name_in_whatever_order_it_is_given() -> None:
    one = _stem(["a"], overrides={"train.epochs": 4, "model.width": 0.5})
    other = _stem(["a"], overrides={"model.width": 0.5, "train.epochs": 4})
    assert one == other


def test_searches_are_told_apart() -> None:
    def stem(preset: str, trials: int = 2, **overrides: Any) -> str:
        return search_stem(make_search_plan(get_search("parts"), _request(preset, overrides=overrides), trials, 0))

    assert stem("quick") == "search-parts"
    assert stem("smoke") == "search-parts-smoke"
    assert stem("smoke", trials=9) == stem("smoke")
    assert len({stem("smoke"), stem("smoke", **{"train.epochs": 3}), stem("smoke", **{"train.epochs": 4})}) == 3


def test_comparisons_are_told_apart() -> None:
    here = ComparisonRequest("a", "", "store", _request())
    plain = comparison_stem("a", "b", (here, ComparisonRequest("b", "", "store", _request())), ())
    assert plain == "compare-a-b"
    others = [
        (ComparisonRequest("b", "1a2b3c4", "store", _request()), ()),
        (ComparisonRequest("b", "5d6e7f8", "store", _request()), ()),
        (ComparisonRequest("b", "", "another", _request()), ()),
        (ComparisonRequest("b", "", "store", _request("small")), ()),
        (ComparisonRequest("b", "", "store", _request(seeds=4)), ()),
        (ComparisonRequest("b", "", "store", _request(overrides={"data.name": "cifar10"})), ()),
        (ComparisonRequest("b", "", "store", _request()), (("x", "y"),)),
    ]
    stems = {plain, *(comparison_stem("a", "b", (here, there), pairs) for there, pairs in others)}
    assert len(stems) == 1 + len(others)


def test_output_is_a_folder_that_is_there_or_a_file(tmp_path: Path) -> None:
    formats = ("pdf", "md")
    assert Destination.of(None, tmp_path, formats) == Destination(tmp_path)
    assert Destination.of(tmp_path, Path("elsewhere"), formats) == Destination(tmp_path)
    assert Destination.of(tmp_path / "mine.pdf", Path("elsewhere"), formats) == Destination(tmp_path, "mine")
    assert Destination.of(tmp_path / "v1.2", Path("elsewhere"), formats) == Destination(tmp_path, "v1.2")
    assert Destination.of(Path("mine"), tmp_path, formats) == Destination(Path("."), "mine")


def test_a_report_on_some_rows_says_so_in_its_name() -> None:
    assert _stem_of(["aggregation"], _request("smoke"), {"aggregation": ["average"]}).startswith(
        "aggregation-rows-smoke-"
    )
