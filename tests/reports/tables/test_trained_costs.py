"""The costs of networks that a study trains: read from the store by their own runs, beside accuracy and published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.content.formatting import set_rows
from reports.document.prose import holes
from reports.tables.study import shows_top5, study_table
from reports.tables.trained_costs import trained_cost_table
from tests.reports.made_up import Store, document_of, plan_of

STUDY = Study(
    name="mine",
    title="Mine",
    question="?",
    reference="static",
    published="condconv",
    with_cost=True,
    variants=(
        Variant(name="static", changes={"model.layer": "static"}),
        Variant(name="dynamic", changes={"model.layer": "dynamic"}, published="dynamic_0.5"),
        Variant(name="longer", changes={"model.layer": "dynamic", "train.epochs": 3}),
        Variant(name="condconv", changes={"model.layer": "condconv", "model.num_kernels": 8}, published="condconv_1.0"),
    ),
)
TOP1 = {"static": (60.0, 62.0), "dynamic": (63.0, 65.0), "longer": (64.0, None), "condconv": (61.0, 61.5)}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(STUDY, seeds=2)


@pytest.fixture(scope="module")
def results(plan: Plan, make_store: Callable[[], Store]) -> Results:
    """Everything was trained but for one repeat; CondConv's network was not counted."""
    store = make_store()
    for cell in plan.cells:
        value = TOP1[cell.variant][cell.seed]
        metrics = {} if value is None else {names.TEST_TOP1: value, names.TEST_LOSS: 1.0, names.SECONDS: 2.0}
        store.add(plan, plan.node(cell.fingerprint), metrics, status="FAILED" if value is None else "FINISHED")
    counts = {"static": (0.33e6, 4.5e6, 2.0, 1.0), "dynamic": (1.004e6, 5.25e6, 4.0, 2.0)}
    metrics = (names.COST_PARAMETERS, names.COST_MULTIPLY_ADDS, names.COST_LATENCY, names.COST_LATENCY_RATIO)
    for cell in plan.cost_cells:
        if cell.variant in counts:
            store.add(plan, plan.node(cell.fingerprint), dict(zip(metrics, counts[cell.variant], strict=True)))
    return collect(plan, store.uri)


def test_networks_are_counted_once_whatever_the_seeds_and_the_training(plan: Plan) -> None:
    assert [(cell.variant, cell.seed) for cell in plan.cost_cells] == [(v.name, 0) for v in STUDY.variants]
    costs = {cell.variant: cell.fingerprint for cell in plan.cost_cells}
    assert costs["dynamic"] == costs["longer"]
    assert len(plan.costs) == 3
    assert plan.studies_of(costs["dynamic"]) == {"mine": ["dynamic", "longer"]}


def test_counts_accuracy_and_published_numbers_by_hand(plan: Plan, results: Results) -> None:
    table = trained_cost_table(STUDY, plan, results, summarize_study(STUDY, plan, results))
    headings = [(column.group, column.heading) for column in table.columns]
    assert headings == [
        ("", "variant"),
        ("parameters (M)", "ours"),
        ("parameters (M)", "published"),
        ("multiply-adds (M)", "ours"),
        ("multiply-adds (M)", "published"),
        ("latency", "ms"),
        ("latency", "ratio to static"),
        ("top-1 (%)", "ours"),
        ("top-1 (%)", "published"),
    ]
    rows = [[cell.text for cell in row] for row in set_rows(table)]
    assert rows == [
        ["static", "0.33", "—", "4.50", "—", "2.00", "1.00", "61.00", "—"],
        ["dynamic", "1.00", "4.0", "5.25", "101.4", "4.00", "2.00", "64.00", "69.9"],
        ["longer", "1.00", "—", "5.25", "—", "4.00", "2.00", "— n = 1/2", "—"],
        ["condconv", "— missing", "27.5", "—", "329", "—", "—", "61.25", "74.6"],
    ]
    marks = {note.mark for note in table.notes}
    assert marks == {"", "B"}
    assert "28 × 28 px and 10 classes" in table.caption


