"""How long a plan takes, from how fast its networks were seen to work on a machine. Pure: numbers in, numbers out.

How speeds are measured and kept is in `runners.estimates.calibration` and `runners.estimates.measurements`. An estimate
is a range, because machines have other things to do: it comes from the spread of the steps that were timed and from how
far earlier estimates were from what it then took.
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

_SPEED_LEAVES_OUT = {"root", "download", "train_images", "validation_images", "test_images"}
_READ_OF_TRAIN = {"batch_size", "micro_batch", "optimizer", "precision", "devices"}

_QUANTILE = 1.645
"""A range covers nine of ten launches, if they are like those before."""

_PRIOR_SPREAD, _PRIOR_LAUNCHES = 0.2, 3.0
"""What is assumed of the logarithm of actual over estimated time before launches tell, and how many that counts for."""

_COPIES_OF_WEIGHTS = 2
"""In the state folder and among the artifacts of the tracking store."""
_COPIES_UNDER_WAY = 4
"""Two checkpoints of weights and momentum."""
_BYTES_BESIDE = 100_000


@dataclass(frozen=True)
class Speed:
    """How fast one network works on one machine, and what it needs.

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
    """What a plan takes on one machine; nodes that are done take nothing.

    Attributes:
        wall: Seconds from start to end, of what is known; `None` where nothing is.
        raw: The likely one of them before earlier launches are heeded.
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
    """Returns what names the work of a node: the same for all that take the same time per image on one machine."""
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
    """Returns a name for the work of a node, without what does not change how long it takes."""
    if isinstance(node, CostNode):
        return node.title
    title = trial_title(node.spec).partition(" · seed")[0].partition(" τ=")[0]
    return f"{title} on {node.spec.data.name}"


def training_steps(spec: TrialSpec) -> int:
    """Returns how many steps a training takes."""
    return spec.train.epochs * (_images(spec, "train") // spec.train.batch_size)


def measured_images(spec: TrialSpec) -> int:
    """Returns how many images a training measures, between its epochs and at its end."""
    return spec.train.epochs * _images(spec, "validation") + _images(spec, "test")


def _images(spec: TrialSpec, split: str) -> int:
    return int(getattr(spec.data, f"{split}_images") or getattr(spec.data.facts, f"{split}_images"))


def seconds_of(node: Node, speed: Speed | None) -> float | None:
    """Returns how long a node takes, all of it from the beginning; `None` if what it takes was not measured."""
    if speed is None:
        return None
    if isinstance(node, CostNode):
        return speed.setup or None
    if isinstance(node, EvaluationNode):
        images = _images(node.spec, "test")
        if speed.evaluation_image is not None:
            return images * speed.evaluation_image
        return speed.setup + images * speed.image if speed.image else None
    training = training_steps(node.spec) * speed.step
    return speed.setup + training + measured_images(node.spec) * speed.image if speed.step else None


@dataclass(frozen=True)
class Job:
    """Work that takes `seconds`, and can begin when the job called `after`, if any, has ended."""

    name: str
    seconds: float
    after: str = ""


def makespan(jobs: Sequence[Job], workers: int) -> float:
    """Returns when the last job ends if each idle worker takes the first job in order that can begin.

    A job that waits for another one comes behind those that could begin before. That is how a launch goes about it.
    """
    names = {job.name for job in jobs}
    ready = deque(job for job in jobs if job.after not in names)
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        if job.after in names:
            waiting.setdefault(job.after, []).append(job)
    running: list[tuple[float, int, Job]] = []
    now, started = 0.0, 0
    while ready or running:
        while ready and len(running) < workers:
            job = ready.popleft()
            heapq.heappush(running, (now + job.seconds, started, job))
            started += 1
        now, _, ended = heapq.heappop(running)
        ready.extend(waiting.pop(ended.name, ()))
    return now


def widen(raw: float, spread: float, history: Iterable[Record] = ()) -> Range:
    """Returns the range around a computed time that nine of ten launches should end in.

    The likely time is corrected by how long earlier launches took against what was computed for them.

    Args:
        raw: Seconds, as computed.
        spread: Standard deviation of the logarithm of the timed steps.
        history: Earlier launches on the same machine.
    """
    ratios = [math.log(r.actual / r.raw) for r in history if r.is_whole and r.raw > 0 and r.actual > 0]
    mean = math.fsum(ratios) / (len(ratios) + 1)
    squares = _PRIOR_LAUNCHES * _PRIOR_SPREAD**2 + math.fsum((ratio - mean) ** 2 for ratio in ratios)
    variance = squares / (_PRIOR_LAUNCHES + len(ratios)) * (1 + 1 / (len(ratios) + 1))
    sd = math.sqrt(variance + spread**2)
    return Range(*(raw * math.exp(mean + z * sd) for z in (-_QUANTILE, 0.0, _QUANTILE)))


def estimate(plan: Plan, speeds: Mapping[str, Speed], workers: int, history: Iterable[Record] = ()) -> Estimate:
    """Returns what a plan takes.

    Args:
        plan: The plan, with what is done.
        speeds: What is known of the machine, by `speed_key`.
        workers: Tasks at once.
        history: Earlier launches on the same machine; those count whose estimate came about in the same way.
    """
    sums = _Sums(speeds)
    for node in plan.missing:
        sums.add(node)
    raw = makespan(sums.jobs, workers)
    alike = [record for record in history if record.is_learned == sums.is_learned]
    needs = sorted((s.memory for s in sums.speeds), reverse=True)
    weights = [speeds[key].weights for key in map(speed_key, plan.missing_trials) if key in speeds]
    return Estimate(
        wall=widen(raw, sums.spread, alike) if sums.jobs or not sums.unknown else None,
        raw=raw,
        is_learned=sums.is_learned,
        trainings=sums.by_kind["trial"],
        evaluations=sums.by_kind["evaluation"],
        counts=sums.by_kind["cost"],
        shared=math.fsum(_known(node, speeds) for node in plan.nodes),
        unshared=_unshared(plan, speeds),
        unknown=sums.unknown,
        memory=sum(needs[:workers]),
        gpu_memory=max((s.gpu_memory for s in sums.speeds), default=0),
        disk=_disk(weights, workers) + _BYTES_BESIDE * len(sums.jobs),
        workers=workers,
    )


@dataclass
class _Sums:
    """The known nodes that are missing, summed up."""

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
        """Whether most of the time is that of jobs of which whole ones were seen."""
        learned = math.fsum(job.seconds for job, speed in zip(self.jobs, self.speeds, strict=True) if speed.is_learned)
        return 2 * learned > math.fsum(job.seconds for job in self.jobs)

    @property
    def spread(self) -> float:
        """The mean spread of the jobs by their time: they are slow together, when the machine is."""
        total = math.fsum(job.seconds for job in self.jobs)
        sums = math.fsum(job.seconds * speed.spread for job, speed in zip(self.jobs, self.speeds, strict=True))
        return sums / total if total else 0.0


def _known(node: Node, speeds: Mapping[str, Speed]) -> float:
    return seconds_of(node, speeds.get(speed_key(node))) or 0.0


def _unshared(plan: Plan, speeds: Mapping[str, Speed]) -> float:
    total = 0.0
    known = {node.fingerprint: node for node in plan.nodes}
    for cell in (*plan.cells, *plan.canaries):
        node = known.get(cell.fingerprint)
        # What is tried again has the tables of the whole plan, and a part of its nodes.
        if node is None:
            continue
        total += _known(node, speeds) + (_known(node.trial, speeds) if isinstance(node, EvaluationNode) else 0.0)
    return total


def _disk(weights: Sequence[int], workers: int) -> int:
    under_way = sorted(weights, reverse=True)[:workers]
    return _COPIES_OF_WEIGHTS * sum(weights) + _COPIES_UNDER_WAY * sum(under_way)


def longest_first(plan: Plan, speeds: Mapping[str, Speed]) -> Plan:
    """Returns the plan with its trainings and counts in the order of the time they take, evaluations heeded.

    What is not known comes first, as it may take long. So no worker is left with a long training at the end.
    """
    behind: dict[str, float] = {}
    for node in plan.missing_evaluations:
        trial = node.trial.fingerprint
        behind[trial] = max(behind.get(trial, 0.0), _known(node, speeds))

    def seconds(node: Node) -> float:
        known = seconds_of(node, speeds.get(speed_key(node)))
        return -(known + behind.get(node.fingerprint, 0.0)) if known is not None else -math.inf

    trials = sorted(plan.trials.values(), key=seconds)
    costs = sorted(plan.costs.values(), key=seconds)
    return replace(
        plan, trials={node.fingerprint: node for node in trials}, costs={node.fingerprint: node for node in costs}
    )
