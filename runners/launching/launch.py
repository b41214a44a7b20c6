"""Carries out a plan: hands nodes to a dispatcher as they become ready, and reports how each ended.

One failing node never stops the others, unless that is asked for. Nothing here is lost by a kill: results are in the
state folders, and MLflow follows them. A node that another launch runs is waited for, and taken over if that one dies.
`runners.launching.queue` holds the stage of each node and names the moves between stages; this module makes them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.errors import DispatchError, OutputError, RunsFolderError
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.console.progress import Display, Failure, Progress, Running, Summary
from runners.dispatch import Completion, Dispatcher
from runners.estimates.estimate import count_images
from runners.launching.queue import Queue, Stage
from runners.launching.settings import LaunchSettings
from runners.own_code import ROOT, code_digest
from runners.state import attempts as leases
from runners.state.attempts import Attempt, Watch
from runners.state.failures import cause_of, patiently
from runners.state.files import check_writable
from runners.state.nodes import NodeState, StateStore
from runners.sync.reservations import Reservation
from runners.sync.tracking_worker import TrackingWorker
from runners.upkeep.damages import set_node_aside
from runners.workers.memory import choose_micro_batch
from runners.workers.task import Task

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 0.2
"""Between two looks while nothing of this launch runs."""
_RESERVATION_SECONDS = 0.05
"""The same while the tracking store is asked for a reservation, which takes a few requests."""

_BYTES_PER_TRIAL = 20_000_000
_COST_WORK = 2000.0
"""Work of counting and timing a network, in image passes of about the same duration."""

_UNKNOWN = {
    "kind": "Unknown",
    "message": "it left neither result nor failure. Is the disk full?",
    "cause": "input_output",
}
"""The failure of a node whose worker could not even write a failure. It counts as an error that may pass."""


class Launch:
    """One launch of a plan.

    Args:
        plan: The nodes that are needed, and those of them that are done.
        states: The state folders; other launches, on this machine or others, may share them.
        dispatcher: Where the work is carried out, with its workers started.
        tracking: Brings states to the tracking store.
        name: Tells its leases from those of every other launch.
    """

    def __init__(
        self,
        plan: Plan,
        states: StateStore,
        dispatcher: Dispatcher,
        tracking: TrackingWorker,
        display: Display,
        settings: LaunchSettings,
        *,
        name: str,
    ) -> None:
        self._plan, self._states, self._dispatcher, self._tracking = plan, states, dispatcher, tracking
        self._display, self._settings, self._name = display, settings, name
        self._queue, self._watch = Queue(plan), Watch()
        # Nodes whose reservation was asked for: that is done once, also if a node is tried several times.
        self._requested: set[str] = set()
        # Nodes whose run the tracking worker has been told to open.
        self._followed: set[str] = set()
        self._failed_attempts: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._progress = Progress(len(plan.missing))
        self._work_total = sum(map(_work, plan.missing))
        self._work_done = 0.0
        self._is_stopped = False
        self._identity: tuple[int, int] | None = None
        # After a failed write nothing is started until this time.
        self._failed_writes, self._paused_until = 0, 0.0

    def run(self) -> Summary:
        """Run the missing nodes and return the summary; Ctrl-C ends the launch within seconds.

        Raises:
            OutputError: If the state folder cannot be written or the disk is nearly full, and that does not pass.
            RunsFolderError: If the state folder is removed meanwhile.
        """
        policy = self._settings.policy
        needed_bytes = _BYTES_PER_TRIAL * max(1, sum(node.is_training for node in self._plan.missing))
        patiently(partial(check_writable, self._states.root, needed_bytes), policy, self._display.note)
        # Taken after the check, which makes the folder if there is none.
        self._identity = _identity(self._states.root)
        # Before the tracking worker starts: it would bring over what it finds in these folders.
        for node in self._plan.nodes:
            patiently(partial(self._set_damage_aside, node), policy, self._display.note)
        started = time.monotonic()
        interrupted = False
        # While the folder is held open, no other folder can get its inode.
        with self._tracking, _held_open(self._states.root):
            try:
                self._tracking.catch_up(self._plan, self._states)
                self._tracking.end_orphans(self._states, self._watch)
                self._loop(started)
                if self._is_stopped:
                    self._stop_rest("stopped because another one failed")
            except KeyboardInterrupt:
                interrupted = True
                self._tracking.hurry()
                self._stop_rest("interrupted by the user")
            except DispatchError:
                self._stop_rest("stopped because there are no workers")
                raise
            except (OutputError, OSError) as error:
                self._end_early(error)
                raise
            # Once more: by now, leases of dead machines have been watched for a while.
            self._tracking.end_orphans(self._states, self._watch)
        finished, blocked = self._queue.count(Stage.FINISHED), self._queue.count(Stage.BLOCKED)
        ended = finished + blocked + self._queue.count(Stage.FAILED)
        return Summary(
            finished=finished,
            failures=tuple(self._failures),
            blocked=blocked,
            interrupted=interrupted,
            seconds=time.monotonic() - started,
            untracked=self._tracking.trouble,
            stopped=len(self._plan.missing) - ended if self._is_stopped else 0,
        )

    def _loop(self, started: float) -> None:
        """Start, follow and end nodes until none is left or one failure ends the launch."""
        while self._queue and not self._is_stopped:
            # First, as each of the following steps would make a new folder where the old one was.
            self._check_folder()
            self._check_other_launches()
            if time.monotonic() >= self._paused_until:
                # Reserved nodes go first: other launches wait for the results of what this one has reserved.
                for node in self._reserved(self._dispatcher.capacity - self._queue.count(Stage.RUNNING)):
                    self._start(node)
                self._fill()
            for completion in self._wait():
                self._end(completion)
            self._follow_running()
            self._show(time.monotonic() - started)
        # The last nodes may have failed because the folder is gone.
        self._check_folder()

    def _fill(self) -> None:
        """Start nodes from the queue until the dispatcher has no free slot."""
        while not self._is_stopped and time.monotonic() >= self._paused_until:
            # Reservations that may be granted count as taken slots: the dispatcher must not be overbooked then.
            coming = self._queue.count(Stage.RESERVING) - self._reservations()[Reservation.ELSEWHERE]
            if self._queue.count(Stage.RUNNING) + coming >= self._dispatcher.capacity:
                return
            node = self._queue.next()
            if node is None:
                return
            self._start(node)

    def _reserved(self, room: int) -> list[Node]:
        """Return the nodes that need no more waiting: finished elsewhere, or reserved, the latter at most `room`."""
        nodes = []
        for node in self._queue.nodes(Stage.RESERVING):
            reservation = self._tracking.reservation(node.fingerprint)
            if reservation is Reservation.DONE:
                nodes.append(node)
            elif reservation.is_grant and room > 0:
                # Only this one takes room; a node that was finished elsewhere needs no worker.
                room -= 1
                nodes.append(node)
        return nodes

    def _reservations(self) -> Counter[Reservation]:
        """Count the nodes that are being reserved by the state of their reservation."""
        return Counter(self._tracking.reservation(node.fingerprint) for node in self._queue.nodes(Stage.RESERVING))

    def _end_early(self, error: Exception) -> None:
        """End a launch that cannot write any more.

        Raises:
            RunsFolderError: If the reason is that its folder is gone.
        """
        try:
            self._check_folder()
        except RunsFolderError:
            # Whatever was written now would make a new folder with nothing in it.
            self._dispatcher.cancel()
            self._tracking.abandon()
            raise
        self._stop_rest(f"the launch cannot write any more: {error}")

    def _check_folder(self) -> None:
        """Raise if the state folder is not the one in which the launch began."""
        root = self._states.root
        if _identity(root) != self._identity:
            raise RunsFolderError(
                f"{root} was removed or replaced while this launch worked in it, so the launch has stopped. "
                "What the tracking store has not got is lost; the same command begins again."
            ) from None

    def _start(self, node: Node) -> None:
        """Start a node. If the launch itself cannot write, start nothing for a while and then try again.

        Raises:
            OutputError: If it still cannot write after the retries of the policy.
        """
        try:
            self._start_now(node)
        except (OutputError, OSError) as error:
            self._check_folder()
            self._failed_writes += 1
            wait = self._settings.policy.wait_before_retry(cause_of(error), self._failed_writes)
            if wait is None:
                raise
            self._paused_until = time.monotonic() + wait
            self._queue.put_off(node, wait)
            self._display.note(f"waiting  {wait:.0f} s, as the launch cannot write: {error}")
        else:
            self._failed_writes = 0

    def _wait(self) -> list[Completion]:
        """Wait a moment for running nodes and return those that have ended."""
        poll_seconds, pause_seconds = _POLL_SECONDS, _PAUSE_SECONDS
        if self._reservations()[Reservation.PENDING]:
            poll_seconds = pause_seconds = _RESERVATION_SECONDS
        if self._queue.count(Stage.RUNNING):
            return self._dispatcher.wait(poll_seconds)
        if self._queue and not self._is_stopped:
            time.sleep(pause_seconds)
        return []

    def _start_now(self, node: Node) -> None:
        """Take the result of a node that is done, leave it to another launch, give it up, reserve it, or submit it."""
        self._set_damage_aside(node)
        state, settings = self._states[node.fingerprint], self._settings
        lease, failure = state.lease(), state.failure()
        # In this order: a result counts whoever holds the lease, and a living lease comes before an old failure.
        if state.is_done:
            self._finish(node)
        elif lease is not None and not self._watch.is_over(state.folder, lease):
            self._leave(node)
        elif failure is not None and settings.policy.is_lasting(_cause(failure)) and not settings.again:
            self._give_up(node, failure)
        elif not self._reserve(node).is_grant:
            self._queue.move(node, Stage.RESERVING)
        else:
            # Its run is opened again when the attempt has begun: another launch may have ended it meanwhile.
            self._followed.discard(node.fingerprint)
            self._queue.move(node, Stage.RUNNING)
            self._dispatcher.submit(
                Task(
                    self._states.root,
                    node.fingerprint,
                    device=settings.dispatch.device,
                    threads=settings.dispatch.threads,
                    plugins=settings.plugins,
                    launch=self._name,
                    lease_seconds=settings.lease_seconds,
                    # The worker may take over the lease that was seen to be over, but no lease begun since.
                    watched=lease.token if lease is not None else "",
                    devices=node.spec.train.devices if node.kind == "trial" else 1,
                    code_root=str(ROOT),
                    code_digest=code_digest(),
                )
            )

    def _reserve(self, node: Node) -> Reservation:
        """Ask the tracking worker for a reservation, once, and return it as far as it is decided."""
        if node.fingerprint not in self._requested:
            state = self._states[node.fingerprint]
            state.describe(node)
            self._requested.add(node.fingerprint)
            self._tracking.reserve(node, state, self._plan.studies_of(node.fingerprint))
        return self._tracking.reservation(node.fingerprint)

    def _set_damage_aside(self, node: Node) -> None:
        """Set aside files of a node that cannot be read or belong to another node, so that they are made again."""
        state = self._states[node.fingerprint]
        damages = set_node_aside(state)
        for damage in damages:
            self._display.note(f"set aside  {node.title}  {damage}")
        if damages and state.is_done:
            state.describe(node)

    def _leave(self, node: Node) -> None:
        """Leave a node to another launch in the same state folder. That launch also writes it to MLflow."""
        self._followed.discard(node.fingerprint)
        self._requested.discard(node.fingerprint)
        self._tracking.leave(self._states[node.fingerprint])
        self._queue.move(node, Stage.ELSEWHERE)

    def _follow_running(self) -> None:
        """Open the MLflow runs of nodes that workers of this launch have begun, as their leases show."""
        for node in self._queue.nodes(Stage.RUNNING):
            state = self._states[node.fingerprint]
            # Only with final settings: the parameters of an MLflow run cannot be changed.
            has_settings = node.optimisation is None or state.proposal() is not None
            if has_settings and self._is_own(state, otherwise=False):
                self._follow(node)

    def _follow(self, node: Node) -> None:
        if node.fingerprint not in self._followed:
            self._followed.add(node.fingerprint)
            serves = self._plan.studies_of(node.fingerprint)
            self._tracking.begin(node, self._states[node.fingerprint], serves)

    def _is_own(self, state: NodeState, *, otherwise: bool = True) -> bool:
        """Return True if the last attempt at a node is one of this launch; `otherwise` if there was no attempt."""
        lease = state.lease()
        if lease is None:
            return otherwise
        return lease.launch == self._name

    def _end(self, completion: Completion) -> None:
        """Take the result of a node that a worker has ended, leave it to another launch, or treat its failure."""
        node = self._queue.find(completion.task.fingerprint, Stage.RUNNING)
        # Another launch took it over and measured it: `_check_other_launches` has taken the result.
        if node is None:
            return
        state = self._states[node.fingerprint]
        # A worker that died before it took the lease has left no attempt; that counts as one of this launch.
        if completion.crash is not None and self._is_own(state):
            self._record_crash(state, completion.crash)
        lease = state.lease()
        if state.is_done:
            self._finish(node)
        elif lease is not None and (lease.is_running or lease.launch != self._name):
            self._leave(node)
        else:
            self._after_failure(node, lease)

    def _record_crash(self, state: NodeState, crash: str) -> None:
        """Record the death of a worker, unless the worker itself could still record how it ended."""
        lease = state.lease()
        if not state.is_done and (lease is None or lease.is_running):
            failure = {"kind": "WorkerDied", "message": crash, "cause": "killed"}
            state.fail(failure["kind"], crash, "", failure["cause"])
            if lease is not None:
                leases.declare_dead(state.folder, lease, "killed", failure)

    def _finish(self, node: Node) -> None:
        """Take the result of a node, whichever launch has measured it."""
        state = self._states[node.fingerprint]
        self._follow(node)
        self._tracking.finish(state)
        result = state.result() or {}
        line = f"finished  {state.title(node)}  {_outcome(result)}  {result.get('seconds', 0):.0f} s"
        if not self._is_own(state, otherwise=False):
            line += "  by another launch"
        # All that reads the disk, and may fail, comes before: this node would be finished twice.
        self._queue.finish(node)
        self._work_done += _work(node)
        self._display.note(line)

    def _check_other_launches(self) -> None:
        """Take results that other launches have measured, and take over nodes that they have abandoned."""
        for node in self._queue.nodes(Stage.RUNNING):
            state = self._states[node.fingerprint]
            if state.is_done and not self._is_own(state):
                # This launch's worker was suspended for so long that it was taken over; perhaps it never wakes up.
                self._finish(node)
        for node in self._queue.nodes(Stage.ELSEWHERE):
            state = self._states[node.fingerprint]
            lease = state.lease()
            if state.is_done:
                self._finish(node)
            elif lease is None or self._watch.is_over(state.folder, lease):
                if lease is not None and lease.has_failed:
                    self._after_failure(node, lease)
                else:
                    self._display.note(f"taken over  {state.title(node)}  another launch has left it")
                    self._queue.put_off(node, 0.0)

    def _after_failure(self, node: Node, attempt: Attempt | None) -> None:
        """Put a node off after a failed attempt, or give it up, as the policy says."""
        # The folder's own note is gone when another launch has begun to try again.
        failure: Mapping[str, Any] = self._states[node.fingerprint].failure() or _UNKNOWN
        if attempt is not None:
            failure = attempt.failure or failure
        if self._gets_less_memory(node, failure):
            # At once: memory does not come back by waiting, and the next attempt needs less of it.
            wait: float | None = 0.0
        else:
            self._failed_attempts[node.fingerprint] += 1
            count = self._failed_attempts[node.fingerprint]
            wait = self._settings.policy.wait_before_retry(_cause(failure), count)
        if wait is None:
            self._give_up(node, failure)
            return
        self._queue.put_off(node, wait)
        title = self._states[node.fingerprint].title(node)
        self._display.note(f"retrying  {title}  in {wait:.0f} s after {_reason(failure)}")

    def _gets_less_memory(self, node: Node, failure: Mapping[str, Any]) -> bool:
        """Return True if the next attempt passes fewer images at once than the last one.

        Such an attempt is not counted as a repetition: it is not the same attempt again.
        """
        state = self._states[node.fingerprint]
        attempts = state.attempts()
        if not node.is_training or _cause(failure) != "memory" or not attempts:
            return False
        return choose_micro_batch(state.training(node).train, attempts, state.weights_file.exists()) < (
            attempts[-1].micro_batch or 0
        )

    def _give_up(self, node: Node, failure: Mapping[str, Any]) -> None:
        state, reason = self._states[node.fingerprint], _reason(failure)
        title, attempts = state.title(node), self._failed_attempts[node.fingerprint]
        # Evaluations of this training can never run; they are counted, not reported as failures of their own.
        blocked = self._queue.fail(node)
        self._failures.append(Failure(title, reason, state.log_file, attempts))
        self._work_done += _work(node) + sum(map(_work, blocked))
        # Without an attempt in this launch there is no run of its own to close.
        if attempts:
            self._follow(node)
            self._tracking.stop(state, "FAILED", reason)
            self._display.note(f"failed    {title}  {reason}")
        else:
            self._display.note(f"failed earlier    {title}  {reason}")
        self._is_stopped = self._is_stopped or self._settings.fail_fast

    def _show(self, seconds: float) -> None:
        queue, progress, running = self._queue, self._progress, self._queue.nodes(Stage.RUNNING)
        progress.running = [self._describe(node) for node in running]
        progress.finished, progress.failed = queue.count(Stage.FINISHED), queue.count(Stage.FAILED)
        progress.blocked, progress.put_off = queue.count(Stage.BLOCKED), queue.count(Stage.PUT_OFF)
        progress.elsewhere = queue.count(Stage.ELSEWHERE) + self._reservations()[Reservation.ELSEWHERE]
        if self._work_total:
            under_way = sum(_work(node) * _share(self._states[node.fingerprint].progress()) for node in running)
            progress.share = min(1.0, (self._work_done + under_way) / self._work_total)
        else:
            progress.share = 1.0
        progress.seconds = seconds
        self._display.update(progress)

    def _describe(self, node: Node) -> Running:
        state = self._states[node.fingerprint]
        return Running(state.title(node), state.progress(), node.is_training)

    def _stop_rest(self, reason: str) -> None:
        """Stop the nodes that this launch runs or would try again; nodes of other launches go on."""
        # Workers end first: below, attempts are declared over, which no living worker may contradict.
        self._dispatcher.cancel()
        for node in self._queue.nodes(Stage.RESERVING):
            state = self._states[node.fingerprint]
            if self._tracking.reservation(node.fingerprint).is_grant:
                self._tracking.stop(state, "KILLED", reason)
            else:
                self._tracking.leave(state)
        for node in (*self._queue.nodes(Stage.RUNNING), *self._queue.nodes(Stage.PUT_OFF)):
            state = self._states[node.fingerprint]
            lease = state.lease()
            if state.is_done:
                self._follow(node)
                self._tracking.finish(state)
            elif lease is not None and lease.launch == self._name:
                if lease.is_running:
                    leases.declare_dead(state.folder, lease, "interrupted")
                self._follow(node)
                self._tracking.stop(state, "KILLED", reason)


@contextmanager
def _held_open(folder: Path) -> Iterator[None]:
    """Keep a folder open, so that another one that takes its place cannot get its number."""
    number = os.open(folder, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(number)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder, or `None` if it is not there.

    They tell it from another folder that has been put in its place.
    """
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _work(node: Node) -> float:
    """Return the work of a node in image passes; a training pass counts three evaluation passes."""
    if node.kind == "cost":
        return _COST_WORK
    test = float(count_images(node.spec, "test"))
    if node.kind == "evaluation":
        return test
    work = node.spec.train.epochs * (3 * count_images(node.spec, "train") + count_images(node.spec, "validation"))
    if node.optimisation is not None:
        # It is measured on the validation split alone.
        return float(work)
    return test + work


def _cause(failure: Mapping[str, Any]) -> str:
    return str(failure.get("cause", "error"))


def _reason(failure: Mapping[str, Any]) -> str:
    return f"{failure.get('kind', 'Unknown')}: {failure.get('message', 'nothing was written down')}"


def _outcome(result: dict[str, Any]) -> str:
    metrics = result.get("metrics", {})
    if names.TUNING_EPOCHS in metrics:
        return f"validation top-1 {metrics.get(names.TUNING_TOP1, float('nan')):.1f} %"
    if names.COST_PARAMETERS in metrics:
        return f"{metrics[names.COST_PARAMETERS] / 1e6:.2f} M parameters"
    return f"test top-1 {metrics.get(names.TEST_TOP1, float('nan')):.1f} %"


def _share(progress: dict[str, float]) -> float:
    if not progress.get("steps"):
        return 0.0
    return progress.get("step", 0) / progress["steps"]
