"""Accuracy against multiply-adds: the points by hand, what has none, and the published networks beside ours."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from ablations.planning.plan import Plan
from ablations.spec.parts import ModelSpec
from ablations.study import Study, Variant
from ablations.vocabulary import COST_MULTIPLY_ADDS
from reports.analysis.summary import summarize_study
from reports.collect.results import CELL_COLUMNS, MISSING, Results
from reports.collect.tracked_runs import FINISHED
from reports.content.blocks import Figure
from reports.figures.drawing import draw
from reports.figures.tradeoff import OURS, PUBLISHED, kind_title, tradeoff_data, tradeoff_figure
from tests.reports.everything import made_up_results, results_of, whole_plan
from tests.reports.made_up import plan_of

NARROW = {"model.width": 0.25}
STUDY = Study(
    name="mine",
    title="Mine",
    question="?",
    reference="static",
    published="backbones",
    with_cost=True,
    variants=(
        Variant(name="static", changes={"model.layer": "static"}),
        Variant(name="dynamic", changes={"model.layer": "dynamic"}),
        Variant(name="narrow", changes={**NARROW, "model.layer": "static"}),
        Variant(name="narrow_dynamic", changes={**NARROW, "model.layer": "dynamic", "model.num_kernels": 2}),
    ),
)
TOP1: dict[str, tuple[float | None, ...]] = {
    "static": (80.0, 81.0, 85.0),
    "dynamic": (82.0, 84.0, 86.0),
    "narrow": (70.0, 70.0, 70.0),
    "narrow_dynamic": (71.0, 72.0, 73.0),
}
COUNTS = {"static": 5e6, "dynamic": 5.5e6, "narrow": 2e6, "narrow_dynamic": 2.25e6}


def counted(plan: Plan, results: Results, counts: Mapping[str, float]) -> Results:
    """Return the same results with the counts of some variants; the other networks have no run."""
    rows: list[dict[str, Any]] = []
    for cell in plan.cost_cells:
        status = FINISHED if cell.variant in counts else MISSING
        values = (cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint, "", status)
        row: dict[str, Any] = dict(zip(CELL_COLUMNS, values, strict=True))
        rows.append({**row, COST_MULTIPLY_ADDS: counts.get(cell.variant, math.nan)})
    return replace(results, costs=pd.DataFrame(rows))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(STUDY)


def data_of(
    plan: Plan, top1: Mapping[str, tuple[float | None, ...]] = TOP1, counts: Mapping[str, float] = COUNTS
) -> pd.DataFrame:
    results = counted(plan, results_of(plan, top1), counts)
    return tradeoff_data(STUDY, plan, results, summarize_study(STUDY, plan, results))


def figure_of(
    plan: Plan, top1: Mapping[str, tuple[float | None, ...]] = TOP1, counts: Mapping[str, float] = COUNTS
) -> Figure | None:
    results = counted(plan, results_of(plan, top1), counts)
    return tradeoff_figure(STUDY, plan, results, summarize_study(STUDY, plan, results))


def test_each_network_is_a_point_with_the_interval_over_its_seeds(plan: Plan) -> None:
    data = data_of(plan)
    ours = data[data["source"] == OURS].reset_index(drop=True)
    assert ours["multiply_adds"].tolist() == [5e6, 5.5e6, 2e6, 2.25e6]
    assert ours["mean"].tolist() == [82.0, 84.0, 70.0, 72.0]
    assert ours["kind"].tolist() == ["static", "DY K=4", "static", "DY K=2"]
    assert ours["linked"].tolist() == [False, True, False, True]
    assert ours["width"].tolist() == [0.35, 0.35, 0.25, 0.25]
    assert set(ours["panel"]) == {"Fashion-MNIST (mini)"}
    # By hand: standard deviation 2 over three seeds, and the t quantile of two degrees of freedom.
    half = 4.30265 * 2 / math.sqrt(3)
    assert (ours["low"][1], ours["high"][1]) == pytest.approx((84 - half, 84 + half), abs=1e-4)
    assert math.isnan(ours["low"][2]), "seeds that all gave one value have no interval"


def test_a_network_without_a_count_or_with_a_missing_repeat_has_no_point_and_is_named(plan: Plan) -> None:
    top1 = {**TOP1, "dynamic": (82.0, None, 86.0)}
    counts = {name: count for name, count in COUNTS.items() if name != "narrow"}
    data = data_of(plan, top1, counts)
    assert data[data["source"] == OURS]["multiply_adds"].tolist() == [5e6, 2.25e6]
    figure = figure_of(plan, top1, counts)
    assert figure is not None
    assert "Without a point: dynamic (n = 2/3) and narrow (not counted)." in figure.caption
    whole = figure_of(plan)
    assert whole is not None
    assert "Without a point" not in whole.caption


def test_there_is_no_figure_of_published_networks_alone(plan: Plan) -> None:
    assert figure_of(plan, counts={}) is None
    assert figure_of(plan, dict.fromkeys(TOP1, (None, None, None))) is None
    assert data_of(plan, counts={}).empty


def test_the_published_networks_of_our_backbones_stand_beside_with_their_marks(plan: Plan) -> None:
    data = data_of(plan)
    published = data[data["source"] == PUBLISHED]
    assert set(published["backbone"]) == {"MobileNetV2"}, "no ResNet is among ours"
    found = {
        (row.width, row.kind): (row.multiply_adds, row.mean, row.confidence, row.linked)
        for row in published.itertuples()
    }
    assert found[1.0, "static"] == (300e6, 72.0, "A", False)
    assert found[1.0, "DY K=4"] == (312.9e6, 75.2, "A", True)
    # As sure as the less sure of its two numbers.
    assert found[0.5, "DY K=4"] == (101.4e6, 69.9, "B", True)
    assert found[0.75, "static"] == (209.1e6, 69.8, "C", False)
    assert len(found) == 8
    assert set(published["panel"]) == {"ImageNet"}


def test_methods_of_other_authors_are_not_linked_to_the_papers_static_network() -> None:
    plan = whole_plan("paper", "methods")
    study, results = plan.studies[0], made_up_results(plan)
    data = tradeoff_data(study, plan, results, summarize_study(study, plan, results))
    assert set(data["panel"]) == {"ImageNet-1k"}, "ours are of the same images, so they share a panel"
    published = data[data["source"] == PUBLISHED]
    linked = {(row.width, row.kind): row.linked for row in published.itertuples()}
    assert linked[0.5, "DY K=4"]
    assert linked[1.0, "CondConv K=8"]
    assert not linked[0.5, "OD K=4"]
    assert (0.5, "CondConv K=8") not in linked, "its multiply-adds were not published"


def test_a_study_whose_table_has_no_counts_stands_beside_the_papers_backbones() -> None:
    plan = whole_plan("smoke", "kernels")
    study, results = plan.studies[0], made_up_results(plan)
    data = tradeoff_data(study, plan, results, summarize_study(study, plan, results))
    assert len(data[data["source"] == PUBLISHED]) == 8


KINDS: list[tuple[dict[str, Any], str]] = [
    ({"layer": "static"}, "static"),
    ({"layer": "static", "squeeze_excitation": True}, "SE"),
    ({"layer": "dynamic"}, "DY K=4"),
    ({"layer": "dynamic", "num_kernels": 8, "normalization": "signed"}, "DY K=8 signed"),
    ({"layer": "dynamic", "squeeze_excitation": True}, "DY SE K=4"),
    ({"layer": "condconv", "num_kernels": 8, "normalization": None, "aggregation": None}, "CondConv K=8"),
    ({"layer": "odconv", "num_kernels": 1, "reduction": None, "normalization": None}, "OD K=1"),
    ({"layer": "partly_dynamic", "options": {"share": 0.5}}, "Part-DY K=4"),
    ({"layer": "partly_dynamic", "options": {"share": 0.25}}, "Part-DY K=4 share=0.25"),
    ({"name": "resnet18", "width": None, "depth": None, "layer": "dynamic"}, "DY K=4"),
]


@pytest.mark.parametrize(("settings", "title"), KINDS)
def test_a_kind_is_called_the_same_whatever_its_network(settings: dict[str, Any], title: str) -> None:
    static: dict[str, Any] = {}
    if settings["layer"] == "static":
        static = dict.fromkeys(("num_kernels", "reduction", "normalization", "aggregation", "where"))
    assert kind_title(ModelSpec(**static, **settings)) == title


def test_drawings_are_the_same_bytes_and_differ_with_the_data(plan: Plan) -> None:
    figure, again = figure_of(plan), figure_of(plan)
    other = figure_of(plan, counts={**COUNTS, "dynamic": 5.9e6})
    assert figure is not None
    assert again is not None
    assert other is not None
    assert draw(figure, "svg") == draw(again, "svg")
    assert draw(figure, "svg") != draw(other, "svg")
    assert ET.fromstring(draw(figure, "svg")).tag.endswith("svg")


@pytest.mark.parametrize("rows", [["static"], ["dynamic"], ["static", "dynamic"], ["narrow", "dynamic"]])
def test_few_networks_are_drawn_too(plan: Plan, rows: list[str]) -> None:
    figure = figure_of(plan, counts={name: COUNTS[name] for name in rows})
    assert figure is not None
    assert draw(figure, "png").startswith(b"\x89PNG")
