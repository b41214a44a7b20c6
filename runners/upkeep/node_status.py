"""Determines the status of each node of a plan from the state folders: done, running, waiting, failed, orphaned.

It only reads the disk, and no launch decides by it. A launch knows better what it waits for
(`runners.launching.launch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runners.state.attempts import Attempt, attempt_file, count_attempts
from runners.state.launches import LaunchRecord, PlannedNode
from runners.state.nodes import NodeState, StateStore

Status = Literal["done", "running", "waiting", "failed", "orphaned"]

_NO_TIME = 1e9
"""Seconds that no training takes: a larger estimate comes from a wrong report."""

STATUSES: tuple[Status, ...] = ("running", "orphaned", "failed", "waiting", "done")
"""In the order of their importance to a reader."""


@dataclass(frozen=True)
class NodeStatus:
    """The status of a node.

    Attributes:
        planned: Its kind and title, as a plan records them.
        status: done; running; waiting for a worker, its training or its next attempt; failed for good; or orphaned:
            its process is dead or silent, and the next launch takes it over.
        remark: More for a person: what it waits for, why it failed.
        attempt: The last one; not read of a node that is done.
        silence: Seconds since the last sign of life of a running attempt, by the clock of this machine.
        progress: The last report of its running attempt.
        seconds_left: Of a running training, at its last speed.
    """

    fingerprint: str
    planned: PlannedNode
    status: Status
    remark: str = ""
    attempts: int = 0
    attempt: Attempt | None = None
    silence: float | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    seconds_left: float | None = None
    failure: Mapping[str, Any] | None = None


def survey(
    states: StateStore,
    nodes: Mapping[str, PlannedNode],
    launches: Sequence[LaunchRecord] = (),
    clock: Callable[[], float] = time.time,
) -> list[NodeStatus]:
    """Return the status of nodes, in their order.

    Args:
        launches: Launches that may try failed nodes again.
        clock: Returns seconds since the epoch; compared with the times of files, so both should agree.
    """
    # A launch that has ended tries nothing again: its failures are final until the next run.
    living = {record.launch: record for record in launches if record.is_alive}
    statuses: dict[str, NodeStatus] = {}
    for fingerprint, node in nodes.items():
        statuses[fingerprint] = _Reading(states[fingerprint], node, living, clock()).status()
    return [_with_training(status, statuses) for status in statuses.values()]


def running_nodes(states: StateStore, excluded: Iterable[str]) -> dict[str, PlannedNode]:
    """Return the nodes, but for the excluded ones, whose last attempt has not ended, as their folders tell."""
    excluded_nodes = set(excluded)
    nodes: dict[str, PlannedNode] = {}
    # Without a folder of attempts no process has ever begun the node.
    for path in sorted(states.root.glob("[!.]*/attempts")):
        state = states[path.parent.name]
        if state.fingerprint in excluded_nodes or state.is_done:
            continue
        attempt = state.lease()
        if attempt is not None and attempt.is_running:
            nodes[state.fingerprint] = described_node(state)
    return nodes


def described_node(state: NodeState) -> PlannedNode:
    """Return the kind, title and training of the node of a folder, as the folder tells."""
    about = state.about()
    if about is None:
        return PlannedNode("", f"{state.folder} (not described)")
    return PlannedNode(str(about.get("kind", "")), str(about.get("title", "")), str(about.get("trial", "")))


@dataclass(frozen=True)
class _Reading:
    """A state folder as it is read at one time.

    Attributes:
        launches: The launches that go on, by name.
        time: Seconds since the epoch.
    """

    state: NodeState
    node: PlannedNode
    launches: Mapping[str, LaunchRecord]
    time: float

    def status(self) -> NodeStatus:
        if self.state.is_done:
            return NodeStatus(self.state.fingerprint, self.node, "done", attempts=count_attempts(self.state.folder))
        # Before the attempts: what another node has left here says nothing of this one.
        foreign = self.state.foreign()
        if foreign is not None:
            return self._make("waiting", None, f"{foreign.reason}; the next run sets it aside")
        attempt = self.state.lease()
        if attempt is None:
            return self._make("waiting", None)
        if attempt.is_running:
            return self._of_running(attempt)
        if attempt.has_failed:
            return self._of_failed(attempt)
        if attempt.outcome == "finished":
            return self._make("waiting", attempt, "it was finished, and its result is not here yet")
        return self._make("waiting", attempt, "interrupted; it goes on from its last checkpoint")

    def _of_running(self, attempt: Attempt) -> NodeStatus:
        silence = self._silence(attempt)
        # Known at once, where the process was one of this machine; elsewhere only its silence tells.
        if attempt.is_orphan:
            remark = f"process {attempt.process.pid} is dead; the next run takes it over"
            return self._make("orphaned", attempt, remark, silence=silence)
        if silence is not None and silence > attempt.lease_seconds:
            remark = f"no sign of life for {silence:.0f} s; a run takes it over when it has watched that for itself"
            return self._make("orphaned", attempt, remark, silence=silence)
        progress = self.state.progress()
        if progress.get("updated", 0.0) < attempt.began:
            # The file still holds the last report of an earlier attempt.
            progress = {}
        seconds_left = None
        if self.node.kind == "trial":
            seconds_left = _seconds_left(self.state, progress)
        return self._make("running", attempt, silence=silence, progress=progress, seconds_left=seconds_left)

    def _silence(self, attempt: Attempt) -> float | None:
        try:
            changed = attempt_file(self.state.folder, attempt.number).stat().st_mtime
        except OSError:
            return None
        # The clock that stamps files may be ahead of this machine's.
        return max(0.0, self.time - changed)

    def _of_failed(self, attempt: Attempt) -> NodeStatus:
        failure = attempt.failure or self.state.failure() or {"kind": "Unknown", "message": "nothing was written down"}
        wait = self._wait(attempt, failure)
        if wait is None:
            return self._make("failed", attempt, failure=failure)
        when = f"in {wait:.0f} s" if wait > 0 else "as soon as there is room"
        remark = f"it is tried again {when}, by launch {attempt.launch}"
        return self._make("waiting", attempt, remark, failure=failure)

    def _wait(self, failed: Attempt, failure: Mapping[str, Any]) -> float | None:
        """Return the seconds until its launch tries it again, or `None` if it does not."""
        # Only the launch that failed tries again by itself, as long as it lives.
        record = self.launches.get(failed.launch)
        if record is None:
            return None
        failures = 0
        for attempt in self.state.attempts():
            if attempt.launch == failed.launch and attempt.has_failed:
                failures += 1
        wait = record.policy.wait_before_retry(str(failure.get("cause", "error")), failures)
        if wait is None:
            return None
        return max(0.0, (failed.ended or 0.0) + wait - self.time)

    def _make(self, status: Status, attempt: Attempt | None, remark: str = "", **fields: Any) -> NodeStatus:
        attempts = attempt.number if attempt is not None else 0
        return NodeStatus(
            self.state.fingerprint, self.node, status, remark, attempts=attempts, attempt=attempt, **fields
        )


def _with_training(status: NodeStatus, statuses: Mapping[str, NodeStatus]) -> NodeStatus:
    """Return the status of a waiting evaluation with a remark on its training; any other status unchanged."""
    training = statuses.get(status.planned.trial)
    if status.status != "waiting" or status.attempt is not None or training is None or training.status == "done":
        return status
    remark = "its training failed" if training.status == "failed" else "its training is not done"
    return NodeStatus(status.fingerprint, status.planned, "waiting", remark)


def _seconds_left(state: NodeState, progress: Mapping[str, Any]) -> float | None:
    about = state.about() or {}
    try:
        # The files may be torn, or come from another version of the project.
        batch = int(about["spec"]["train"]["batch_size"])
        seconds = float((progress["steps"] - progress["step"]) * batch / progress["images_per_second"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return seconds if 0 <= seconds < _NO_TIME else None
