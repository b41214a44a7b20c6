"""Finds files of a runs folder that cannot be read or belong to another node, and sets them aside.

Any verb may name them; only a launch sets them aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from runners.estimates.measurements import speed_damages
from runners.state.last_run import last_run_damage
from runners.state.launches import History
from runners.state.layout import RunsFolder
from runners.state.looks import look_damages
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import Damage, set_aside
from runners.tracking.sync_notes import folder_id_damage

REMEDY = "run_ablation.py run sets it aside and does it again."


def damages_of(runs_dir: Path, fingerprints: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the damages of a runs folder, a sentence each.

    Args:
        fingerprints: The nodes to look at; by default all that have a folder.
    """
    states = StateStore(RunsFolder(runs_dir).state)
    if fingerprints is None:
        fingerprints = [state.fingerprint for state in states.folders()]
    damages = list(_common(runs_dir))
    for fingerprint in fingerprints:
        damages += states[fingerprint].damages()
    return tuple(f"{damage}. {REMEDY}" for damage in damages)


def _common(runs_dir: Path) -> Iterator[Damage]:
    """Yield the damages of files that belong to no node."""
    yield from filter(None, (last_run_damage(runs_dir), folder_id_damage(RunsFolder(runs_dir).state)))
    yield from History(runs_dir).damages()
    yield from speed_damages(runs_dir)
    yield from look_damages(runs_dir)


def set_common_aside(runs_dir: Path) -> list[Damage]:
    """Set aside the unreadable files that belong to no node, and return their damages.

    Raises:
        OutputError: If the system refuses.
    """
    # The search ends before the first file is moved, as it looks through the same folders.
    damages = list(_common(runs_dir))
    for damage in damages:
        set_aside(damage)
    return damages


def set_node_aside(state: NodeState) -> list[Damage]:
    """Set aside the unreadable files of a node and those of another node, unless a process runs it; return the damages.

    Raises:
        OutputError: If the system refuses.
    """
    lease = state.lease()
    is_running = lease is not None and lease.is_running and not lease.is_orphan
    foreign = state.foreign()
    # A folder that as a whole belongs to another node is moved even while its lease says that it runs.
    if is_running and (foreign is None or foreign.path != state.folder):
        return []
    return state.set_damaged_aside()
