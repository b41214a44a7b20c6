"""What a state folder remembers of tracking: which runs belong to it, how far they are, who may write to them.

Disk only, no mlflow: `status` asks here what is not yet synced. A note may be behind the store after a crash, never
ahead of it; where it matters, the store is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ablations.addresses import sqlite_file
from runners.provenance import Commit
from runners.state.files import write_json
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import ORIGIN, TRACKING, Damage, Kind

_NOTES, _ORIGIN, _LOCK, _PLACE = "tracking.json", "origin.json", "tracking.lock", "place.json"


@dataclass(frozen=True)
class Note:
    """How far a node's run in one experiment of one store is.

    Attributes:
        run_id: The run.
        step: The last step whose metrics the store has; -1 before the first.
        complete: Whether the store has all of a finished node, or somebody else's finished run of it.
    """

    run_id: str
    step: int = -1
    complete: bool = False


def store_key(uri: str, experiment: str, folder: Path | None = None) -> str:
    """Return under which key notes about an experiment of a store are kept.

    Passwords in the URI do not count, nor does the place of a SQLite store beside the state folders: both are moved
    together.

    Args:
        uri: The store.
        experiment: Name of the experiment.
        folder: The runs folder.
    """
    file = sqlite_file(uri)
    if file is not None:
        is_beside = folder is not None and file.resolve().parent == folder.resolve()
        # As the default store was always called, so that notes of earlier versions stay valid.
        uri = f"sqlite:///runs/{file.name}" if is_beside else f"sqlite:///{file}"
    scheme, separator, rest = uri.rstrip("/").partition("://")
    place = rest.rpartition("@")[2] if separator and file is None else rest
    return hashlib.sha256(f"{scheme}{separator}{place}\n{experiment}".encode()).hexdigest()[:16]


def read_note(state: NodeState, key: str) -> Note | None:
    """Return the note about a node's run, or `None` if there is none that can be read."""
    entry = read_notes(state).get(key)
    return Note(**entry) if entry is not None else None


def read_notes(state: NodeState) -> dict[str, dict[str, Any]]:
    """Return the fields of all notes about a node's runs, by store and experiment; none if they cannot be read."""
    return TRACKING.find(state.folder / _NOTES) or {}


def write_note(state: NodeState, key: str, note: Note) -> None:
    """Replace the note about a node's run. The caller holds the folder's `NodeLock`."""
    write_json(state.folder / _NOTES, {**read_notes(state), key: asdict(note)})


@dataclass(frozen=True)
class Source:
    """What all nodes of a launch have in common for tracking.

    Attributes:
        experiment: Name of the MLflow experiment.
        preset: The preset.
        commit: The code's commit.
    """

    experiment: str
    preset: str
    commit: Commit


@dataclass(frozen=True)
class Origin:
    """What tracking needs to know of a node beside what it is, kept so that it can be told later.

    Attributes:
        commit: The commit of the code that measured it, or last tried to.
        experiments: Per experiment its preset (`preset`) and the studies the node serves there (`studies`).
        generation: Empty, or a word of its own for a node that is measured anew: earlier runs do not stand for it.
    """

    commit: Commit
    experiments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    generation: str = ""

    def studies(self, experiment: str) -> dict[str, list[str]]:
        """Return the studies a node serves in an experiment, each with the keys of its variants."""
        return dict(self.experiments.get(experiment, {}).get("studies", {}))


def read_origin(state: NodeState) -> Origin | None:
    """Return where a node comes from, or `None` if nobody has written it down."""
    found = ORIGIN.find(state.folder / _ORIGIN)
    if found is None:
        return None
    return Origin(Commit(**found["commit"]), found["experiments"], found["generation"])


