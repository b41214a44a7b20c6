"""The verbs list, ui and schema; and what `run` does but for its report. `plan` is in `runners.cli.plan`.

Nothing heavy is imported before a verb needs it: `list` and `plan` answer in under a second.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.addresses import shown, sqlite_address, sqlite_file
from ablations.errors import AblationError
from ablations.invocation import resuming_command, suggested_command
from runners import interrupts
from runners.cli.options import (
    INTERRUPTED,
    UNSYNCED,
    console,
    examples,
    find_studies,
    make_request,
    plugin_option,
    preset_option,
    runs_option,
)

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from runners.console.progress import Failure, Summary
    from runners.dispatch import Dispatcher, DispatchSettings
    from runners.estimates.forecast import Forecaster
    from runners.state.launches import History
    from runners.state.nodes import NodeState, StateStore
    from runners.sync.jobs import Desk
    from runners.tracking.sync_notes import Source
    from runners.tracking.tracker import Tracker


_UNBEGUN_SECONDS, _CLUSTER_SECONDS = 2.0, 60.0
"""How long an orderly end may take before anything was begun, and where jobs of a cluster must be cancelled."""
_NAMED = 8
"""How many trainings are named that go on from a checkpoint."""


@click.command("list", epilog=examples("list", "list --preset small"))
@preset_option
@plugin_option
def list_studies(preset: str | None, plugins: tuple[str, ...]) -> None:
    """Studies: their question, variants, trainings needed and published table."""
    from runners.console.tables import study_overview

    load_plugins(plugins)
    console().print(study_overview(make_request(preset, (), None)))


@click.command(epilog=examples("ui", "ui --port 5001"))
@runs_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(runs_dir: Path, port: int) -> None:
    """The MLflow UI on the right store, bound to 127.0.0.1."""
    from runners.tracking import prepare_store
    from runners.tracking.local_store import copy_for_reading, is_read_only
    from runners.tracking.serving import serve

    uri = tracking_uri(runs_dir)
    file = sqlite_file(uri)
    with ExitStack() as stack:
        if file is not None and is_read_only(file):
            uri = sqlite_address(stack.enter_context(copy_for_reading(file)))
            console().print("The runs folder cannot be written: what is changed in the UI is not kept.", markup=False)
        prepare_store(uri)
        if uri.startswith(("http://", "https://")):
            console().print(f"The tracking server is {shown(uri)}; open it in a browser.", markup=False)
            return
        console().print(f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)")
        code = serve(uri, port)
    sys.exit(code)


@click.command(epilog=examples("schema > study.schema.json"))
def schema() -> None:
    """The JSON schema of a study file, for completion in an editor."""
    from ablations.files.schema import study_schema

    click.echo(json.dumps(study_schema(), indent=2))


def tracking_uri(runs_dir: Path) -> str:
    """Returns `MLFLOW_TRACKING_URI`, or the SQLite store in `runs_dir`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(runs_dir.absolute() / "mlflow.db")


def store_answers(uri: str) -> bool:
    """Whether the tracking store can be used, found out within seconds."""
    from mlflow import MlflowClient

    from runners.tracking.store import answers

    return answers(MlflowClient(tracking_uri=uri))


