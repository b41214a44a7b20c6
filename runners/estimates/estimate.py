"""Computes how long a plan takes from the speeds of its networks, and puts the result into words. It reads no files.

An estimate is a range, because machines have other things to do.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ablations.invocation import suggested_command
from ablations.launches import Range, Record, duration, range_words
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import digest
from ablations.spec.identities import in_fingerprint, of_model
from ablations.spec.parts import SPEC_VERSION
from ablations.spec.titles import trial_title
from ablations.spec.trial import TrialSpec
from runners.state.schemas import Count, Seconds

# Place and number of images change how many steps there are, not how long a step takes.
_DATA_WITHOUT_SPEED = {"root", "download", "train_images", "validation_images", "test_images", "split_seed"}
_TRAIN_WITH_SPEED = {"batch_size", "micro_batch", "optimizer", "precision", "devices"}
_PASSES = 4
"""An image that is trained on takes as long as so many that are measured: three passes, the optimiser, augmentation."""

_QUANTILE = 1.645
"""95 % quantile of the standard normal: a range covers nine of ten launches, if they are like those before."""
_PRIOR_SPREAD, _PRIOR_LAUNCHES = 0.2, 3.0
"""Prior of the logarithm of actual over estimated time: its standard deviation, and the launches that it counts for."""

# Weights lie in the state folder and in the tracking store; a running training keeps two checkpoints with momentum.
_COPIES_OF_WEIGHTS, _COPIES_UNDER_WAY, _OTHER_BYTES_PER_NODE = 2, 4, 100_000
_KINDS = {"evaluation": "evaluations", "network": "evaluations", "cost": "counts"}
_NAMED = 3
_TIGHT = 0.9
"""Share of a machine's memory beyond which the words contain a warning."""


@dataclass(frozen=True)
class Speed:
    """The speed of one network on one machine, and the memory that its process took; 0 where nothing was measured.

    Files keep the fields under their aliases. `step_seconds` are those of a whole batch. `setup_seconds` lie before the
    first step; a network that is counted has no other time. An evaluation by itself takes `evaluation_image_seconds`
    per image, all of it included. `spread` is the standard deviation of the logarithm of such times. `is_learned` says
    that these are times of whole nodes, and not of a few steps.
    """

    step_seconds: Annotated[Seconds, Field(alias="step")] = 0.0
    setup_seconds: Annotated[Seconds, Field(alias="setup")] = 0.0
    evaluation_image_seconds: Annotated[Seconds | None, Field(alias="evaluation_image")] = None
    memory_bytes: Annotated[Count, Field(alias="memory")] = 0
    gpu_memory_bytes: Annotated[Count, Field(alias="gpu_memory")] = 0
    weights_bytes: Annotated[Count, Field(alias="weights")] = 0
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    is_learned: bool = False


@dataclass(frozen=True)
class PlanEstimate:
    """Time, memory and disk that a plan takes on one machine; nodes that are done take nothing.

    `raw_seconds` is the likely time before it is corrected by earlier launches. `shared_seconds` is the computing time
    of the whole plan, done or not, and `unshared_seconds` the same with a training for each table row and seed.
    `unknown` has a node for each work whose speed is not known; without any known work there is no `wall_seconds`.
    """

    wall_seconds: Range | None
    raw_seconds: float
    is_learned: bool
    seconds_by_kind: Mapping[str, float]
    shared_seconds: float
    unshared_seconds: float
    unknown: Mapping[str, Node]
    memory_bytes: int
    gpu_memory_bytes: int
    disk_bytes: int
    workers: int

    @property
    def is_complete(self) -> bool:
        """Whether everything that is missing is counted in."""
        return not self.unknown

    @property
    def unknown_titles(self) -> list[str]:
        """The titles of the unknown work without seed and temperature, which do not change how long it takes."""
        titles: dict[str, None] = {}
        for node in self.unknown.values():
            title = node.title
            if node.kind != "cost":
                network = node.training.title if node.file is not None else trial_title(node.spec)
                network = network.partition(" · seed")[0].partition(" τ=")[0]
                title = f"{network} on {node.spec.data.name}"
            titles[title] = None
        return list(titles)


def speed_key(node: Node) -> str:
    """Return a key of the work of a node: equal for nodes that take the same time per image on one machine."""
    if node.kind == "cost":
        return f"cost-{node.fingerprint}"
    spec = node.spec
    work = {
        "spec_version": SPEC_VERSION,
        "image": [spec.data.facts.channels, spec.data.facts.image_size, spec.data.facts.num_classes],
        "model": spec.model.model_dump(mode="json", by_alias=True),
        "data": spec.data.model_dump(mode="json", exclude=_DATA_WITHOUT_SPEED),
        "train": spec.train.model_dump(mode="json", include=_TRAIN_WITH_SPEED),
    }
    return digest(work | in_fingerprint(of_model(spec.model)))


def count_images(spec: TrialSpec, split: str) -> int:
    """Return the number of images of a split that a training uses."""
    return int(getattr(spec.data, f"{split}_images") or getattr(spec.data.facts, f"{split}_images"))


