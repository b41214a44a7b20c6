"""This module says if the schedule may be behind a result: trainings far from converged, dynamic ones that trail.

A row is far from converged if the validation accuracy of its trainings still rises over the last quarter of their
epochs by more than a point and more than its noise. Rows that never learned are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from ablations.vocabulary import TEST_TOP1, VAL_TOP1, usual_size_of_interest
from reports.analysis.statistics import estimate
from reports.collect.results import Results
from reports.collect.unlearned import quoted
from reports.content.formatting import number
from reports.content.plan_words import network_titles, short_titles

_LAST_SHARE = 4
"""The end of a training is its last quarter."""

_DEVIATIONS = 2.0
"""Standard errors that a rise must exceed."""

_LISTED = 6


@dataclass(frozen=True)
class Rise:
    """The rise of a row's validation accuracy at the end of training.

    Attributes:
        gain: Points over the last quarter of the epochs, mean over seeds.
        noise: Its standard error: of the sampling of validation images or, if larger, of the seeds.
    """

    title: str
    gain: float
    noise: float

    @property
    def is_far_from_converged(self) -> bool:
        """True if it rises by more than the size of interest and more than its noise."""
        return self.gain > usual_size_of_interest(VAL_TOP1) and self.gain > _DEVIATIONS * self.noise


def convergence_words(plan: Plan, results: Results) -> str:
    """Return a sentence about the trainings that are far from converged, or nothing where none is."""
    rises = list(row_rises(plan, results))
    # The steepest comes first, since the sentence names only a few.
    rising = sorted((rise for rise in rises if rise.is_far_from_converged), key=lambda rise: -rise.gain)
    if not rising:
        return ""
    listed = quoted(rise.title for rise in rising[:_LISTED])
    if len(rising) > _LISTED:
        listed += f" and {len(rising) - _LISTED} others"
    gains = number(rising[-1].gain, 1)
    if rising[0].gain != rising[-1].gain:
        gains += f" to {number(rising[0].gain, 1)}"
    are = "is" if len(rising) == 1 else "are"
    return (
        f"{len(rising)} of {len(rises)} trained networks {are} far from converged: over the last quarter of the epochs "
        f"validation accuracy still rises by {gains} points ({listed}). What differs between networks may be how fast "
        "they learn, and vanish or turn in a longer training."
    )


def row_rises(plan: Plan, results: Results) -> Iterator[Rise]:
    """Yield the rise of every trained network that was tracked by epoch, once for all studies that share it."""
    curves: dict[str, dict[int, float]] = {}
    rows = results.curves[results.curves["metric"] == VAL_TOP1]
    for fingerprint, step, value in zip(rows["fingerprint"], rows["step"], rows["value"], strict=True):
        if math.isfinite(value):
            curves.setdefault(str(fingerprint), {})[int(step)] = float(value)
    for title, nodes in _trained_networks(plan):
        learned = []
        for node in nodes:
            curve = curves.get(node.fingerprint, {})
            # A single epoch has no rise.
            if len(curve) > 1 and node.fingerprint not in results.unlearned:
                learned.append(curve)
        if learned:
            yield _rise(title, nodes[0].spec, learned)


def _trained_networks(plan: Plan) -> Iterator[tuple[str, list[Node]]]:
    """Yield the trainings of a plan, those that differ in their seed alone together, with words for them."""
    grouped: dict[tuple[str, ...], str] = {}
    for study in plan.studies:
        networks, titles = network_titles(study), short_titles(study)
        for cell in plan.cells_of(study.name):
            repeats = plan.cells_of_row(study.name, cell.network, cell.variant)
            trainings = tuple(repeat.fingerprint for repeat in repeats if repeat.fingerprint in plan.trials)
            if trainings:
                title = titles[cell.variant]
                if cell.network:
                    title = f"{networks[cell.network]}, {title}"
                # Studies that share a training have its fingerprint in common, so that it is listed once.
                grouped.setdefault(trainings, title)
    for trainings, title in grouped.items():
        yield title, [plan.trials[fingerprint] for fingerprint in trainings]


def _rise(title: str, spec: TrialSpec, curves: Sequence[Mapping[int, float]]) -> Rise:
    """Return the rise of a network from its curves, (seeds) of value by epoch."""
    gains, variances, images = [], [], spec.data.validation_images or spec.data.facts.validation_images
    for curve in curves:
        end = max(curve)
        # Of a training of fewer than eight epochs, the end is its last one.
        begin = end - max(1, end // _LAST_SHARE)
        # Of an epoch that was not tracked, the one before stands in, and of none before, the first.
        start = max((step for step in curve if step <= begin), default=min(curve))
        gains.append(curve[end] - curve[start])
        # The variance of a share p of n images is p (1 − p) / n, and a rise is the difference of two of them.
        share = min(1.0, max(0.0, curve[end] / 100))
        # Top-1 is in per cent, shares are in 0 to 1.
        variances.append((100 * math.sqrt(2 * share * (1 - share) / max(1, images))) ** 2)
    mean = estimate(gains)
    noise = math.sqrt(math.fsum(variances)) / len(variances)
    if mean.n > 1:
        noise = max(noise, mean.sd / math.sqrt(mean.n))
    return Rise(title, mean.mean, noise)


@dataclass(frozen=True)
class Lead:
    """The points of test accuracy, mean over seeds, by which a dynamic network is better than the static one beside it.

    Both are of the same size, data and length of training.
    """

    title: str
    lead: float


def leads(plan: Plan, results: Results) -> tuple[Lead, ...]:
    """Return every dynamic network of a report that has a static network to compare with, in any of its studies.

    Only networks that were trained with attention and evaluated so count, with all their repeats.
    """
    accuracies = _test_accuracies(results)
    static: dict[tuple[object, ...], float] = {}
    dynamic: list[tuple[str, tuple[object, ...], float]] = []
    for title, nodes in _trained_networks(plan):
        values = [accuracies[node.fingerprint] for node in nodes if node.fingerprint in accuracies]
        # A mean over some repeats, or with a failed training in it, is no mean of the network.
        if len(values) < len(nodes):
            continue
        mean = math.fsum(values) / len(values)
        spec = nodes[0].spec
        if spec.model.is_static:
            # Of several static networks that fit, the first in the order of the plan is the one to compare with.
            static.setdefault(_shared_settings(spec), mean)
        elif spec.model.aggregation in (None, "attention"):
            # A kind that reads no aggregation mixes by its attention.
            dynamic.append((title, _shared_settings(spec), mean))
    compared = []
    for title, settings, mean in dynamic:
        if settings in static:
            compared.append(Lead(title, mean - static[settings]))
    return tuple(compared)


def _test_accuracies(results: Results) -> dict[str, float]:
    """Return the test accuracies of trainings that learned, and of evaluations, by fingerprint."""
    accuracies: dict[str, float] = {}
    if TEST_TOP1 not in results.cells:
        return accuracies
    for fingerprint, value in zip(results.cells["fingerprint"], results.cells[TEST_TOP1], strict=True):
        if math.isfinite(value) and fingerprint not in results.unlearned:
            accuracies[str(fingerprint)] = float(value)
    return accuracies


def _shared_settings(spec: TrialSpec) -> tuple[object, ...]:
    """Return the settings that a dynamic network must share with the static one that it is compared with."""
    model = spec.model
    size = (model.name, model.width, model.depth, model.stem_stride, model.stem_kernel, model.squeeze_excitation)
    return (*size, spec.data, spec.train.epochs)


def lead_fact(compared: Sequence[Lead]) -> str:
    """Return a sentence on the number of dynamic networks above the static one, with the range of their leads."""
    ahead = sum(network.lead > 0 for network in compared)
    points = f"{_range(compared)} points of test accuracy"
    return f"{ahead} of {len(compared)} dynamic networks are above the static one ({points})"


def trailing_words(compared: Sequence[Lead]) -> str:
    """Return a sentence that all dynamic networks of a report trail, or nothing where one does not."""
    if not compared or any(network.lead >= 0 for network in compared):
        return ""
    subject = f"All {len(compared)} dynamic networks of this report trail"
    if len(compared) == 1:
        subject = "The one dynamic network of this report trails"
    return (
        f"{subject} the static network of the same size ({_range(compared)} points of test accuracy, means over "
        "seeds): what is found here is found where dynamic convolution does not pay, which may be the schedule."
    )


def _range(compared: Sequence[Lead]) -> str:
    ordered = sorted(compared, key=lambda network: network.lead)
    low, high = number(ordered[0].lead, 1, signed=True), number(ordered[-1].lead, 1, signed=True)
    if low == high:
        return low
    return f"{low} to {high}"


def chance_words(study: Study, network: str, titles: Sequence[str]) -> str:
    """Return a sentence that every intervention takes all accuracy from a network that did learn."""
    subject = network or "The network"
    return (
        f"{subject} itself learned, but all interventions leave its accuracy at chance ({quoted(titles)}). That it "
        f"needs its “{short_titles(study)[study.reference]}” is a finding; which of them is worse cannot be told there."
    )
