"""This module gives a node to one process at a time: each attempt is a file that one process alone can create.

Attempt n is `attempts/n.json` in the node's state folder. While it runs it is a lease, renewed by a counter that its
process raises; afterwards it holds the outcome. The process that creates the file of attempt n + 1 has the node from
then on, and the process of attempt n, should it still live, finds that file and stops. No clocks are compared: another
machine's lease is over when a watcher has seen its counter stand still for the length of the lease, by the watcher's
own monotonic clock. No torch here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from ablations.errors import LeaseError, OutputError
from runners.processes import Process
from runners.state.files import write_json, write_json_once
from runners.state.schemas import Count, Damage, FileKind, Seconds

LEASE_SECONDS = 60.0
"""The time that a lease outlives its process's last sign of life; long enough for a slow network file system."""

# Several beats may fail (a full disk, a slow server) before a watcher takes the process for dead.
_BEATS_PER_LEASE = 12

AttemptOutcome = Literal["running", "finished", "failed", "killed", "interrupted"]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a node: its process, its lease and its outcome.

    Attributes:
        number: 1 for the first attempt of a node.
        lease_seconds: The time that the counter, `beat`, may stand still.
        began: Seconds since the epoch, by the clock of its machine.
        ended: Likewise; `None` before its end.
        outcome: `running` also for a process that died without writing another.
        failure: `kind`, `message` and `cause` if it failed or was killed.
        micro_batch: Images per pass of a training, or `None` for other nodes.
        machine: Its device and processor (`runners.provenance.machine`), or `None` before they are known.
    """

    number: int
    launch: str = ""
    process: Process = field(default_factory=Process)
    lease_seconds: Seconds = LEASE_SECONDS
    beat: Annotated[int, Field(ge=-1, le=2**53)] = -1
    began: Seconds = 0.0
    ended: Seconds | None = None
    outcome: AttemptOutcome = "running"
    failure: Mapping[str, Any] | None = None
    micro_batch: Count | None = None
    machine: Mapping[str, str] | None = None

    @property
    def token(self) -> str:
        """A text that changes whenever its process gives a sign of life, or ends."""
        return f"{self.number}:{self.beat}:{self.outcome}"

    @property
    def is_running(self) -> bool:
        """True if the attempt has not noted its end."""
        return self.outcome == "running"

    @property
    def has_failed(self) -> bool:
        """True if the attempt failed or was killed; an interrupted one has not failed."""
        return self.outcome in ("failed", "killed")

    @property
    def is_orphan(self) -> bool:
        """True if the attempt has not noted its end and its process ran on this machine and is dead."""
        return self.is_running and self.process.is_dead

    @property
    def seconds(self) -> float:
        """Wall seconds until its end. Of an attempt that has not noted its end, those until its last sign of life."""
        if self.ended is not None:
            # The clock may have been set back meanwhile.
            return max(0.0, self.ended - self.began)
        # A lower bound: the process lived for up to one more beat.
        return max(0, self.beat) * self.lease_seconds / _BEATS_PER_LEASE

    def is_over(self, watched: str = "") -> bool:
        """Return True if another attempt may begin.

        Args:
            watched: The token that a `Watch` has seen stand still for the length of the lease, or nothing.
        """
        # A finished attempt is not over: it has left a result, which a network file system may show here later.
        return self.has_failed or self.outcome == "interrupted" or self.is_orphan or self.token == watched

    @classmethod
    def read(cls, folder: Path, number: int) -> Attempt | None:
        """Return an attempt, or `None` if it does not exist; of a file that cannot be read only the number is known."""
        attempt = _ATTEMPT.read(attempt_file(folder, number))
        if attempt is None:
            return None
        if isinstance(attempt, Damage):
            return cls(number)
        # The file name decides on the number, not the content: it is the name that one process alone could create.
        return replace(attempt, number=number)


_ATTEMPT: FileKind[Attempt] = FileKind(Attempt)


def attempts_folder(folder: Path) -> Path:
    """Return the folder of the files of attempts in a state folder."""
    return folder / "attempts"


def attempt_file(folder: Path, number: int) -> Path:
    """Return the file of an attempt in a state folder."""
    return attempts_folder(folder) / f"{number:06d}.json"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in attempts_folder(folder).glob("*.json") if path.stem.isdecimal())


def _last_number(folder: Path) -> int:
    return max((int(path.stem) for path in _files(folder)), default=0)


def damages(folder: Path) -> list[Damage]:
    """Return the files of attempts in a state folder that cannot be read."""
    return _ATTEMPT.damages(_files(folder))


def attempts(folder: Path) -> list[Attempt]:
    """Return all attempts in a state folder, the first one first."""
    results = (Attempt.read(folder, number) for number in range(1, _last_number(folder) + 1))
    return [attempt for attempt in results if attempt is not None]


def count_attempts(folder: Path) -> int:
    """Return the number of attempts in a state folder, without reading them."""
    return len(_files(folder))


def latest(folder: Path, at_least: int = 0) -> Attempt | None:
    """Return the last attempt in a state folder, or `None` if there is none.

    Args:
        at_least: The number of an attempt that there is; a network file system may list it late.
    """
    number = max(at_least, _last_number(folder))
    # A listing may be old where a look at a single name is not.
    while attempt_file(folder, number + 1).exists():
        number += 1
    if not number:
        return None
    return Attempt.read(folder, number) or Attempt(number)


def check(folder: Path, number: int) -> None:
    """Raise unless attempt `number` still has the node.

    Raises:
        LeaseError: If another attempt has begun, or this one was declared dead.
    """
    attempt = Attempt.read(folder, number)
    if attempt is None or not attempt.is_running or attempt_file(folder, number + 1).exists():
        raise LeaseError(
            f"attempt {number} has lost its lease of {folder}: another process has taken over. "
            "It stops here and leaves the result to that one."
        )


def declare_dead(
    folder: Path, attempt: Attempt, outcome: AttemptOutcome, failure: Mapping[str, Any] | None = None
) -> None:
    """End an attempt for its process, which the launcher knows is dead; do nothing where the disk is full."""
    # An attempt whose result was lost later has noted its end, and its time ends there.
    ended = time.time() if attempt.ended is None else attempt.ended
    with suppress(OutputError):
        _write(folder, replace(attempt, ended=ended, outcome=outcome, failure=failure))


def _write(folder: Path, attempt: Attempt) -> None:
    # Not flushed: a lease means nothing after a power failure.
    write_json(attempt_file(folder, attempt.number), asdict(attempt), flush=False)


class Lease:
    """The lease of this process on a node. Inside a `with` block a thread renews it.

    Made by `take` alone.
    """

    def __init__(self, folder: Path, attempt: Attempt) -> None:
        self._folder, self._attempt = folder, attempt
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    @classmethod
    def take(
        cls,
        folder: Path,
        launch: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        watched: str = "",
        unless: Callable[[], bool] = lambda: False,
    ) -> Lease | None:
        """Begin the next attempt in a state folder, or return `None` if this process must not.

        Args:
            launch: The launch for which it runs. An earlier attempt for the same one is followed at once.
            lease_seconds: The time that the lease shall outlive this process.
            watched: The token of an attempt that was seen to stand still, see `Watch`.
            unless: Called before the attempt begins, with the attempt before it over; true if it is not needed.

        Raises:
            OutputError: If the state folder cannot be written.
        """
        number = 0
        folder.mkdir(exist_ok=True)
        attempts_folder(folder).mkdir(exist_ok=True)
        while True:
            previous = latest(folder, number)
            # A launch, or the scheduler it uses, begins a node again only when the worker before is gone.
            is_free = previous is None or previous.is_over(watched) or previous.launch == launch != ""
            if not is_free or unless():
                return None
            # The creation of the next file decides between processes that both found the node free; the loser looks
            # again and finds the winner's attempt.
            number = previous.number + 1 if previous is not None else 1
            attempt = Attempt(number, launch, Process.current(), lease_seconds, beat=0, began=time.time())
            if write_json_once(attempt_file(folder, number), asdict(attempt), flush=False):
                return cls(folder, attempt)

    @property
    def number(self) -> int:
        """The number of this attempt at the node, from 1."""
        return self._attempt.number

    def check(self) -> None:
        """Raise `LeaseError` if another process has taken over."""
        check(self._folder, self.number)

    def note(self, **values: Any) -> None:
        """Write fields of the attempt."""
        with self._lock:
            self._attempt = replace(self._attempt, **values)
            _write(self._folder, self._attempt)

    def end(self, outcome: AttemptOutcome, failure: Mapping[str, Any] | None = None) -> None:
        """End the attempt, unless another process has taken over or it has ended already."""
        self._stop.set()
        # The lock keeps the renewing thread from writing "running" over the outcome.
        with suppress(LeaseError, OutputError), self._lock:
            self.check()
            self._attempt = replace(self._attempt, ended=time.time(), outcome=outcome, failure=failure)
            _write(self._folder, self._attempt)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end("interrupted")
        self._thread.join()

    def _renew(self) -> None:
        while not self._stop.wait(self._attempt.lease_seconds / _BEATS_PER_LEASE):
            # A disk that is full for a while, or a server that is away, must not end the lease for good.
            with suppress(OutputError, OSError), self._lock:
                try:
                    self.check()
                except LeaseError:
                    return
                # `end` may have been called since the wait.
                if self._stop.is_set():
                    return
                self._attempt = replace(self._attempt, beat=self._attempt.beat + 1)
                _write(self._folder, self._attempt)


@dataclass
class Watch:
    """A watcher of other processes' leases. Each watcher has its own memory and waits for the length of a lease.

    Args:
        clock: Monotonic, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[str, float]] = field(default_factory=dict)

    def is_over(self, folder: Path, attempt: Attempt) -> bool:
        """Return True if the last attempt in a state folder, as just read, is over or has stood still."""
        if attempt.is_over():
            return True
        clock_time = self.clock()
        token, since = self._seen.get(folder, ("", clock_time))
        if token != attempt.token:
            self._seen[folder] = (attempt.token, clock_time)
            return False
        return clock_time - since > attempt.lease_seconds
