"""Estimates plans on this machine: has workers time what is not known, learns from each launch, and trims to a budget.

For a dispatcher to other machines there are no estimates. No torch here.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablations.errors import BudgetError, DispatchError, SpecError
from ablations.launches import Record, duration, range_words
from ablations.planning.lint import sized_networks
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan, make_plan
from ablations.spec.trial import TrialSpec
from runners.console.progress import Summary
from runners.dispatch import Dispatcher, DispatchSettings
from runners.estimates.calibration import calibrate, count_parameters
from runners.estimates.estimate import PlanEstimate, Speed, estimate, estimate_lines, seconds_of, speed_key, work_steps
from runners.estimates.measurements import Load, Measurements, learn
from runners.hardware import free_bytes, memory_bytes
from runners.state.nodes import StateStore

_CALIBRATION_SECONDS = 1.5
"""About the time that a worker takes to calibrate a network."""
_CHEAP_SECONDS, _WORTH_STEPS = 5.0, 500
"""A launch times networks on its own account if that takes at most so long and it has so many steps per network."""
_MOST_ALIKE = 3
"""The most nodes of one kind and work that a launch learns from: a large one must not push out all that is kept."""

FEWEST_SEEDS = 2
"""With one seed there is no interval."""
RULE = "fewer seeds first, down to 2, then without the studies named last"


@dataclass
class Forecaster:
    """Estimates plans for tasks that are dispatched in one way, from the measurements in a runs folder."""

    runs_dir: Path
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)

    def __post_init__(self) -> None:
        self.measurements = Measurements(self.runs_dir)

    @property
    def workers(self) -> int:
        """Tasks at once."""
        return self.load.workers

    @property
    def load(self) -> Load:
        """The load under which the tasks will run."""
        dispatch, machine = self.dispatch, self.measurements.machine
        device, workers = self.measurements.device(dispatch.device), dispatch.workers
        if dispatch.name == "inline":
            workers = 1
        elif workers is None and device == "cpu":
            workers = max(1, machine.cores // dispatch.threads)
        elif workers is None and ":" in dispatch.device:
            # `cuda:1` names a single GPU.
            workers = dispatch.trials_per_gpu
        elif workers is None:
            workers = dispatch.trials_per_gpu * len(machine.gpus)
        return Load(device, workers, dispatch.threads)

    def _load_of(self, node: Node) -> Load:
        if node.kind == "cost":
            # Networks are counted on the CPU, whatever trainings use.
            return replace(self.load, device="cpu")
        return self.load

    def speeds(self, plan: Plan) -> dict[str, Speed]:
        """Return the known speeds of a plan's nodes."""
        by_key: dict[str, Speed | None] = {}
        speeds: dict[str, Speed] = {}
        for node in plan.nodes:
            key = speed_key(node)
            if key not in by_key:
                by_key[key] = self.measurements.speed(key, self._load_of(node))
            speed = by_key[key]
            if speed is not None:
                speeds[node.fingerprint] = speed
        return speeds

    def estimate(self, plan: Plan) -> PlanEstimate | None:
        """Return the estimate of a plan, of its known work; `None` for tasks on other machines."""
        if self.dispatch.name not in ("processes", "inline"):
            return None
        return estimate(plan, self.speeds(plan), self.workers, self.measurements.launches)

    def likely_seconds(self, plan: Plan) -> float:
        """Return the likely time of a plan of which all is known; infinity if it cannot be told."""
        estimate = self.estimate(plan)
        if estimate is None or estimate.wall_seconds is None:
            return math.inf
        return estimate.wall_seconds.likely

    def lines(self, plan: Plan) -> Iterator[str]:
        """Yield the estimate of a plan in words."""
        estimate = self.estimate(plan)
        if estimate is not None:
            yield from estimate_lines(estimate, memory_bytes(), free_bytes(self.runs_dir))

    def longest_first(self, plan: Plan) -> Plan:
        """Return the plan with its trainings and counts sorted by time, so that no worker ends with a long one.

        Unknown work comes first, as it may take long.
        """
        speeds = self.speeds(plan)

        def sort_key(item: tuple[str, Node]) -> float:
            fingerprint, node = item
            seconds = seconds_of(node, speeds.get(fingerprint))
            return -math.inf if seconds is None else -seconds

        trials = sorted(plan.trials.items(), key=sort_key)
        costs = sorted(plan.costs.items(), key=sort_key)
        return replace(plan, trials=dict(trials), costs=dict(costs))

    def is_cheap(self, plan: Plan) -> bool:
        """Return True if timing the unknown work takes a few seconds, and the launch many times as long."""
        estimate = self.estimate(plan)
        if estimate is None or estimate.is_complete:
            return False
        count = len(estimate.unknown)
        if count * _CALIBRATION_SECONDS / self.workers > _CHEAP_SECONDS:
            return False
        return sum(map(work_steps, plan.missing)) >= _WORTH_STEPS * count

    def calibrate(self, plan: Plan, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> list[str]:
        """Have workers time the unknown work, all at once as in a launch; return why some could not be timed."""
        estimate = self.estimate(plan)
        unknown: list[tuple[str, Node]] = []
        if estimate is not None:
            unknown += estimate.unknown.items()
        # No worker is idle while another one is timed: the memory and the caches they share are as busy as later. Asked
        # like this, workers all take the first GPU, so only as many as share one.
        at_once = dispatcher.capacity if self.load.device == "cpu" else self.dispatch.trials_per_gpu
        # Repeats of the first ones fill the last round.
        jobs = [*unknown, *(unknown * at_once)[: -len(unknown) % at_once]]

        def ask(job: tuple[str, Node]) -> tuple[str, Speed] | str:
            _, node = job
            try:
                return dispatcher.ask(calibrate, node, self.dispatch.device, self.dispatch.threads, plugins)
            except DispatchError as error:
                return str(error)

        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(ask, jobs))
        speeds: list[tuple[str, Load, Speed]] = []
        failures: dict[str, str] = {}
        for (key, node), answer in zip(jobs, answers, strict=True):
            if isinstance(answer, str):
                failures[node.title] = answer
            else:
                device, speed = answer
                speeds.append((key, replace(self.load, device=device), speed))
        self.measurements.add("calibrated", speeds)
        return [f"{title}: {reason}" for title, reason in failures.items()]

    @property
    def parameters(self) -> dict[str, int]:
        """The numbers of parameters of the networks that were counted, by `ablations.planning.lint.network_of`."""
        return self.measurements.content.parameters

    def uncounted(self, plan: Plan) -> dict[str, TrialSpec]:
        """Return the networks that a plan compares as equally large and that were not counted yet."""
        return {key: spec for key, spec in sized_networks(plan).items() if key not in self.parameters}

    def count(self, plan: Plan, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> None:
        """Have a worker count the parameters of the networks that are compared as equally large and not counted yet."""
        networks = self.uncounted(plan)
        counts: dict[str, int] = {}
        for key, spec in networks.items():
            count = dispatcher.ask(count_parameters, spec, plugins)
            # 0 of a network that cannot be built; it is tried again next time.
            if count:
                counts[key] = count
        self.measurements.add(parameters=counts)

    def learn(
        self, plan: Plan, states: StateStore, launch: str, estimate: PlanEstimate | None, summary: Summary
    ) -> Record:
        """Add the measurements of a launch to the file and return its record."""
        speeds: list[tuple[str, Load, Speed]] = []
        counts = Counter[tuple[str, str]]()
        for node in plan.missing:
            state = states[node.fingerprint]
            attempts = state.attempts()
            # A later attempt went on from a checkpoint: its seconds are not those of the whole training.
            is_first = len(attempts) == 1 and attempts[0].launch == launch and attempts[0].process.is_here
            if not is_first or not state.is_done:
                continue
            key = speed_key(node)
            counts[key, node.kind] += 1
            speed = learn(node, state)
            if speed is not None and counts[key, node.kind] <= _MOST_ALIKE:
                speeds.append((key, self._load_of(node), speed))
        # Actual time is comparable with the estimate only if all was done here, and at the first attempt. Trainings
        # that may be stopped early say nothing of those that may not.
        is_whole = (
            not summary.interrupted and counts.total() == len(plan.missing) == summary.finished and not plan.proposed
        )
        estimated, raw_seconds = None, 0.0
        if estimate is not None and estimate.is_complete:
            estimated, raw_seconds = estimate.wall_seconds, estimate.raw_seconds
        record = Record(
            launch=launch,
            began=round(time.time() - summary.seconds, 3),
            studies=tuple(study.name for study in plan.studies),
            nodes=summary.finished,
            workers=self.workers,
            estimated=estimated,
            actual=round(summary.seconds, 3),
            raw=raw_seconds,
            is_whole=is_whole,
            is_learned=estimate is not None and estimate.is_learned,
        )
        self.measurements.add("learned", speeds, launch=record)
        return record


def trim(plan: Plan, fits: Callable[[Plan], bool]) -> Plan | None:
    """Return the largest plan by the rule that fits; the plan itself if it fits, `None` if none fits.

    The rule: first fewer seeds, the same number for all studies; then the study that was named last is left out, and so
    on, until one is left. Settings of the trainings are never changed: the question stays the same.
    """
    if fits(plan):
        return plan
    # Studies of cost have no seeds to reduce.
    seeds = [plan.request.seeds_of(study) for study in plan.studies if not study.trains_nothing]
    sizes: list[tuple[int, int | None]] = []
    seed_count = plan.request.seeds
    if seeds:
        # None gives a study more seeds than it has, unless it has only one.
        highest = min(max(seeds) - 1, max(min(seeds), FEWEST_SEEDS))
        for seed_count in range(highest, FEWEST_SEEDS - 1, -1):
            sizes.append((len(plan.studies), seed_count))
    # Fewer studies come with the fewest seeds of these.
    for study_count in range(len(plan.studies) - 1, 0, -1):
        sizes.append((study_count, seed_count))
    for study_count, seed_count in sizes:
        studies = [study.whole for study in plan.studies[:study_count]]
        # If no remaining study reads an override, the plan would answer another question: it is skipped.
        with suppress(SpecError):
            smaller = make_plan(studies, replace(plan.request, seeds=seed_count), plan.done)
            if fits(smaller):
                return smaller
    return None


def within(plan: Plan, hours: float, forecaster: Forecaster, *, may_trim: bool) -> Plan:
    """Return a plan that likely takes at most `hours`: the plan itself, or a smaller one if that is allowed.

    Raises:
        BudgetError: If it takes longer, how long it takes cannot be told, or no smaller plan is left.
    """
    estimate = forecaster.estimate(plan)
    if estimate is None:
        raise BudgetError("how long this takes on other machines cannot be told. Leave --max-hours out.")
    if not estimate.is_complete or estimate.wall_seconds is None:
        raise BudgetError(
            f"how long this takes cannot be told yet. Not timed on this machine: {'; '.join(estimate.unknown_titles)}. "
            "`plan --calibrate` times a few steps of each."
        )
    if estimate.wall_seconds.likely <= hours * 3600:
        return plan
    takes = f"this takes about {range_words(estimate.wall_seconds)} with {forecaster.workers} workers"
    if not may_trim:
        raise BudgetError(
            f"{takes}; --max-hours is {hours:g}. Ask for fewer --seeds, a smaller --preset or fewer studies, or let "
            f"--trim do so ({RULE})."
        )
    fitting = trim(plan, lambda smaller: forecaster.likely_seconds(smaller) <= hours * 3600)
    if fitting is None:
        raise BudgetError(
            f"{takes}; --max-hours is {hours:g}, and the smallest plan takes longer than that too. "
            f"The rule of --trim: {RULE}."
        )
    return fitting


@dataclass(frozen=True)
class HoursLeft:
    """The time that a command of several launches may still take by estimate.

    Attributes:
        hours: The time that the whole command has, or `None` for any time.
        began: The command's start, by `time.monotonic`.
    """

    hours: float | None
    began: float
    forecaster: Forecaster

    def check(self, plan: Plan) -> None:
        """Check that a further plan fits into the time that is left.

        Raises:
            BudgetError: If it does not, or if how long it takes cannot be told.
        """
        if self.hours is not None:
            left = self.hours - (time.monotonic() - self.began) / 3600
            within(plan, left, self.forecaster, may_trim=False)


def difference(plan: Plan, smaller: Plan, forecaster: Forecaster) -> str:
    """Return a sentence on what was trimmed and how long the smaller plan takes."""
    changes: list[str] = []
    if smaller.request.seeds != plan.request.seeds:
        changes.append(f"{smaller.request.seeds} seeds")
    if len(smaller.studies) < len(plan.studies):
        changes.append(f"without {', '.join(study.name for study in plan.studies[len(smaller.studies) :])}")
    length = duration(forecaster.likely_seconds(smaller))
    return f"Trimmed ({RULE}): {', '.join(changes)}. It takes about {length} then, and the report is about this plan."
