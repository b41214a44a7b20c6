"""What summary runs are to tell: the numbers of the table in words, and the runs that they come from."""

from __future__ import annotations

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.summary_rows import SummaryRow
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.tables.summary_rows import summary_rows


def _rows(study: Study, plan: Plan, results: Results) -> list[SummaryRow]:
    return list(summary_rows(study, plan, results, summarize_study(study, plan, results)))


def test_rows_tell_what_the_table_says(plan: Plan, results: Results) -> None:
    study = plan.studies[1]
    rows = {row.key: row for row in _rows(study, plan, results)}
    assert list(rows) == ["static", "tau_20", "tau_30"]
    static = rows["static"]
    assert static.texts == {"top-1 (%)": "82.00 ± 2.65", "n": "3", "Δ to the reference": "−2.00 [−4.48, +0.48]"}
    assert [repeat.text for repeat in static.repeats] == ["80.00", "81.00", "85.00"]
    assert static.metrics == summarize_study(study, plan, results).get("", "static").as_metrics("test/top1")
    assert rows["tau_30"].texts["Δ to the reference"] == "reference"


def test_a_missing_repeat_has_a_reason_and_leaves_no_mean(plan: Plan, results: Results) -> None:
    row = next(row for row in _rows(plan.studies[1], plan, results) if row.key == "tau_20")
    assert row.texts == {"top-1 (%)": "—", "n": "2/3", "Δ to the reference": "—"}
    assert [repeat.text for repeat in row.repeats] == ["83.00", "failed", "87.00"]


def test_runs_are_those_of_the_cells_on_every_network(plan: Plan, results: Results) -> None:
    rows = _rows(plan.studies[0], plan, results)
    assert [row.title for row in rows][:4] == [
        "τ = 30: attention",
        "τ = 30: average",
        "τ = 30: max",
        "τ = 20: attention",
    ]
    cells = results.cells.set_index("fingerprint")["run_id"].to_dict()
    for row in rows:
        network, _, variant = row.key.partition(": ")
        expected = [cells[cell.fingerprint] for cell in plan.cells_of_row("aggregation", network, variant)]
        assert [repeat.run_id for repeat in row.repeats] == expected
