"""This module reads one side of a comparison: the runs of a study in a store, at one scale, data set and commit.

A side is found by what runs are tagged with, not by a plan: an older commit may have had other variants, other
defaults and other fingerprints than the code at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from ablations.addresses import shown
from ablations.errors import AblationError, ReportError, UnknownNameError
from ablations.planning.plan import CANARY, Plan, make_plan
from ablations.registry import get_study
from ablations.spec.fingerprint import SHORT
from ablations.study import Study
from reports.collect.results import FINISHED, NO_METRIC
from reports.collect.side_results import Side, SideRow, SideRun, Wanted
from reports.collect.store import explained, open_store, search_runs
from reports.content.plan_words import experiments_of, short_titles

_MEASURED = ("trial", "evaluation", "cost")
_AGREE = 1e-6
_HUGE = 1e300
_LISTED = 6


def read_side(wanted: Wanted) -> Side:
    """Return one side of a comparison.

    Without a commit, the runs of what the code at hand would run. With one, the runs that are tagged with the study
    and were made from it; so too for a study that the code at hand does not know. Of several runs of a repeat the
    newest that finished counts; one that was done anew counts only where its commit is asked for.

    Raises:
        TrackingError: If the store cannot be read.
        ReportError: If it holds nothing of the study, or several settings of one repeat.
        UnknownNameError: If there is no such study, neither here nor there.
    """
    study, unknown = _registered(wanted)
    name = study.name if study else wanted.study
    plan = _plan(study, wanted)
    experiment = names.experiment_name(wanted.request.preset.name, wanted.request.base().data.name)
    with explained(wanted.store):
        client = open_store(wanted.store)
        runs = list(_runs(client, experiments_of(plan) if plan else [experiment]))
    tagged = [run for run in runs if names.study_tag(name) in run.data.tags]
    if not tagged and unknown is not None:
        raise unknown
    # Of a study that the code at hand does not know, its summary run names the metric and the reference.
    summary_params = next((run.data.params for run in tagged if run.data.tags.get(names.TAG_KIND) == "study"), {})
    choice = _Choice(
        study, name, study.metric if study else summary_params.get("metric", names.TEST_TOP1), wanted, plan
    )
    description = f"study {name!r} in experiment {experiment} of {shown(wanted.store)}"
    measured = [run for run in runs if run.data.tags.get(names.TAG_KIND) in _MEASURED]
    rows, warnings = _rows(
        _of_plan(measured, plan) if plan and not wanted.commit else _of_tags(measured, choice, description), choice
    )
    if not any(run.status == FINISHED for row in rows.values() for run in row.repeats.values()):
        raise ReportError(f"there is no finished run of {description} with these settings.{_hint(measured, choice)}")
    reference = study.reference if study else summary_params.get("reference", "")
    # With inspected networks there is a reference on each.
    references = tuple(key for key in rows if key == reference or key.endswith(f": {reference}"))
    return Side(
        wanted, name, study.title if study else name, choice.metric, references, experiment, rows, tuple(warnings)
    )


def _registered(wanted: Wanted) -> tuple[Study | None, UnknownNameError | None]:
    """Return the study as the code at hand has it, at the preset that is asked for, or the error that it has none."""
    try:
        return get_study(wanted.study, wanted.request.base()).at(wanted.request.preset.name), None
    except UnknownNameError as error:
        return None, error


def _plan(study: Study | None, wanted: Wanted) -> Plan | None:
    """Return the plan of the code at hand; with a commit, `None` where that code cannot make one."""
    if study is None:
        return None
    try:
        return make_plan([study.whole], wanted.request)
    except AblationError:
        # Runs of a commit are found by their tags, so that a plan is a help there and not needed.
        if wanted.commit:
            return None
        raise


def _runs(client: MlflowClient, experiments: Iterable[str]) -> Iterator[Run]:
    for name in experiments:
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            yield from search_runs(client, [experiment.experiment_id], f"tags.`{names.TAG_KIND}` != 'variant'")


@dataclass(frozen=True)
class _Choice:
    """The criteria by which the runs of a side are chosen."""

    study: Study | None
    name: str
    metric: str
    wanted: Wanted
    plan: Plan | None

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the rows that the code at hand knows, in their order."""
        if self.study is None:
            return {}
        titles = short_titles(self.study)
        if not self.study.networks:
            return titles
        return {
            f"{network.name}: {variant}": f"{network.title}: {title}"
            for network in self.study.networks
            for variant, title in titles.items()
        }

    def own(self, key: str) -> set[str]:
        """Return the settings that a row sets itself, so that no override can change them."""
        if self.study is None:
            return set()
        network, _, variant = key.rpartition(": ")
        changed = [spec.changes for spec in self.study.variants if spec.name == variant]
        changed += [spec.changes for spec in self.study.networks if spec.name == network]
        return {name for changes in changed for name in changes}


