"""Finds the files of a runs folder that no table needs, and removes them; `gc` is its verb.

Needed are the nodes of the registered studies at each preset, those of the studies that are named, and those of the
last launch of each study at each scale. The rules are in `docs/upkeep.md`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ablations.atomic import final_name
from ablations.errors import AblationError
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import available_studies, get_study
from ablations.spec.settings import Settings
from runners.state.attempts import attempts_folder
from runners.state.launches import History, LaunchRecord, PlanRecord
from runners.state.layout import RunsFolder
from runners.state.nodes import ASIDE, NodeState, StateStore
from runners.state.schemas import is_set_aside
from runners.tracking import sync_notes
from runners.upkeep.node_status import described_node

Reason = Literal["checkpoints", "weights", "aside", "damaged", "temporary", "results"]

REASONS: dict[Reason, str] = {
    "checkpoints": "checkpoints of trainings that are done",
    "weights": "weights and checkpoints of trainings that nothing needs",
    "aside": "what was put aside to be done anew",
    "damaged": "what could not be read and was set aside",
    "temporary": "files that killed processes have left half-written",
    "results": "results that nothing needs",
}

_TEMPORARY_SECONDS = 3600.0
"""A temporary file of this age is abandoned; a live process may be writing a younger one."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that may be removed.

    Attributes:
        title: The title of its node.
        size: Bytes.
        owner: The state folder of the node. Its lease is read again before anything is removed.
    """

    path: Path
    reason: Reason
    title: str
    size: int
    owner: NodeState | None = None


def needed_nodes(
    history: History, studies: Iterable[str] = (), overrides: Settings | None = None, forgotten: Set[str] = frozenset()
) -> set[str]:
    """Return the fingerprints of all nodes that a table needs or may need, as far as is known.

    Args:
        studies: Names and files of studies that are needed too, at every preset.
        overrides: The values of `--set` for those.
        forgotten: Studies that are given up: earlier launches of them do not count.
    """
    needed = _needed_by_launches(history, forgotten)
    for study in available_studies():
        needed |= _needed_by(study, {})
    for study in studies:
        needed |= _needed_by(study, overrides or {}, checked=True)
    return needed


def _needed_by(study: str, overrides: Settings, *, checked: bool = False) -> set[str]:
    """Return the nodes that a study needs at each preset at which it can be planned now.

    Raises:
        AblationError: If `checked` and it can be planned at no preset.
    """
    needed: set[str] = set()
    problem: AblationError | None = None
    for preset in PRESETS.values():
        request = Request(preset, overrides)
        try:
            plan = make_plan([get_study(study, request.base())], request)
        except AblationError as error:
            problem = error
            continue
        needed.update(node.fingerprint for node in plan.nodes)
    # A study that is named must be plannable at one preset at least; a registered one may be broken.
    if checked and not needed and problem is not None:
        raise problem
    return needed


def _needed_by_launches(history: History, forgotten: Set[str]) -> set[str]:
    """Return the nodes of the last launch of each study at each scale, and of all launches that go on.

    A launch counts as followed only by one that is known to have begun later; clocks do not tell that. Where the order
    of launches is not known, the nodes of each of them are needed.
    """
    plans: list[tuple[LaunchRecord, PlanRecord]] = []
    latest: dict[tuple[str, str, tuple[str, ...]], float] = {}
    for record in history.launches:
        plan = history.plan(record)
        if plan is None:
            continue
        plans.append((record, plan))
        turn = history.turn(record)
        if turn.is_exact:
            for study in plan.studies:
                key = _asked(plan, study)
                latest[key] = max(turn.number, latest.get(key, 0))
    needed: set[str] = set()
    for record, plan in plans:
        # A tuning or a search has no cells. Tuned values rest on it, and it may be continued.
        if record.is_alive or not plan.cells:
            needed |= plan.nodes.keys()
        number = history.turn(record).number
        for study in plan.studies:
            # A number that is not exact is an upper bound: a launch below the latest one was followed all the same.
            if study not in forgotten and number >= latest.get(_asked(plan, study), 0):
                needed |= plan.of_study(study)
    return needed


def _asked(plan: PlanRecord, study: str) -> tuple[str, str, tuple[str, ...]]:
    # A launch of some rows does not follow one of the whole study, whose other rows are still needed.
    return study, plan.scale, plan.rows.get(study, ())


@dataclass(frozen=True)
class GarbageSearch:
    """The result of `find_garbage`.

    Attributes:
        garbage: Files and folders that may be removed.
        running: Nodes that were left alone because they are being run.
        untracked: Nodes whose weights or results were left alone because the tracking store has not got them yet.
    """

    garbage: list[Garbage]
    running: list[NodeState]
    untracked: list[NodeState]


def find_garbage(runs_dir: Path, needed: Set[str], uri: str, *, results: bool = False) -> GarbageSearch:
    """Return the files and folders that may be removed.

    Args:
        needed: Fingerprints, see `needed_nodes`.
        results: True if the whole folders of nodes that nothing needs may go, too.
    """
    clock_time = _file_system_time(runs_dir)
    layout = RunsFolder(runs_dir)
    states = StateStore(layout.state)
    nodes = states.folders()
    running = list(filter(_is_running, nodes))
    busy: set[str] = set()
    for node in running:
        # The weights that a running evaluation reads are kept as well.
        busy |= {node.fingerprint, described_node(node).trial}
    untracked = sync_notes.unsynced(states, uri, [node.fingerprint for node in nodes if node.is_done])
    # Results that the tracking store has not got exist nowhere else.
    protected = needed | untracked.keys()
    garbage: list[Garbage] = []
    for node in nodes:
        # A folder that describes another node is left to a `run`, which sets it aside.
        if node.fingerprint not in busy and node.foreign() is None:
            garbage += _in_folder(node, node.fingerprint in protected, results=results, clock_time=clock_time)
    for path in sorted((states.root / ASIDE).glob("*")):
        node = states[path.name]
        # Kept until the node is redone: until then it holds the only result.
        if path.is_dir() and node.fingerprint not in busy and (node.is_done or node.fingerprint not in needed):
            garbage += _in_earlier_folder(node, results=results and node.fingerprint not in protected)
    common = (layout.root, layout.state, layout.plans, layout.launches, layout.launch_order, layout.speeds)
    for folder in common:
        garbage += _temporary(folder, None, "", clock_time)
        garbage += _damaged(folder, None, "")
    return GarbageSearch(garbage, running, [states[key] for key in sorted(untracked.keys() - needed)])


def _in_folder(state: NodeState, is_needed: bool, *, results: bool, clock_time: float) -> Iterator[Garbage]:
    node = described_node(state)
    # A folder without a kind has no description: its content is unknown, so it stays.
    if results and not is_needed and node.kind:
        yield Garbage(state.folder, "results", node.title, _size(state.folder), state)
        return
    if not is_needed and node.kind in ("trial", "network"):
        for path in _large_files(state):
            yield Garbage(path, "weights", node.title, _size(path), state)
    elif state.is_done:
        for path in _large_files(state):
            if path != state.weights_file:
                yield Garbage(path, "checkpoints", node.title, _size(path), state)
    yield from _damaged(state.folder, state, node.title)
    yield from _temporary(state.folder, state, node.title, clock_time)
    yield from _temporary(attempts_folder(state.folder), state, node.title, clock_time)


def _in_earlier_folder(state: NodeState, *, results: bool) -> Iterator[Garbage]:
    """Yield the large files of a folder that was put aside, or all. The folder stays: it marks a redone node."""
    earlier = state.earlier
    title = described_node(earlier).title
    paths = sorted(earlier.folder.iterdir()) if results else _large_files(earlier)
    for path in paths:
        yield Garbage(path, "aside", title, _size(path), state)


def _large_files(state: NodeState) -> list[Path]:
    files = state.checkpoints()
    if state.weights_file.exists():
        files.append(state.weights_file)
    return files


def _damaged(folder: Path, owner: NodeState | None, title: str) -> Iterator[Garbage]:
    for path in sorted(folder.glob(".*.damaged")):
        if is_set_aside(path):
            yield Garbage(path, "damaged", title, _size(path), owner)


def _temporary(folder: Path, owner: NodeState | None, title: str, clock_time: float) -> Iterator[Garbage]:
    for path in sorted(folder.glob(".*.tmp")):
        with suppress(OSError):
            if final_name(path) is not None and clock_time - path.stat().st_mtime > _TEMPORARY_SECONDS:
                yield Garbage(path, "temporary", title, _size(path), owner)


def _file_system_time(folder: Path) -> float:
    """Return the present time by the clock that stamps files: on a network file system, the clock of its server.

    The clock of this machine may be hours ahead of it, and a file that is being written would look abandoned.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _is_running(state: NodeState) -> bool:
    """Return True if an attempt has not ended. An attempt on another machine counts, though it may be dead."""
    attempt = state.lease()
    return attempt is not None and attempt.is_running and not attempt.is_orphan


def _size(path: Path) -> int:
    total = 0
    # Nothing lies below a file.
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            if file.is_file():
                total += file.stat().st_size
    return total


def remove(garbage: Iterable[Garbage]) -> tuple[int, list[str]]:
    """Remove garbage, except of nodes that have begun to run since; return the bytes freed and the problems."""
    freed, problems = 0, []
    for item in garbage:
        if item.owner is not None and _is_running(item.owner):
            problems.append(f"{item.path}: it has begun to run")
            continue
        try:
            _remove(item.path)
        except OSError as error:
            problems.append(f"{item.path}: {error.strerror or error}")
        else:
            freed += item.size
    return freed, problems


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    # First: if this process is killed midway, the rest of the folder must not pass for a result.
    NodeState(path).result_file.unlink(missing_ok=True)
    shutil.rmtree(path)
