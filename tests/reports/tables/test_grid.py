"""A study in two directions: its levels stand side by side, each with ours, the difference and the published number."""

from __future__ import annotations

import pytest

from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports.analysis.summary import summarize_study
from reports.content.blocks import Table
from reports.content.formatting import set_rows
from reports.content.grid import grid_of
from reports.figures.data import grid_data, grid_figure
from reports.figures.drawing import draw
from reports.tables.grid import grid_table
from tests.reports.everything import results_of, whole_plan
from tests.reports.made_up import plan_of

WIDE = {"model.width": 0.5}
ROWS = (
    Variant(name="static", cells=("×0.35", "static"), changes={"model.layer": "static"}),
    Variant(name="k2", cells=("×0.35", "2"), changes={"model.num_kernels": 2}, published="depth_1.0_width_0.35_k2"),
    Variant(name="k4", cells=("×0.35", "4"), changes={"model.num_kernels": 4}, published="depth_1.0_width_0.35_k4"),
    Variant(name="wide_k4", cells=("×0.5", "4"), changes={**WIDE, "model.num_kernels": 4}),
)
STUDY = Study(
    name="mine",
    title="Mine",
    question="?",
    reference="static",
    published="kernels",
    columns=("width", "K"),
    across="K",
    variants=ROWS,
)
VALUES: dict[str, tuple[float | None, ...]] = {
    "static": (80.0, 81.0, 85.0),
    "k2": (82.0, 84.0, 86.0),
    "k4": (83.0, None, 87.0),
    "wide_k4": (90.0, 91.0, 92.0),
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(STUDY)


def table_of(study: Study, plan: Plan) -> Table:
    grid = grid_of(study)
    assert grid is not None
    return grid_table(study, plan, summarize_study(study, plan, results_of(plan, VALUES)), grid)


def test_levels_stand_side_by_side(plan: Plan) -> None:
    table = table_of(STUDY, plan)
    assert [column.heading for column in table.columns] == ["width", "", "static", "K = 2", "K = 4"]
    rows = [[cell.text for cell in row] for row in set_rows(table)]
    assert rows[0] == ["×0.35", "ours: top-1 (%)", "82.00 ± 2.65", "84.00 ± 2.00", "— n = 2/3"]
    # Differences 2, 3, 1 to the reference: 2 ± 1; a repeat that is missing leaves two pairs and no difference.
    assert rows[1][:3] == ["", "Δ", "reference"]
    assert rows[1][3].startswith("+2.00 [")
    assert rows[1][4] == "— n = 2/3"
    assert rows[2] == ["", "published", "—", "63.1", "64.9"]
    assert rows[3] == ["×0.5", "ours: top-1 (%)", "", "", "91.00 ± 1.00"]
    # Nothing was published for this row, which then has no line for it.
    assert len(rows) == 5
    assert table.rules == (3,)
    assert table.role == "main"


def test_the_published_table_of_kernels_has_the_layout_of_the_paper() -> None:
    plan = whole_plan("paper", "kernels")
    study = plan.studies[0]
    grid = grid_of(study)
    assert grid is not None
    assert (grid.headings, grid.across) == (("depth", "width"), "K")
    assert grid.levels == ("static", "1", "2", "4", "6", "8")
    assert len(grid.rows) == 12
    assert grid.row_title(grid.rows[0]) == "depth 1, width ×0.35"


def test_a_study_beside_that_table_with_columns_of_its_own_is_a_list() -> None:
    other = STUDY.model_copy(update={"across": None, "columns": ("width", "kernels")})
    assert grid_of(other) is None
    assert grid_of(STUDY.model_copy(update={"across": None})) is not None


def test_what_cannot_lie_across_is_an_error() -> None:
    fields = {name: getattr(STUDY, name) for name in ("name", "title", "question", "reference", "columns", "variants")}
    with pytest.raises(ValueError, match="unknown column 'k'"):
        Study(**fields, across="k")
    twice = (*ROWS, ROWS[1].model_copy(update={"name": "again"}))
    with pytest.raises(ValueError, match="two variants have the same cells"):
        Study(**{**fields, "variants": twice}, across="K")


def test_a_line_per_row_along_the_levels(plan: Plan) -> None:
    summary = summarize_study(STUDY, plan, results_of(plan, VALUES))
    data = grid_data(STUDY, summary)
    ours = data[data["source"] == "ours"]
    assert list(zip(ours["row"], ours["level"], ours["mean"], strict=True)) == [
        ("width ×0.35", "static", 82.0),
        ("width ×0.35", "2", 84.0),
        ("width ×0.5", "4", 91.0),
    ]
    published = data[data["source"] == "published"]
    assert list(zip(published["position"], published["mean"], published["confidence"], strict=True)) == [
        (1, 63.1, "C"),
        (2, 64.9, "C"),
    ]
    figure = grid_figure(STUDY, plan, summary)
    assert figure is not None
    assert draw(figure, "svg")


def test_a_study_without_a_line_has_no_such_figure() -> None:
    plan = plan_of(STUDY.with_rows(["static", "wide_k4"], ()))
    study = plan.studies[0]
    assert grid_figure(study, plan, summarize_study(study, plan, results_of(plan, VALUES))) is None