Grouped = dict[str, dict[int, list[Run]]]
"""The runs of each repeat of each row, the newest first; none for a repeat that should be there."""


def _of_plan(measured: Iterable[Run], plan: Plan) -> Grouped:
    by_fingerprint: dict[str, list[Run]] = {}
    for run in measured:
        if names.TAG_SUPERSEDED not in run.data.tags:
            # Runs keep their order, the newest first.
            by_fingerprint.setdefault(run.data.tags.get(names.TAG_FINGERPRINT, ""), []).append(run)
    grouped: Grouped = {}
    for cell in plan.cells:
        grouped.setdefault(cell.key, {})[cell.seed] = by_fingerprint.get(cell.fingerprint, [])
    return grouped


def _of_tags(measured: Iterable[Run], by: _Choice, place: str) -> Grouped:
    """Return the runs that are tagged with the study, of one setting each."""
    tag, seeds, row_keys = names.study_tag(by.name), by.wanted.request.seeds, tuple(by.titles)
    grouped: Grouped = {}
    # What was tuned is another setting of the same rows; a side is what variants have in common.
    untuned = [run for run in measured if tag in run.data.tags and names.TAG_TUNED not in run.data.tags]
    # A side with fewer seeds asked for takes the first of them.
    for run in _of_commit(untuned, by.wanted.commit, place):
        seed = run.data.tags.get(names.TAG_SEED, "")
        if seed.isdecimal() and not (seeds and int(seed) >= seeds):
            for key in _keys(run.data.tags[tag], row_keys):
                grouped.setdefault(key, {}).setdefault(int(seed), []).append(run)
    chosen = {
        key: {seed: _of_one_setting(runs, by, key) for seed, runs in sorted(repeats.items())}
        for key, repeats in grouped.items()
    }
    # Every row should have the seeds that any row has.
    expected = {seed for repeats in chosen.values() for seed in repeats}
    order = {key: place for place, key in enumerate(row_keys)}
    return {
        key: {seed: chosen[key].get(seed, []) for seed in sorted(expected)}
        for key in sorted(chosen, key=lambda key: (order.get(key, len(order)), key))
        if any(chosen[key].values())
    }


def _of_commit(tagged: Sequence[Run], commit: str, place: str) -> list[Run]:
    """Return the runs of a commit; without one, those that were not done anew since."""
    if not commit:
        return [run for run in tagged if names.TAG_SUPERSEDED not in run.data.tags]
    matching = [run for run in tagged if run.data.tags.get(names.TAG_GIT_COMMIT, "").startswith(commit)]
    if tagged and not matching:
        raise ReportError(f"no run of {place} is of commit {commit}. There are runs of {_commits(tagged)}.")
    return matching


def _commits(runs: Iterable[Run]) -> str:
    commits = dict.fromkeys(run.data.tags.get(names.TAG_GIT_COMMIT, "unknown")[:SHORT] for run in runs)
    return ", ".join(list(commits)[:_LISTED])


def _hint(measured: Sequence[Run], by: _Choice) -> str:
    """Return a hint at other runs of a study, or at the ways to get some."""
    tagged = [run for run in measured if names.study_tag(by.name) in run.data.tags]
    if not tagged:
        return " Check --preset and the store, or run it."
    return f" There are runs with other settings, or of code that means others by them, of commits {_commits(tagged)}."