def load_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Loads the plug-ins named on the command line and those that are installed; returns them all."""
    from runners.plugins import installed_plugins
    from runners.plugins import load_plugins as load

    wanted = tuple(dict.fromkeys([*plugins, *installed_plugins()]))
    load(wanted)
    return wanted


def find_plan(
    studies: Sequence[str],
    runs_dir: Path,
    *,
    all_studies: bool,
    preset: str | None,
    overrides: Sequence[str],
    seeds: int | None,
    canary: bool = False,
    tuned: bool = False,
    tuned_from: str | None = None,
) -> Plan:
    """Returns the plan of the named studies, knowing what has been measured under `runs_dir`."""
    from ablations.planning.plan import make_plan
    from runners.state.nodes import StateStore

    place = Path(tuned_from) if tuned_from else tuning_folder(runs_dir) if tuned else None
    request = make_request(preset, overrides, seeds, canary, place)
    fresh = make_plan(find_studies(studies, all_studies, request), request)
    done = StateStore(runs_dir / "state").done(node.fingerprint for node in fresh.nodes)
    return replace(fresh, done=done)


def tuning_folder(runs_dir: Path) -> Path:
    """Returns the folder of tuned values and of what is known of the trials that led to them."""
    return runs_dir / "tuning"


def take_dispatch(asked: dict[str, Any], runs_dir: Path) -> DispatchSettings:
    """Returns what `dispatch_options` say, taken out of what was asked.

    Raises:
        AblationError: If they do not fit together.
    """
    from runners.dispatch import DispatchSettings
    from runners.dispatch.slurm.options import read_slurm_options

    name, slurm = asked.pop("dispatch"), read_slurm_options(asked.pop("slurm"))
    others = {key: asked.pop(key) for key in ("workers", "threads", "device", "trials_per_gpu", "ray_address")}
    return DispatchSettings(name, slurm=slurm, folder=runs_dir, **others)


def take_recovery(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what `recovery_options` say as settings of a launch, taken out of what was asked."""
    from runners.state.failures import FailurePolicy

    policy = FailurePolicy(retries=asked.pop("retries"), wait_seconds=asked.pop("retry_wait"))
    return {"policy": policy, "fail_fast": asked.pop("fail_fast"), "lease_seconds": asked.pop("lease_seconds")}


def launch(
    plan: Plan,
    whole: Plan,
    runs_dir: Path,
    uri: str | None,
    *,
    dispatch: DispatchSettings,
    recovery: Mapping[str, Any],
    plugins: tuple[str, ...],
    forecaster: Forecaster,
) -> Summary:
    """Carries out a plan, says beforehand how long that takes, and follows it in the tracking store.

    Args:
        plan: What is needed and what is done.
        whole: The plan of which it is a part, or the same one.
        runs_dir: Folder for states and the local tracking store.
        uri: The tracking store, or `None` to track nothing now.
        dispatch: From `take_dispatch`.
        recovery: From `take_recovery`.
        plugins: Modules that workers import first.
        forecaster: Estimates it and learns from it.

    Raises:
        AblationError: If nothing can be run, with why.
    """
    from runners.cli.plan import announce
    from runners.console.display import make_display
    from runners.dispatch import make_dispatcher
    from runners.launching.launch import Launch, Settings
    from runners.launching.rerun import remember_launch
    from runners.state.failures import patiently
    from runners.state.files import check_writable
    from runners.state.launches import History
    from runners.state.nodes import StateStore
    from runners.sync.follower import Follower

    command = resuming_command()
    # Nothing has begun that must be ended in order; a worker that imports torch would hold the end up.
    interrupts.set_farewell(partial(_kept, plan, StateStore(runs_dir / "state"), command), _UNBEGUN_SECONDS)
    place: dict[str, Any] = {"device": dispatch.device, "threads": dispatch.threads}
    settings = Settings((runs_dir / "state").resolve(), plugins=plugins, **place, **recovery)
    patient = partial(patiently, policy=settings.policy, tell=partial(console().print, markup=False))
    patient(partial(check_writable, settings.state_root))
    patient(partial(_set_common_aside, runs_dir))
    # Workers import torch while the tracking store is made.
    dispatcher = make_dispatcher(dispatch)
    with dispatcher if plan.missing else nullcontext():
        # A store that is half made, or results that are half taken over, are gone on with when this is tried again.
        plan, desk = patient(partial(_prepare, plan, runs_dir, uri, dispatcher, plugins))
        history, source = History(runs_dir), _source(plan)
        with history.recording(whole, settings.launch, source.commit, settings.policy, patient):
            plan = patient(partial(_with_lost_weights, plan, history, settings.state_root))
            found = announce(plan, forecaster, dispatcher, plugins) if plan.missing else None
            stop_seconds = _CLUSTER_SECONDS if dispatch.name in ("ray", "slurm") else interrupts.STOP_SECONDS
            interrupts.set_farewell(partial(_kept, plan, StateStore(runs_dir / "state"), command), stop_seconds)
            with make_display(console()) as display:
                follower = Follower(source, desk, display.note)
                summary = Launch(forecaster.longest_first(plan), dispatcher, follower, display, settings).run()
    if not plan.missing:
        return summary
    record = forecaster.learn(plan, StateStore(settings.state_root), settings.launch, found, summary)
    remember_launch(runs_dir, record.as_mapping())
    return replace(summary, record=record)


