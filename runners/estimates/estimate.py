"""Computes how long a plan takes, from the measured speeds of its networks on a machine. Pure: numbers in, numbers out.

How speeds are measured and kept is in `runners.estimates.calibration` and `runners.estimates.measurements`. An estimate
is a range, because machines have other things to do. Its width comes from the spread of the timed steps and from the
errors of earlier estimates.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ablations.launches import Range
from ablations.planning.nodes import CostNode, EvaluationNode, Node, ProposedNode
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from ablations.spec.identities import in_fingerprint, of_model
from ablations.spec.parts import SPEC_VERSION
from ablations.spec.titles import trial_title
from ablations.spec.trial import TrialSpec

if TYPE_CHECKING:
    from ablations.launches import Record

# Place and number of images change how many steps there are, not how long a step takes.
_SPEED_LEAVES_OUT = {"root", "download", "train_images", "validation_images", "test_images"}
# The training settings that change the time of a step.
_READ_OF_TRAIN = {"batch_size", "micro_batch", "optimizer", "precision", "devices"}

_QUANTILE = 1.645
"""95 % quantile of the standard normal: a range covers nine of ten launches, if they are like those before."""

_PRIOR_SPREAD, _PRIOR_LAUNCHES = 0.2, 3.0
"""Prior of the logarithm of actual over estimated time: its standard deviation, and the launches that it counts for."""

_COPIES_OF_WEIGHTS = 2
"""Weights lie in the state folder and among the artifacts of the tracking store."""
_COPIES_UNDER_WAY = 4
"""A running training keeps two checkpoints, each of weights and momentum."""
_BYTES_BESIDE = 100_000


@dataclass(frozen=True)
class Speed:
    """The speed of one network on one machine, and the memory that it needs.

    Attributes:
        step: Seconds per training step of a whole batch.
        image: Seconds per image that is measured after a training, and between its epochs.
        setup: Seconds before the first step and after the last image; of a network that is counted, all of them.
        evaluation_image: Seconds per image of an evaluation by itself, all of it included; `None` if none was seen.
        spread: Standard deviation of the logarithm of such times from one measurement to the next.
        memory: Most bytes of main memory that its process took.
        gpu_memory: Most bytes of a GPU's memory.
        weights: Bytes of its weights.
        is_learned: Whether the times are those of whole trainings and evaluations, and not of a few steps.
    """

    step: float = 0.0
    image: float = 0.0
    setup: float = 0.0
    evaluation_image: float | None = None
    spread: float = 0.0
    memory: int = 0
    gpu_memory: int = 0
    weights: int = 0
    is_learned: bool = False


@dataclass(frozen=True)
class Estimate:
    """Time, memory and disk that a plan takes on one machine; nodes that are done take nothing.

    Attributes:
        wall: Seconds from start to end, of the known nodes; `None` if none is known.
        raw: The likely time before it is corrected by earlier launches.
        is_learned: Whether most of it comes from whole trainings, evaluations and counts.
        trainings, evaluations, counts: Seconds of computing by kind, of all workers together.
        shared: Seconds of computing of the whole plan, done or not.
        unshared: The same with one training per table row and seed, and one evaluation or count per cell.
        unknown: Keys of the missing nodes whose speed is not known, each with a title that a person can read.
        memory: Bytes of main memory that workers take together, at most.
        gpu_memory: Bytes of one GPU's memory that a worker takes, at most.
        disk: Bytes that are written.
        workers: Tasks at once.
    """

    wall: Range | None
    raw: float
    is_learned: bool
    trainings: float
    evaluations: float
    counts: float
    shared: float
    unshared: float
    unknown: Mapping[str, str]
    memory: int
    gpu_memory: int
    disk: int
    workers: int

    @property
    def is_complete(self) -> bool:
        """Whether everything that is missing is counted in."""
        return not self.unknown


def speed_key(node: Node) -> str:
    """Return a key of the work of a node: equal for nodes that take the same time per image on one machine."""
    if isinstance(node, CostNode):
        return f"cost-{node.fingerprint}"
    return digest(_work_of(node.spec))


def _work_of(spec: TrialSpec) -> dict[str, Any]:
    return {
        "spec_version": SPEC_VERSION,
        "image": [spec.data.facts.channels, spec.data.facts.image_size, spec.data.facts.num_classes],
        "model": spec.model.model_dump(mode="json", by_alias=True),
        "data": spec.data.model_dump(mode="json", exclude=_SPEED_LEAVES_OUT),
        "train": spec.train.model_dump(mode="json", include=_READ_OF_TRAIN),
        **in_fingerprint(of_model(spec.model)),
    }


def work_title(node: Node) -> str:
    """Return a title for the work of a node, without seed and temperature: they do not change how long it takes."""
    if isinstance(node, CostNode):
        return node.title
    title = trial_title(node.spec).partition(" · seed")[0].partition(" τ=")[0]
    return f"{title} on {node.spec.data.name}"


def training_steps(spec: TrialSpec) -> int:
    """Return the number of steps of a training."""
    return spec.train.epochs * (_images(spec, "train") // spec.train.batch_size)


def measured_images(spec: TrialSpec) -> int:
    """Return the number of images that a training measures, between its epochs and at its end."""
    return spec.train.epochs * _images(spec, "validation") + _images(spec, "test")


def _images(spec: TrialSpec, split: str) -> int:
    return int(getattr(spec.data, f"{split}_images") or getattr(spec.data.facts, f"{split}_images"))


def seconds_of(node: Node, speed: Speed | None) -> float | None:
    """Return the seconds that a node takes from its beginning; `None` if its work was not measured."""
    if speed is None:
        return None
    if isinstance(node, CostNode):
        return speed.setup or None
    if isinstance(node, EvaluationNode):
        images = _images(node.spec, "test")
        if speed.evaluation_image is not None:
            return images * speed.evaluation_image
        return speed.setup + images * speed.image if speed.image else None
    # A step of 0 seconds was not measured.
    training = training_steps(node.spec) * speed.step
    return speed.setup + training + measured_images(node.spec) * speed.image if speed.step else None


@dataclass(frozen=True)
class Job:
    """Work that takes `seconds`, and can begin when the job called `after`, if any, has ended."""

    name: str
    seconds: float
    after: str = ""


def makespan(jobs: Sequence[Job], workers: int) -> float:
    """Return the time at which the last job ends if each idle worker takes the first job in order that can begin.

    A job that waited for another one is queued behind those that could begin before, as in a launch.
    """
    names = {job.name for job in jobs}
    ready = deque(job for job in jobs if job.after not in names)
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        if job.after in names:
            waiting.setdefault(job.after, []).append(job)
    running: list[tuple[float, int, Job]] = []
    time_passed, started = 0.0, 0
    while ready or running:
        while ready and len(running) < workers:
            job = ready.popleft()
            # The number of the start breaks ties, as jobs have no order.
            heapq.heappush(running, (time_passed + job.seconds, started, job))
            started += 1
        time_passed, _, ended = heapq.heappop(running)
        ready.extend(waiting.pop(ended.name, ()))
    return time_passed


def widen(raw: float, spread: float, history: Iterable[Record] = ()) -> Range:
    """Return the range around a computed time that nine of ten launches should end in.

    The likely time is corrected by how long earlier launches took against what was computed for them.

    Args:
        raw: Seconds, as computed.
        spread: Standard deviation of the logarithm of the timed steps.
        history: Earlier launches on the same machine.
    """
    # Errors of estimates are factors, so they are averaged as logarithms.
    ratios = [math.log(r.actual / r.raw) for r in history if r.is_whole and r.raw > 0 and r.actual > 0]
    # One pseudo-launch of ratio 1 keeps the first real launch from deciding alone.
    mean = math.fsum(ratios) / (len(ratios) + 1)
    # Posterior variance under the prior, times 1 + 1/(n + 1) for the next launch instead of the mean.
    squares = _PRIOR_LAUNCHES * _PRIOR_SPREAD**2 + math.fsum((ratio - mean) ** 2 for ratio in ratios)
    variance = squares / (_PRIOR_LAUNCHES + len(ratios)) * (1 + 1 / (len(ratios) + 1))
    sd = math.sqrt(variance + spread**2)
    return Range(*(raw * math.exp(mean + z * sd) for z in (-_QUANTILE, 0.0, _QUANTILE)))


def estimate(plan: Plan, speeds: Mapping[str, Speed], workers: int, history: Iterable[Record] = ()) -> Estimate:
    """Return the time, memory and disk that a plan takes.

    Args:
        plan: The plan, with its done nodes marked.
        speeds: The speeds measured on the machine, by `speed_key`.
        workers: Tasks at once.
        history: Earlier launches on the same machine; only those count whose `is_learned` is that of this estimate.
    """
    sums = _Sums(speeds)
    for node in plan.missing:
        sums.add(node)
    raw = makespan(sums.jobs, workers)
    comparable = [record for record in history if record.is_learned == sums.is_learned]
    needs = sorted((s.memory for s in sums.speeds), reverse=True)
    weights = [speeds[key].weights for key in map(speed_key, plan.missing_trials) if key in speeds]
    return Estimate(
        wall=widen(raw, sums.spread, comparable) if sums.jobs or not sums.unknown else None,
        raw=raw,
        is_learned=sums.is_learned,
        trainings=sums.by_kind["trial"],
        evaluations=sums.by_kind["evaluation"],
        counts=sums.by_kind["cost"],
        shared=math.fsum(_known(node, speeds) for node in plan.nodes),
        unshared=_unshared(plan, speeds),
        unknown=sums.unknown,
        # In the worst case the largest nodes run at the same time.
        memory=sum(needs[:workers]),
        gpu_memory=max((s.gpu_memory for s in sums.speeds), default=0),
        disk=_disk(weights, workers) + _BYTES_BESIDE * len(sums.jobs),
        workers=workers,
    )


@dataclass
class _Sums:
    """Sums over the missing nodes of a plan: jobs and speeds of the known ones, titles of the others."""

    known: Mapping[str, Speed]
    jobs: list[Job] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    by_kind: dict[str, float] = field(default_factory=lambda: {"trial": 0.0, "evaluation": 0.0, "cost": 0.0})
    unknown: dict[str, str] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        key = speed_key(node)
        speed = self.known.get(key)
        seconds = seconds_of(node, speed)
        if speed is None or seconds is None:
            self.unknown.setdefault(key, work_title(node))
            return
        after = node.trial.fingerprint if isinstance(node, EvaluationNode) else ""
        self.jobs.append(Job(node.fingerprint, seconds, after))
        self.speeds.append(speed)
        self.by_kind["trial" if isinstance(node, ProposedNode) else node.kind] += seconds

    @property
    def is_learned(self) -> bool:
        """Whether most of the time comes from whole trainings, evaluations and counts that were seen."""
        learned = math.fsum(job.seconds for job, speed in zip(self.jobs, self.speeds, strict=True) if speed.is_learned)
        return 2 * learned > math.fsum(job.seconds for job in self.jobs)

    @property
    def spread(self) -> float:
        """The mean spread of the jobs by time. Errors do not average out: a slow machine slows all of them."""
        total = math.fsum(job.seconds for job in self.jobs)
        sums = math.fsum(job.seconds * speed.spread for job, speed in zip(self.jobs, self.speeds, strict=True))
        return sums / total if total else 0.0


def _known(node: Node, speeds: Mapping[str, Speed]) -> float:
    return seconds_of(node, speeds.get(speed_key(node))) or 0.0


def _unshared(plan: Plan, speeds: Mapping[str, Speed]) -> float:
    total = 0.0
    nodes = {node.fingerprint: node for node in plan.nodes}
    for cell in (*plan.cells, *plan.canaries):
        node = nodes.get(cell.fingerprint)
        # The plan of a `retry` has the tables of the whole plan but only a part of its nodes.
        if node is None:
            continue
        total += _known(node, speeds) + (_known(node.trial, speeds) if isinstance(node, EvaluationNode) else 0.0)
    return total


def _disk(weights: Sequence[int], workers: int) -> int:
    # Only as many checkpoints lie on the disk at once as there are workers; in the worst case the largest.
    under_way = sorted(weights, reverse=True)[:workers]
    return _COPIES_OF_WEIGHTS * sum(weights) + _COPIES_UNDER_WAY * sum(under_way)


def longest_first(plan: Plan, speeds: Mapping[str, Speed]) -> Plan:
    """Return the plan with its trainings and counts sorted by time, the longest first.

    A training counts with its longest evaluation. Unknown work comes first, as it may take long. So no worker is left
    with a long training at the end.
    """
    behind: dict[str, float] = {}
    for node in plan.missing_evaluations:
        trial = node.trial.fingerprint
        behind[trial] = max(behind.get(trial, 0.0), _known(node, speeds))

    def seconds(node: Node) -> float:
        duration = seconds_of(node, speeds.get(speed_key(node)))
        # Negative, so that the longest comes first.
        return -(duration + behind.get(node.fingerprint, 0.0)) if duration is not None else -math.inf

    trials = sorted(plan.trials.values(), key=seconds)
    costs = sorted(plan.costs.values(), key=seconds)
    return replace(
        plan, trials={node.fingerprint: node for node in trials}, costs={node.fingerprint: node for node in costs}
    )
