"""This module draws trainings of a report that a reader trains again, and compares what was measured bit by bit.

The drawing is decided by the report and by a word of the reader, so that nobody who writes a report can know which of
its trainings will be trained again. How they are trained is for `runners`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from reports.collect.curves import histories
from reports.collect.stores.base import Store
from reports.collect.tracked_runs import TrackedRun, finite, json_object
from reports.content.plan_words import plural
from reports.evidence.manifest import Json

WEIGHTS, CORRECT_IMAGES = "weights", "correct images"
"""Files of a node that are compared by their digests."""

_DECISIVE = ("processor", "instructions", "threads", "gpu", "torch", "kernels", "numpy", "platform")
"""The versions on which the last bits of a training are known to depend."""

_TIMES = frozenset({names.SECONDS, names.ATTEMPT_SECONDS, names.ATTEMPTS, names.TRAIN_IMAGES_PER_SECOND})


@dataclass(frozen=True)
class Measurement:
    """All that was measured of a node.

    Attributes:
        metrics: The last value of each metric, without times.
        histories: The values of each metric by epoch, of a training.
        digests: SHA-256 of the weights and of the list of correct images, as far as there are any.
        versions: The kind of machine and the versions, by name.
    """

    metrics: Mapping[str, float]
    histories: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def draw_nodes(plan: Plan, stored: Json, count: int, word: str = "") -> list[Node]:
    """Return trainings of a report and, behind each, one evaluation of its checkpoint if the report has any.

    They are the first by SHA-256 of `word`, the manifest's digest and the fingerprint.

    Raises:
        ReportError: If the report rests on no training.
    """
    reported = stored["runs"].keys()
    trials = [node for key, node in plan.trials.items() if key in reported]
    if not trials:
        raise ReportError("nothing can be trained again: the report has no training that the code at hand knows.")
    # The digest was fixed before the reader thought of a word, so that no author can choose the draw.
    order = _Order(word, str(stored.get("sha256")))
    nodes: list[Node] = []
    for trial in sorted(trials, key=order.of)[:count]:
        nodes.append(trial)
        evaluations = []
        for key, node in plan.evaluations.items():
            if key in reported and node.checkpoint == trial.fingerprint:
                evaluations.append(node)
        # One is enough to check that the network is evaluated in the same way.
        nodes += sorted(evaluations, key=order.of)[:1]
    return nodes


@dataclass(frozen=True)
class _Order:
    word: str
    anchor: str

    def of(self, node: Node) -> str:
        """Return the text by which a node is sorted."""
        return hashlib.sha256(f"{self.word}\n{self.anchor}\n{node.fingerprint}".encode()).hexdigest()


def tracked_measurements(store: Store, stored: Json, nodes: Iterable[Node]) -> dict[str, Measurement]:
    """Return what a store has of nodes of a report, by fingerprint.

    Raises:
        ReportError: If a run of the report is not in the store.
    """
    measurements = {}
    for node in nodes:
        run_id = str(stored["runs"][node.fingerprint].get("run"))
        run = store.run(run_id)
        if run is None:
            raise ReportError(f"run {run_id}, which the report names, is not in the store.")
        measurements[node.fingerprint] = _tracked(store, run)
    return measurements


def _tracked(store: Store, run: TrackedRun) -> Measurement:
    digests = {}
    weights = json_object(run.tags.get(names.TAG_FILES)).get(names.WEIGHTS_FILE)
    if isinstance(weights, str):
        digests[WEIGHTS] = weights
    if names.TAG_CORRECTNESS in run.tags:
        digests[CORRECT_IMAGES] = run.tags[names.TAG_CORRECTNESS]
    # Evaluations have one value of each metric, which is among the metrics already.
    curves = histories(store, run) if run.kind == "trial" else {}
    return Measurement(run.metrics, curves, digests, json_object(run.tags.get(names.TAG_VERSIONS)))


def measurement_differences(title: str, reported: Measurement, again: Measurement) -> Iterator[str]:
    """Yield a line for each part of a measurement that is not the same bits as the reported one, with its size."""
    for name in _compared(reported.metrics, again.metrics):
        value, value_again = _value(reported.metrics, name), _value(again.metrics, name)
        if not _same(value, value_again):
            yield f"{title}, {name}: {value!r} in the report, {value_again!r} here{_distance(value, value_again)}"
    for name in _compared(reported.histories, again.histories):
        yield from _course_differences(f"{title}, {name}", reported.histories.get(name), again.histories.get(name))
    # Digests come last: of two different trainings they say only that, and metrics say by how much.
    for name in dict.fromkeys([*reported.digests, *again.digests]):
        digest, digest_again = reported.digests.get(name, "nothing"), again.digests.get(name, "nothing")
        if digest != digest_again:
            yield f"{title}, {name}: sha256 {digest:.12} in the report, {digest_again:.12} here"


def machine_differences(reported: Measurement, again: Measurement) -> list[str]:
    """Return the ways in which two measurements were made on other machines or with other versions, a phrase each."""
    phrases = []
    for name in _DECISIVE:
        version, version_again = reported.versions.get(name), again.versions.get(name)
        if version != version_again:
            phrases.append(f"{name} {version or 'unknown'} (here {version_again or 'unknown'})")
    return phrases


def amount_words(again: Measurement) -> str:
    """Return the amount that a measurement holds, in words."""
    count = len(_compared(again.metrics, {}))
    parts = [f"{count} {plural(count, 'metric')}"]
    courses = _compared(again.histories, {})
    if courses:
        epochs = max(len(again.histories[name]) for name in courses)
        parts.append(f"{len(courses)} of them over {epochs} {plural(epochs, 'epoch')}")
    return ", ".join([*parts, *again.digests])


def _compared(reported: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Return the metrics of both sides that do not measure the machine."""
    metric_names = dict.fromkeys([*reported, *again])
    return [name for name in metric_names if name not in _TIMES and not name.startswith(names.SYSTEM_PREFIX)]


def _value(metrics: Mapping[str, float], name: str) -> float | None:
    return finite(metrics[name]) if name in metrics else None


def _same(value: float | None, value_again: float | None) -> bool:
    if value is None or value_again is None:
        # Both must lack it: a metric that one side has alone is a difference.
        return value is value_again
    # What is not a number is the same on both sides if neither is one.
    return value == value_again or (math.isnan(value) and math.isnan(value_again))


def _distance(value: float | None, value_again: float | None) -> str:
    if value is None or value_again is None:
        return ""
    return f" ({abs(value - value_again):.3g} apart)"


def _course_differences(
    name: str, reported: Mapping[int, float] | None, again: Mapping[int, float] | None
) -> Iterator[str]:
    """Yield a line if two courses differ: the first epoch in which they do, and how far they are apart at most."""
    if reported is None or again is None:
        yield f"{name} over the epochs: only {'here' if reported is None else 'in the report'}"
        return
    # An epoch of one side alone differs without a distance, so that the largest of none is zero.
    differing, distances = [], [0.0]
    for epoch in sorted(reported.keys() | again.keys()):
        value, value_again = _value_at(reported, epoch), _value_at(again, epoch)
        if not _same(value, value_again):
            differing.append(epoch)
            if value is not None and value_again is not None:
                distances.append(abs(value - value_again))
    if differing:
        yield f"{name} over the epochs: other values from epoch {differing[0]} on, at most {max(distances):.3g} apart"


def _value_at(course: Mapping[int, float], epoch: int) -> float | None:
    return finite(course[epoch]) if epoch in course else None
