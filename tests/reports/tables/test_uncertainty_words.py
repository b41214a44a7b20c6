"""What a table says of its uncertainty: what intervals cover, what has a star, and what is excluded without one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from scipy import stats

from ablations.planning.plan import Plan
from ablations.study import Study, Variant
from reports.analysis.summary import StudySummary, summarize_study
from reports.collect.results import Results
from reports.content.blocks import Interval, Missing, Table, Text
from reports.content.formatting import set_rows
from reports.document.prose import reading
from reports.tables.uncertainty_words import exclusion_words
from tests.reports.everything import made_up_results, results_of, whole_plan
from tests.reports.made_up import plan_of, table_of

NOISE = (0.3, -0.2, 0.1, -0.4, 0.2, 0.05, -0.15, 0.25, -0.05, 0.12)


def _study(variants: int) -> Study:
    rows = tuple(Variant(name="abcdefgh"[i], changes={"model.num_kernels": 2 + i}) for i in range(variants))
    return Study(name="made_up", title="Made up", question="?", reference="a", variants=rows)


def _told(values: Mapping[str, Sequence[float | None]], seeds: int) -> tuple[Table, StudySummary, list[str]]:
    study = _study(len(values))
    plan = plan_of(study, seeds=seeds)
    results = results_of(plan, values)
    summary = summarize_study(study, plan, results)
    return table_of(study, plan, results), summary, list(reading(study, summary))


def _values(*levels: float, seeds: int) -> dict[str, tuple[float, ...]]:
    """Returns values at the levels; each row has the noise in an order of its own."""
    return {
        "abcdefgh"[i]: tuple(level + NOISE[(i * 3 + seed) % 10] for seed in range(seeds))
        for i, level in enumerate(levels)
    }


def _notes(table: Table) -> str:
    return " ".join(note.text for note in table.notes)


def test_stars_are_those_of_the_intervals() -> None:
    table, summary, said = _told(_values(80.0, 70.0, 80.0, 80.1, seeds=4), 4)
    assert [column.heading for column in table.columns] == ["variant", "top-1 (%)", "n", "Δ", "P(better)", "stars"]
    assert [row[5] for row in table.rows] == [Text(""), Text("**"), Text(""), Text("")]
    row = summary.get("", "b")
    assert row.delta is not None
    assert row.delta.df > 3, "rows trained apart share their spread"
    t_value = abs(row.delta.mean) / row.delta.error
    assert row.p_value == pytest.approx(2 * stats.t.sf(t_value, row.delta.df))
    assert row.p_holm == pytest.approx(3 * row.p_value)
    assert "* p < 0.05, ** p < 0.01: from the intervals, two-sided" in _notes(table)
    assert "corrected by Holm over the 3 comparisons" in _notes(table)
    assert said[0].endswith("corrected over the table, p < 0.05 for “b”.")
    assert "excluded" not in _notes(table)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_a_row_without_a_star_after_correction_may_have_an_interval_beyond_zero_but_not_the_other_way(
    seeds: int,
) -> None:
    _, summary, _ = _told(_values(80.0, 79.5, 80.4, 70.0, 81.0, seeds=seeds), seeds)
    for row in summary.tested:
        assert row.delta is not None
        assert (row.p_value < 0.05) == row.delta.excludes_zero
        assert row.delta.excludes_zero or not row.stars


def test_a_table_without_a_star_says_what_it_excludes() -> None:
    table, summary, said = _told(_values(80.0, 80.0, 80.0, seeds=8), 8)
    assert "stars" not in [column.heading for column in table.columns]
    assert "corrected" not in said[0]
    ends = [abs(end) for row in summary.tested if row.delta for end in (row.delta.low, row.delta.high)]
    size = re.search(r"Differences to the reference beyond ([0-9.]+) points are excluded: ", _notes(table))
    assert size
    assert max(ends) <= float(size[1]) <= max(ends) + 0.01
    assert "No difference has a star (p < 0.05, corrected by Holm over the 2 comparisons of this table)." in _notes(
        table
    )


def test_a_row_that_cannot_be_compared_is_not_part_of_what_is_excluded() -> None:
    values = {**_values(80.0, 80.0, 60.0, seeds=3), "c": (60.0, None, 60.0)}
    table, _, _ = _told(values, 3)
    assert "for the one comparison of this table" in _notes(table)
    assert "are excluded among the rows that can be compared: no 95 % interval reaches farther." in _notes(table)


def test_each_network_excludes_its_own(plan: Plan, results: Results) -> None:
    summary = summarize_study(plan.studies[0], plan, results)
    words = exclusion_words(plan.studies[0], summary)
    for network in plan.studies[0].inspected:
        assert network is not None
        assert f"points ({network.title})" in words
    sizes = [summary.excluded_beyond(network.name) for network in plan.studies[0].inspected if network]
    assert words.count("points") == len(sizes) == 2
    assert math.isnan(summary.excluded_beyond("no such network"))


def test_missing_comparisons_are_not_corrected_for() -> None:
    """Of two comparisons one has a missing repeat: the other is alone in its table."""
    values = {**_values(80.0, 70.0, 60.0, seeds=6), "c": (60.0, None, 60.0, 60.0, 60.0, 60.0)}
    table, summary, _ = _told(values, 6)
    assert [row.variant for row in summary.tested] == ["b"]
    assert [row[5] for row in table.rows] == [Text(""), Text("**"), Text("")]
    assert table.rows[2][1:4] == (Missing("n = 5/6"), Text("5/6"), Missing("n = 5/6"))
    assert "for the one comparison of this table" in _notes(table)


def test_one_seed_and_nothing_measured_have_no_note_on_stars() -> None:
    for values, seeds in ((_values(80.0, 70.0, seeds=1), 1), ({"a": (None, None), "b": (1.0, 2.0)}, 2)):
        table, _, _ = _told(values, seeds)
        assert "stars" not in _notes(table).lower()
        assert "interval" not in table.caption.replace("(no interval)", "")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return whole_plan("quick", "aggregation", "trained_aggregation", "temperature", seeds=3)


@pytest.fixture(scope="module")
def results(plan: Plan) -> Results:
    return made_up_results(plan)


@pytest.mark.parametrize(
    ("study", "caption"),
    [
        (0, "with its 95 % interval over seeds and test images."),
        (1, "with its 95 % interval over seeds, or over seeds and test images where marked ‡."),
        (2, "with its 95 % t interval over seeds."),
    ],
)
def test_the_caption_says_what_intervals_cover(plan: Plan, results: Results, study: int, caption: str) -> None:
    assert table_of(plan.studies[study], plan, results).caption.endswith(caption)


def test_intervals_of_two_kinds_are_marked(plan: Plan, results: Results) -> None:
    table = table_of(plan.studies[1], plan, results)
    marks = {row[0].text + row[1].text: row[5].marks for row in table.rows if isinstance(row[5], Interval)}
    assert marks == {"average–": ("‡",), "average✓": (), "shuffle per image–": ("‡",), "shuffle per image✓": ()}
    assert [note.mark for note in table.notes if note.mark] == ["‡"]
    assert "‡" not in str(set_rows(table_of(plan.studies[0], plan, results)))


def test_the_reading_says_what_intervals_cover(plan: Plan, results: Results) -> None:
    words = [" ".join(reading(study, summarize_study(study, plan, results))) for study in plan.studies]
    assert "the 95 % interval over seeds and test images" in words[0]
    assert re.search("the 95 % interval (in|ex)cludes", words[1])
    assert "the 95 % interval over seeds " in words[2]
    assert "images" not in words[1] + words[2]


def test_checkpoints_without_their_images_are_named(plan: Plan, results: Results) -> None:
    """Runs of before are compared by seed alone, and the table says so."""
    max_alone = {cell.fingerprint for cell in plan.cells_of("aggregation") if cell.variant == "max"}
    some = {key: found for key, found in results.correctness.items() if key not in max_alone}
    table = table_of(plan.studies[0], plan, replace(results, correctness=some))
    assert "the interval is over seeds alone: “max”." in _notes(table)
    assert "where marked ‡" in table.caption
    none = table_of(plan.studies[0], plan, replace(results, correctness={}))
    assert "“average”, “max”, “shuffle per image”, “shuffle across images”." in _notes(none)
    assert none.caption.endswith("with its 95 % t interval over seeds.")
    assert "seeds alone" not in _notes(table_of(plan.studies[0], plan, results))
