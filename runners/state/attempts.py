"""Who runs a node: one attempt after the other, each a file of the node's state folder that one process alone creates.

Attempt n is `attempts/n.json`. While it runs it is a lease, renewed by a counter that its process raises; afterwards it
says how it ended. Whoever creates the file of attempt n + 1 has the node from then on, and the process of attempt n,
should it still live, finds that file and stops. No clocks are compared: another machine's lease is over when a watcher
has seen its counter stand still for the length of the lease, by the watcher's own monotonic clock. No torch here.
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
from runners.state.schemas import Count, Damage, Kind, Seconds

LEASE_SECONDS = 60.0
"""How long a lease outlives the last sign of life of its process; long enough for a slow network file system."""

_BEATS_PER_LEASE = 12

Outcome = Literal["running", "finished", "failed", "killed", "interrupted"]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a node: who makes it, whether it goes on, how it ended.

    Attributes:
        number: 1 for the first attempt of a node.
        launch: The launch for which it runs.
        process: The process that runs it.
        lease_seconds: How long the counter may stand still.
        beat: The counter.
        began: When, in seconds since the epoch by the clock of its machine.
        ended: When, or `None`.
        outcome: How it ended; `running` also for a process that died without a word.
        failure: `kind`, `message` and `cause` if it failed or was killed.
        micro_batch: Images per pass of a training, or `None` for other nodes.
    """

    number: int
    launch: str = ""
    process: Process = field(default_factory=Process)
    lease_seconds: Seconds = LEASE_SECONDS
    beat: Annotated[int, Field(ge=-1, le=2**53)] = -1
    began: Seconds = 0.0
    ended: Seconds | None = None
    outcome: Outcome = "running"
    failure: Mapping[str, Any] | None = None
    micro_batch: Count | None = None

    @property
    def token(self) -> str:
        """What changes whenever its process gives a sign of life, or ends."""
        return f"{self.number}:{self.beat}:{self.outcome}"

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as it says itself."""
        return self.outcome == "running"

    @property
    def is_orphan(self) -> bool:
        """Whether it has not ended and its process was one of this machine and is dead."""
        return self.is_running and self.process.is_dead

    def is_over(self, watched: str = "") -> bool:
        """Whether another attempt may begin.

        Args:
            watched: The token that a `Watch` has seen stand still for the length of the lease, or nothing.
        """
        # One that has finished has left a result; where that is not to be seen yet, it may be under way to here.
        return self.outcome in ("failed", "killed", "interrupted") or self.is_orphan or self.token == watched

    @classmethod
    def read(cls, folder: Path, number: int) -> Attempt | None:
        """Returns an attempt, or `None` if there is no such one; of one that is torn only the number is known."""
        path = _file(folder, number)
        attempt = _ATTEMPT.read(path)
        if isinstance(attempt, Damage):
            return cls(number)
        return replace(attempt, number=number) if attempt is not None else None


_ATTEMPT: Kind[Attempt] = Kind(Attempt)


def damages(folder: Path) -> list[Damage]:
    """Returns which files of attempts at the node of a state folder cannot be read."""
    found = (_ATTEMPT.damage(path) for path in sorted((folder / "attempts").glob("*.json")) if path.stem.isdecimal())
    return [damage for damage in found if damage is not None]


def attempts(folder: Path) -> list[Attempt]:
    """Returns all attempts at the node of a state folder, the first one first."""
    found = (Attempt.read(folder, number) for number in range(1, _last_number(folder) + 1))
    return [attempt for attempt in found if attempt is not None]


def latest(folder: Path, at_least: int = 0) -> Attempt | None:
    """Returns the last attempt at the node of a state folder, or `None` if there is none.

    Args:
        folder: The state folder.
        at_least: The number of an attempt that there is; a network file system may list it late.
    """
    number = max(at_least, _last_number(folder))
    while _file(folder, number + 1).exists():
        number += 1
    return (Attempt.read(folder, number) or Attempt(number)) if number else None


def _last_number(folder: Path) -> int:
    return max((int(path.stem) for path in (folder / "attempts").glob("*.json") if path.stem.isdecimal()), default=0)


def _file(folder: Path, number: int) -> Path:
    return folder / "attempts" / f"{number:06d}.json"


def check(folder: Path, number: int) -> None:
    """Returns if attempt `number` still has the node.

    Raises:
        LeaseError: If another attempt has begun, or this one was declared dead.
    """
    own = Attempt.read(folder, number)
    if own is None or not own.is_running or _file(folder, number + 1).exists():
        raise LeaseError(
            f"attempt {number} has lost its lease of {folder}: another process has taken over. "
            "It stops here and leaves the result to that one."
        )


def declare_dead(folder: Path, attempt: Attempt, outcome: Outcome, failure: Mapping[str, Any] | None = None) -> None:
    """Ends an attempt whose process cannot do so itself, as its launcher knows; does nothing where the disk is full."""
    with suppress(OutputError):
        _write(folder, replace(attempt, ended=time.time(), outcome=outcome, failure=failure))


def _write(folder: Path, attempt: Attempt) -> None:
    # Not flushed: a lease means nothing after a power failure.
    write_json(_file(folder, attempt.number), asdict(attempt), flush=False)


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
        """Begins the next attempt at the node of a state folder, or returns `None` if that is not for this process.

        Args:
            folder: The state folder.
            launch: The launch for which it runs. An earlier attempt for the same one is followed at once.
            lease_seconds: How long the lease shall outlive this process.
            watched: The token of an attempt that was seen to stand still, see `Watch`.
            unless: Asked before the attempt begins, with the attempt before it over: whether it is not needed.

        Raises:
            OutputError: If the state folder cannot be written.
        """
        number = 0
        folder.mkdir(exist_ok=True)
        (folder / "attempts").mkdir(exist_ok=True)
        while True:
            last = latest(folder, number)
            # A launch, or the scheduler it uses, begins a node again only when the worker before is gone.
            is_free = last is None or last.is_over(watched) or last.launch == launch != ""
            if not is_free or unless():
                return None
            number = last.number + 1 if last is not None else 1
            process = Process.current()
            attempt = Attempt(number, launch, process, lease_seconds, beat=0, began=time.time())
            if write_json_once(_file(folder, number), asdict(attempt), flush=False):
                return cls(folder, attempt)

    @property
    def number(self) -> int:
        """The number of the attempt."""
        return self._attempt.number

    def check(self) -> None:
        """Raises `LeaseError` if another process has taken over."""
        check(self._folder, self.number)

    def note(self, **values: Any) -> None:
        """Writes fields of the attempt."""
        with self._lock:
            self._attempt = replace(self._attempt, **values)
            _write(self._folder, self._attempt)

    def end(self, outcome: Outcome, failure: Mapping[str, Any] | None = None) -> None:
        """Ends the attempt, unless another process has taken over or it has ended already."""
        self._stop.set()
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
                if self._stop.is_set():
                    return
                self._attempt = replace(self._attempt, beat=self._attempt.beat + 1)
                _write(self._folder, self._attempt)


@dataclass
class Watch:
    """Watches leases from outside. What it has seen is its own: two watchers wait for the length of a lease each.

    Args:
        clock: Monotonic, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[str, float]] = field(default_factory=dict)

    def is_over(self, folder: Path, attempt: Attempt) -> bool:
        """Whether the last attempt at the node of a state folder, as just read, is over or has stood still."""
        if attempt.is_over():
            return True
        now = self.clock()
        token, since = self._seen.get(folder, ("", now))
        if token != attempt.token:
            self._seen[folder] = (attempt.token, now)
            return False
        return now - since > attempt.lease_seconds
