"""The appendix on comparisons: p-values of every difference, McNemar's counts of every checkpoint."""

from __future__ import annotations

import pytest
from scipy import stats

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from reports.analysis.summary import StudySummary, summarize_study
from reports.collect.results import Results
from reports.content.blocks import Document, Paragraph, Table, Text
from reports.content.formatting import set_rows
from reports.content.plan_words import short_titles
from reports.tables.p_values import comparisons_table, mcnemar_table, p_words
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import TEMPERATURE, document_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("quick", "aggregation", "temperature", "cost", seeds=3)


@pytest.fixture(scope="module")
def results(plan: Plan) -> Results:
    return made_up_results(plan)


@pytest.fixture(scope="module")
def summaries(plan: Plan, results: Results) -> list[tuple[object, StudySummary]]:
    return [(study, summarize_study(study, plan, results)) for study in plan.studies if not study.is_about_cost]


def test_every_comparison_of_every_table_has_its_p_values(
    plan: Plan, summaries: list[tuple[object, StudySummary]]
) -> None:
    table = comparisons_table(summaries)  # type: ignore[arg-type]
    assert table is not None
    tested = [row for _, summary in summaries for row in summary.tested]
    assert len(table.rows) == len(tested) == 2 * 4 + 5
    for row, cells in zip(tested, table.rows, strict=True):
        assert row.delta is not None
        assert cells[2] == Text("3")
        assert cells[4:7] == (Text(f"{row.delta.df:.1f}"), Text(p_words(row.p_value)), Text(p_words(row.p_holm)))
        assert row.improvement is not None
        assert row.improvement.same_checkpoints == row.same_checkpoints
        low, high = row.improvement.low, row.improvement.high
        assert cells[7] == Text(f"{row.improvement.probability:.2f} [{low:.2f}, {high:.2f}]")
    over = [cells[3].text for cells in set_rows(table)]
    assert over == ["both"] * 8 + ["seeds"] * 5
    assert [cells[0].text for cells in set_rows(table) if cells[0].text] == [
        "Kernel aggregation, τ = 30 → 1",
        "Kernel aggregation, τ = 1",
        "Softmax temperature",
    ]


def test_mcnemar_by_counting(plan: Plan, results: Results, summaries: list[tuple[object, StudySummary]]) -> None:
    """Each row counted image by image and seed by seed, and scipy's binomial test of the two counts."""
    table = mcnemar_table(summaries)  # type: ignore[arg-type]
    assert table is not None
    cells = {(c.network, c.variant, c.seed): c.fingerprint for c in plan.cells_of("aggregation")}
    titles = short_titles(plan.studies[0])
    expected = []
    for network in ("annealed", "tau_1"):
        for variant in ("average", "max", "shuffle_per_image", "shuffle_across_images"):
            lost, gained, p_values = [], [], []
            for seed in range(3):
                reference, own = (
                    results.correctness[cells[network, name, seed]].of(names.TEST_TOP1).tolist()
                    for name in ("attention", variant)
                )
                lost.append(sum(a > b for a, b in zip(reference, own, strict=True)))
                gained.append(sum(a < b for a, b in zip(reference, own, strict=True)))
                p_values.append(stats.binomtest(lost[-1], lost[-1] + gained[-1]).pvalue)
            ends = [ends_of(counts) for counts in (lost, gained)]
            words = [f"{p:.4f}" if p >= 5e-5 else "< 0.0001" for p in (min(p_values), max(p_values))]
            p_words = words[0] if words[0] == words[1] else " to ".join(words)
            significant = sum(p < 0.05 for p in p_values)
            expected.append([titles[variant], "3", *ends, p_words, f"{significant} of 3"])
    assert [[cell.text for cell in row][1:] for row in set_rows(table)] == expected
    assert len({row[-1] for row in expected}) > 1, "rows that are all alike would hide a wrong count"


def ends_of(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


def test_what_has_no_checkpoints_in_common_has_no_mcnemar(
    plan: Plan, results: Results, summaries: list[tuple[object, StudySummary]]
) -> None:
    assert mcnemar_table(summaries[1:]) is None  # type: ignore[arg-type]
    without = Results(results.cells, results.curves, results.runs)
    study = plan.studies[0]
    assert mcnemar_table([(study, summarize_study(study, plan, without))]) is None


def test_nothing_compared_no_table(plan: Plan, results: Results) -> None:
    alone = whole_plan("quick", "temperature", seeds=1)
    summary = summarize_study(alone.studies[0], alone, made_up_results(alone))
    assert comparisons_table([(alone.studies[0], summary)]) is None
    assert TEMPERATURE.name == "temperature"


@pytest.mark.parametrize(
    ("p_value", "text"), [(1.0, "1.0000"), (0.25, "0.2500"), (0.00005, "0.0001"), (0.00004, "< 0.0001")]
)
def test_no_p_value_is_printed_as_zero(p_value: float, text: str) -> None:
    assert p_words(p_value) == text


def test_the_appendix_has_them_and_says_what_they_are(plan: Plan, results: Results) -> None:
    document: Document = document_of(plan, results)
    sections = {section.title: section.blocks for section in document.appendix}
    assert [b.title for b in sections["Comparisons"] if isinstance(b, Table)] == ["Comparisons", "McNemar's tests"]
    method = " ".join(b.text for b in sections["Method and uncertainty"] if isinstance(b, Paragraph))
    for words in ("over seeds and test images", "corrected by Holm", "McNemar's test is about one checkpoint"):
        assert words in method
