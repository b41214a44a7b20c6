"""The session around a launch: the store is opened, the plan checked and announced, carried out and recorded.

Nothing heavy is imported before a verb needs it: `list` and `plan` answer in under a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import AblationError
from ablations.invocation import resuming_command
from runners import interrupts
from runners.console.terminal import console

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from runners.console.progress import Summary
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


def store_answers(uri: str) -> bool:
    """Whether the tracking store can be used, found out within seconds."""
    from mlflow import MlflowClient

    from runners.tracking.store import answers

    return answers(MlflowClient(tracking_uri=uri))


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
    from runners.console.display import make_display
    from runners.dispatch import make_dispatcher
    from runners.launching.announce import announce
    from runners.launching.launch import Launch, Settings
    from runners.state.failures import patiently
    from runners.state.files import check_writable
    from runners.state.last_run import remember_launch
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
