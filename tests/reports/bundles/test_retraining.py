"""Training again: which nodes are drawn, and how what was measured is compared bit by bit."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from ablations.errors import ReportError
from ablations.planning.plan import Plan
from reports.bundles.retraining import (
    Measurement,
    amount_words,
    draw_nodes,
    machine_differences,
    measurement_differences,
)

REPORTED = Measurement(
    metrics={"test/top1": 81.0, "test/loss": 0.1 + 0.2, "seconds": 3.0, "val/loss": math.nan},
    histories={"train/loss": {1: 2.0, 2: 1.0}, "train/images_per_second": {1: 900.0, 2: 901.0}},
    digests={"weights": "a" * 64, "correct images": "b" * 64},
    versions={"torch": "2.6.0", "processor": "A", "python": "3.11.7"},
)


def lines_of(**changes: object) -> list[str]:
    """Returns the differences from the reported measurement of one with other fields."""
    return list(measurement_differences("it", REPORTED, replace(REPORTED, **changes)))  # type: ignore[arg-type]


def test_the_same_bits_are_no_difference_however_long_they_took() -> None:
    # The reported training was tried twice, which says nothing of its result.
    metrics = {**REPORTED.metrics, "seconds": 99.0, "system/cpu": 1.0, "attempts": 2.0, "seconds.attempts": 120.0}
    courses = {**REPORTED.histories, "train/images_per_second": {1: 3.0, 2: 4.0}}
    assert lines_of(metrics=metrics, histories=courses) == []
    assert amount_words(REPORTED) == "3 metrics, 1 of them over 2 epochs, weights, correct images"


def test_the_last_bit_of_a_metric_is_a_difference() -> None:
    (line,) = lines_of(metrics={**REPORTED.metrics, "test/loss": 0.3})
    assert line == "it, test/loss: 0.30000000000000004 in the report, 0.3 here (5.55e-17 apart)"
    metrics = dict(REPORTED.metrics)
    del metrics["test/top1"]
    assert lines_of(metrics=metrics) == ["it, test/top1: 81.0 in the report, None here"]
    (line,) = lines_of(metrics={**REPORTED.metrics, "val/loss": 1.0})
    assert line.startswith("it, val/loss: nan in the report")


def test_the_first_epoch_that_differs_is_named() -> None:
    (line,) = lines_of(histories={**REPORTED.histories, "train/loss": {1: 2.0, 2: 1.25, 3: 0.5}})
    assert line == "it, train/loss over the epochs: other values from epoch 2 on, at most 0.25 apart"
    assert lines_of(histories={}) == ["it, train/loss over the epochs: only in the report"]


def test_other_weights_and_images_are_differences() -> None:
    (line,) = lines_of(digests={"weights": "c" * 64, "correct images": "b" * 64})
    assert line == f"it, weights: sha256 {'a' * 12} in the report, {'c' * 12} here"
    (line,) = lines_of(digests={"weights": "a" * 64})
    assert line.startswith("it, correct images: ")


def test_another_machine_is_named_by_what_the_bits_depend_on() -> None:
    versions = {"torch": "2.7.0", "processor": "A", "python": "3.12.0", "threads": "2"}
    again = replace(REPORTED, versions=versions)
    assert machine_differences(REPORTED, again) == ["threads unknown (here 2)", "torch 2.6.0 (here 2.7.0)"]
    assert machine_differences(REPORTED, REPORTED) == []


def test_the_drawing_is_decided_by_the_report_and_a_word(plan: Plan) -> None:
    stored = {"runs": {node.fingerprint: {} for node in plan.nodes}, "sha256": "x"}
    drawn = draw_nodes(plan, stored, 1)
    assert drawn[0].kind == "trial"
    assert len(drawn) <= 2
    assert draw_nodes(plan, dict(stored), 1) == drawn
    orders = set()
    for word in map(str, range(40)):
        order = draw_nodes(plan, stored, 1000, word)
        # Behind each training stands an evaluation of its own checkpoint.
        for first, second in pairwise(order):
            if second.kind == "evaluation":
                assert second.checkpoint == first.fingerprint
        trials = [node.fingerprint for node in order if node.kind == "trial"]
        assert sorted(trials) == sorted(plan.trials)
        orders.add(trials[0])
    # Of nine trainings forty words draw nearly every one first: all but one in a hundred times.
    assert len(orders) >= 7
    assert draw_nodes(plan, {**stored, "sha256": "y"}, 1000) != draw_nodes(plan, stored, 1000)


def test_what_is_not_in_the_report_is_not_drawn(plan: Plan) -> None:
    reported = next(iter(plan.trials))
    assert [node.fingerprint for node in draw_nodes(plan, {"runs": {reported: {}}, "sha256": "x"}, 5)] == [reported]
    with pytest.raises(ReportError, match="nothing can be trained again"):
        draw_nodes(plan, {"runs": {}, "sha256": "x"}, 5)