def test_the_main_table_has_counts_before_accuracy(plan: Plan, results: Results) -> None:
    summary = summarize_study(STUDY, plan, results)
    table = study_table(STUDY, plan, summary, results=results)
    headings = [(column.group, column.heading) for column in table.columns]
    assert headings == [
        ("", "variant"),
        ("parameters (M)", "ours"),
        ("parameters (M)", "published"),
        ("multiply-adds (M)", "ours"),
        ("multiply-adds (M)", "published"),
        ("ours", "top-1 (%)"),
        ("ours", "n"),
        ("ours", "Δ"),
        ("published", "top-1"),
    ]
    rows = [[cell.text for cell in row] for row in set_rows(table)]
    assert rows[1][:6] == ["dynamic", "1.00", "4.0", "5.25", "101.4", "64.00 ± 1.41"]
    assert rows[3][1] == "— missing"
    assert {note.mark for note in table.notes} >= {"", "B"}, table.notes
    # Of a study that counts nothing, the published counts stand with the published accuracy.
    plain = STUDY.model_copy(update={"with_cost": False})
    beside = study_table(plain, plan, summary, results=results)
    assert [c.heading for c in beside.columns if c.group == "published"] == ["params (M)", "MAdds (M)", "top-1"]
    assert [cell.text for cell in set_rows(beside)[3]][-3:] == ["27.5", "329", "74.6"]


def test_top_5_stands_where_the_paper_has_it_and_five_are_not_all_classes(plan: Plan, results: Results) -> None:
    top5 = replace(results, cells=results.cells.assign(**{names.TEST_TOP5: results.cells[names.TEST_TOP1] + 30}))
    summary = summarize_study(STUDY, plan, results)
    table = study_table(STUDY, plan, summary, results=top5)
    place = [column.heading for column in table.columns].index("top-5 (%)")
    assert [row[place].text for row in set_rows(table)] == ["91.00 ± 1.41", "94.00 ± 1.41", "—", "91.25 ± 0.35"]
    placement = STUDY.model_copy(update={"published": "placement", "with_cost": False})
    assert shows_top5(placement, plan) is False, "none of its rows is in that table"
    named = [variant.model_copy(update={"published": "c1"}) for variant in STUDY.variants]
    assert shows_top5(placement.model_copy(update={"variants": tuple(named)}), plan)
    assert not shows_top5(STUDY.model_copy(update={"metric": "test/loss"}), plan)


def test_a_missing_count_is_a_hole_of_the_report(plan: Plan, results: Results) -> None:
    assert "1 of 8 trainings and 1 of 3 networks counted are missing (mine)" in holes(plan, results)


def test_a_study_without_published_counts_has_no_column_of_them(plan: Plan, results: Results) -> None:
    bare = STUDY.model_copy(update={"published": None})
    table = trained_cost_table(bare, plan, results, summarize_study(STUDY, plan, results))
    assert [column.heading for column in table.columns] == ["variant", "ours", "ours", "ms", "ratio to static", "ours"]
    assert table.notes == ()


def test_the_report_has_the_table_and_the_figure_where_networks_are_counted(plan: Plan, results: Results) -> None:
    document = document_of(plan, results)
    assert [figure.kind for figure in document.figures][:2] == ["accuracy", "tradeoff"]
    (costs,) = [section for section in document.appendix if section.title == "Costs of the networks"]
    assert [getattr(block, "title", "") for block in costs.blocks] == ["Mine: cost"]
    plain = plan_of(STUDY.model_copy(update={"with_cost": False}), seeds=2)
    assert plain.cost_cells == ()
    assert plain.costs == {}
    kinds = [figure.kind for figure in document_of(plain, results).figures]
    assert "tradeoff" not in kinds