def _set_common_aside(runs_dir: Path) -> None:
    """Sets aside what cannot be read in a runs folder of the files that are no node's, and says so."""
    from runners.upkeep.damages import set_common_aside

    for damage in set_common_aside(runs_dir):
        console().print(f"Set aside: {damage}", markup=False, soft_wrap=True)


def _kept(plan: Plan, states: StateStore, command: str) -> list[str]:
    """Returns what is kept of an interrupted launch, and how to go on."""
    missing = plan.missing
    finished = sum(states[node.fingerprint].is_done for node in missing)
    lines = [f"Interrupted. Kept: {finished} of {len(missing)} finished."]
    begun = [
        f"  {node.title}: {reached}"
        for node in missing
        if not states[node.fingerprint].is_done and (reached := _checkpoint_of(states[node.fingerprint]))
    ]
    lines += begun[:_NAMED]
    if len(begun) > _NAMED:
        lines.append(f"  and the checkpoints of {len(begun) - _NAMED} more")
    return [*lines, f"The same command goes on: {command}"]


def _checkpoint_of(state: NodeState) -> str | None:
    """Returns how far the last checkpoint of a training is, or `None` if there is none."""
    steps = [path.stem.rpartition("-")[2] for path in state.folder.glob("checkpoint-*.safetensors")]
    last = max((int(step) for step in steps if step.isdecimal()), default=None)
    if last is None:
        return None
    progress = state.progress()
    try:
        epoch = last * progress["epochs"] / progress["steps"]
        return f"checkpoint at epoch {epoch:.3g} of {progress['epochs']:.0f}"
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return f"checkpoint at step {last}"


def _with_lost_weights(plan: Plan, history: History, state_root: Path) -> Plan:
    """Returns the plan with the trainings whose weights are gone and needed; says so."""
    from runners.launching.rerun import train_lost_weights_anew
    from runners.state.nodes import StateStore

    with history.exclusively():
        plan, count = train_lost_weights_anew(plan, StateStore(state_root))
    if count:
        console().print(f"Training anew: {count} networks whose weights have been removed and are needed again.")
    return plan


def _prepare(
    plan: Plan, runs_dir: Path, uri: str | None, dispatcher: Dispatcher, plugins: tuple[str, ...]
) -> tuple[Plan, Desk | None]:
    """Opens the store while the dispatcher is asked whether the plan can be carried out."""
    if not plan.missing:
        return _open_desk(plan, runs_dir, uri)
    pool = ThreadPoolExecutor(1)
    try:
        answer = pool.submit(_check, plan, runs_dir, dispatcher, plugins)
        opened = _open_desk(plan, runs_dir, uri)
        answer.result()
    except KeyboardInterrupt:
        # The answer may take as long as torch takes to be imported.
        pool.shutdown(wait=False)
        raise
    pool.shutdown()
    return opened


