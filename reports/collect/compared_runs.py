"""This module reads one side of a comparison: the runs of a study in a store, at one scale, data set and commit.

They are selected by their tags, not by a plan: an older commit may have had other variants, other defaults and other
fingerprints than the code at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ablations import vocabulary as names
from ablations.errors import AblationError, ReportError, UnknownNameError
from ablations.planning.plan import CANARY, Plan, make_plan
from ablations.registry import get_study
from ablations.stores.addresses import shown
from ablations.study import Study
from reports.collect.compared_study import ComparedRow, ComparedStudy, ComparisonRequest
from reports.collect.results import MISSING, Repeat
from reports.collect.store import open_store
from reports.collect.summary_runs import summary_params
from reports.collect.tracked_runs import AGREE, TrackedRun, counting_run, group_runs
from reports.content.plan_words import experiments_of, short_titles

_LISTED = 6


def read_compared_study(request: ComparisonRequest) -> ComparedStudy:
    """Return one side of a comparison.

    Without a commit, the runs of what the code at hand would run. With one, the runs that are tagged with the study
    and were made from it; so too for a study that the code at hand does not know. Of several runs of a repeat the
    newest that finished counts; one that was done anew counts only where its commit is asked for.

    Raises:
        TrackingError: If the store cannot be read.
        ReportError: If it holds nothing of the study, or several settings of one repeat.
        UnknownNameError: If there is no such study, neither here nor there.
    """
    study, unknown = _registered(request)
    name = study.name if study else request.study
    plan = _plan(study, request)
    experiment = names.experiment_name(request.scale.preset.name, request.scale.base().data.name)
    with open_store(request.store) as store:
        runs = list(store.runs(experiments_of(plan) if plan else [experiment]))
    tagged = [run for run in runs if names.study_tag(name) in run.tags]
    if not tagged and unknown is not None:
        raise unknown
    # Of a study that the code at hand does not know, its summary run names the metric and the reference.
    params = summary_params(tagged)
    metric = study.metric if study else params.get("metric", names.TEST_TOP1)
    choice = _Choice(study, name, metric, request, plan)
    description = f"study {name!r} in experiment {experiment} of {shown(request.store)}"
    measured = [run for run in runs if run.measured]
    rows, warnings = _rows(
        _of_plan(measured, plan) if plan and not request.commit else _of_tags(measured, choice, description), choice
    )
    if not any(repeat.finished for row in rows.values() for repeat in row.repeats.values()):
        raise ReportError(f"there is no finished run of {description} with these settings.{_hint(measured, choice)}")
    reference = study.reference if study else params.get("reference", "")
    # With inspected networks there is a reference on each.
    references = tuple(key for key in rows if key == reference or key.endswith(f": {reference}"))
    title = study.title if study else name
    return ComparedStudy(request, name, title, metric, references, experiment, rows, tuple(warnings))


def _registered(request: ComparisonRequest) -> tuple[Study | None, UnknownNameError | None]:
    """Return the study as the code at hand has it, at the preset that is asked for, or the error that it has none."""
    try:
        return get_study(request.study, request.scale.base()).at(request.scale.preset.name), None
    except UnknownNameError as error:
        return None, error


def _plan(study: Study | None, request: ComparisonRequest) -> Plan | None:
    """Return the plan of the code at hand; with a commit, `None` where that code cannot make one."""
    if study is None:
        return None
    try:
        return make_plan([study.whole], request.scale)
    except AblationError:
        # Runs of a commit are found by their tags, so that a plan is a help there and not needed.
        if request.commit:
            return None
        raise


@dataclass(frozen=True)
class _Choice:
    """The criteria by which the runs of a side are chosen."""

    study: Study | None
    name: str
    metric: str
    request: ComparisonRequest
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

    @cached_property
    def planned(self) -> frozenset[str]:
        """The fingerprints that the code at hand would run; empty where it has no plan."""
        return frozenset(node.fingerprint for node in self.plan.nodes) if self.plan else frozenset()

    def fixed_settings(self, key: str) -> set[str]:
        """Return the settings that a row sets itself, so that no override can change them."""
        if self.study is None:
            return set()
        network, _, variant = key.rpartition(": ")
        changed = [spec.changes for spec in self.study.variants if spec.name == variant]
        changed += [spec.changes for spec in self.study.networks if spec.name == network]
        return {name for changes in changed for name in changes}


Grouped = dict[str, dict[int, list[TrackedRun]]]
"""The runs of each repeat of each row, the newest first; none for a repeat that should be there."""


def _of_plan(measured: Iterable[TrackedRun], plan: Plan) -> Grouped:
    by_fingerprint = group_runs(measured, lambda run: run.fingerprint)
    grouped: Grouped = {}
    for cell in plan.cells:
        grouped.setdefault(cell.key, {})[cell.seed] = by_fingerprint.get(cell.fingerprint, [])
    return grouped


def _of_tags(measured: Iterable[TrackedRun], by: _Choice, description: str) -> Grouped:
    """Return the runs that are tagged with the study, of one setting each."""
    tag, seeds, row_keys = names.study_tag(by.name), by.request.scale.seeds, tuple(by.titles)
    grouped: Grouped = {}
    # What was tuned is another setting of the same rows; a side is what variants have in common.
    untuned = [run for run in measured if tag in run.tags and names.TAG_TUNED not in run.tags]
    for run in _of_commit(untuned, by.request.commit, description):
        # A side with fewer seeds asked for takes the first of them.
        if run.seed is not None and not (seeds and run.seed >= seeds):
            for key in _keys(run.tags[tag], row_keys):
                grouped.setdefault(key, {}).setdefault(run.seed, []).append(run)
    chosen = {
        key: {seed: _of_one_setting(runs, by, key) for seed, runs in sorted(repeats.items())}
        for key, repeats in grouped.items()
    }
    # Every row should have the seeds that any row has.
    expected = {seed for repeats in chosen.values() for seed in repeats}
    order = {key: index for index, key in enumerate(row_keys)}
    return {
        key: {seed: chosen[key].get(seed, []) for seed in sorted(expected)}
        for key in sorted(chosen, key=lambda key: (order.get(key, len(order)), key))
        if any(chosen[key].values())
    }


def _of_commit(tagged: Sequence[TrackedRun], commit: str, description: str) -> list[TrackedRun]:
    """Return the runs of a commit; without one, those that were not done anew since."""
    if not commit:
        return [run for run in tagged if run.superseded_by is None]
    matching = [run for run in tagged if run.commit.startswith(commit)]
    if tagged and not matching:
        raise ReportError(f"no run of {description} is of commit {commit}. There are runs of {_commits(tagged)}.")
    return matching


def _commits(runs: Iterable[TrackedRun]) -> str:
    return ", ".join(list(dict.fromkeys(run.short_commit for run in runs))[:_LISTED])


def _hint(measured: Sequence[TrackedRun], by: _Choice) -> str:
    """Return a hint at other runs of a study, or at the ways to get some."""
    tagged = [run for run in measured if names.study_tag(by.name) in run.tags]
    if not tagged:
        return " Check --preset and the store, or run it."
    return f" There are runs with other settings, or of code that means others by them, of commits {_commits(tagged)}."


def _rows(grouped: Grouped, by: _Choice) -> tuple[dict[str, ComparedRow], list[str]]:
    """Return the rows and the warnings about them."""
    rows: dict[str, ComparedRow] = {}
    warnings: list[str] = []
    for key, runs_by_seed in grouped.items():
        chosen = {seed: counting_run(runs) for seed, runs in runs_by_seed.items() if runs}
        repeats = {seed: _repeat(chosen.get(seed), by.metric) for seed in runs_by_seed}
        rows[key] = ComparedRow(by.titles.get(key, key), repeats, chosen)
        for seed, runs in runs_by_seed.items():
            warnings += _disagreement(runs, f"{by.name}, {key}, seed {seed}", by.metric)
    return rows, warnings


def _repeat(run: TrackedRun | None, metric: str) -> Repeat:
    return Repeat.of(run.status, run.value(metric)) if run is not None else Repeat(MISSING, math.nan)


def _disagreement(runs: Sequence[TrackedRun], name: str, metric: str) -> Iterator[str]:
    values = [run.value(metric) for run in runs if run.finished]
    # NaN never exceeds a bound: a run without the metric disagrees with none.
    if any(abs(value - values[0]) > AGREE for value in values[1:]):
        texts = ", ".join(f"{value:.6g}" for value in values)
        yield f"{len(values)} finished runs of {name} disagree on {metric}: {texts}. The newest, first here, is used."


def _keys(tag: str, row_keys: Sequence[str]) -> Iterator[str]:
    """Yield the rows that a run serves; a name may itself hold a comma."""
    keys = [tag] if tag in row_keys else tag.split(", ")
    yield from (key for key in keys if key != CANARY and not key.endswith(f": {CANARY}"))


def _of_one_setting(runs: Sequence[TrackedRun], by: _Choice, key: str) -> list[TrackedRun]:
    """Return those of a repeat's runs that have the setting that is asked for: the planned one, if there are such."""
    hits = [run for run in runs if run.fingerprint in by.planned]
    # An older commit has other fingerprints, so that there the settings that were asked for decide.
    if not hits:
        fixed = by.fixed_settings(key)
        overrides = {name: value for name, value in by.request.scale.settings.items() if name not in fixed}
        hits = [run for run in runs if all(_has(run, name, value) for name, value in overrides.items())]
    for rival in hits[1:]:
        if rival.fingerprint != hits[0].fingerprint:
            raise ReportError(
                f"{by.name}, {key} was run with several settings: {_unlike(hits[0], rival)}. Say which with --left-set "
                "or --right-set, or name another commit."
            )
    return hits


def _has(run: TrackedRun, name: str, value: Any) -> bool:
    tracked = run.params.get(name)
    try:
        # MLflow keeps text: 0.1 and 1e-1 are one number.
        return tracked is not None and float(tracked) == float(value)
    except (TypeError, ValueError):
        return tracked == str(value)


def _unlike(run: TrackedRun, rival: TrackedRun) -> str:
    """Return the settings in which two runs differ or, if there are none, their commits."""
    listed = []
    for name in dict.fromkeys([*run.params, *rival.params]):
        value, rival_value = run.params.get(name), rival.params.get(name)
        if value != rival_value:
            listed.append(f"{name} = {value or 'unset'} or {rival_value or 'unset'}")
    commits = f"{run.short_commit} and {rival.short_commit}"
    return "; ".join(listed[:_LISTED]) or f"by code that means something else by them, of commits {commits}"
