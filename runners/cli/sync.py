"""The verb `sync`: brings what is in state folders to a tracking store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations.addresses import shown
from ablations.invocation import suggested_command
from runners.cli.options import (
    UNSYNCED,
    all_option,
    console,
    examples,
    find_studies,
    make_request,
    plugin_option,
    runs_option,
)
from runners.launching.session import load_plugins, tracking_uri

if TYPE_CHECKING:
    from runners.state.nodes import StateStore
    from runners.sync.backfill import Synced


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
    wanted = None if all_studies or not studies else _study_names(studies, states)
    prepare_store(uri)
    done = sync_states(states, uri, runs_dir / "artifacts", wanted, lambda line: console().print(line, markup=False))
    for line in (*damages_of(runs_dir), *_synced_words(done, uri)):
        console().print(line, markup=False, soft_wrap=True)
    sys.exit(UNSYNCED if done.trouble or done.problems else 0)


def _study_names(studies: tuple[str, ...], states: StateStore) -> set[str]:
    """Returns the names of studies, which need not be registered any more if they were run."""
    from runners.sync.backfill import known_studies

    known = known_studies(states)
    others = [name for name in studies if name not in known]
    found = find_studies(others, False, make_request(None, (), None)) if others else []
    return {*(name for name in studies if name in known), *(study.name for study in found)}


def _synced_words(done: Synced, uri: str) -> list[str]:
    lines = [f"left out: {problem}" for problem in done.problems]
    if done.followed:
        lines.append(f"{done.followed} runs are left to the launch that follows them")
    where = f"tracking store {shown(uri)}"
    lines.append(f"{where}: {done.runs} runs brought over ({done.lines} lines), {done.complete} were there")
    if done.trouble:
        lines.append(
            f"The {where} did not take the rest: {done.trouble}. Nothing is lost. Later: {suggested_command('sync')}"
        )
    return lines