def add_origin(state: NodeState, source: Source, serves: Mapping[str, list[str]], *, anew: bool = False) -> Origin:
    """Write down for which experiment and studies a node is measured, beside those it serves already; return all.

    Args:
        state: The node's folder.
        source: The launch that asks for it.
        serves: The studies that it serves there.
        anew: Whether runs that are in a store already do not stand for what will be measured in this folder.
    """
    before = read_origin(state)
    studies = {**(before.studies(source.experiment) if before else {}), **serves}
    about = {"preset": source.preset, "studies": studies}
    origin = Origin(
        before.commit if before and state.is_done else source.commit,
        {**(before.experiments if before else {}), source.experiment: about},
        before.generation if before else uuid.uuid4().hex[:12] if anew else "",
    )
    if origin != before:
        state.folder.mkdir(parents=True, exist_ok=True)
        write_json(state.folder / _ORIGIN, asdict(origin))
    return origin


class NodeLock:
    """The right to write a node's runs: of all processes that see the folder one at a time has it.

    The kernel takes it back from a process that dies.
    """

    def __init__(self, state: NodeState) -> None:
        self._path = state.folder / _LOCK
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is held."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Return whether the lock is held now; it does not wait."""
        if self._descriptor is not None:
            return True
        # Not its parents: where the runs folder was removed, nobody wants it back with locks in it.
        self._path.parent.mkdir(exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, *, waits: bool = False) -> bool:
    """Lock an open file until it is closed; where there are no such locks, everybody gets one."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A network file system without locks.
        return True
    return True


def place_of(root: Path) -> str:
    """Return the identifier of a folder of states, made up when it is first asked for.

    A copy of the folder is another place: both may be worked in at once. So the identifier is kept with the number
    that the file system has given to the folder.
    """
    number = root.stat().st_ino
    with (root / _PLACE).open("a+", encoding="utf-8", errors="replace") as file:
        _lock(file.fileno(), waits=True)
        file.seek(0)
        found = _PLACE_FILE.parse(file.read().encode(), root / _PLACE)
        if isinstance(found, Damage) or found["folder"] != number:
            found = {"folder": number, "place": uuid.uuid4().hex[:16]}
            file.truncate(0)
            file.write(json.dumps(found))
    return str(found["place"])


class _PlaceFile(TypedDict):
    """`place.json`: the identifier of a folder of states, and the number that the file system gives to the folder."""

    folder: int
    place: str


_PLACE_FILE: Kind[dict[str, Any]] = Kind(_PlaceFile)


def place_damage(root: Path) -> Damage | None:
    """Return why the identifier of a folder of states cannot be read, if it is there and cannot."""
    return _PLACE_FILE.damage(root / _PLACE)


def unsynced(states: StateStore, uri: str, fingerprints: Iterable[str] | None = None) -> dict[str, int]:
    """Return how many lines of metrics, the result counting as one, a store has not got yet, per node that lacks any.

    From disk only: what the notes say; a store that was emptied is not asked.

    Args:
        states: The state folders.
        uri: The tracking store.
        fingerprints: The nodes to look at; all that have a folder by default.
    """
    wanted = fingerprints if fingerprints is not None else states.fingerprints()
    file = sqlite_file(uri)
    # Notes may be about a store that is gone, or that was not copied with the state folders.
    is_gone = file is not None and not file.exists()
    counted = {fingerprint: _lines_left(states[fingerprint], uri, is_gone=is_gone) for fingerprint in wanted}
    return {fingerprint: lines for fingerprint, lines in counted.items() if lines}


def _lines_left(state: NodeState, uri: str, *, is_gone: bool) -> int:
    origin = read_origin(state)
    if origin is None or state.foreign() is not None:
        return 0
    folder = state.folder.parent.parent
    keys = ["" if is_gone else store_key(uri, name, folder) for name in origin.experiments]
    return max((lines_left(state, key) for key in keys), default=0)


def lines_left(state: NodeState, key: str) -> int:
    """Return how many lines, the result counting as one, an experiment has not got of a node, as the note says."""
    note = read_note(state, key)
    if note is not None and note.complete:
        return 0
    step = note.step if note is not None else -1
    return len([event for event in state.events() if event["step"] > step]) + int(state.is_done)
