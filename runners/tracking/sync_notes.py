"""This module keeps the notes about tracking in a state folder: its runs, their progress, and the lock on them.

It works on the disk alone, without mlflow, so that `status` can count the lines not yet synced. A note may be behind
the store after a crash, never ahead of it; where it matters, the store is asked.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ablations.stores.addresses import sqlite_file
from runners.provenance import Commit
from runners.state.files import Lock, write_json
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import ORIGIN, TRACKING, Damage, FileKind

_NOTES, _ORIGIN, _LOCK, _FOLDER_ID = "tracking.json", "origin.json", "tracking.lock", "place.json"


@dataclass(frozen=True)
class SyncNote:
    """The progress of a node's run in one experiment of one store.

    Attributes:
        step: The last step whose metrics the store has; -1 before the first.
        complete: True if the store has all of a finished node, or another machine's finished run of it.
    """

    run_id: str
    step: int = -1
    complete: bool = False


def store_key(uri: str, experiment: str, folder: Path | None = None) -> str:
    """Return the key of the notes about an experiment of a store.

    Passwords in the URI do not count. Nor does the folder of a SQLite store beside the state folders, as both are moved
    together.
    """
    file = sqlite_file(uri)
    if file is not None:
        uri = f"sqlite:///{file}"
        if folder is not None and file.resolve().parent == folder.resolve():
            # The name that the default store always had, so that notes of earlier versions stay valid.
            uri = f"sqlite:///runs/{file.name}"
    scheme, separator, location = uri.rstrip("/").partition("://")
    if separator and file is None:
        location = location.rpartition("@")[2]
    return hashlib.sha256(f"{scheme}{separator}{location}\n{experiment}".encode()).hexdigest()[:16]


def read_note(state: NodeState, key: str) -> SyncNote | None:
    """Return the note about a node's run, or `None` if there is none that can be read."""
    entry = read_notes(state).get(key)
    if entry is None:
        return None
    return SyncNote(**entry)


def read_notes(state: NodeState) -> dict[str, dict[str, Any]]:
    """Return the fields of all notes about a node's runs, by store and experiment; none if they cannot be read."""
    return TRACKING.find(state.folder / _NOTES) or {}


def write_note(state: NodeState, key: str, note: SyncNote) -> None:
    """Replace the note about a node's run. The caller holds the folder's `NodeLock`."""
    write_json(state.folder / _NOTES, {**read_notes(state), key: asdict(note)})


@dataclass(frozen=True)
class Source:
    """The origin that all nodes of a launch have in common, for tracking."""

    experiment: str
    preset: str
    commit: Commit


@dataclass(frozen=True)
class Origin:
    """The facts about a node that tracking needs beside its description, kept for a later `sync`.

    Attributes:
        commit: The commit of the code that measured it, or last tried to.
        experiments: Per experiment its preset (`preset`) and the studies the node serves there (`studies`).
        generation: Empty, or a random word for a node that is measured anew: runs without it do not stand for it.
    """

    commit: Commit
    experiments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    generation: str = ""

    def studies(self, experiment: str) -> dict[str, list[str]]:
        """Return the studies a node serves in an experiment, each with the keys of its variants."""
        return dict(self.experiments.get(experiment, {}).get("studies", {}))


def read_origin(state: NodeState) -> Origin | None:
    """Return the origin of a node, or `None` if it was not written down."""
    content = ORIGIN.find(state.folder / _ORIGIN)
    if content is None:
        return None
    return Origin(Commit(**content["commit"]), content["experiments"], content["generation"])


