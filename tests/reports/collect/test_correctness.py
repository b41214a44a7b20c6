"""Files of correct images: what runners write is what reports read, and a file that is not right is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ablations import vocabulary as names
from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from reports.collect.correctness import read_correctness
from reports.collect.results import Results
from reports.collect.runs import collect
from runners.training.correctness import correctness
from runners.training.evaluation import Measurement
from tests.reports.made_up import AGGREGATION, TEMPERATURE, Store, plan_of

RIGHT = (True, False, True, True, False, True, False, False, True, True)
TOP1 = 60.0


class _Source:
    digest = "of the data"


def _content(right: tuple[bool, ...] = RIGHT) -> dict[str, Any]:
    """Returns the file of ten images as a runner writes it."""
    bits = torch.tensor(right)
    measured = Measurement(0.0, None, 0.0, (), bits, bits | True, torch.zeros(len(bits), dtype=torch.int64))
    return correctness(measured, _Source(), "test")  # type: ignore[arg-type]


def test_what_runners_write_is_what_reports_read() -> None:
    found = read_correctness(json.dumps(_content()))
    assert found.of(names.TEST_TOP1).tolist() == [int(bit) for bit in RIGHT]
    assert found.of(names.TEST_TOP5).tolist() == [1] * 10
    assert (found.images, found.data) == (10, ("of the data", "evaluation"))
    found.check({names.TEST_TOP1: TOP1, names.TEST_TOP5: 100.0, names.TEST_LOSS: 1.0})


@pytest.mark.parametrize(
    ("metric", "value"), [(names.TEST_TOP1, 70.0), (names.TEST_TOP1, 60.1), (names.TEST_TOP5, 90.0)]
)
def test_bits_that_are_not_the_accuracy_are_refused(metric: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"its {metric} is"):
        read_correctness(json.dumps(_content())).check({metric: value})


def _changed(**changes: object) -> str:
    content = {**_content(), **changes}
    if "sha256" not in changes:
        content["sha256"] = digest({key: value for key, value in content.items() if key != "sha256"})
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        _changed(sha256="0" * 64),
        _changed(images=0),
        _changed(images=17),
        _changed(images="many"),
        _changed(bits={"test/top1": "////"}),
        _changed(bits={"test/top1": "no base64!"}),
        _changed(bits=[1, 2]),
        _changed(bits={"test/top1": 7}),
        json.dumps({**_content(), "bits": _content(RIGHT[::-1])["bits"]}),
    ],
)
def test_what_is_no_such_file_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no list of correct images|not what its digest"):
        read_correctness(text)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(AGGREGATION, TEMPERATURE, seeds=1)


Tracked = Callable[[Node], dict[str, Any]]


def _collected(make_store: Callable[[], Store], plan: Plan, tracked: Tracked) -> Results:
    store = make_store()
    for node in plan.nodes:
        store.add(plan, node, {"test/top1": TOP1}, **tracked(node))
    return collect(plan, store.uri)


def _good(node: Node) -> dict[str, Any]:
    content = _content()
    tags = {names.TAG_CORRECTNESS: content["sha256"]}
    return {"tags": tags, "files": {names.CORRECTNESS_FILE: json.dumps(content)}}


def test_files_are_read_of_what_shares_a_checkpoint(make_store: Callable[[], Store], plan: Plan) -> None:
    results = _collected(make_store, plan, _good)
    static = next(key for key, node in plan.trials.items() if node.spec.model.layer == "static")
    assert set(results.correctness) == {node.fingerprint for node in plan.nodes} - {static}
    assert results.warnings == ()


def test_runs_from_before_have_none_and_nothing_is_said(make_store: Callable[[], Store], plan: Plan) -> None:
    results = _collected(make_store, plan, lambda node: {})
    assert (results.correctness, results.warnings) == ({}, ())


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (None, "No such file"),
        ("not JSON", "no list of correct images"),
        (json.dumps(_content(RIGHT[::-1])), "it is not the file that was tracked"),
    ],
)
def test_a_file_that_is_not_right_is_left_out_and_said(
    make_store: Callable[[], Store], plan: Plan, file: str | None, reason: str
) -> None:
    def tracked(node: Node) -> dict[str, Any]:
        if not (isinstance(node, EvaluationNode) and node.intervention.aggregation == "max"):
            return _good(node)
        return {**_good(node), "files": {} if file is None else {names.CORRECTNESS_FILE: file}}

    results = _collected(make_store, plan, tracked)
    assert len(results.correctness) == 4
    assert len(results.warnings) == 2
    for warning in results.warnings:
        assert names.CORRECTNESS_FILE in warning
        assert reason in warning


def test_a_metric_that_was_changed_in_the_store_is_found(make_store: Callable[[], Store], plan: Plan) -> None:
    store = make_store()
    for index, node in enumerate(plan.evaluations.values()):
        store.add(plan, node, {"test/top1": TOP1 if index else 61.0}, **_good(node))
    (warning,) = collect(plan, store.uri).warnings
    assert "its test/top1 is 60, tracked is 61" in warning
