"""What a report says where its runs come from different kinds of machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.study import Study
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.tables.machines import kind_of, machine_words, unrecorded_words
from runners import provenance
from tests.reports.made_up import AGGREGATION, TEMPERATURE, Store, document_of

AMD = {"processor": "AMD EPYC", "instructions": "AVX512", "threads": "1", "torch": "2.6.0"}
INTEL = {**AMD, "processor": "Intel Xeon"}
OLD = {"torch": "2.6.0"}
Machines = Callable[[str, int], Mapping[str, str]]


def _results(store: Store, study: Study, machines: Machines) -> tuple[Plan, Results]:
    """Returns the results of a study whose runs come from machines by kind of node, or variant, and seed."""
    plan = make_plan([study], Request(PRESETS["smoke"], {}, 2))
    for node in plan.nodes:
        layer = "static" if node.spec.model.layer == "static" else node.kind
        tags = {names.TAG_VERSIONS: json.dumps(dict(machines(layer, node.spec.seed)))}
        store.add(plan, node, {"test/top1": 80.0 + node.spec.seed}, tags=tags)
    return plan, collect(plan, store.uri)


def test_one_kind_needs_no_word(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: AMD)
    assert list(machine_words(TEMPERATURE, plan, results)) == []
    assert list(unrecorded_words(results)) == []


@pytest.mark.parametrize(
    "other", [INTEL, {**AMD, "instructions": "AVX2"}, {**AMD, "threads": "2"}, {**AMD, "torch": "3"}]
)
def test_pairs_of_different_kinds_are_named(make_store: Callable[[], Store], other: Mapping[str, str]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: other if kind == "static" else AMD)
    (words,) = machine_words(TEMPERATURE, plan, results)
    key = next(name for name in AMD if AMD[name] != other[name])
    assert f"{key} {other[key]} or {AMD[key]}" in words or f"{key} {AMD[key]} or {other[key]}" in words
    assert "different ones in “static” (seeds 0, 1): these differences hold that of the machines too" in words


def test_seeds_of_different_kinds_that_are_paired_with_their_own_are_said(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: INTEL if seed else AMD)
    (words,) = machine_words(TEMPERATURE, plan, results)
    assert "Every repeat is paired with one of its own kind" in words


def test_an_evaluation_is_of_the_kind_of_its_training_too(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), AGGREGATION, lambda kind, seed: INTEL if kind == "trial" and seed else AMD)
    (words,) = machine_words(AGGREGATION, plan, results)
    assert "processor AMD EPYC or Intel Xeon" in words


def test_runs_of_unknown_kind_are_no_other_kind_but_said(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: OLD)
    assert list(machine_words(TEMPERATURE, plan, results)) == []
    assert list(unrecorded_words(results)) == [
        "6 of 6 runs do not say on which processor they were measured; earlier versions of the code did not record it."
    ]


def test_runs_of_known_and_of_unknown_kind_cannot_be_told_apart(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: OLD if kind == "static" else AMD)
    (words,) = machine_words(TEMPERATURE, plan, results)
    assert words.startswith("2 of the 6 runs behind this table do not say on which processor")


def test_the_report_says_it_under_the_table_and_at_its_beginning(make_store: Callable[[], Store]) -> None:
    plan, results = _results(make_store(), TEMPERATURE, lambda kind, seed: INTEL if kind == "static" else AMD)
    text = str(document_of(plan, replace(results)))
    assert "The runs come from 2 kinds of machine (processor" in text
    assert "The runs come from different kinds of machine, whose results are not the same bits: processor" in text


def test_a_kind_is_what_was_recorded() -> None:
    assert kind_of(OLD) == ()
    assert kind_of(AMD) == tuple(AMD.items())


def test_a_result_records_its_machine() -> None:
    # What torch uses is recorded only where torch is imported, as it is in a worker.
    import torch  # noqa: F401

    found = provenance.machine()
    assert found["processor"] == provenance.processor() != ""
    assert found["threads"].isdecimal()
    assert found["instructions"]


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: AMD  EPYC 9B14\nflags\t: a\n\nmodel name\t: Other\n", "AMD EPYC 9B14"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "ARM 0x41 0xd0c"),
    ],
)
def test_the_model_of_a_processor_is_what_linux_tells(tmp_path: Path, text: str, model: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert provenance.processor(tmp_path / "cpuinfo") == model
