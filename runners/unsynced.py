"""What the tracking store has not got yet, as the notes in the state folders say. Disk only, no mlflow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from runners.files import read_json
from runners.state import NodeState, StateStore

REMEDY = "The next run of the study brings it over."
"""What a user does about it."""


def unsynced(states: StateStore, uri: str, fingerprints: Iterable[str]) -> dict[str, int]:
    """Returns how many lines of metrics a store has not got yet, per node that lacks any.

    Args:
        states: The state folders.
        uri: The tracking store.
        fingerprints: The nodes to look at.
    """
    key = hashlib.sha256(uri.encode()).hexdigest()[:16]
    counted = {fingerprint: _lines_left(states[fingerprint], key) for fingerprint in fingerprints}
    return {fingerprint: lines for fingerprint, lines in counted.items() if lines}


def _lines_left(state: NodeState, key: str) -> int:
    """Returns the lines of metrics that are not noted; a node without lines counts as one until it has a run."""
    notes = read_json(state.folder / "tracking.json")
    note = notes.get(key) if isinstance(notes, dict) else None
    if not isinstance(note, dict):
        return len(state.events()) + int(state.is_done)
    return max(0, len(state.events()) - int(note.get("events", 0)))
