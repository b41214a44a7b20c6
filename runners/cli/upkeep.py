"""Defines the verbs of upkeep: `gc` removes files that no table needs, `sync` fills a tracking store, `ui` shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path

import click

from ablations.errors import AblationError, UnknownNameError
from ablations.files.yaml_source import parse_override
from ablations.invocation import suggested_command
from ablations.planning.request import make_request
from ablations.registry import find_studies
from ablations.stores.addresses import shown, sqlite_address, sqlite_file
from runners.api.plans import as_last_time, find_plan, last_selection
from runners.api.selection import Selection
from runners.cli.options.groups import UNSYNCED, examples
from runners.cli.options.selection import selection_options
from runners.console.terminal import console, print_lines
from runners.state.launches import History
from runners.state.nodes import StateStore
from runners.sync.backfill import Synced, known_studies, sync_states
from runners.tracking import prepare_store
from runners.tracking.local_store import copy_for_reading, is_read_only
from runners.tracking.serving import serve
from runners.tracking.views import experiment_pages
from runners.upkeep.damages import damages_of
from runners.upkeep.garbage import REASONS, GarbageSearch, find_garbage, needed_nodes, remove


@click.command(epilog=examples("gc", "gc my_study.yaml --yes", "gc --forget old_study --results"))
@click.option("--yes", is_flag=True, help="Remove it; without this, only say what would be removed.")
@click.option("--results", is_flag=True, help="Also the results of what nothing needs, as they are in MLflow too.")
@click.option(
    "--forget", "forgotten", multiple=True, metavar="STUDY", help="A study that is given up, by its name. Repeatable."
)
@selection_options("studies", "overrides", "runs_dir", "plugins")
def gc(selection: Selection, *, yes: bool, results: bool, forgotten: tuple[str, ...]) -> None:
    """Remove checkpoints and weights that no table needs.

    Also what was put aside, and torn files. Needed is what the registered studies need at each preset, what the last
    launch of each study at each scale was asked for, and STUDIES, with --set, at each preset. What is being run is left
    alone.
    """
    runs_dir = selection.runs_dir
    # Refused, as a mistyped folder would look like one without any garbage.
    if not runs_dir.is_dir():
        raise AblationError(f"there is no folder {runs_dir}. Name another one with --runs-dir.")
    selection.load_plugins()
    history = History(runs_dir)
    _check_forgotten(forgotten, history)
    overrides = dict(map(parse_override, selection.overrides))
    freed = 0
    problems: list[str] = []
    # Between the search and the removal, no launch may begin that needs a file of the garbage.
    with history.exclusively() if yes else nullcontext():
        needed = needed_nodes(history, selection.studies, overrides, frozenset(forgotten))
        needed |= _needed_by_last_run(runs_dir, forgotten)
        findings = find_garbage(runs_dir, needed, selection.tracking_uri, results=results)
        if yes:
            freed, problems = remove(findings.garbage)
    print_lines(_findings(findings, dry=not yes))
    print_lines(damages_of(runs_dir))
    if yes:
        print_lines([*problems, f"Removed {_megabytes(freed)}."])
    elif findings.garbage:
        print_lines([f"Nothing was removed. To remove it: {suggested_command('gc', yes=True)}"])
    else:
        print_lines(["There is nothing to remove."])
    sys.exit(1 if problems else 0)


def _check_forgotten(forgotten: Sequence[str], history: History) -> None:
    # By the plans of the past: a study that is given up may be registered no more.
    studies_run: dict[str, None] = {}
    for _, plan in history.plans():
        studies_run.update(dict.fromkeys(plan.studies))
    for name in forgotten:
        if name not in studies_run:
            raise UnknownNameError("study that was run here", name, studies_run)


def _needed_by_last_run(runs_dir: Path, forgotten: Sequence[str]) -> set[str]:
    """Return the fingerprints that the last run needs, as its studies are now.

    For runs folders that are older than the records of launches.
    """
    fingerprints: set[str] = set()
    # Its files may be gone, or its studies broken.
    with suppress(AblationError):
        plan = find_plan(as_last_time(Selection(runs_dir=runs_dir), last_selection(runs_dir)))
        for cell in plan.all_cells:
            if cell.study not in forgotten:
                fingerprints |= {cell.fingerprint, plan.node(cell.fingerprint).checkpoint}
    return fingerprints


def _findings(findings: GarbageSearch, *, dry: bool) -> Iterator[str]:
    for reason, label in REASONS.items():
        items = [item for item in findings.garbage if item.reason == reason]
        if items:
            yield f"{label}: {len(items)}, {_megabytes(sum(item.size for item in items))}"
        # A dry run names every file; a removal only sums up.
        if dry:
            for item in items:
                yield f"  {_megabytes(item.size):>10}  {item.path}  {item.title}"
    if findings.running:
        yield f"left alone as it is being run: {len(findings.running)} nodes"
    if findings.untracked:
        yield f"left alone as the tracking store has not got it yet: {len(findings.untracked)} nodes"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


@click.command(epilog=examples("sync", "sync temperature my_study.yaml", "sync --all --runs-dir elsewhere"))
@selection_options("studies", "all_studies", "runs_dir", "plugins")
def sync(selection: Selection) -> None:
    """Bring to the tracking store what it has not got yet.

    Of the named studies, or of all. After an outage or `run --offline`; with MLFLOW_TRACKING_URI set, also to a second
    store. Nothing is written twice.
    """
    selection.load_plugins()
    uri, states = selection.tracking_uri, StateStore(selection.layout.state)
    studies = None
    if selection.studies and not selection.all_studies:
        studies = _study_names(selection.studies, states)
    prepare_store(uri)
    announce = partial(console().print, markup=False)
    synced = sync_states(states, uri, selection.layout.artifacts, studies, announce)
    print_lines(damages_of(selection.runs_dir))
    print_lines(_synced_words(synced, uri))
    # The same exit code as of a `run` that could not track everything, so that scripts treat both alike.
    sys.exit(UNSYNCED if synced.trouble or synced.problems else 0)


def _study_names(studies: tuple[str, ...], states: StateStore) -> set[str]:
    """Return the names of studies. A study that was run here need not be registered any more."""
    tracked = known_studies(states) & set(studies)
    unknown = [name for name in studies if name not in tracked]
    if not unknown:
        return tracked
    registered = find_studies(unknown, False, make_request(None, (), None))
    return tracked | {study.name for study in registered}


def _synced_words(synced: Synced, uri: str) -> Iterator[str]:
    for problem in synced.problems:
        yield f"left out: {problem}"
    if synced.followed:
        yield f"{synced.followed} runs are left to the launch that follows them"
    store = f"tracking store {shown(uri)}"
    yield f"{store}: {synced.runs} runs brought over ({synced.lines} lines), {synced.complete} were there"
    if synced.trouble:
        later = suggested_command("sync")
        yield f"The {store} did not take the rest: {synced.trouble}. Nothing is lost. Later: {later}"


@click.command(epilog=examples("ui", "ui --port 5001"))
@selection_options("runs_dir")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(selection: Selection, *, port: int) -> None:
    """The MLflow UI on the right store, bound to 127.0.0.1."""
    uri = selection.tracking_uri
    file = sqlite_file(uri)
    with ExitStack() as stack:
        if file is not None and is_read_only(file):
            # MLflow opens its database for writing even to show it, so a store that cannot be written is copied first.
            uri = sqlite_address(stack.enter_context(copy_for_reading(file)))
            console().print("The runs folder cannot be written: what is changed in the UI is not kept.", markup=False)
        prepare_store(uri)
        if uri.startswith(("http://", "https://")):
            console().print(f"The tracking server is {shown(uri)}; open it in a browser.", markup=False)
            _print_pages(uri, shown(uri))
            return
        server = f"http://127.0.0.1:{port}"
        _print_pages(uri, server)
        console().print(f"MLflow UI on {server} (Ctrl-C ends it)")
        code = serve(uri, port)
    sys.exit(code)


def _print_pages(uri: str, server: str) -> None:
    for pages in experiment_pages(uri, server):
        lines = (pages.experiment, f"  trainings  {pages.trainings}", f"  studies    {pages.studies}")
        for line in lines:
            # An address that is broken into lines cannot be clicked on.
            console().print(line, markup=False, soft_wrap=True)
