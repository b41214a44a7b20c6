"""Defines the verbs `gc`, which removes files that no table needs, and `sync`, which fills a tracking store."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.addresses import shown
from ablations.errors import AblationError, UnknownNameError
from ablations.invocation import suggested_command
from ablations.planning.request import make_request
from ablations.registry import find_studies
from runners.cli.inputs import find_plan, load_plugins, tracking_uri
from runners.cli.options import UNSYNCED, all_option, examples, plugin_option, runs_option, set_option
from runners.console.terminal import console

if TYPE_CHECKING:
    from runners.state.launches import History
    from runners.state.nodes import StateStore
    from runners.sync.backfill import Synced
    from runners.upkeep.garbage import Garbage, GarbageSearch


@click.command(epilog=examples("gc", "gc my_study.yaml --yes", "gc --forget old_study --results"))
@click.argument("studies", nargs=-1)
@click.option("--yes", is_flag=True, help="Remove it; without this, only say what would be removed.")
@click.option("--results", is_flag=True, help="Also the results of what nothing needs, as they are in MLflow too.")
@click.option(
    "--forget", "forgotten", multiple=True, metavar="STUDY", help="A study that is given up, by its name. Repeatable."
)
@set_option
@runs_option
@plugin_option
def gc(
    studies: tuple[str, ...],
    *,
    yes: bool,
    results: bool,
    forgotten: tuple[str, ...],
    overrides: tuple[str, ...],
    runs_dir: Path,
    plugins: tuple[str, ...],
) -> None:
    """Remove checkpoints and weights that no table needs, what was put aside, and torn files.

    Needed is what the registered studies need at each preset, what the last launch of each study at each scale was
    asked for, and STUDIES, with --set, at each preset. What is being run is left alone.
    """
    from ablations.files.yaml_source import parse_override
    from runners.state.launches import History
    from runners.upkeep.damages import damages_of
    from runners.upkeep.garbage import find_garbage, needed_nodes, remove

    if not runs_dir.is_dir():
        raise AblationError(f"there is no folder {runs_dir}. Name another one with --runs-dir.")
    load_plugins(plugins)
    history = History(runs_dir)
    _check_forgotten(forgotten, history)
    # Between the search and the removal, no launch may begin that needs a file of the garbage.
    with history.exclusively() if yes else nullcontext():
        needed = needed_nodes(history, studies, dict(map(parse_override, overrides)), frozenset(forgotten))
        findings = find_garbage(
            runs_dir, needed | _last_asked(runs_dir, forgotten), tracking_uri(runs_dir), results=results
        )
        freed, problems = remove(findings.garbage) if yes else (0, [])
    _tell([*_told(findings, dry=not yes), *damages_of(runs_dir)])
    if yes:
        _tell([*problems, f"Removed {_megabytes(freed)}."])
    else:
        _tell(
            [f"Nothing was removed. To remove it: {suggested_command('gc', yes=True)}"]
            if findings.garbage
            else ["There is nothing to remove."]
        )
    sys.exit(1 if problems else 0)


def _check_forgotten(forgotten: Sequence[str], history: History) -> None:
    studies_run = list(dict.fromkeys(study for _, plan in history.plans() for study in plan.studies))
    for name in forgotten:
        if name not in studies_run:
            raise UnknownNameError("study that was run here", name, studies_run)


def _last_asked(runs_dir: Path, forgotten: Iterable[str]) -> set[str]:
    """Return the fingerprints that the last run needs, as its studies are now.

    For runs folders that are older than the records of launches.
    """
    from runners.cli.inputs import as_last_time
    from runners.state.last_run import last_run

    options: dict[str, Any] = {"preset": None, "overrides": (), "seeds": None, "canary": False, "all_studies": False}
    # Its files may be gone, or its studies broken.
    with suppress(AblationError):
        studies, _, options = as_last_time((), (), options, last_run(runs_dir))
        plan = find_plan(studies, runs_dir, **options)
        cells = [cell for cell in (*plan.cells, *plan.canaries) if cell.study not in forgotten]
        trials = {plan.evaluations[c.fingerprint].trial.fingerprint for c in cells if c.fingerprint in plan.evaluations}
        return trials | {cell.fingerprint for cell in cells}
    return set()


def _told(found: GarbageSearch, *, dry: bool) -> list[str]:
    from runners.upkeep.garbage import REASONS

    lines = []
    for reason, label in REASONS.items():
        of_reason = [item for item in found.garbage if item.reason == reason]
        if of_reason:
            lines.append(f"{label}: {len(of_reason)}, {_megabytes(sum(item.size for item in of_reason))}")
            # A dry run names every file; a removal only sums up.
            lines += map(_line, of_reason) if dry else ()
    if found.running:
        lines.append(f"left alone as it is being run: {len(found.running)} nodes")
    if found.untracked:
        lines.append(f"left alone as the tracking store has not got it yet: {len(found.untracked)} nodes")
    return lines


def _line(item: Garbage) -> str:
    return f"  {_megabytes(item.size):>10}  {item.path}  {item.title}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        console().print(line, markup=False, soft_wrap=True)


@click.command(epilog=examples("sync", "sync temperature my_study.yaml", "sync --all --runs-dir elsewhere"))
@click.argument("studies", nargs=-1)
@all_option
@runs_option
@plugin_option
def sync(studies: tuple[str, ...], all_studies: bool, runs_dir: Path, plugins: tuple[str, ...]) -> None:
    """Bring what the tracking store has not got yet, of the named studies or of all.

    After an outage or `run --offline`; with MLFLOW_TRACKING_URI set, also to a second store. Nothing is written twice.
    """
    from runners.state.nodes import StateStore
    from runners.sync.backfill import sync_states
    from runners.tracking import prepare_store
    from runners.upkeep.damages import damages_of

    load_plugins(plugins)
    uri, states = tracking_uri(runs_dir), StateStore(runs_dir / "state")
    names = None if all_studies or not studies else _study_names(studies, states)
    prepare_store(uri)
    synced = sync_states(states, uri, runs_dir / "artifacts", names, lambda line: console().print(line, markup=False))
    for line in (*damages_of(runs_dir), *_synced_words(synced, uri)):
        console().print(line, markup=False, soft_wrap=True)
    sys.exit(UNSYNCED if synced.trouble or synced.problems else 0)


def _study_names(studies: tuple[str, ...], states: StateStore) -> set[str]:
    """Return the names of studies. A study that was run here need not be registered any more."""
    from runners.sync.backfill import known_studies

    tracked = known_studies(states)
    unknown = [name for name in studies if name not in tracked]
    registered = find_studies(unknown, False, make_request(None, (), None)) if unknown else []
    return {*(name for name in studies if name in tracked), *(study.name for study in registered)}


def _synced_words(done: Synced, uri: str) -> list[str]:
    lines = [f"left out: {problem}" for problem in done.problems]
    if done.followed:
        lines.append(f"{done.followed} runs are left to the launch that follows them")
    store = f"tracking store {shown(uri)}"
    lines.append(f"{store}: {done.runs} runs brought over ({done.lines} lines), {done.complete} were there")
    if done.trouble:
        lines.append(
            f"The {store} did not take the rest: {done.trouble}. Nothing is lost. Later: {suggested_command('sync')}"
        )
    return lines
