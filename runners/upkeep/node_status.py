"""Determines the status of each node of a plan from the state folders: done, running, waiting, failed, orphaned.

It only reads the disk, and no launch decides by it. A launch knows better what it waits for
(`runners.launching.launch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runners.state.attempts import Attempt
from runners.state.launches import LaunchRecord, Part
from runners.state.nodes import NodeState, StateStore

Status = Literal["done", "running", "waiting", "failed", "orphaned"]

_NO_TIME = 1e9
"""Seconds that no training takes: a larger estimate comes from a wrong report."""

STATUSES: tuple[Status, ...] = ("running", "orphaned", "failed", "waiting", "done")
"""In the order of their importance to a reader."""


@dataclass(frozen=True)
class Standing:
    """The status of a node.

    Attributes:
        fingerprint: The node.
        part: Its kind and title, as a plan records them.
        status: done; running; waiting for a worker, its training or its next attempt; failed for good; or orphaned:
            its process is dead or silent, and the next launch takes it over.
        remark: More for a person: what it waits for, why it failed.
        attempts: The number of attempts so far.
        attempt: The last one; not read of a node that is done.
        silence: Seconds since the last sign of life of a running attempt, by the clock of this machine.
        progress: The last report of its running attempt.
        seconds_left: Of a running training, at its last speed.
        failure: Why the last attempt failed.
    """

    fingerprint: str
    part: Part
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
    nodes: Mapping[str, Part],
    launches: Sequence[LaunchRecord] = (),
    clock: Callable[[], float] = time.time,
) -> list[Standing]:
    """Return the status of nodes, in their order.

    Args:
        states: The state folders.
        nodes: The nodes by fingerprint.
        launches: Launches that may try failed nodes again.
        clock: Returns seconds since the epoch; compared with the times of files, so both should agree.
    """
    alive = {record.launch: record for record in launches if record.is_alive}
    standings = {key: _Look(states[key], planned, alive, clock()).standing() for key, planned in nodes.items()}
    return [_with_training(standing, standings) for standing in standings.values()]


def underway(states: StateStore, known: Iterable[str]) -> dict[str, Part]:
    """Return the nodes, other than the known ones, whose last attempt has not ended, as their folders tell."""
    nodes: dict[str, Part] = {}
    # Without a folder of attempts no process has ever begun the node.
    for path in sorted(set(states.root.glob("[!.]*/attempts")) - {states.root / key / "attempts" for key in known}):
        state = states[path.parent.name]
        lease = None if state.is_done else state.lease()
        if lease is not None and lease.is_running:
            nodes[state.fingerprint] = described(state)
    return nodes


def described(state: NodeState) -> Part:
    """Return the kind, title and training of the node of a folder, as the folder tells."""
    about = state.about()
    if about is None:
        return Part("", f"{state.folder} (not described)")
    return Part(str(about.get("kind", "")), str(about.get("title", "")), str(about.get("trial", "")))


@dataclass(frozen=True)
class _Look:
    """One look at a state folder."""

    state: NodeState
    part: Part
    alive: Mapping[str, LaunchRecord]
    now: float

    def standing(self) -> Standing:
        if self.state.is_done:
            return Standing(self.state.fingerprint, self.part, "done", attempts=_count(self.state))
        foreign = self.state.foreign()
        if foreign is not None:
            return self._make("waiting", None, f"{foreign.reason}; the next run sets it aside")
        lease = self.state.lease()
        if lease is None:
            return self._make("waiting", None)
        if lease.is_running:
            return self._of_running(lease)
        if lease.outcome in ("failed", "killed"):
            return self._of_failed(lease)
        if lease.outcome == "finished":
            return self._make("waiting", lease, "it was finished, and its result is not here yet")
        return self._make("waiting", lease, "interrupted; it goes on from its last checkpoint")

    def _of_running(self, last: Attempt) -> Standing:
        silence = self._silence(last)
        if last.is_orphan:
            remark = f"process {last.process.pid} is dead; the next run takes it over"
            return self._make("orphaned", last, remark, silence=silence)
        if silence is not None and silence > last.lease_seconds:
            remark = f"no sign of life for {silence:.0f} s; a run takes it over when it has watched that for itself"
            return self._make("orphaned", last, remark, silence=silence)
        progress = self.state.progress()
        # The file may still hold the last report of an earlier attempt.
        progress = progress if progress.get("updated", 0.0) >= last.began else {}
        left = _seconds_left(self.state, progress) if self.part.kind == "trial" else None
        return self._make("running", last, silence=silence, progress=progress, seconds_left=left)

    def _silence(self, last: Attempt) -> float | None:
        try:
            changed = (self.state.folder / "attempts" / f"{last.number:06d}.json").stat().st_mtime
        except OSError:
            return None
        return max(0.0, self.now - changed)

    def _of_failed(self, last: Attempt) -> Standing:
        failure = last.failure or self.state.failure() or {"kind": "Unknown", "message": "nothing was written down"}
        wait = self._wait(last, failure)
        if wait is None:
            return self._make("failed", last, failure=failure)
        when = f"in {wait:.0f} s" if wait > 0 else "as soon as there is room"
        return self._make("waiting", last, f"it is tried again {when}, by launch {last.launch}", failure=failure)

    def _wait(self, last: Attempt, failure: Mapping[str, Any]) -> float | None:
        """Return the seconds until its launch tries it again, or `None` if it does not."""
        record = self.alive.get(last.launch)
        if record is None:
            return None
        attempts = [attempt for attempt in self.state.attempts() if attempt.launch == last.launch]
        failures = sum(attempt.outcome in ("failed", "killed") for attempt in attempts)
        wait = record.policy.wait_before_retry(str(failure.get("cause", "error")), failures)
        return None if wait is None else max(0.0, (last.ended or 0.0) + wait - self.now)

    def _make(self, status: Status, last: Attempt | None, remark: str = "", **more: Any) -> Standing:
        attempts = last.number if last is not None else 0
        return Standing(self.state.fingerprint, self.part, status, remark, attempts=attempts, attempt=last, **more)


def _with_training(standing: Standing, others: Mapping[str, Standing]) -> Standing:
    """Return the status of a waiting evaluation with a remark on its training; any other status unchanged."""
    training = others.get(standing.part.trial)
    if standing.status != "waiting" or standing.attempt is not None or training is None or training.status == "done":
        return standing
    remark = "its training failed" if training.status == "failed" else "its training is not done"
    return Standing(standing.fingerprint, standing.part, "waiting", remark)


def _count(state: NodeState) -> int:
    return sum(1 for path in (state.folder / "attempts").glob("*.json") if path.stem.isdecimal())


def _seconds_left(state: NodeState, progress: Mapping[str, Any]) -> float | None:
    about = state.about() or {}
    try:
        # The files may be torn, or come from another version of the project.
        batch = int(about["spec"]["train"]["batch_size"])
        seconds = float((progress["steps"] - progress["step"]) * batch / progress["images_per_second"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return seconds if 0 <= seconds < _NO_TIME else None
