"""Two sides of a study, read from made-up stores: commits, settings, stores and studies side by side."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ablations import vocabulary as names
from ablations.errors import ReportError, UnknownNameError
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request, make_request
from ablations.presets import PRESETS
from ablations.registry import get_study
from reports.analysis.comparison import (
    PAIRED,
    SAME,
    SHARED,
    UNPAIRED,
    MatchedRow,
    difference,
    effects,
    way_of_comparison,
)
from reports.analysis.statistics import contrast_interval, estimate
from reports.collect.compared_runs import read_compared_study
from reports.collect.compared_study import ComparedRow, ComparedStudy, ComparisonRequest
from reports.collect.foreign.cells import cells_of
from reports.collect.foreign.compared import compared_results
from reports.collect.results import Repeat
from reports.compare import compare_sides, comparison_request, parse_match, parse_side
from reports.content.blocks import Document, Interval, Missing, Number, Paragraph, Table, Text
from reports.document.comparison_report import side_by_side
from reports.foreign.make import ForeignRequest
from tests.reports.made_up import Store, tracked_run

MakeStore = Callable[[], Store]
OLD, NEW = "a" * 40, "b" * 40
VALUES = {"static": (80.0, 81.0, 85.0), "tau_30": (82.0, 84.0, 86.0), "tau_20": (83.0, 85.0, 87.0)}


def request(**overrides: Any) -> Request:
    return Request(PRESETS["smoke"], {key.replace("__", "."): value for key, value in overrides.items()}, seeds=3)


def requested(text: str, uri: str, *overrides: str) -> ComparisonRequest:
    return comparison_request(text, uri, make_request("smoke", overrides, 3))


def plan_of(asked: Request) -> Plan:
    return make_plan([get_study("temperature", asked.base())], asked)


def put(
    store: Store,
    asked: Request | None = None,
    values: Mapping[str, Sequence[float]] = VALUES,
    commit: str = OLD,
    *,
    shift: float = 0.0,
    tags: Mapping[str, str] | None = None,
    start: int = 1_700_000_000_000,
) -> None:
    """Adds runs of *temperature* as runners track them, params included."""
    asked = asked or request()
    plan = plan_of(asked)
    for cell in plan.cells:
        if cell.variant in values:
            node = plan.node(cell.fingerprint)
            own = {names.study_tag("temperature"): cell.variant, names.TAG_GIT_COMMIT: commit, **(tags or {})}
            run = store.add(plan, node, {"test/top1": values[cell.variant][cell.seed] + shift}, tags=own, start=start)
            store.set_params(run, {"train.epochs": node.spec.train.epochs, "seed": cell.seed, "model.name": "x"})


def side(store: Store, commit: str = "", study: str = "temperature", **overrides: Any) -> Any:
    return read_compared_study(ComparisonRequest(study, commit, store.uri, request(**overrides)))


def table(document: Document, title: str) -> dict[str, list[Any]]:
    blocks = [block for section in (*document.sections, *document.appendix) for block in section.blocks]
    (found,) = (block for block in blocks if isinstance(block, Table) and block.title == title)
    return {row[0].text: list(row[1:]) for row in found.rows if isinstance(row[0], Text)}


def test_two_commits_of_one_setting_are_paired(make_store: MakeStore) -> None:
    store = make_store()
    put(store, commit=OLD)
    put(store, commit=NEW, shift=1.0, start=1_800_000_000_000)
    rows = table(side_by_side(side(store, "aaaa"), side(store, "bbbb")), "Row by row")
    left, n, right, _, delta, how = rows["τ = 30"]
    assert (left, n, right) == (Number(84.0, 2, 2.0), Text("3"), Number(85.0, 2, 2.0))
    # All three pairs differ by the same: a difference without a spread has no interval.
    assert (delta.value, delta.low, how) == (1.0, None, Text(PAIRED))
    assert set(rows) == {"static", "τ = 30", "τ = 20"}


def test_other_settings_are_unpaired_and_named(make_store: MakeStore) -> None:
    store = make_store()
    put(store)
    put(store, request(train__epochs=3), shift=2.0)
    document = side_by_side(side(store), side(store, train__epochs=3))
    delta, how = table(document, "Row by row")["static"][-2:]
    assert how == Text(UNPAIRED)
    assert isinstance(delta, Interval)
    # Welch by hand: two samples of one spread, s² = 7, n = 3: 2 ± t(4) · √(14/3).
    assert delta.value == pytest.approx(2.0)
    assert delta.low == pytest.approx(2.0 - 2.7764451052 * math.sqrt(14 / 3))
    assert table(document, "Settings") == {"train.epochs": [Text("2"), Text("3"), Text("all")]}
    effect = table(document, "Effects")["static"]
    assert [cell.value for cell in effect] == [pytest.approx(-2.0), pytest.approx(-2.0), pytest.approx(0.0)]
    assert "τ = 30" not in table(document, "Effects")


def test_a_study_is_held_against_results_from_elsewhere(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store()
    put(store)
    lines = [f"{name},{seed},{value + 1}" for name, values in VALUES.items() for seed, value in enumerate(values)]
    (tmp_path / "theirs.csv").write_text("\n".join(["variant,seed,test/top1", *lines]) + "\n")
    (tmp_path / "theirs.yaml").write_text("reference: tau_30\nmetric: {name: test/top1, unit: per cent}\n")
    study, results = ForeignRequest(str(tmp_path / "theirs.csv"), tmp_path / "theirs.yaml").read()
    theirs = compared_results(study, results.source, cells_of(study, results))
    document = side_by_side(side(store), theirs)
    delta, how = table(document, "Row by row")["static"][-2:]
    assert how == Text(UNPAIRED)
    assert delta.value == pytest.approx(1.0)
    effect = table(document, "Effects")["static"]
    assert [cell.value for cell in effect] == [pytest.approx(-2.0), pytest.approx(-2.0), pytest.approx(0.0)]
    assert table(document, "Where they come from")["tracking store"][1] == Text("theirs.csv")
    ours_again = side_by_side(theirs, side(store))
    assert table(ours_again, "Row by row")["static"][-2].value == pytest.approx(-1.0)


def test_two_stores(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    put(one)
    put(other, shift=-1.0)
    shown, files = compare_sides(
        requested("temperature", one.uri), requested("temperature", other.uri), (), Path("nowhere")
    )
    assert files == {}
    console = Console(width=140, record=True, file=io.StringIO())
    for part in shown:
        console.print(part)
    text = console.export_text()
    assert "80.33" not in text
    assert "82.00 ± 2.65" in text
    assert "81.00 ± 2.65" in text
    assert "paired" in text
    sources = table(side_by_side(side(one), side(other)), "Where they come from")
    assert sources["tracking store"][2] == Text("≠")
    assert sources["commits"][2] == Text("")


def test_the_same_runs_tell_nothing(make_store: MakeStore) -> None:
    store = make_store()
    put(store)
    # A sentence says so of all rows, in place of a table without a difference.
    sentence = the_same(side_by_side(side(store), side(store, OLD[:7])))
    assert sentence.startswith("Both sides are the very same runs, in each of 3 rows")
    put(store, values={"static": (81.0, 82.0, 83.0)}, commit=NEW, start=1_800_000_000_000)
    rows = table(side_by_side(side(store), side(store, OLD[:7])), "Row by row")
    assert rows["τ = 30"][-2:] == [Missing(), Text(SAME)]
    assert rows["static"][-1] == Text(PAIRED)


def test_equal_values_are_said_in_a_sentence(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    put(one)
    put(other)
    sentence = the_same(side_by_side(side(one), side(other)))
    assert sentence == (
        "Every value is the same on both sides, digit by digit: 9 values in 3 rows. All differences are 0, also "
        "between effects."
    )
    changed = make_store()
    put(changed, values={**VALUES, "static": (80.0, 81.0, 85.000001)})
    assert table(side_by_side(side(one), side(changed)), "Row by row")["static"][-2].value > 0


def the_same(document: Document) -> str:
    """The sentence that stands where the rows would."""
    (block,) = document.sections[0].blocks
    assert isinstance(block, Paragraph)
    assert block.lead == "The same"
    return block.text


def test_a_missing_repeat_leaves_no_mean_and_is_named(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    put(one)
    put(other, values={**VALUES, "static": VALUES["static"]})
    plan = plan_of(request())
    node = plan.node(next(c.fingerprint for c in plan.cells if c.variant == "tau_20" and c.seed == 1))
    other.delete(node.fingerprint)
    document = side_by_side(side(one), side(other))
    right, count, delta = table(document, "Row by row")["τ = 20"][2:5]
    assert (right, count, delta) == (Missing("n = 2/3"), Text("2/3"), Missing())
    (found,) = (b for s in document.sections for b in s.blocks if isinstance(b, Table) and b.title == "Row by row")
    assert any("on the right" in note.text and "τ = 20 (seed 1 missing)" in note.text for note in found.notes)


def test_what_was_done_anew_counts_where_its_commit_is_asked_for(make_store: MakeStore) -> None:
    store = make_store()
    put(store, commit=OLD, tags={names.TAG_SUPERSEDED: "x"})
    put(store, commit=NEW, shift=1.0)
    assert {run.commit for run in side(store).runs} == {NEW}
    assert {run.commit for run in side(store, OLD).runs} == {OLD}


def test_runs_of_one_repeat_that_disagree_are_told(make_store: MakeStore) -> None:
    store = make_store()
    put(store)
    put(store, values={"static": (70.0, 81.0, 85.0)}, start=1_600_000_000_000)
    found = side(store)
    assert found.rows["static"].values[0] == 80.0
    (warning,) = found.warnings
    assert "temperature, static, seed 0 disagree on test/top1: 80, 70" in warning


def test_several_settings_of_one_commit_are_refused_and_can_be_told_apart(make_store: MakeStore) -> None:
    store = make_store()
    put(store, request(train__epochs=4))
    put(store, request(train__epochs=5), shift=1.0)
    with pytest.raises(
        ReportError, match=r"with several settings: train\.epochs = [45] or [45]\. Say which with --left"
    ):
        side(store, OLD)
    assert side(store, OLD, train__epochs=5).rows["static"].values[0] == 81.0


def test_what_is_not_there_is_said(make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(ReportError, match=r"no finished run of study 'temperature' .* Check --preset"):
        side(store)
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        side(store, study="temprature")
    put(store)
    with pytest.raises(ReportError, match=f"is of commit cccc. There are runs of {OLD[:12]}"):
        side(store, "cccc")
    with pytest.raises(ReportError, match=f"There are runs with other settings.* {OLD[:12]}"):
        side(store, train__epochs=9)


def test_a_study_that_only_the_store_knows(make_store: MakeStore) -> None:
    store, plan = make_store(), plan_of(request())
    for cell in plan.cells:
        served = "static, another" if cell.variant == "static" else cell.variant
        tags = {names.study_tag("older"): served, names.TAG_GIT_COMMIT: OLD}
        store.add(plan, plan.node(cell.fingerprint), {"test/top1": 50.0 + cell.seed}, tags=tags)
    found = side(store, OLD, study="older")
    assert found.rows["tau_5"].values == {0: 50.0, 1: 51.0, 2: 52.0}
    assert found.rows["another"].repeats == found.rows["static"].repeats
    assert found.metric == "test/top1"


def test_rows_can_be_matched_by_hand(make_store: MakeStore) -> None:
    one, other = make_store(), make_store()
    put(one)
    put(other, request(train__epochs=3))
    left, right = side(one), side(other, train__epochs=3)
    rows = table(side_by_side(left, right, {"tau_30": "tau_20"}), "Row by row")
    assert rows["τ = 30 | τ = 20"][-2].value == pytest.approx(1.0)
    assert rows["τ = 20"][2] == Missing("not there")
    with pytest.raises(ReportError, match="temperature has no row 'tau_31'"):
        side_by_side(left, right, {"tau_31": "tau_20"})


def test_a_document_of_two_sides_is_written_in_every_format(make_store: MakeStore, tmp_path: Path) -> None:
    one, other = make_store(), make_store()
    put(one)
    put(other, shift=0.5)
    sides = requested("temperature", one.uri), requested("temperature", other.uri)
    _, files = compare_sides(*sides, ("md", "html", "pdf"), tmp_path)
    assert sorted(path.name for path in files.values()) == [f"{files['md'].stem}.{e}" for e in ("html", "md", "pdf")]
    # What was asked of the two sides is in the name, as a digest.
    assert re.fullmatch("compare-temperature-temperature-[0-9a-f]{6}", files["md"].stem)
    assert "| static | 82.00 ± 2.65 | 3 | 82.50 ± 2.65 | 3 |" in files["md"].read_text()


def _row(*runs: tuple[int, str, str, float]) -> ComparedRow:
    return ComparedRow(
        "x",
        {seed: Repeat.of("finished", value) for seed, _, _, value in runs},
        {seed: tracked_run(run, fingerprint) for seed, run, fingerprint, _ in runs},
    )


def test_how_rows_are_compared() -> None:
    one = _row((0, "a", "p", 1.0), (1, "b", "q", 2.0))
    assert way_of_comparison(one, one) == SAME
    assert way_of_comparison(one, _row((0, "a", "p", 1.0), (1, "c", "q", 2.0))) == SHARED
    assert way_of_comparison(one, _row((0, "c", "p", 1.0), (1, "d", "q", 2.0))) == PAIRED
    assert way_of_comparison(one, _row((0, "c", "p", 1.0), (2, "d", "q", 2.0))) == UNPAIRED
    assert way_of_comparison(one, _row((0, "c", "p", 1.0), (1, "d", "r", 2.0))) == UNPAIRED
    found, how = difference(one, _row((0, "c", "p", 2.0), (1, "d", "q", 2.5)))
    assert (how, found.mean, found.n) == (PAIRED, 0.75, 2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("temperature", ("temperature", "")),
        ("temperature@1a2b3c4", ("temperature", "1a2b3c4")),
        ("a@b@abcd", ("a@b", "abcd")),
        ("mail@home", ("mail@home", "")),
        ("x@abc", ("x@abc", "")),
    ],
)
def test_a_side_may_name_a_commit(text: str, parts: tuple[str, str]) -> None:
    assert parse_side(text) == parts


def test_what_is_wanted_of_a_side() -> None:
    left, right = requested("a@abcd", "runs"), requested("a@abcd", "x://y", "train.epochs=9")
    assert (left.study, right.study, left.commit, right.commit) == ("a", "a", "abcd", "abcd")
    assert (left.store, right.store) == ("sqlite:///runs/mlflow.db", "x://y")
    assert right.scale.overrides == {"train.epochs": 9}
    with pytest.raises(ReportError, match="both sides are the same"):
        compare_sides(left, requested("a@abcd", "runs"), (), Path("nowhere"))
    with pytest.raises(ReportError, match="LEFT=RIGHT"):
        parse_match("a")


@pytest.mark.parametrize("kind", ["trial", "evaluation"])
def test_an_effect_has_the_interval_of_its_table(kind: str) -> None:
    """Trainings of one table share their spread here as in a report; evaluations do not."""
    draw = np.random.default_rng(0)
    values = {name: 80 + draw.normal(size=3) for name in "abcde"}
    sides = []
    for commit in ("one", "two"):
        rows = {
            name: ComparedRow(
                name,
                {seed: Repeat.of("finished", float(value)) for seed, value in enumerate(row)},
                {seed: tracked_run(f"{commit}{name}{seed}", f"{name}{seed}", kind) for seed in range(len(row))},
            )
            for name, row in values.items()
        }
        sides.append(
            ComparedStudy(
                ComparisonRequest("mine", commit, "runs", Request(PRESETS["smoke"])),
                "mine",
                "Mine",
                "test/top1",
                ("a",),
                "e",
                rows,
            )
        )
    found = effects(sides[0], sides[1], MatchedRow("b", "b"))
    assert found is not None
    table = np.array(list(values.values()))
    shared = contrast_interval(table, [-1.0, 1.0, 0, 0, 0])
    alone = estimate(tuple(table[1] - table[0]))
    expected = shared if kind == "trial" else alone
    assert shared.df > alone.df
    assert (found[0].low, found[0].high, found[0].df) == pytest.approx((expected.low, expected.high, expected.df))