def _check(plan: Plan, runs_dir: Path, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> None:
    from runners.workers.preflight import find_problem

    dispatcher.check((runs_dir / "state").resolve(), max_devices(plan))
    problem = dispatcher.ask(find_problem, plan, plugins)
    if problem is not None:
        raise AblationError(problem)


def max_devices(plan: Plan) -> int:
    """Returns the most devices that a training of what is missing runs on."""
    specs = [*(node.spec for node in plan.missing_trials), *(node.spec for node in plan.missing_proposed)]
    return max((spec.train.devices for spec in specs), default=1)


def _open_desk(plan: Plan, runs_dir: Path, uri: str | None) -> tuple[Plan, Desk | None]:
    """Returns the plan without what the store has results of already, which are taken over, and a desk there."""
    from runners.state.files import check_writable
    from runners.state.nodes import StateStore
    from runners.sync.fetch import fetch_finished
    from runners.sync.jobs import Desk

    if uri is None:
        check_writable(runs_dir)
        return plan, None
    tracker = make_tracker(plan, runs_dir, uri)
    states = StateStore((runs_dir / "state").resolve())
    return fetch_finished(tracker, plan, states, lambda message: console().print(message, markup=False)), Desk(tracker)


def _source(plan: Plan) -> Source:
    from ablations.vocabulary import experiment_name
    from runners.provenance import project_commit
    from runners.tracking.sync_notes import Source

    preset = plan.request.preset.name
    return Source(experiment_name(preset, plan.request.base().data.name), preset, project_commit())


def make_tracker(plan: Plan, runs_dir: Path, uri: str, *, for_nodes: bool = True) -> Tracker:
    """Returns the tracker of a plan's preset and data set, after checking that its store and folder can be written.

    Without `for_nodes` it serves for summaries alone.

    Raises:
        OutputError: If `runs_dir` cannot be written.
        TrackingError: If the store cannot be used.
    """
    from runners.state.files import check_writable
    from runners.tracking import Tracker, prepare_store
    from runners.tracking.store import explained

    check_writable(runs_dir)
    prepare_store(uri)
    source = _source(plan)
    with explained(uri):
        return Tracker(
            uri,
            source.experiment,
            runs_dir / "artifacts",
            commit=source.commit,
            preset=source.preset,
            for_nodes=for_nodes,
        )


def tell(summary: Summary, uri: str | None, verb: str = "run") -> None:
    """Says how a launch ended and what can be done about it.

    Args:
        summary: How it ended.
        uri: The tracking store.
        verb: The verb that goes on with what was interrupted.
    """
    from rich.markup import escape

    from runners.console.display import clock

    out = console()
    if summary.finished or summary.failures:
        out.print(f"{summary.finished} finished, {len(summary.failures)} failed in {clock(summary.seconds)}")
    for failure in summary.failures:
        told = f"  {_attempts(failure)}: {failure.title}\n    {failure.reason}\n    log: {failure.log_file}"
        # A path that is broken into lines cannot be copied.
        out.print(escape(told), soft_wrap=True)
    if summary.blocked:
        out.print(f"  {summary.blocked} evaluations were left out because their training failed")
    if summary.failures:
        again = suggested_command("retry" if verb == "run" else verb)
        out.print(escape(f"  To try again what failed: {again}"), soft_wrap=True)
    if summary.stopped:
        out.print(f"  {summary.stopped} were not tried, as --fail-fast was given")
    if summary.untracked:
        told = f"Not all of it is in the tracking store {shown(uri or '')}: {summary.untracked}."
        out.print(escape(f"{told} Nothing is lost. To bring it over: {suggested_command('sync', ())}"), soft_wrap=True)
    if summary.interrupted:
        for line in interrupts.take_farewell():
            out.print(line, markup=False, soft_wrap=True)


def exit_code(summary: Summary) -> int:
    """Returns what a launch leaves with."""
    if summary.interrupted:
        return interrupts.exit_code(INTERRUPTED)
    if summary.failures:
        return 1
    return UNSYNCED if summary.untracked else 0


def _attempts(failure: Failure) -> str:
    if failure.attempts == 0:
        return "failed earlier for a reason that does not pass, and not tried again"
    return "failed" if failure.attempts == 1 else f"failed {failure.attempts} times"
