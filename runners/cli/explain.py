"""Defines the verb `explain`: why the cells of a table are reused, waiting, running, failed, missing or stale.

`runners.upkeep.explain` finds the reasons; this module puts them into sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.errors import AblationError, UnknownNameError
from ablations.invocation import as_named, complete_invocation, suggested_command
from runners.cli.inputs import find_plan, load_plugins
from runners.cli.options import (
    canary_option,
    examples,
    plugin_option,
    preset_option,
    runs_option,
    seeds_option,
    set_option,
    tuned_options,
)
from runners.console.terminal import console

if TYPE_CHECKING:
    from ablations.planning.plan import Cell, Plan
    from runners.provenance import Commit
    from runners.state.nodes import NodeState, StateStore
    from runners.upkeep.explain import Difference, EarlierResult, Explainer, Explanation

_INDENT = " " * 10
_DIGITS = 12


@click.command(
    epilog=examples(
        "explain temperature/tau_30",
        'explain "aggregation/tau_1: average" --seed 0 --preset small',
        "explain my_study.yaml/wider --set train.epochs=4",
    )
)
@click.argument("name", metavar="STUDY/VARIANT")
@click.option("--seed", type=click.IntRange(0), help="Only this repeat.")
@preset_option
@set_option
@seeds_option
@canary_option
@tuned_options
@runs_option
@plugin_option
def explain(name: str, *, seed: int | None, runs_dir: Path, plugins: tuple[str, ...], **asked: Any) -> None:
    """Why each repeat of a variant is reused, waiting, running, failed, missing or stale, and what differs.

    STUDY alone means all its variants; on inspected networks a variant is called "network: variant". Without --preset,
    --set and --seeds, with those of the last run.
    """
    from runners.cli.inputs import as_last_time
    from runners.state.last_run import last_run
    from runners.state.launches import History, PlanRecord
    from runners.state.nodes import StateStore
    from runners.upkeep.damages import damages_of
    from runners.upkeep.explain import Explainer

    last_options = last_run(runs_dir)
    # The study is given by `name`; options that are left out are those of the last run.
    _, plugins, asked = as_last_time(("",), plugins, {**asked, "all_studies": False}, last_options)
    load_plugins(plugins)
    plan, cells = _find(name, runs_dir, last_options.get("studies", ()), asked)
    if seed is not None:
        cells = _of_seed(cells, seed)
    states = StateStore(runs_dir / "state")
    explainer = Explainer(plan, states, History(runs_dir))
    _tell([f"{name} at {PlanRecord.of(plan).scale}"])
    # One teller for all cells, as it asks git for the commit.
    teller = _Teller(explainer, states, plan)
    for cell in cells:
        _tell(teller.lines(explainer.explain(cell)))
    # A damaged training explains an evaluation, too.
    trainings = [plan.evaluations[c.fingerprint].trial.fingerprint for c in cells if c.fingerprint in plan.evaluations]
    _tell(damages_of(runs_dir, dict.fromkeys([*(cell.fingerprint for cell in cells), *trainings])))


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        console().print(line, markup=False, soft_wrap=True)


def _find(name: str, runs_dir: Path, last_studies: Sequence[str], asked: dict[str, Any]) -> tuple[Plan, list[Cell]]:
    """Return the plan of the named study and the cells that `name` selects.

    Raises:
        UnknownNameError: If there is no such study or variant.
    """
    study, variant = _split(name)
    file = _file_of(study, last_studies)
    # Suggested commands name the file: a study of a file is not registered under its name.
    complete_invocation(studies=(file,))
    plan = find_plan((file,), runs_dir, **asked)
    cells = [*plan.cells, *plan.canaries]
    if not variant:
        return plan, cells
    matches = [cell for cell in cells if variant in (cell.variant, cell.key)]
    if not matches:
        candidates = dict.fromkeys(
            f"{study}/{name_of_cell}" for cell in cells for name_of_cell in (cell.key, cell.variant)
        )
        raise UnknownNameError("variant", name, candidates)
    return plan, matches


def _split(name: str) -> tuple[str, str]:
    """Split a name into study and variant; the variant is empty if a study or a file is named."""
    is_file = name.lower().endswith((".yaml", ".yml"))
    # A file may follow folders, and a variant may follow a file: only the last slash separates a variant.
    study, slash, variant = name.rpartition("/")
    return (study, variant) if slash and not is_file else (name, "")


def _file_of(study: str, last_studies: Sequence[str]) -> str:
    """Return the name of a registered study, or the file of the last run that defines a study of that name."""
    from ablations.files.study_file import load_study
    from ablations.registry import available_studies

    if study in available_studies():
        return study
    for file in last_studies:
        if Path(file).suffix.lower() in (".yaml", ".yml"):
            # A file of the last run may be gone or broken; then it is not the one that is meant.
            with suppress(AblationError):
                if load_study(Path(file)).name == study:
                    return file
    return study


def _of_seed(cells: Sequence[Cell], seed: int) -> list[Cell]:
    matches = [cell for cell in cells if cell.seed == seed]
    if not matches:
        seeds = ", ".join(str(seeds) for seeds in sorted({cell.seed for cell in cells}))
        raise AblationError(f"there is no repeat with seed {seed}. There are: {seeds}.")
    return matches


class _Teller:
    """Puts stories into words."""

    def __init__(self, explainer: Explainer, states: StateStore, plan: Plan) -> None:
        from runners.provenance import project_commit

        self._explainer, self._states = explainer, states
        self._request = plan.request
        self._commit = project_commit()

    def lines(self, story: Explanation) -> list[str]:
        """Return the lines that explain a cell."""
        cell = story.cell
        head = f"seed {cell.seed}: {story.verdict}  {cell.study}/{cell.key}  {story.node.title}"
        lines = [head, *(f"{_INDENT}{line}" for line in self._why(story))]
        other_rows = [name for name in story.serves if name != f"{cell.study}/{cell.key}"]
        if other_rows:
            lines.append(f"{_INDENT}shared with {', '.join(other_rows)}")
        return lines + [f"{_INDENT}{line}" for line in self._of_earlier(story)]

    def _why(self, story: Explanation) -> Iterator[str]:
        from runners.upkeep.status import reason

        state, standing = self._states[story.node.fingerprint], story.status
        if story.verdict == "reused":
            yield from self._measured(state)
            return
        yield f"fingerprint {story.node.fingerprint[:_DIGITS]}: " + _UNMEASURED[story.verdict]
        if standing.attempt is not None and story.verdict in ("running", "orphaned"):
            process = standing.attempt.process
            yield f"attempt {standing.attempt.number} by process {process.pid} on {process.host}: {state.folder}"
        if standing.failure is not None:
            yield f"{reason(standing.failure)}, attempt {standing.attempts}; log: {state.log_file}"
            yield from [_remedy(str(standing.failure.get("cause")), story)] if story.verdict == "failed" else []
        # The reasons an evaluation waits: its training is not done, or is done but its weights are gone.
        if story.training is not None and story.training.status != "done":
            yield f"its training {story.training.fingerprint[:_DIGITS]} is {_TRAINING[story.training.status]}"
        elif story.training is not None and not self._states[story.training.fingerprint].weights_file.exists():
            yield (
                f"the weights of its training {story.training.fingerprint[:_DIGITS]} have been removed: "
                "they are taken from the tracking store, or it is trained anew"
            )
        elif standing.remark:
            yield standing.remark

    def _measured(self, state: NodeState) -> Iterator[str]:
        from runners.upkeep.explain import commit_of

        result, record, attempt = state.result() or {}, self._explainer.launch_of(state), state.lease()
        host = f" on {attempt.process.host}" if attempt is not None else ""
        launch = f" by launch {attempt.launch}" if attempt is not None and attempt.launch else ""
        yield f"measured {_when(result.get('time'))} in {result.get('seconds', 0):.0f} s{launch}{host}: {state.folder}"
        commit = commit_of(state, record)
        if commit is not None:
            yield f"code: {_shown_commit(commit)}"
        runs = [note["run_id"] for note in _notes(state) if note.get("run_id")]
        if runs:
            yield f"MLflow run {', '.join(dict.fromkeys(runs))}"

    def _of_earlier(self, story: Explanation) -> Iterator[str]:
        from runners.upkeep.explain import commit_of

        earlier = story.earlier
        if earlier is None:
            return
        yield f"an earlier result is not used, as its fingerprint is {earlier.state.fingerprint[:_DIGITS]}:"
        count = f"; there are {earlier.others} more" if earlier.others else ""
        yield f"  {self._asked_for(earlier)}{count}"
        yield from (f"  {line}" for line in self._measured(earlier.state))
        for difference in earlier.differences:
            if difference.sentence:
                yield f"  {difference.sentence}"
                continue
            values = f"{_shown(difference.before)} → {_shown(difference.present)}"
            yield f"  {difference.key}: {values}{self._by(difference)}"
        commit = commit_of(earlier.state, self._explainer.launch_of(earlier.state))
        # A commit changes no fingerprint; it is shown because it may explain why the values differ.
        if commit is not None and commit != self._commit:
            present = _shown_commit(self._commit)
            yield f"  code: {_shown_commit(commit)} → {present} (not a part of the fingerprint)"

    def _asked_for(self, earlier: EarlierResult) -> str:
        if earlier.plan is None and earlier.is_certain:
            return "its folder says that it was measured for this variant"
        if earlier.plan is None:
            return "the nearest one of those that nobody has written down for what they were measured"
        return f"it was asked for at {earlier.plan.scale}"

    def _by(self, difference: Difference) -> str:
        return " (--set)" if difference.key in self._request.overrides else ""


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


def _remedy(cause: str, story: Explanation) -> str:
    from runners.state.failures import FailurePolicy

    retry = suggested_command("retry", [as_named(story.cell.study)])
    if FailurePolicy().is_lasting(cause):
        return f"It follows from the settings and would fail again: change them. To try it all the same: {retry}"
    return f"The next run tries it again, or: {retry}"


def _notes(state: NodeState) -> list[dict[str, Any]]:
    from runners.tracking.sync_notes import read_notes

    return list(read_notes(state).values())


def _when(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds") if seconds is not None else "at an unknown time"


def _shown_commit(commit: Commit) -> str:
    return f"commit {commit.sha[:_DIGITS]}" + (" with changes" if commit.dirty else "")


def _shown(value: Any) -> str:
    from runners.upkeep.explain import Absent

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