def work_steps(node: Node) -> float:
    """Return the work of a node in training steps; measured images count as parts of one, and a count has none."""
    train = node.spec.train
    images = count_images(node.spec, "test")
    steps = 0
    if node.kind == "cost":
        return 0.0
    if node.kind not in ("evaluation", "network"):
        steps = train.epochs * (count_images(node.spec, "train") // train.batch_size)
        images += train.epochs * count_images(node.spec, "validation")
    return steps + images / (_PASSES * train.batch_size)


def seconds_of(node: Node, speed: Speed | None) -> float | None:
    """Return the seconds that a node takes from its beginning; `None` if its work was not measured."""
    if speed is None:
        return None
    if node.kind == "cost":
        return speed.setup_seconds or None
    if node.kind in ("evaluation", "network") and speed.evaluation_image_seconds is not None:
        return count_images(node.spec, "test") * speed.evaluation_image_seconds
    if not speed.step_seconds:
        return None
    return speed.setup_seconds + work_steps(node) * speed.step_seconds


def makespan(seconds: Mapping[str, float], after: Mapping[str, str], workers: int) -> float:
    """Return the seconds until the last job ends if each idle worker takes the first job in order that can begin.

    A job that waits for the one that `after` names is queued behind those that could begin before, as in a launch.
    """
    idle_from = [0.0] * workers
    ends: dict[str, float] = {}

    def run(job: str, ready: float) -> None:
        ends[job] = max(heapq.heappop(idle_from), ready) + seconds[job]
        heapq.heappush(idle_from, ends[job])

    waiting: dict[str, list[str]] = {}
    for job in seconds:
        if after.get(job) in seconds:
            waiting.setdefault(after[job], []).append(job)
        else:
            run(job, 0.0)
    # No job waits for one that waits itself, so that all of them are queued in the order of these ends.
    for ended in sorted(ends, key=ends.__getitem__):
        for job in waiting.get(ended, ()):
            run(job, ends[ended])
    return max(ends.values(), default=0.0)


def widen(raw_seconds: float, spread: float, history: Iterable[Record] = ()) -> Range:
    """Return the range that nine of ten launches should end in, from a computed time and the spread of its parts.

    The likely time is corrected by how long earlier launches took against what was computed for them.
    """
    # Errors of estimates are factors, so they are averaged as logarithms.
    ratios: list[float] = []
    for record in history:
        if record.is_whole and record.raw > 0 and record.actual > 0:
            ratios.append(math.log(record.actual / record.raw))
    # One pseudo-launch of ratio 1 keeps the first real launch from deciding alone.
    mean = math.fsum(ratios) / (len(ratios) + 1)
    # Posterior variance under the prior, times 1 + 1/(n + 1) for the next launch instead of the mean.
    squares = _PRIOR_LAUNCHES * _PRIOR_SPREAD**2 + math.fsum((ratio - mean) ** 2 for ratio in ratios)
    variance = squares / (_PRIOR_LAUNCHES + len(ratios)) * (1 + 1 / (len(ratios) + 1))
    sd = math.sqrt(variance + spread**2)
    low, likely, high = mean - _QUANTILE * sd, mean, mean + _QUANTILE * sd
    return Range(raw_seconds * math.exp(low), raw_seconds * math.exp(likely), raw_seconds * math.exp(high))


def estimate(plan: Plan, speeds: Mapping[str, Speed], workers: int, history: Iterable[Record] = ()) -> PlanEstimate:
    """Return the time, memory and disk that a plan takes with so many workers, from the speeds of its nodes.

    Of the earlier launches on this machine those count whose `is_learned` is that of this estimate.
    """
    all_seconds: dict[str, float] = {}
    for node in plan.nodes:
        all_seconds[node.fingerprint] = seconds_of(node, speeds.get(node.fingerprint)) or 0.0
    # The lists and `seconds` have the missing nodes whose speed is known.
    seconds: dict[str, float] = {}
    known_speeds: list[Speed] = []
    learned_seconds: list[float] = []
    weighted_spreads: list[float] = []
    weights: list[int] = []
    seconds_by_kind = {"trainings": 0.0, "evaluations": 0.0, "counts": 0.0}
    unknown: dict[str, Node] = {}
    for node in plan.missing:
        speed = speeds.get(node.fingerprint)
        node_seconds = seconds_of(node, speed)
        if speed is None or node_seconds is None:
            unknown.setdefault(speed_key(node), node)
            continue
        seconds[node.fingerprint] = node_seconds
        seconds_by_kind[_KINDS.get(node.kind, "trainings")] += node_seconds
        weighted_spreads.append(node_seconds * speed.spread)
        known_speeds.append(speed)
        if speed.is_learned:
            learned_seconds.append(node_seconds)
        if node.kind in ("trial", "network"):
            weights.append(speed.weights_bytes)
    total_seconds = math.fsum(seconds.values())
    # An estimate is learned if most of its time comes from whole nodes.
    is_learned = 2 * math.fsum(learned_seconds) > total_seconds
    # The mean by time. Errors do not average out: a slow machine slows all jobs.
    spread = math.fsum(weighted_spreads) / (total_seconds or 1.0)
    after = {node.fingerprint: node.depends_on for node in plan.evaluations.values()}
    raw_seconds = makespan(seconds, after, workers)
    comparable = [record for record in history if record.is_learned == is_learned]
    unshared_seconds = 0.0
    for cell in plan.all_cells:
        # The plan of a `retry` has the tables of the whole plan but only a part of its nodes.
        unshared_seconds += all_seconds.get(cell.fingerprint, 0.0)
        evaluation = plan.evaluations.get(cell.fingerprint)
        # A network that was trained elsewhere is loaded once, with or without sharing.
        if evaluation is not None and evaluation.file is None:
            unshared_seconds += all_seconds.get(evaluation.depends_on, 0.0)
    # In the worst case the largest nodes run at the same time; only then have trainings checkpoints on the disk.
    memory = sorted((speed.memory_bytes for speed in known_speeds), reverse=True)
    weights.sort(reverse=True)
    disk_bytes = _COPIES_OF_WEIGHTS * sum(weights) + _COPIES_UNDER_WAY * sum(weights[:workers])
    wall_seconds = None
    if seconds or not unknown:
        wall_seconds = widen(raw_seconds, spread, comparable)
    return PlanEstimate(
        wall_seconds=wall_seconds,
        raw_seconds=raw_seconds,
        is_learned=is_learned,
        seconds_by_kind=seconds_by_kind,
        shared_seconds=math.fsum(all_seconds.values()),
        unshared_seconds=unshared_seconds,
        unknown=unknown,
        memory_bytes=sum(memory[:workers]),
        gpu_memory_bytes=max((speed.gpu_memory_bytes for speed in known_speeds), default=0),
        disk_bytes=disk_bytes + _OTHER_BYTES_PER_NODE * len(seconds),
        workers=workers,
    )


def size(count: int) -> str:
    """Return a number of bytes as `350 MB` or `1.2 GB`."""
    # The bounds are where rounding would give 1000 of the smaller unit.
    if count < 999_500:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 999_500_000 else f"{count / 1e9:.1f} GB"


def estimate_lines(estimate: PlanEstimate, memory_bytes: int | None, free_bytes: int | None) -> Iterator[str]:
    """Yield lines on a plan: its time, what sharing saves, memory and disk, and warnings if these do not suffice."""
    wall, workers = estimate.wall_seconds, estimate.workers
    if wall is not None and wall.likely:
        computing: list[str] = []
        for kind, seconds in estimate.seconds_by_kind.items():
            if seconds:
                computing.append(f"{kind} {duration(seconds)}")
        total = range_words(wall)
        if not estimate.is_complete:
            total = f"at least {total}"
        plural = "s" if workers > 1 else ""
        yield f"Time: {total} with {workers} worker{plural}; of computing, {', '.join(computing)}."
    if not estimate.is_complete:
        titles = estimate.unknown_titles
        listed = "; ".join(titles[:_NAMED])
        if len(titles) > _NAMED:
            listed += f" and {len(titles) - _NAMED} more"
        unknown = "it cannot be told yet"
        if wall:
            unknown += " for the rest"
        yield (
            f"Time: {unknown}: {len(estimate.unknown)} networks have not been timed on this machine with this data and "
            f"batch size ({listed}). What has been trained here is known. To time a few steps of each: "
            f"{suggested_command('plan', calibrate=True)}"
        )
    # A saving of less than half a per cent would print two equal durations.
    if wall is not None and estimate.unshared_seconds > 1.005 * estimate.shared_seconds:
        yield (
            f"Sharing: {duration(estimate.shared_seconds)} of computing for the whole plan, where one training per "
            f"table row and seed would take {duration(estimate.unshared_seconds)}."
        )
    if wall is None or not wall.likely:
        return
    needs = f"memory up to {size(estimate.memory_bytes)}"
    if memory_bytes:
        needs += f" of {size(memory_bytes)}"
    if estimate.gpu_memory_bytes:
        needs += f", of a GPU up to {size(estimate.gpu_memory_bytes)} per worker"
    needs += f", disk about {size(estimate.disk_bytes)}"
    if free_bytes is not None:
        needs += f" of {size(free_bytes)} free"
    yield f"Needs: {needs}."
    if memory_bytes and estimate.memory_bytes > _TIGHT * memory_bytes:
        fitting = max(1, int(workers * _TIGHT * memory_bytes / estimate.memory_bytes))
        advice = f"Take --workers {fitting}" if fitting < workers else "Lower train.micro_batch"
        needed = f"{size(estimate.memory_bytes)} of {size(memory_bytes)} of memory"
        yield f"Warning: the workers may need {needed}. {advice}."
    if free_bytes is not None and estimate.disk_bytes > free_bytes:
        yield f"Warning: about {size(estimate.disk_bytes)} will be written, and {size(free_bytes)} are free."
