"""Carries out a plan: hands nodes to a dispatcher as they become ready, follows them, and says how each ended.

One failing node never stops the others. Nothing here is lost by a kill: results are in the state folders, and MLflow
follows them.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ablations import vocabulary as names
from ablations.planning import EvaluationNode, Node, Plan
from runners.dispatch import Completion, Dispatcher
from runners.files import check_writable
from runners.follower import Follower
from runners.state import StateStore
from runners.task import Task

_POLL_SECONDS = 0.5
_BYTES_PER_TRIAL = 20_000_000
_COST_WORK = 2000.0
"""Image passes that take about as long as counting and timing a network."""


@dataclass(frozen=True)
class Running:
    """A node under way, for a display."""

    title: str
    progress: dict[str, float]
    is_trial: bool


@dataclass(frozen=True)
class Failure:
    """A node that could not be measured, why, and where the details are."""

    title: str
    reason: str
    log_file: Path


@dataclass
class Progress:
    """What a display shows.

    Attributes:
        total: Nodes to be run.
        finished: Nodes measured in this launch.
        failed: Nodes that ended badly.
        blocked: Evaluations whose training failed.
        running: Nodes under way.
        share: Share of the work that is done, 0 to 1.
        seconds: Time since the start.
    """

    total: int
    finished: int = 0
    failed: int = 0
    blocked: int = 0
    running: list[Running] = field(default_factory=list)
    share: float = 0.0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far, or `None` while nothing can be said."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0.01 else None


class Display(Protocol):
    """Shows the progress of a launch."""

    def update(self, progress: Progress) -> None:
        """Shows how far it is."""

    def note(self, message: str) -> None:
        """Shows that something has happened."""


@dataclass(frozen=True)
class Settings:
    """How a plan is carried out; nothing here changes a result."""

    state_root: Path
    device: str = "auto"
    threads: int = 1
    plugins: tuple[str, ...] = ()
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Summary:
    """How a launch ended."""

    finished: int
    failures: tuple[Failure, ...]
    blocked: int
    interrupted: bool
    seconds: float
    untracked: str | None


class Launch:
    """One launch of a plan.

    Args:
        plan: What is needed and what is done.
        dispatcher: Where the work is carried out, with its workers started.
        follower: Brings states to the tracking store.
        display: Shows progress.
        settings: How nodes are run.
    """

    def __init__(
        self, plan: Plan, dispatcher: Dispatcher, follower: Follower, display: Display, settings: Settings
    ) -> None:
        self._plan, self._dispatcher, self._follower = plan, dispatcher, follower
        self._display, self._settings = display, settings
        self._states = StateStore(settings.state_root)
        self._ready: deque[Node] = deque((*plan.missing_trials, *plan.missing_costs))
        self._waiting: dict[str, list[EvaluationNode]] = {}
        self._running: dict[str, Node] = {}
        self._failures: list[Failure] = []
        self._progress = Progress(len(plan.missing))
        self._work_total = sum(map(_work, plan.missing))
        self._work_done = 0.0
        for node in plan.missing_evaluations:
            if node.trial.fingerprint in plan.done:
                self._ready.append(node)
            else:
                self._waiting.setdefault(node.trial.fingerprint, []).append(node)

    def run(self) -> Summary:
        """Runs what is missing and returns how it ended; Ctrl-C ends it within seconds.

        Raises:
            OutputError: If the state folder cannot be written or the disk is nearly full.
        """
        check_writable(self._settings.state_root, _BYTES_PER_TRIAL * max(1, len(self._plan.missing_trials)))
        started = time.monotonic()
        interrupted = False
        with self._follower:
            try:
                self._follower.catch_up(self._plan, self._states)
                self._loop(started)
            except KeyboardInterrupt:
                interrupted = True
                self._interrupt()
        seconds = time.monotonic() - started
        return Summary(
            self._progress.finished,
            tuple(self._failures),
            self._progress.blocked,
            interrupted,
            seconds,
            self._follower.trouble,
        )

    def _loop(self, started: float) -> None:
        while self._ready or self._running:
            while self._ready and len(self._running) < self._dispatcher.capacity:
                self._start(self._ready.popleft())
            for completion in self._dispatcher.wait(_POLL_SECONDS):
                self._end(completion)
            self._show(time.monotonic() - started)

    def _start(self, node: Node) -> None:
        state = self._states[node.fingerprint]
        state.describe(node)
        self._running[node.fingerprint] = node
        self._follower.begin(node, state, self._plan.studies_of(node.fingerprint))
        s = self._settings
        self._dispatcher.submit(
            Task(s.state_root, node.fingerprint, s.device, s.threads, s.plugins, s.checkpoint_seconds)
        )

    def _end(self, completion: Completion) -> None:
        fingerprint = completion.task.fingerprint
        node, state = self._running.pop(fingerprint), self._states[fingerprint]
        self._work_done += _work(node)
        if completion.crash is not None and not state.is_done:
            state.fail("WorkerDied", completion.crash, "")
        if state.is_done:
            self._progress.finished += 1
            self._follower.finish(state)
            self._ready.extend(self._waiting.pop(fingerprint, ()))
            result = state.result() or {}
            self._display.note(f"finished  {node.title}  {_outcome(result)}  {result.get('seconds', 0):.0f} s")
        else:
            self._give_up(node)

    def _give_up(self, node: Node) -> None:
        state = self._states[node.fingerprint]
        failure = state.failure() or {
            "kind": "Unknown",
            "message": "it left neither result nor failure. Is the disk full?",
        }
        reason = f"{failure['kind']}: {failure['message']}"
        blocked = self._waiting.pop(node.fingerprint, [])
        self._failures.append(Failure(node.title, reason, state.log_file))
        self._progress.failed += 1
        self._progress.blocked += len(blocked)
        self._work_done += sum(_work(evaluation) for evaluation in blocked)
        self._follower.stop(state, "FAILED", reason)
        self._display.note(f"failed    {node.title}  {reason}")

    def _show(self, seconds: float) -> None:
        progress = self._progress
        progress.running = [self._describe(node) for node in self._running.values()]
        partial = sum(_work(node) * _share(self._states[key].progress()) for key, node in self._running.items())
        progress.share = min(1.0, (self._work_done + partial) / self._work_total) if self._work_total else 1.0
        progress.seconds = seconds
        self._display.update(progress)

    def _describe(self, node: Node) -> Running:
        return Running(node.title, self._states[node.fingerprint].progress(), node.kind == "trial")

    def _interrupt(self) -> None:
        self._dispatcher.cancel()
        for fingerprint in self._running:
            state = self._states[fingerprint]
            if state.is_done:
                self._follower.finish(state)
            else:
                self._follower.stop(state, "KILLED", "interrupted by the user")


def _work(node: Node) -> float:
    """Returns the work of a node in image passes; a training pass counts three evaluation passes."""
    if node.kind == "cost":
        return _COST_WORK
    spec = node.spec
    facts = spec.data.facts
    test = spec.data.test_images or facts.test_images
    if isinstance(node, EvaluationNode):
        return float(test)
    train = spec.data.train_images or facts.train_images
    validation = spec.data.validation_images or facts.validation_images
    return float(test + spec.train.epochs * (3 * train + validation))


def _outcome(result: dict[str, Any]) -> str:
    metrics = result.get("metrics", {})
    if names.COST_PARAMETERS in metrics:
        return f"{metrics[names.COST_PARAMETERS] / 1e6:.2f} M parameters"
    return f"test top-1 {metrics.get(names.TEST_TOP1, float('nan')):.1f} %"


def _share(progress: dict[str, float]) -> float:
    return progress.get("step", 0) / progress["steps"] if progress.get("steps") else 0.0
