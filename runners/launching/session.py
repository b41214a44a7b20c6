"""Wraps a launch in its session: opens the store, checks and announces the plan, carries it out and records it.

The verbs import this module when they need it: `list`, `plan` and `--help` need none of what is imported here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from ablations.errors import AblationError
from ablations.invocation import resuming_command
from ablations.planning.plan import Plan
from ablations.vocabulary import experiment_name
from runners import interrupts
from runners.console.display import make_display
from runners.console.progress import Summary
from runners.console.terminal import progress_console
from runners.dispatch import Dispatcher, make_dispatcher
from runners.energy import Meter, measured
from runners.estimates.forecast import Forecaster
from runners.launching.announce import announce
from runners.launching.launch import Launch
from runners.launching.rerun import train_lost_weights_anew
from runners.launching.settings import LaunchSettings
from runners.provenance import project_commit
from runners.state.failures import patiently
from runners.state.files import check_writable
from runners.state.last_run import remember_launch
from runners.state.launches import History
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore
from runners.sync.fetch import fetch_finished
from runners.sync.tracking_worker import TrackingWorker
from runners.tracking import Tracker, prepare_store
from runners.tracking.store import answers, explained
from runners.tracking.sync_notes import Source
from runners.upkeep.damages import set_common_aside
from runners.workers.preflight import find_problem

_UNBEGUN_SECONDS, _CLUSTER_SECONDS = 2.0, 60.0
"""The longest that an orderly end may take before anything was begun, and where jobs of a cluster must be cancelled."""
_CLUSTERS = ("ray", "slurm")
_NAMED = 8
"""The most trainings with a checkpoint that are named after an interrupt."""


def store_answers(uri: str) -> bool:
    """Return True if the tracking store answers within seconds."""
    # As everywhere, mlflow is imported when a store is really asked.
    from mlflow import MlflowClient

    return answers(MlflowClient(tracking_uri=uri))


def launch(
    plan: Plan,
    whole: Plan,
    runs_dir: Path,
    uri: str | None,
    settings: LaunchSettings,
    forecaster: Forecaster,
) -> Summary:
    """Carry out a plan: announce how long it takes, run it, and follow it in the tracking store.

    Args:
        plan: The nodes that are needed, and those of them that are done.
        whole: The plan of which `plan` is a part, or the same one.
        uri: The tracking store, or `None` to track nothing now.
        forecaster: Estimates it, for the dispatcher of the settings, and learns from it.

    Raises:
        AblationError: If nothing can be run; the message says why.
    """
    # Twelve digits of chance: unique among the launches of a folder, and short enough to be read.
    states, name = StateStore(RunsFolder(runs_dir).state.resolve()), uuid4().hex[:12]
    # Composed now: the farewell may be printed by another thread, where click has no context.
    command = resuming_command()
    # Nothing has begun that must be ended in order, and a worker that imports torch would delay the end.
    interrupts.set_farewell(partial(_farewell, plan, states, command), _UNBEGUN_SECONDS)
    retrying = partial(patiently, policy=settings.policy, tell=partial(progress_console().print, markup=False))
    retrying(partial(check_writable, states.root))
    retrying(partial(_set_common_aside, runs_dir))
    # Workers import torch while the tracking store is made.
    dispatcher = make_dispatcher(settings.dispatch)
    # A plan that is done needs no workers.
    with dispatcher if plan.missing else nullcontext():
        # A retry continues with a store that is half made, or with results that are half taken over.
        plan, tracker = retrying(partial(_prepare, plan, runs_dir, uri, dispatcher, settings.plugins))
        history, source = History(runs_dir), _source(plan)
        meter = energy_meter(settings.dispatch.name)
        with history.recording(whole, name, source.commit, settings.policy, retrying):
            # Within the record of the launch: `gc` sees it from here on and removes nothing that it needs.
            plan = retrying(partial(_with_lost_weights, plan, history, states))
            estimate = None
            if plan.missing:
                estimate = announce(plan, forecaster, dispatcher, settings.plugins)
            stop_seconds = _CLUSTER_SECONDS if settings.dispatch.name in _CLUSTERS else interrupts.STOP_SECONDS
            interrupts.set_farewell(partial(_farewell, plan, states, command), stop_seconds)
            with make_display(progress_console()) as display:
                tracking = TrackingWorker(source, tracker, display.note)
                longest_first = forecaster.longest_first(plan)
                with measured(meter):
                    summary = Launch(longest_first, states, dispatcher, tracking, display, settings, name=name).run()
    if not plan.missing:
        return summary
    record = forecaster.learn(plan, states, name, estimate, summary)
    if meter.joules is not None:
        record = replace(record, energy=round(meter.joules, 3), energy_of=meter.parts)
    remember_launch(runs_dir, record.as_mapping())
    return replace(summary, record=record)


def energy_meter(dispatch: str) -> Meter:
    """Return the meter of a launch; it has no counters where the tasks run on other machines."""
    if dispatch in _CLUSTERS:
        return Meter(())
    return Meter()


def _set_common_aside(runs_dir: Path) -> None:
    """Set aside the unreadable files of a runs folder that belong to no node, and print a line for each."""
    for damage in set_common_aside(runs_dir):
        progress_console().print(f"Set aside: {damage}", markup=False, soft_wrap=True)


def _farewell(plan: Plan, states: StateStore, command: str) -> list[str]:
    """Return lines on what is kept of an interrupted launch and on how to go on."""
    finished, checkpoints = 0, []
    for node in plan.missing:
        state = states[node.fingerprint]
        if state.is_done:
            finished += 1
        elif (checkpoint := _checkpoint_of(state)) is not None:
            checkpoints.append(f"  {node.title}: {checkpoint}")
    lines = [f"Interrupted. Kept: {finished} of {len(plan.missing)} finished.", *checkpoints[:_NAMED]]
    if len(checkpoints) > _NAMED:
        lines.append(f"  and the checkpoints of {len(checkpoints) - _NAMED} more")
    return [*lines, f"The same command goes on: {command}"]


def _checkpoint_of(state: NodeState) -> str | None:
    """Return the epoch or step of the last checkpoint of a training in words, or `None` if there is none."""
    steps: list[int] = []
    for path in state.checkpoints():
        step = path.stem.rpartition("-")[2]
        if step.isdecimal():
            steps.append(int(step))
    if not steps:
        return None
    last_step = max(steps)
    # Progress and checkpoint are written by another process, and either may be torn or missing.
    progress = state.progress()
    try:
        epoch = last_step * progress["epochs"] / progress["steps"]
        return f"checkpoint at epoch {epoch:.3g} of {progress['epochs']:.0f}"
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return f"checkpoint at step {last_step}"


def _with_lost_weights(plan: Plan, history: History, states: StateStore) -> Plan:
    """Return the plan with the trainings whose weights are gone and needed, and print their number."""
    # `gc` must not remove weights between the look and the plan that relies on them.
    with history.exclusively():
        plan, count = train_lost_weights_anew(plan, states)
    if count:
        progress_console().print(
            f"Training anew: {count} networks whose weights have been removed and are needed again."
        )
    return plan


def _prepare(
    plan: Plan, runs_dir: Path, uri: str | None, dispatcher: Dispatcher, plugins: tuple[str, ...]
) -> tuple[Plan, Tracker | None]:
    """Open the store while a worker checks whether the plan can be carried out: both take seconds."""
    if not plan.missing:
        return _open_store(plan, runs_dir, uri)
    pool = ThreadPoolExecutor(1)
    try:
        answer = pool.submit(_check, plan, runs_dir, dispatcher, plugins)
        opened = _open_store(plan, runs_dir, uri)
        answer.result()
    except KeyboardInterrupt:
        # The answer may take as long as torch takes to be imported.
        pool.shutdown(wait=False)
        raise
    pool.shutdown()
    return opened


def _check(plan: Plan, runs_dir: Path, dispatcher: Dispatcher, plugins: tuple[str, ...]) -> None:
    dispatcher.check(RunsFolder(runs_dir).state.resolve(), max_devices(plan))
    problem = dispatcher.ask(find_problem, plan, plugins)
    if problem is not None:
        raise AblationError(problem)


def max_devices(plan: Plan) -> int:
    """Return the largest number of devices that a missing training runs on."""
    trainings = (*plan.missing_trials, *plan.missing_proposed)
    return max((node.spec.train.devices for node in trainings), default=1)


def _open_store(plan: Plan, runs_dir: Path, uri: str | None) -> tuple[Plan, Tracker | None]:
    """Take over results that the store has already; return the plan with them done, and the store."""
    if uri is None:
        check_writable(runs_dir)
        return plan, None
    tracker = make_tracker(plan, runs_dir, uri)
    states = StateStore(RunsFolder(runs_dir).state.resolve())
    return fetch_finished(
        tracker, plan, states, lambda message: progress_console().print(message, markup=False)
    ), tracker


def _source(plan: Plan) -> Source:
    preset = plan.request.preset.name
    return Source(experiment_name(preset, plan.request.data_name), preset, project_commit())


def make_tracker(plan: Plan, runs_dir: Path, uri: str, *, for_nodes: bool = True) -> Tracker:
    """Return the tracker of a plan's preset and data set, after checking that its store and folder can be written.

    Without `for_nodes` it serves for summaries alone.

    Raises:
        OutputError: If `runs_dir` cannot be written.
        TrackingError: If the store cannot be used.
    """
    check_writable(runs_dir)
    prepare_store(uri)
    source = _source(plan)
    with explained(uri):
        return Tracker(
            uri,
            source.experiment,
            RunsFolder(runs_dir).artifacts,
            commit=source.commit,
            preset=source.preset,
            for_nodes=for_nodes,
        )
