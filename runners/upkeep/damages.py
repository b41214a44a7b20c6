"""Names what of a runs folder cannot be read, or is another node's; and sets it aside, which `run` alone does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from runners.estimates.measurements import speed_damages
from runners.state.last_run import last_run_damage
from runners.state.launches import History
from runners.state.nodes import NodeState, StateStore
from runners.state.schemas import Damage, set_aside
from runners.tracking.sync_notes import place_damage

REMEDY = "run_ablation.py run sets it aside and does it again."


def damages_of(runs_dir: Path, fingerprints: Iterable[str] | None = None) -> tuple[str, ...]:
    """Returns what cannot be read in a runs folder, a sentence each.

    Args:
        runs_dir: The runs folder.
        fingerprints: The nodes to look at; all that have a folder by default.
    """
    states = StateStore(runs_dir / "state")
    wanted = fingerprints if fingerprints is not None else _all_folders(states)
    found = [*_common(runs_dir), *(damage for key in wanted for damage in states[key].damages())]
    return tuple(f"{damage}. {REMEDY}" for damage in found)


def _all_folders(states: StateStore) -> list[str]:
    return sorted(path.name for path in states.root.glob("[!.]*") if path.is_dir())


def _common(runs_dir: Path) -> Iterator[Damage]:
    """Yields what cannot be read of the files that are no node's."""
    yield from filter(None, (last_run_damage(runs_dir), place_damage(runs_dir / "state")))
    yield from History(runs_dir).damages()
    yield from speed_damages(runs_dir)


def set_common_aside(runs_dir: Path) -> list[Damage]:
    """Sets aside what cannot be read of the files that are no node's; returns what that was.

    Raises:
        OutputError: If the system refuses.
    """
    found = list(_common(runs_dir))
    for damage in found:
        set_aside(damage)
    return found


def set_node_aside(state: NodeState) -> list[Damage]:
    """Sets aside what cannot be read of a node, or is another one's, unless somebody runs it; returns what that was.

    Raises:
        OutputError: If the system refuses.
    """
    last = state.lease()
    is_running = last is not None and last.is_running and not last.is_orphan
    foreign = state.foreign()
    if is_running and (foreign is None or foreign.path != state.folder):
        return []
    return state.set_damaged_aside()
