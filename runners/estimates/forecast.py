"""Forecasts plans on this machine: looks up known speeds, has workers time the others, and learns from each launch.

Estimates are about tasks on this machine; for a dispatcher to other machines there are none. No torch here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablations.errors import DispatchError
from ablations.launches import Record
from ablations.planning.lint import sized_networks
from ablations.planning.nodes import CostNode, EvaluationNode, Node
from ablations.planning.plan import Plan
from ablations.spec.trial import TrialSpec
from runners.console.progress import Summary
from runners.dispatch import Dispatcher, DispatchSettings
from runners.estimates.calibration import Calibrated, calibrate, count_parameters
from runners.estimates.estimate import (
    Estimate,
    Speed,
    estimate,
    longest_first,
    measured_images,
    seconds_of,
    speed_key,
    training_steps,
)
from runners.estimates.from_results import learn, own_nodes
from runners.estimates.measurements import Experience, Load, Measurement
from runners.estimates.words import estimate_lines
from runners.hardware import free_bytes, memory_bytes
from runners.state.nodes import StateStore

_LOCAL = ("processes", "inline")
"""Dispatchers whose tasks run on this machine."""

SECONDS_PER_NETWORK = 1.5
"""About the time that a worker takes to calibrate a network."""

_CHEAP_SECONDS = 5.0
_WORTH_STEPS = 500
"""Steps per network that a launch must have before it times some of them on its own account."""

_PASSES = 3


@dataclass
class Forecaster:
    """Estimates plans for tasks on this machine.

    Attributes:
        runs_dir: The runs folder, which holds the measurements.
        dispatch: Where and how tasks are carried out; there are no estimates for other machines.
        experience: The measurements and launches of this machine.
    """

    runs_dir: Path
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    experience: Experience = field(init=False)

    def __post_init__(self) -> None:
        self.experience = Experience(self.runs_dir)

    @property
    def is_local(self) -> bool:
        """Whether tasks run on this machine."""
        return self.dispatch.name in _LOCAL

    @property
    def workers(self) -> int:
        """Tasks at once."""
        if self.dispatch.name == "inline":
            return 1
        machine, threads = self.experience.machine, self.dispatch.threads
        if self.dispatch.workers is not None or self._device == "cpu":
            return self.dispatch.workers or max(1, machine.cores // threads)
        # `cuda:1` names a single GPU.
        gpus = 1 if ":" in self.dispatch.device else len(machine.gpus)
        return max(1, gpus * self.dispatch.trials_per_gpu)

    @property
    def _device(self) -> str:
        return self.experience.device(self.dispatch.device)

    @property
    def load(self) -> Load:
        """The load for which speeds are looked up."""
        return Load(self._device, self.workers, self.dispatch.threads)

    def speeds(self, plan: Plan) -> dict[str, Speed]:
        """Return the known speeds of a plan's work by key; networks are counted on the CPU, whatever trainings use."""
        counts = {speed_key(node) for node in plan.costs.values()}
        keys = {speed_key(node) for node in plan.nodes} - counts
        on_cpu = replace(self.load, device="cpu")
        return {**self.experience.speeds(keys, self.load), **self.experience.speeds(counts, on_cpu)}

    def estimate(self, plan: Plan) -> Estimate | None:
        """Return the estimate of a plan, of its known work; `None` for tasks on other machines."""
        if not self.is_local:
            return None
        return estimate(plan, self.speeds(plan), self.workers, self.experience.launches)

    def longest_first(self, plan: Plan) -> Plan:
        """Return the plan with its longest work first, so that workers end at about the same time."""
        return longest_first(plan, self.speeds(plan))

    def lines(self, found: Estimate | None) -> Iterator[str]:
        """Yield the lines of an estimate in words."""
        if found is not None:
            yield from estimate_lines(found, memory_bytes(), free_bytes(self.runs_dir))

    def unknown(self, plan: Plan) -> dict[str, Node]:
        """Return a node for each missing work of unknown speed, by key, the work with the most steps first."""
        speeds = self.speeds(plan)
        missing = [node for node in plan.missing if seconds_of(node, speeds.get(speed_key(node))) is None]
        amounts = Counter[str]()
        nodes: dict[str, Node] = {}
        for node in missing:
            amounts[speed_key(node)] += _steps(node)
            nodes.setdefault(speed_key(node), node)
        return {key: nodes[key] for key, _ in amounts.most_common()}

    def is_cheap(self, plan: Plan) -> bool:
        """Return True if timing the unknown work takes a few seconds, and the launch many times as long."""
        unknown = self.unknown(plan)
        if not self.is_local or not unknown or len(unknown) * SECONDS_PER_NETWORK / self.workers > _CHEAP_SECONDS:
            return False
        return sum(map(_steps, plan.missing)) >= _WORTH_STEPS * len(unknown)

    def calibrate(self, plan: Plan, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> list[str]:
        """Have workers time the unknown work, all at once as in a launch; return why some could not be timed."""
        unknown = list(self.unknown(plan).items())
        # No worker is idle while another one is timed: the memory and the caches they share are as busy as later. Asked
        # like this, workers all take the first GPU, so only as many as share one.
        at_once = dispatcher.capacity if self._device == "cpu" else self.dispatch.trials_per_gpu
        # Repeats of the first ones fill the last round.
        jobs = [*unknown, *(unknown * at_once)[: -len(unknown) % at_once]]
        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(lambda job: self._ask(dispatcher, job[0], job[1], plugins), jobs))
        measured: dict[str, list[Measurement]] = {}
        for answer in answers:
            if isinstance(answer, Calibrated):
                measured.setdefault(answer.key, []).append(self._measurement(answer))
        self.experience.add(measured)
        titles = {key: node.title for key, node in unknown}
        failures = {
            titles[key]: answer for (key, _), answer in zip(jobs, answers, strict=True) if isinstance(answer, str)
        }
        return [f"{title}: {reason}" for title, reason in failures.items()]

    def _ask(self, dispatcher: Dispatcher, key: str, node: Node, plugins: tuple[str, ...]) -> Calibrated | str:
        try:
            return dispatcher.ask(calibrate, key, node, self.dispatch.device, self.dispatch.threads, plugins)
        except DispatchError as error:
            return str(error)

    def _measurement(self, found: Calibrated) -> Measurement:
        machine, load = self.experience.machine, replace(self.load, device=found.device)
        return Measurement(
            "calibrated", time.time(), machine.version, load, machine.host, found.speed, found.parameters, found.network
        )

    def parameters(self) -> dict[str, int]:
        """Return the parameters of the counted networks, by `ablations.planning.lint.network_of`."""
        return self.experience.parameters()

    def uncounted(self, plan: Plan) -> dict[str, TrialSpec]:
        """Return the networks that a plan compares as equally large and that were not counted yet."""
        counted = self.parameters()
        return {key: spec for key, spec in sized_networks(plan).items() if key not in counted}

    def count(self, plan: Plan, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> None:
        """Have a worker count the parameters of the networks that are compared as equally large and not counted yet."""
        missing = self.uncounted(plan)
        counted = {key: dispatcher.ask(count_parameters, spec, plugins) for key, spec in missing.items()}
        self.experience.add({f"parameters-{key}": [self._counted(key, n)] for key, n in counted.items() if n})

    def _counted(self, network: str, parameters: int) -> Measurement:
        machine = self.experience.machine
        return Measurement(
            "counted", time.time(), machine.version, self.load, machine.host, Speed(), parameters, network
        )

    def learn(self, plan: Plan, states: StateStore, launch: str, found: Estimate | None, summary: Summary) -> Record:
        """Add the measurements of a launch to the file and return its record."""
        nodes = own_nodes(plan, states, launch)
        # Actual time is comparable with the estimate only if all was done here, and at the first attempt.
        is_whole = not summary.interrupted and len(nodes) == len(plan.missing) == summary.finished
        # Trainings that may be stopped early say nothing of those that may not.
        is_whole = is_whole and not plan.proposed
        is_known = found is not None and found.is_complete
        record = Record(
            launch=launch,
            began=round(time.time() - summary.seconds, 3),
            studies=tuple(study.name for study in plan.studies),
            nodes=summary.finished,
            workers=self.workers,
            estimated=found.wall if found is not None and is_known else None,
            actual=round(summary.seconds, 3),
            raw=found.raw if found is not None and is_known else 0.0,
            is_whole=is_whole,
            is_learned=found is not None and found.is_learned,
        )
        self.experience.add(learn(nodes, self.experience.machine, self.load), record)
        return record


def _steps(node: Node) -> int:
    """Return the work of a node in training steps, roughly."""
    if isinstance(node, CostNode):
        return 0
    batch = _PASSES * node.spec.train.batch_size
    if isinstance(node, EvaluationNode):
        return int((node.spec.data.test_images or node.spec.data.facts.test_images) / batch)
    return training_steps(node.spec) + measured_images(node.spec) // batch
