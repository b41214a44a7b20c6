"""The cost study: counts beside the published ones, deviations by hand, and nothing that looks like an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports import summarize
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.content.blocks import Missing, Number, Paragraph, Table, Text
from reports.content.formatting import set_rows
from reports.document.study_report import build_document
from reports.render.table_layout import has_numbers
from reports.tables.appendix import provenance_table
from reports.tables.costs import cost_reading, cost_table
from tests.reports.everything import whole_plan
from tests.reports.made_up import Store, plan_of

COUNTS = {
    "mobilenet_v2_1.0_static": (3.50e6, 300.8e6, 20.0, 1.01),
    "mobilenet_v2_1.0_dynamic": (11.15e6, 313.0e6, 30.0, 1.50),
    "condconv_0.5": (15.5e6, 110.0e6, 25.0, 1.25),
    "mobilenet_v3_small_static": (2.54e6, 56.5e6, 10.0, 0.99),
    "resnet18_dynamic": (45.47e6, 1850e6, 90.0, 2.0),
}
METRICS = (names.COST_PARAMETERS, names.COST_MULTIPLY_ADDS, names.COST_LATENCY, names.COST_LATENCY_RATIO)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("smoke", "cost")


@pytest.fixture(scope="module")
def study(plan: Plan) -> Study:
    return plan.studies[0]


@pytest.fixture(scope="module")
def results(plan: Plan, make_store: Callable[[], Store]) -> Results:
    """Five networks were counted; one of the others failed."""
    store = make_store()
    for cell in plan.cells:
        node = plan.node(cell.fingerprint)
        if cell.variant in COUNTS:
            store.add(plan, node, dict(zip(METRICS, COUNTS[cell.variant], strict=True)))
        elif cell.variant == "resnet10_static":
            store.add(plan, node, {}, status="FAILED")
    return collect(plan, store.uri)


@pytest.fixture(scope="module")
def rows(study: Study, plan: Plan, results: Results) -> Mapping[str, list[str]]:
    table = cost_table(study, plan, results)
    return {v.name: [c.text for c in row] for v, row in zip(study.variants, set_rows(table), strict=True)}


def test_counts_published_and_deviation_by_hand(rows: Mapping[str, list[str]]) -> None:
    """11.15 / 11.1 is 0.45 % above; 300.8 / 300 is 0.27 % above; 56.5 / 66.0 is 14.4 % below."""
    static, dynamic = rows["mobilenet_v2_1.0_static"], rows["mobilenet_v2_1.0_dynamic"]
    assert static == ["MobileNetV2 ×1", "static", "3.50", "3.5", "0.0", "300.80", "300", "+0.3", "20.0", "1.01"]
    assert dynamic[2:] == ["11.15", "11.1", "+0.5", "313.00", "312.9", "0.0", "30.0", "1.50"]
    assert rows["mobilenet_v3_small_static"][5:8] == ["56.50", "66", "−14.4"]


def test_a_key_of_another_published_table_is_found(rows: Mapping[str, list[str]]) -> None:
    assert rows["condconv_0.5"][2:8] == ["15.50", "15.5", "0.0", "110.00", "—", "—"]


def test_what_was_not_counted_says_why(rows: Mapping[str, list[str]]) -> None:
    assert rows["resnet10_static"][2:] == ["— failed", "—", "—", "—", "—", "—", "—", "—"]
    assert rows["resnet18_static"][2:5] == ["— missing", "11.1", "—"]


def test_notes_and_marks(study: Study, plan: Plan, results: Results) -> None:
    table = cost_table(study, plan, results)
    notes = {note.mark: note.text for note in table.notes}
    assert "7 × 1.28 M" in notes["1"]
    assert "earlier variant than torchvision's" in notes["2"]
    assert "leave the classifier out" in notes["3"]
    assert "45.47 M" in notes["4"]
    assert notes["B"] == "Published number from one second-hand source."
    assert "±" not in notes["C"]
    by_name = dict(zip((v.name for v in study.variants), table.rows, strict=True))
    assert [by_name[f"resnet18_{kind}"][0] for kind in ("static", "dynamic")] == [
        Text("ResNet-18", ("3",)),
        Text("ResNet-18", ("4",)),
    ]
    params = by_name["condconv_0.5"][3]
    assert isinstance(params, Number)
    assert params.marks == ("B",)


def test_the_caption_says_how_latency_was_measured(study: Study, plan: Plan, results: Results) -> None:
    caption = cost_table(study, plan, results).caption
    assert "224 × 224 px and 1000 classes" in caption
    assert "one CPU thread of a single machine" in caption
    assert "seed" not in caption


def test_the_reading_is_computed(study: Study, results: Results) -> None:
    """Parameters: 3.50, 11.15, 15.5 are met; 2.54 (2.9) and 45.47 (42.7) are not."""
    said = cost_reading(study, results)
    assert "Of 5 published numbers of parameters, 3 are met within 2 %" in said
    assert "“MobileNetV3-Small static” (−12.4 %)" in said
    assert "One image takes 1.25 to 2.00 times as long" in said


def test_the_table_is_set_as_numbers_in_one_piece(study: Study, plan: Plan, results: Results) -> None:
    assert has_numbers(cost_table(study, plan, results))
    assert not has_numbers(provenance_table(plan, results))


def test_nothing_counted_is_said(study: Study, results: Results) -> None:
    nothing = Results(results.cells.assign(status="missing"), results.curves, results.runs)
    assert cost_reading(study, nothing) == "Nothing has been counted yet."


def test_the_section_has_no_figure_and_no_interval(plan: Plan, results: Results) -> None:
    document = build_document(plan, results)
    assert document.figures == ()
    words = " ".join(
        b.text for s in (*document.sections, *document.appendix) for b in s.blocks if isinstance(b, Paragraph)
    )
    assert "interval over" not in words
    assert "has no interval" in words
    tables = [block for block in document.sections[0].blocks if isinstance(block, Table)]
    assert [column.kind for table in tables for column in table.columns].count("interval") == 0


def test_summary_for_tracking(plan: Plan, results: Results) -> None:
    (summary,) = summarize(plan, results)
    row = summary.get("", "mobilenet_v2_1.0_dynamic")
    assert row.expected == 1
    assert row.as_metrics(names.COST_PARAMETERS) == {
        "cost/parameters.mean": 11.15e6,
        "cost/parameters.n": 1.0,
        "delta.cost/parameters.mean": pytest.approx(7.65e6),
        "delta.cost/parameters.n": 1.0,
    }
    assert summary.get("", "resnet10_static").absent == {0: "failed"}


def test_a_cost_study_without_columns_or_published_table(make_store: Callable[[], Store]) -> None:
    own = Study(
        name="own", title="Own", question="?", reference="a", metric="cost/multiply_adds", variants=(Variant(name="a"),)
    )
    plan, store = plan_of(own), make_store()
    store.add(plan, plan.node(plan.cells[0].fingerprint), {names.COST_PARAMETERS: 1e6})
    table = cost_table(own, plan, collect(plan, store.uri))
    assert [cell.text for cell in set_rows(table)[0]] == ["a", "1.00", *["—"] * 7]
    assert table.rows[0][1] == Number(1.0, 2)
    assert table.rows[0][4] == Missing()
    assert table.notes == ()
