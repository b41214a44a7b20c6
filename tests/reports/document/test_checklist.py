"""The checklist: its answers follow from the runs, and say no where a reader cannot have it from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan
from ablations.registry import available_studies
from reports.analysis.claims import verdicts
from reports.analysis.summary import summarize
from reports.collect.computing.accounted import Computing
from reports.collect.results import Results
from reports.content.blocks import Table, Text
from reports.document.checklist import Answer, ChecklistEntry, checklist, checklist_section
from tests.reports.everything import made_up_results, whole_plan

ITEMS = (
    "Claims",
    "Planning",
    "Limitations",
    "Experimental result reproducibility",
    "Open access to data and code",
    "Experimental setting",
    "Statistical significance",
    "Compute resources",
)


def entries_of(plan: Plan, results: Results) -> dict[str, ChecklistEntry]:
    """Return the entries of a checklist by their names."""
    summaries = summarize(plan, results)
    entries = checklist(plan, results, summaries, verdicts(plan, summaries))
    return {entry.name: entry for entry in entries}


def answers_of(plan: Plan, results: Results) -> dict[str, Answer]:
    return {name: entry.answer for name, entry in entries_of(plan, results).items()}


@pytest.fixture(scope="module")
def trained() -> Plan:
    """A study of trainings, three seeds."""
    return whole_plan("quick", "temperature", seeds=3)


@pytest.fixture(scope="module")
def whole(trained: Plan) -> Results:
    """Results in which nothing is missing."""
    return made_up_results(trained)


def test_a_study_that_has_all_but_a_frozen_plan(trained: Plan, whole: Results) -> None:
    entries = entries_of(trained, whole)
    assert tuple(entries) == ITEMS
    assert {name for name, entry in entries.items() if entry.answer != "yes"} == {"Planning"}
    trials = len(trained.trials)
    assert f"{trials} runs with fingerprint" in entries["Experimental result reproducibility"].grounds
    assert "Seeds per variant: 3;" in entries["Statistical significance"].grounds
    assert "corrected by Holm" in entries["Statistical significance"].grounds
    (facts,) = trained.data_facts
    assert f"SHA-256 {(facts.digest or '')[:12]}" in entries["Open access to data and code"].grounds
    epochs = next(iter(trained.trials.values())).spec.train.epochs
    assert f"{epochs} epochs of sgd" in entries["Experimental setting"].grounds
    resources = entries["Compute resources"].grounds
    assert "Workers: CPU a processor, 2 threads." in resources
    assert "A training took 20 s (median; 20 s to 20 s)." in resources


def _dirty(results: Results, count: int) -> Results:
    dirty = [number < count for number in range(len(results.runs))]
    return replace(results, runs=results.runs.assign(dirty=dirty))


def _without_versions(results: Results) -> Results:
    return replace(results, runs=results.runs.assign(versions=results.runs["versions"].map(lambda versions: {})))


def _missing_cell(results: Results) -> Results:
    statuses = ["failed", *results.cells["status"][1:]]
    return replace(results, cells=results.cells.assign(status=statuses))


def _without_machines(results: Results, count: int) -> Results:
    runs = [replace(run, machine="") if i < count else run for i, run in enumerate(results.computing.runs)]
    return replace(results, computing=Computing(tuple(runs)))


REPRODUCIBLE, OPEN, SIGNIFICANT, RESOURCES = ITEMS[3], ITEMS[4], ITEMS[6], ITEMS[7]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda results: _dirty(results, 1), {REPRODUCIBLE: "partly", OPEN: "no"}),
        (lambda results: _dirty(results, len(results.runs)), {REPRODUCIBLE: "no", OPEN: "no"}),
        (lambda results: replace(results, runs=results.runs.assign(commit="")), {REPRODUCIBLE: "no", OPEN: "no"}),
        (_without_versions, {REPRODUCIBLE: "partly"}),
        (_missing_cell, {REPRODUCIBLE: "partly", SIGNIFICANT: "partly"}),
        (lambda results: _without_machines(results, 1), {RESOURCES: "partly"}),
        (lambda results: _without_machines(results, len(results.runs)), {RESOURCES: "no"}),
    ],
    ids=["one dirty", "all dirty", "no commit", "no versions", "missing cell", "one without machine", "no machine"],
)
def test_what_the_runs_lack_changes_the_answers(
    trained: Plan, whole: Results, change: Callable[[Results], Results], changed: dict[str, Answer]
) -> None:
    assert answers_of(trained, change(whole)) == {**answers_of(trained, whole), **changed}


@pytest.mark.parametrize(("seeds", "answer"), [(1, "no"), (2, "partly"), (3, "yes")])
def test_error_bars_take_seeds(seeds: int, answer: Answer) -> None:
    plan = whole_plan("quick", "temperature", seeds=seeds)
    entry = entries_of(plan, made_up_results(plan))[SIGNIFICANT]
    assert entry.answer == answer
    assert f"Seeds per variant: {seeds};" in entry.grounds


def test_a_frozen_plan_answers_whether_it_was_planned(trained: Plan, whole: Results) -> None:
    # Frozen before the runs of the made-up results, by the same code.
    frozen = FrozenPlan.of(trained, 1_600_000_000.0, str(whole.runs["commit"].iloc[0]), modified=False)
    assert answers_of(trained, replace(whole, frozen=(frozen,)))["Planning"] == "yes"
    more = whole_plan("quick", "temperature", seeds=2)
    entry = entries_of(more, replace(made_up_results(more), frozen=(frozen,)))["Planning"]
    assert entry.answer == "partly"
    assert "deviation" in entry.grounds


def test_data_of_networks_that_are_only_counted_are_not_asked_for() -> None:
    plan = whole_plan("quick", "temperature", "cost")
    entry = entries_of(plan, made_up_results(plan))[OPEN]
    assert entry.answer == "yes"
    assert "ImageNet" not in entry.grounds


def test_energy_and_memory_are_told_where_they_are_known(trained: Plan, whole: Results) -> None:
    runs = [replace(run, memory=2**29, gpu_memory=3 * 2**30, gpu=True) for run in whole.computing.runs]
    launch = Record("a", 1.0, ("temperature",), 3, 2, None, 60.0, energy=3.6e6, energy_of="GPUs")
    results = replace(whole, computing=Computing(tuple(runs)), launches=(launch,))
    grounds = entries_of(trained, results)[RESOURCES].grounds
    assert "A worker took at most 0.50 GiB of main memory and 3.00 GiB of a GPU's memory." in grounds
    assert "Workers: GPU a processor" in grounds
    assert "Energy: 1.0000 kWh in 1 of 1 launches" in grounds


@pytest.mark.parametrize("name", sorted(available_studies()))
def test_every_study_has_an_answer_to_every_question(name: str) -> None:
    plan = whole_plan("quick", name)
    results = made_up_results(plan)
    summaries = summarize(plan, results)
    section = checklist_section(plan, results, summaries, verdicts(plan, summaries))
    (table,) = section.blocks
    assert isinstance(table, Table)
    for row in table.rows:
        texts = _texts(row)
        assert texts[1] in ("yes", "partly", "no", "not applicable")
        assert texts[2].endswith(".")
        assert ".." not in texts[2]
    is_cost = all(study.is_about_cost for study in plan.studies)
    assert (answers_of(plan, results)[SIGNIFICANT] == "not applicable") == is_cost


def _texts(row: Sequence[Any]) -> list[str]:
    texts = []
    for cell in row:
        assert isinstance(cell, Text)
        texts.append(cell.text)
    return texts
