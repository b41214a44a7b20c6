"""What a table says of its uncertainty: what intervals cover, stars where they are possible, and why not where not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ablations.planning import Plan
from ablations.study import Study, Variant
from reports.blocks import Interval, Missing, Table, Text
from reports.formatting import set_rows
from reports.prose import reading
from reports.results import Results
from reports.summary import StudySummary, summarize_study
from reports.tables import study_table
from tests.reports.everything import made_up_results, results_of, whole_plan
from tests.reports.made_up import plan_of

NOISE = (0.3, -0.2, 0.1, -0.4, 0.2, 0.05, -0.15, 0.25, -0.05, 0.12)


def _study(variants: int) -> Study:
    rows = tuple(Variant(name="abcdefgh"[i], changes={"model.num_kernels": 2 + i}) for i in range(variants))
    return Study(name="made_up", title="Made up", question="?", reference="a", variants=rows)


def _told(values: Mapping[str, Sequence[float | None]], seeds: int) -> tuple[Table, StudySummary, list[str]]:
    study = _study(len(values))
    plan = plan_of(study, seeds=seeds)
    results = results_of(plan, values)
    summary = summarize_study(study, plan, results)
    return study_table(study, plan, results), summary, list(reading(study, summary))


def _values(*levels: float, seeds: int) -> dict[str, tuple[float, ...]]:
    """Returns values at the levels; each row has the noise in an order of its own."""
    return {
        "abcdefgh"[i]: tuple(level + NOISE[(i * 3 + seed) % 10] for seed in range(seeds))
        for i, level in enumerate(levels)
    }


def _notes(table: Table) -> str:
    return " ".join(note.text for note in table.notes)


def test_stars_by_hand() -> None:
    """Eight seeds, two comparisons: all differences of one sign give 2/256 = 0.0078, and 0.0156 after Holm: one star.

    Ten seeds: 2/1024 = 0.0020, 0.0039 after Holm: two.
    """
    table, summary, said = _told(_values(80.0, 70.0, 80.0, seeds=8), 8)
    assert [column.heading for column in table.columns] == ["variant", "top-1 (%)", "n", "Δ", "stars"]
    assert [row[4] for row in table.rows] == [Text(""), Text("*"), Text("")]
    row = summary.get("", "b")
    assert (row.p_value, row.p_holm) == pytest.approx((2 / 256, 4 / 256))
    assert "* p < 0.05, ** p < 0.01: sign flips over 8 seeds" in _notes(table)
    assert "corrected by Holm over the 2 comparisons" in _notes(table)
    assert said[0].endswith("corrected over the table, p < 0.05 for “b”.")
    ten, _, _ = _told(_values(80.0, 70.0, 80.0, seeds=10), 10)
    assert [row[4] for row in ten.rows] == [Text(""), Text("**"), Text("")]


def test_no_difference_no_star_but_the_column() -> None:
    table, _, said = _told(_values(80.0, 80.0, 80.0, seeds=8), 8)
    assert [row[4] for row in table.rows] == [Text("")] * 3
    assert said[0].endswith("corrected over the table, p < 0.05 for none.")


@pytest.mark.parametrize(
    ("rows", "seeds", "words"),
    [
        (2, 5, "No stars: with 5 seeds the smallest p-value that sign flips can give is 0.062. It takes 6 seeds"),
        (5, 3, "is 0.250, 1.000 after Holm's correction over the 4 comparisons of this table. It takes 8 seeds"),
        (5, 7, "is 0.016, 0.062 after Holm's correction over the 4 comparisons of this table. It takes 8 seeds"),
    ],
)
def test_where_no_star_is_possible_the_table_says_so_and_has_none(rows: int, seeds: int, words: str) -> None:
    table, summary, said = _told(_values(80.0, *[60.0] * (rows - 1), seeds=seeds), seeds)
    assert words in _notes(table)
    assert "stars" not in [column.heading for column in table.columns]
    assert not any(row.stars for row in summary.variants)
    assert "corrected" not in said[0]


def test_missing_comparisons_are_not_corrected_for() -> None:
    """Of two comparisons one has a missing repeat: the other is alone in its table, and six seeds are enough."""
    values = {**_values(80.0, 70.0, 60.0, seeds=6), "c": (60.0, None, 60.0, 60.0, 60.0, 60.0)}
    table, summary, _ = _told(values, 6)
    assert [row.variant for row in summary.tested] == ["b"]
    assert [row[4] for row in table.rows] == [Text(""), Text("*"), Text("")]
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
    assert study_table(plan.studies[study], plan, results).caption.endswith(caption)


def test_intervals_of_two_kinds_are_marked(plan: Plan, results: Results) -> None:
    table = study_table(plan.studies[1], plan, results)
    marks = {row[0].text + row[1].text: row[5].marks for row in table.rows if isinstance(row[5], Interval)}
    assert marks == {"average–": ("‡",), "average✓": (), "shuffle per image–": ("‡",), "shuffle per image✓": ()}
    assert [note.mark for note in table.notes if note.mark] == ["‡"]
    assert "‡" not in str(set_rows(study_table(plan.studies[0], plan, results)))


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
    table = study_table(plan.studies[0], plan, replace(results, correctness=some))
    assert "the interval is over seeds alone: “max”." in _notes(table)
    assert "where marked ‡" in table.caption
    none = study_table(plan.studies[0], plan, replace(results, correctness={}))
    assert "“average”, “max”, “shuffle per image”, “shuffle across images”." in _notes(none)
    assert none.caption.endswith("with its 95 % t interval over seeds.")
    assert "seeds alone" not in _notes(study_table(plan.studies[0], plan, results))
