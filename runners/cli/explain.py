"""Defines the verb `explain`: why the cells of a table are reused, waiting, running, failed, missing or stale.

`runners.upkeep.explain` finds the reasons; this module puts them into sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ablations.errors import AblationError, UnknownNameError
from ablations.files.study_file import is_study_file, name_in, split_row
from ablations.invocation import as_named, complete_invocation, suggested_command
from ablations.planning.plan import Cell, Plan
from ablations.registry import available_studies, split_name
from runners.api.plans import as_last_time, find_plan, last_selection
from runners.api.selection import Selection
from runners.cli.completion import candidates
from runners.cli.options.groups import examples
from runners.cli.options.selection import selection_options
from runners.console.terminal import print_lines
from runners.provenance import Commit, project_commit
from runners.state.failures import FailurePolicy
from runners.state.launches import History, PlanRecord
from runners.state.nodes import NodeState, StateStore
from runners.tracking.sync_notes import read_notes
from runners.upkeep.damages import damages_of
from runners.upkeep.explain import Absent, EarlierResult, Explainer, Explanation, commit_of
from runners.upkeep.node_status import NodeStatus
from runners.upkeep.status import reason

_INDENT = " " * 10
_DIGITS = 12


@click.command(
    epilog=examples(
        "explain temperature/tau_30",
        'explain "aggregation/tau_1: average" --seed 0 --preset small',
        "explain my_study.yaml/wider --set train.epochs=4",
    )
)
@click.argument("name", metavar="STUDY/VARIANT", shell_complete=candidates.studies)
@click.option("--seed", "only_seed", type=click.IntRange(0), help="Only this repeat.")
@selection_options("preset", "overrides", "seeds", "canary", "tuned", "tuned_from", "runs_dir", "plugins")
def explain(selection: Selection, *, name: str, only_seed: int | None) -> None:
    """Say why each repeat of a variant is reused, or is not.

    It is reused, waiting, running, failed, missing or stale; what differs from earlier results is named. STUDY alone
    means all its variants; on inspected networks a variant is called "network: variant". Without --preset, --set and
    --seeds, with those of the last run.
    """
    study, variant = split_name(name)
    previous = last_selection(selection.runs_dir)
    selection = as_last_time(replace(selection, studies=(study,)), previous)
    selection.load_plugins()
    selection = replace(selection, studies=(_file_of(study, previous.studies),))
    # Suggested commands name the file: a study of a file is not registered under its name.
    complete_invocation(studies=selection.studies)
    plan = find_plan(selection)
    cells = _find_cells(plan, name, study, variant)
    if only_seed is not None:
        cells = _of_seed(cells, only_seed)
    states = StateStore(selection.layout.state)
    explainer = Explainer(plan, states, History(selection.runs_dir))
    print_lines([f"{name} at {PlanRecord.of(plan).scale}"])
    # One object for all cells, as it asks git for the commit.
    sentences = _Sentences(explainer, states, plan)
    fingerprints: dict[str, None] = {}
    trainings: dict[str, None] = {}
    for cell in cells:
        explanation = explainer.explain(cell)
        print_lines(sentences.of(explanation))
        fingerprints[cell.fingerprint] = None
        # A damaged training explains an evaluation, too.
        trainings[explanation.node.checkpoint] = None
    print_lines(damages_of(selection.runs_dir, fingerprints | trainings))


def _find_cells(plan: Plan, name: str, study: str, variant: str) -> list[Cell]:
    """Return the cells of a variant, or all if it is empty.

    Raises:
        UnknownNameError: If there is no such variant.
    """
    cells = [*plan.cells, *plan.canaries]
    if not variant:
        return cells
    # The variant alone means it on all inspected networks.
    matches = [cell for cell in cells if variant in (cell.variant, cell.key)]
    if not matches:
        candidates: dict[str, None] = {}
        for cell in cells:
            candidates |= {f"{study}/{cell.key}": None, f"{study}/{cell.variant}": None}
        raise UnknownNameError("variant", name, candidates)
    return matches


def _file_of(study: str, last_studies: Sequence[str]) -> str:
    """Return the name of a registered study, or the file of the last run that defines a study of that name."""
    if study in available_studies():
        return study
    for name in last_studies:
        file, _ = split_row(name)
        if is_study_file(file):
            # A file of the last run may be gone or broken; then it is not the one that is meant.
            with suppress(AblationError):
                if name_in(Path(file)) == study:
                    return file
    return study


def _of_seed(cells: Sequence[Cell], seed: int) -> list[Cell]:
    matches = [cell for cell in cells if cell.seed == seed]
    if not matches:
        seeds = sorted({cell.seed for cell in cells})
        raise AblationError(f"there is no repeat with seed {seed}. There are: {', '.join(map(str, seeds))}.")
    return matches


class _Sentences:
    """Puts stories into words."""

    def __init__(self, explainer: Explainer, states: StateStore, plan: Plan) -> None:
        self._explainer, self._states = explainer, states
        self._overrides = plan.request.overrides
        self._commit = project_commit()

    def of(self, explanation: Explanation) -> list[str]:
        """Return the lines that explain a cell."""
        cell = explanation.cell
        row = f"{cell.study}/{cell.key}"
        lines = list(self._why(explanation))
        # The row that was asked for stands in the head of the lines.
        other_rows = [name for name in explanation.serves if name != row]
        if other_rows:
            lines.append(f"shared with {', '.join(other_rows)}")
        lines += self._of_earlier(explanation)
        head = f"seed {cell.seed}: {explanation.cell_status}  {row}  {explanation.node.title}"
        return [head, *(f"{_INDENT}{line}" for line in lines)]

    def _why(self, explanation: Explanation) -> Iterator[str]:
        state, status = self._states[explanation.node.fingerprint], explanation.status
        if explanation.cell_status == "reused":
            yield from self._measured(state)
            return
        yield f"fingerprint {explanation.node.fingerprint[:_DIGITS]}: " + _UNMEASURED[explanation.cell_status]
        if status.attempt is not None and explanation.cell_status in ("running", "orphaned"):
            process = status.attempt.process
            yield f"attempt {status.attempt.number} by process {process.pid} on {process.host}: {state.folder}"
        if status.failure is not None:
            yield f"{reason(status.failure)}, attempt {status.attempts}; log: {state.log_file}"
            if explanation.cell_status == "failed":
                yield _remedy(str(status.failure.get("cause")), explanation)
        # The reasons an evaluation waits: its training is not done, or is done but its weights are gone.
        training = explanation.training
        if training is not None and training.status != "done":
            yield f"its {_made(training)} {training.fingerprint[:_DIGITS]} is {_TRAINING[training.status]}"
        elif training is not None and not self._states[training.fingerprint].weights_file.exists():
            yield (
                f"the weights of its {_made(training)} {training.fingerprint[:_DIGITS]} have been removed: "
                f"they are taken from the tracking store, or {_AGAIN[_made(training)]}"
            )
        elif status.remark:
            yield status.remark

    def _measured(self, state: NodeState) -> Iterator[str]:
        result, record, attempt = state.result() or {}, self._explainer.launch_of(state), state.lease()
        measured = f"measured {_when(result.get('time'))} in {result.get('seconds', 0):.0f} s"
        if attempt is not None and attempt.launch:
            measured += f" by launch {attempt.launch}"
        if attempt is not None:
            measured += f" on {attempt.process.host}"
        yield f"{measured}: {state.folder}"
        checkpoint = (state.about() or {}).get("checkpoint")
        if isinstance(checkpoint, Mapping):
            yield f"trained elsewhere: {checkpoint.get('path')}, SHA-256 {checkpoint.get('sha256')}"
        commit = commit_of(state, record)
        if commit is not None:
            yield f"code: {_shown_commit(commit)}"
        runs: dict[str, None] = {}
        # One note per store and experiment that the node was brought to.
        for note in read_notes(state).values():
            if note.get("run_id"):
                runs[note["run_id"]] = None
        if runs:
            yield f"MLflow run {', '.join(runs)}"

    def _of_earlier(self, explanation: Explanation) -> Iterator[str]:
        earlier = explanation.earlier
        if earlier is None:
            return
        yield f"an earlier result is not used, as its fingerprint is {earlier.state.fingerprint[:_DIGITS]}:"
        origin = _origin(earlier)
        if earlier.others:
            origin += f"; there are {earlier.others} more"
        yield f"  {origin}"
        for line in self._measured(earlier.state):
            yield f"  {line}"
        for difference in earlier.differences:
            if difference.sentence:
                yield f"  {difference.sentence}"
                continue
            source = " (--set)" if difference.key in self._overrides else ""
            yield f"  {difference.key}: {_shown(difference.before)} → {_shown(difference.present)}{source}"
        commit = commit_of(earlier.state, self._explainer.launch_of(earlier.state))
        # A commit changes no fingerprint; it is shown because it may explain why the values differ.
        if commit is not None and commit != self._commit:
            present = _shown_commit(self._commit)
            yield f"  code: {_shown_commit(commit)} → {present} (not a part of the fingerprint)"


_UNMEASURED = {
    "running": "being measured now",
    "orphaned": "its process died or is silent",
    "waiting": "it waits for its turn",
    "failed": "it could not be measured",
    "missing": "not measured yet; the next run does it",
    "stale": "not measured yet, and what was measured has another one; the next run does it",
}
_TRAINING = {
    "running": "running",
    "orphaned": "left by a process that died or is silent",
    "waiting": "not done either",
    "failed": "failed, so there is nothing to evaluate",
}


_AGAIN = {"training": "it is trained anew", "network": "its file is loaded again"}
"""What the next run does if weights are gone, by what made them."""


def _made(network: NodeStatus) -> str:
    """Return what an evaluation rests on: a training, or a network that was trained elsewhere."""
    return "network" if network.planned.kind == "network" else "training"


def _origin(earlier: EarlierResult) -> str:
    if earlier.plan is not None:
        return f"it was asked for at {earlier.plan.scale}"
    if earlier.is_certain:
        return "its folder says that it was measured for this variant"
    return "the nearest one of those that nobody has written down for what they were measured"


def _remedy(cause: str, explanation: Explanation) -> str:
    retry = suggested_command("retry", [as_named(explanation.cell.study)])
    # The causes that last are the same under any number of retries, so the default policy will do.
    if FailurePolicy().is_lasting(cause):
        return f"It follows from the settings and would fail again: change them. To try it all the same: {retry}"
    return f"The next run tries it again, or: {retry}"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "at an unknown time"
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def _shown_commit(commit: Commit) -> str:
    return f"commit {commit.sha[:_DIGITS]}" + (" with changes" if commit.dirty else "")


def _shown(value: Any) -> str:
    if isinstance(value, Absent):
        return "(no such setting)"
    # A SHA-256, such as the digest of data or of a plug-in.
    if isinstance(value, str) and len(value) == 64:
        return value[:_DIGITS]
    return value if isinstance(value, str) else json.dumps(_without_none(value), ensure_ascii=False)


def _without_none(value: Any) -> Any:
    """Return a placement without the keys that are not set."""
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