def add_origin(state: NodeState, source: Source, serves: Mapping[str, list[str]], *, anew: bool = False) -> Origin:
    """Add the experiment and studies of a launch to the origin of a node; return the whole origin.

    Args:
        source: The launch that asks for it.
        serves: The studies that it serves there.
        anew: True if runs that are in a store already do not stand for the measurement in this folder.
    """
    before = read_origin(state)
    if before is None:
        origin = Origin(source.commit, generation=uuid.uuid4().hex[:12] if anew else "")
    elif state.is_done:
        # Its commit is the one that measured it.
        origin = before
    else:
        origin = replace(before, commit=source.commit)
    studies = {**origin.studies(source.experiment), **serves}
    experiment = {"preset": source.preset, "studies": studies}
    origin = replace(origin, experiments={**origin.experiments, source.experiment: experiment})
    if origin != before:
        state.folder.mkdir(parents=True, exist_ok=True)
        write_json(state.folder / _ORIGIN, asdict(origin))
    return origin


class NodeLock(Lock):
    """The right to write a node's runs."""

    def __init__(self, state: NodeState) -> None:
        # Without locks, two launches in one folder may write a line twice, which is better than no line at all.
        super().__init__(state.folder / _LOCK, is_needed=False)
        self._folder = state.folder

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock, and make the state folder if there is none; return True if it is held."""
        # Without its parents: a runs folder that somebody removed must not come back with locks in it.
        self._folder.mkdir(exist_ok=True)
        return super().acquire(wait=wait)


def folder_id(root: Path) -> str:
    """Return the identifier of a folder of states, and make it up at the first call.

    A copy of the folder is another one, as both may be in use at once. So the identifier is kept with the inode
    number of the folder, and a folder with another number gets a new one.
    """
    number = root.stat().st_ino
    lock = Lock(root / f".{_FOLDER_ID}.lock", is_needed=False)
    lock.acquire(wait=True)
    try:
        content = _FOLDER_ID_FILE.find(root / _FOLDER_ID)
        if content is None or content["folder"] != number:
            content = {"folder": number, "place": uuid.uuid4().hex[:16]}
            write_json(root / _FOLDER_ID, content)
    finally:
        lock.release()
    return str(content["place"])


class _FolderIdFile(TypedDict):
    """`place.json`: the identifier of a folder of states, and the number that the file system gives to the folder."""

    folder: int
    place: str


_FOLDER_ID_FILE: FileKind[dict[str, Any]] = FileKind(_FolderIdFile)


def folder_id_damage(root: Path) -> Damage | None:
    """Return the damage of `place.json`, or `None` if it can be read or is missing."""
    return _FOLDER_ID_FILE.damage(root / _FOLDER_ID)


def unsynced(states: StateStore, uri: str, fingerprints: Iterable[str] | None = None) -> dict[str, int]:
    """Return the number of lines that a store lacks, for each node with any; a result counts as a line of metrics.

    Counted from the notes on disk alone; the store is not asked, even if it was emptied.

    Args:
        fingerprints: The nodes to look at; all that have a folder by default.
    """
    if fingerprints is None:
        fingerprints = states.fingerprints()
    file = sqlite_file(uri)
    # Notes may be about a store that is gone, or that was not copied with the state folders.
    is_gone = file is not None and not file.exists()
    counts: dict[str, int] = {}
    for fingerprint in fingerprints:
        count = _lines_left(states[fingerprint], uri, is_gone=is_gone)
        if count:
            counts[fingerprint] = count
    return counts


def _lines_left(state: NodeState, uri: str, *, is_gone: bool) -> int:
    origin = read_origin(state)
    if origin is None or state.foreign() is not None:
        return 0
    runs_dir = RunsFolder.around(state.folder.parent).root
    count = 0
    for name in origin.experiments:
        # No note has the empty key, so that all lines count as missing.
        key = "" if is_gone else store_key(uri, name, runs_dir)
        count = max(count, lines_left(state, key))
    return count


def lines_left(state: NodeState, key: str) -> int:
    """Return the number of lines of a node, with the result as one, that an experiment lacks according to the note."""
    note = read_note(state, key) or SyncNote("")
    if note.complete:
        return 0
    untracked = [event for event in state.events() if event["step"] > note.step]
    return len(untracked) + int(state.is_done)