def _rows(grouped: Grouped, by: _Choice) -> tuple[dict[str, SideRow], list[str]]:
    """Return the rows and the warnings about them."""
    rows: dict[str, SideRow] = {}
    warnings: list[str] = []
    for key, repeats in grouped.items():
        chosen = {}
        for seed, runs in repeats.items():
            finished = [run for run in runs if run.info.status == "FINISHED"]
            warnings += _disagreement(finished, f"{by.name}, {key}, seed {seed}", by.metric)
            if runs:
                # Without a finished run, the newest of the others tells why there is no value.
                chosen[seed] = _side_run((finished or runs)[0], by.metric)
        rows[key] = SideRow(by.titles.get(key, key), chosen, frozenset(repeats.keys() - chosen.keys()))
    return rows, warnings


def _disagreement(finished: Sequence[Run], name: str, metric: str) -> Iterator[str]:
    values = [_value(run, metric) for run in finished]
    # NaN never exceeds a bound: a run without the metric disagrees with none.
    if any(abs(value - values[0]) > _AGREE for value in values[1:]):
        texts = ", ".join(f"{value:.6g}" for value in values)
        yield f"{len(finished)} finished runs of {name} disagree on {metric}: {texts}. The newest, first here, is used."


def _keys(tag: str, known: Sequence[str]) -> Iterator[str]:
    """Yield the rows that a run serves; a name may itself hold a comma."""
    keys = [tag] if tag in known else tag.split(", ")
    yield from (key for key in keys if key != CANARY and not key.endswith(f": {CANARY}"))


def _of_one_setting(runs: Sequence[Run], by: _Choice, key: str) -> list[Run]:
    """Return those of a repeat's runs that have the setting that is asked for: the planned one, if there are such."""
    planned = {node.fingerprint for node in by.plan.nodes} if by.plan else set()
    hits = [run for run in runs if run.data.tags.get(names.TAG_FINGERPRINT) in planned]
    # An older commit has other fingerprints, so that there the settings that were asked for decide.
    if not hits:
        overrides = {name: value for name, value in by.wanted.request.settings.items() if name not in by.own(key)}
        hits = [run for run in runs if all(_has(run, name, value) for name, value in overrides.items())]
    for rival in hits[1:]:
        if rival.data.tags.get(names.TAG_FINGERPRINT) != hits[0].data.tags.get(names.TAG_FINGERPRINT):
            raise ReportError(
                f"{by.name}, {key} was run with several settings: {_unlike(hits[0], rival)}. Say which with --left-set "
                "or --right-set, or name another commit."
            )
    return hits


def _has(run: Run, name: str, value: Any) -> bool:
    tracked = run.data.params.get(name)
    try:
        # MLflow keeps text: 0.1 and 1e-1 are one number.
        return tracked is not None and float(tracked) == float(value)
    except (TypeError, ValueError):
        return tracked == str(value)


def _unlike(one: Run, other: Run) -> str:
    params = [
        (name, one.data.params.get(name), other.data.params.get(name))
        for name in dict.fromkeys([*one.data.params, *other.data.params])
    ]
    listed = [f"{name} = {left or 'unset'} or {right or 'unset'}" for name, left, right in params if left != right]
    commits = [run.data.tags.get(names.TAG_GIT_COMMIT, "unknown")[:SHORT] for run in (one, other)]
    return (
        "; ".join(listed[:_LISTED]) or f"by code that means something else by them, of commits {' and '.join(commits)}"
    )


def _value(run: Run, metric: str) -> float:
    value = float(run.data.metrics.get(metric, math.nan))
    return value if abs(value) < _HUGE else math.nan


def _side_run(run: Run, metric: str) -> SideRun:
    tags, value = run.data.tags, _value(run, metric)
    status = str(run.info.status).lower()
    if status == FINISHED and math.isnan(value):
        status = NO_METRIC
    data = [
        f"{dataset_input.dataset.name} ({dataset_input.dataset.digest[:SHORT]})"
        for dataset_input in (run.inputs.dataset_inputs if run.inputs else ())
    ]
    return SideRun(
        run_id=run.info.run_id,
        fingerprint=tags.get(names.TAG_FINGERPRINT, ""),
        value=value if status == FINISHED else math.nan,
        status=status,
        commit=(tags.get(names.TAG_GIT_COMMIT) or "unknown")[:SHORT]
        + ("*" if tags.get(names.TAG_GIT_DIRTY) == "true" else ""),
        params={name: text for name, text in run.data.params.items() if name != "seed"},
        data=", ".join(data) or "unknown",
        ended=int(run.info.end_time or run.info.start_time or 0),
        kind=tags.get(names.TAG_KIND, ""),
    )
