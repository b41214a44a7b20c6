"""What a report says: sentences computed from the runs, caveats, sections."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ablations.planning.plan import Plan
from reports.analysis.summary import summarize_study
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.content.blocks import Block, Document, Facts, Items, Paragraph, Table
from reports.document.prose import holes, reading
from tests.reports.everything import made_up_results, results_of, whole_plan
from tests.reports.made_up import AGGREGATION, TEMPERATURE, Store, document_of, plan_of


def _words(blocks: tuple[Block, ...]) -> str:
    said = []
    for block in blocks:
        if isinstance(block, Paragraph):
            said.append(f"{block.lead}. {block.text}")
        elif isinstance(block, Items):
            said += block.items
        elif isinstance(block, Facts):
            said += [f"{name}: {value}" for name, value in block.items]
    return "\n".join(said)


def test_sections(document: Document) -> None:
    assert [section.title for section in document.sections] == ["Kernel aggregation", "Softmax temperature"]
    assert document.timestamp == 1_700_000_001
    assert [figure.name for figure in document.figures] == [
        "aggregation-accuracy",
        "aggregation-entropy",
        "temperature-accuracy",
        "temperature-curves",
        "temperature-entropy",
    ]


def test_one_study_gives_its_name_to_the_document(store: Store) -> None:
    plan = plan_of(TEMPERATURE)
    assert document_of(plan, collect(plan, store.uri)).title.startswith("Softmax temperature")


def test_what_was_run(document: Document) -> None:
    said = _words(document.summary) + _words(document.appendix[0].blocks)
    assert "8 of 9 trainings and 8 of 12 evaluations" in said
    assert "Newest run: 2023-11-14 22:13 UTC" in said
    assert "smoke preset" in said
    assert "numbers mean nothing" in said


def test_the_reading_is_computed(document: Document) -> None:
    said = _words(document.sections[1].blocks)
    assert "“static” differs most from “τ = 30”, by −2.00 points [−4.48, +0.48]" in said
    assert "the 95 % interval over seeds includes 0 for the one difference" in said
    assert "1 of 9 cells have no value" in said
    inspected = _words(document.sections[0].blocks)
    assert "τ = 30: “max” differs most from “attention”, by −74.00 points" in inspected
    assert "τ = 20: nothing can be compared with “attention” yet" in inspected


def test_a_reading_counts_what_it_cannot_name() -> None:
    plan = whole_plan("quick", "placement", seeds=9)
    study = plan.studies[0]
    means = {"none": 80.0, "c1": 82.0, "c2": 83.0, "c3": 84.0, "c1_c2_c3": 85.0}
    noise = (-0.4, 0.1, 0.3, -0.2, 0.2, 0.0, -0.1, 0.4, -0.3)
    values = {name: [mean + noise[(i * (n + 2)) % 9] for i in range(9)] for n, (name, mean) in enumerate(means.items())}
    (line,) = reading(study, summarize_study(study, plan, results_of(plan, values)))
    assert "excludes 0 for all 4 differences" in line
    assert "p < 0.05 for 4 of them" in line
    close = {**values, "c1": [80.1 + value for value in noise]}
    (line,) = reading(study, summarize_study(study, plan, results_of(plan, close)))
    assert "excludes 0 for “C2”, “C3” and “C1 + C2 + C3” and includes it for “C1”" in line


def test_figures_shown_once_are_referred_to(store: Store) -> None:
    twin = TEMPERATURE.model_copy(update={"name": "twin", "title": "Twin"})
    plan = plan_of(TEMPERATURE, twin)
    said = _words(document_of(plan, collect(plan, store.uri)).sections[1].blocks)
    assert "shown under “Softmax temperature”" in said


def test_networks_that_are_some_of_those_shown_are_referred_to(store: Store) -> None:
    plan = plan_of(TEMPERATURE, AGGREGATION)
    document = document_of(plan, collect(plan, store.uri))
    assert "shown under “Softmax temperature”" in _words(document.sections[1].blocks)
    assert "aggregation-entropy" not in [figure.name for figure in document.figures]


def test_a_left_out_figure_is_said(plan: Plan, results: Results) -> None:
    document = document_of(plan, replace(results, curves=results.curves.iloc[:0]))
    assert not [block for block in document.figures if block.kind != "accuracy"]
    assert "No figure of the attention entropy" in _words(document.sections[1].blocks)
    assert "No figure of the training" in _words(document.sections[1].blocks)


def test_a_training_of_one_epoch_has_no_figure_over_the_epochs(store: Store) -> None:
    once = TEMPERATURE.model_copy(update={"baseline": {"train.epochs": 1, "train.temperature.epochs": 0.5}})
    plan = plan_of(once)
    for node in plan.trials.values():
        store.add(plan, node, {"test/top1": 50.0})
    document = document_of(plan, collect(plan, store.uri))
    assert [figure.kind for figure in document.figures] == ["accuracy"]
    assert "No figures over the epochs of the training: it has one." in _words(document.sections[0].blocks)


def test_few_seeds_are_a_caveat(store: Store) -> None:
    plan = plan_of(TEMPERATURE, seeds=1)
    assert "With 1 seed per variant" in _words(document_of(plan, collect(plan, store.uri)).summary)


def test_mixed_code_and_versions_are_said(make_store: Callable[[], Store]) -> None:
    store, plan = make_store(), plan_of(TEMPERATURE, seeds=1)
    for index, node in enumerate(plan.trials.values()):
        versions = f'{{"torch": "2.{index}"}}'
        tags = {"abl.git_commit": str(index % 2) * 40, "abl.git_dirty": "true", "abl.versions": versions}
        store.add(plan, node, {"test/top1": 50.0 + index}, tags=tags)
    said = _words(document_of(plan, collect(plan, store.uri)).summary)
    assert "2 commits (0000000, 1111111)" in said
    assert "3 of 3 runs come from a modified working tree" in said
    assert "torch (2.0, 2.1, 2.2)" in said


def test_warnings_reach_the_reader(plan: Plan, results: Results) -> None:
    document = document_of(plan, replace(results, warnings=("two runs disagree",)))
    assert "two runs disagree" in _words(document.summary)


def test_every_table_has_a_cell_per_column(document: Document) -> None:
    for part in (*document.sections, *document.appendix):
        for block in part.blocks:
            if isinstance(block, Table):
                assert all(len(row) == len(block.columns) for row in block.rows)


def test_holes_are_said_in_a_sentence(plan: Plan, results: Results) -> None:
    """Of the made-up studies one training failed and evaluations were never made; the sentence counts both."""
    said = holes(plan, results)
    assert re.match(r"The report has holes: \d+ of \d+ trainings and \d+ of \d+ evaluations are missing \(", said)
    whole = whole_plan("smoke", "temperature", seeds=1)
    assert holes(whole, made_up_results(whole)) == ""
