"""This module reads one side of a comparison: the runs of a study in a store, at one scale, data set and commit.

They are selected by their tags, not by a plan: an older commit may have had other variants, other defaults and other
fingerprints than the code at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from reports.collect.identity import is_same_value
from reports.collect.results import MISSING, Repeat
from reports.collect.stores.opening import open_store
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
    plan = _plan(study, request)
    experiment = names.experiment_name(request.scale.preset.name, request.scale.data_name)
    experiments = [experiment]
    if plan is not None:
        experiments = experiments_of(plan)
    with open_store(request.store) as store:
        runs = list(store.runs(experiments))
    name = title = request.study
    if study is not None:
        name, title = study.name, study.title
    tagged = _tagged(runs, name)
    if not tagged and unknown is not None:
        raise unknown
    # Of a study that the code at hand does not know, its summary run names the metric and the reference.
    params = summary_params(tagged)
    metric, reference = params.get("metric", names.TEST_TOP1), params.get("reference", "")
    if study is not None:
        metric, reference = study.metric, study.reference
    choice = _Choice(study, name, metric, request, plan)
    description = f"study {name!r} in experiment {experiment} of {shown(request.store)}"
    measured = [run for run in runs if run.measured]
    if plan is not None and not request.commit:
        grouped = _of_plan(measured, plan)
    else:
        grouped = _of_tags(measured, choice, description)
    rows, warnings = _rows(grouped, choice)
    if not any(row.values for row in rows.values()):
        raise ReportError(f"there is no finished run of {description} with these settings.{_hint(measured, choice)}")
    # With inspected networks there is a reference on each.
    references = tuple(key for key in rows if key == reference or key.endswith(f": {reference}"))
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
        row_titles: dict[str, str] = {}
        for network in self.study.networks:
            for variant, title in titles.items():
                row_titles[f"{network.name}: {variant}"] = f"{network.title}: {title}"
        return row_titles

    @cached_property
    def planned(self) -> frozenset[str]:
        """The fingerprints that the code at hand would run; empty where it has no plan."""
        if self.plan is None:
            return frozenset()
        return frozenset(node.fingerprint for node in self.plan.nodes)

    def fixed_settings(self, key: str) -> set[str]:
        """Return the settings that a row sets itself, so that no override can change them."""
        settings: set[str] = set()
        if self.study is None:
            return settings
        network, _, variant = key.rpartition(": ")
        for study_variant in self.study.variants:
            if study_variant.name == variant:
                settings |= study_variant.changes.keys()
        for study_network in self.study.networks:
            if study_network.name == network:
                settings |= study_network.changes.keys()
        return settings


Grouped = dict[str, dict[int, list[TrackedRun]]]
"""The runs of each repeat of each row, the newest first; none for a repeat that should be there."""


def _of_plan(measured: Iterable[TrackedRun], plan: Plan) -> Grouped:
    by_fingerprint = group_runs(measured, lambda run: run.fingerprint)
    grouped: Grouped = {}
    for cell in plan.cells:
        grouped.setdefault(cell.key, {})[cell.seed] = by_fingerprint.get(cell.fingerprint, [])
    return grouped


def _of_tags(measured: Iterable[TrackedRun], choice: _Choice, description: str) -> Grouped:
    """Return the runs that are tagged with the study, of one setting each."""
    tag, seeds, row_keys = names.study_tag(choice.name), choice.request.scale.seeds, tuple(choice.titles)
    grouped: Grouped = {}
    # What was tuned is another setting of the same rows; a side is what variants have in common.
    untuned = [run for run in _tagged(measured, choice.name) if names.TAG_TUNED not in run.tags]
    for run in _of_commit(untuned, choice.request.commit, description):
        # A side with fewer seeds asked for takes the first of them.
        if run.seed is not None and not (seeds and run.seed >= seeds):
            for key in _keys(run.tags[tag], row_keys):
                grouped.setdefault(key, {}).setdefault(run.seed, []).append(run)
    expected_seeds: set[int] = set()
    for key, repeats in grouped.items():
        expected_seeds |= repeats.keys()
        for seed in sorted(repeats):
            repeats[seed] = _of_one_setting(repeats[seed], choice, key)
    complete: Grouped = {}
    # Rows that the code at hand knows stand in its order, the others behind them by name.
    for key in (*row_keys, *sorted(grouped.keys() - set(row_keys))):
        if key in grouped and any(grouped[key].values()):
            # Every row should have the seeds that any row has.
            complete[key] = {seed: grouped[key].get(seed, []) for seed in sorted(expected_seeds)}
    return complete


def _tagged(runs: Iterable[TrackedRun], study: str) -> list[TrackedRun]:
    return [run for run in runs if names.study_tag(study) in run.tags]


def _of_commit(tagged: Sequence[TrackedRun], commit: str, description: str) -> list[TrackedRun]:
    """Return the runs of a commit; without one, those that were not done anew since."""
    if not commit:
        return [run for run in tagged if run.superseded_by is None]
    matching = [run for run in tagged if run.commit.startswith(commit)]
    if tagged and not matching:
        raise ReportError(f"no run of {description} is of commit {commit}. There are runs of {_commits(tagged)}.")
    return matching


def _commits(runs: Iterable[TrackedRun]) -> str:
    commits = dict.fromkeys(run.short_commit for run in runs)
    return ", ".join(list(commits)[:_LISTED])


def _hint(measured: Sequence[TrackedRun], choice: _Choice) -> str:
    """Return a hint at other runs of a study, or at the ways to get some."""
    tagged = _tagged(measured, choice.name)
    if not tagged:
        return " Check --preset and the store, or run it."
    return f" There are runs with other settings, or of code that means others by them, of commits {_commits(tagged)}."


def _rows(grouped: Grouped, choice: _Choice) -> tuple[dict[str, ComparedRow], list[str]]:
    """Return the rows and the warnings about them."""
    rows: dict[str, ComparedRow] = {}
    warnings: list[str] = []
    for key, runs_by_seed in grouped.items():
        chosen: dict[int, TrackedRun] = {}
        repeats: dict[int, Repeat] = {}
        for seed, runs in runs_by_seed.items():
            repeats[seed] = Repeat(MISSING, math.nan)
            if runs:
                run = chosen[seed] = counting_run(runs)
                repeats[seed] = Repeat.of(run.status, run.value(choice.metric))
            warnings += _disagreement(runs, f"{choice.name}, {key}, seed {seed}", choice.metric)
        rows[key] = ComparedRow(choice.titles.get(key, key), repeats, chosen)
    return rows, warnings


def _disagreement(runs: Sequence[TrackedRun], name: str, metric: str) -> Iterator[str]:
    values, texts = [], []
    for run in runs:
        if run.finished:
            values.append(run.value(metric))
            texts.append(f"{run.value(metric):.6g}")
    # NaN never exceeds a bound: a run without the metric disagrees with none.
    if any(abs(value - values[0]) > AGREE for value in values[1:]):
        listed = ", ".join(texts)
        yield f"{len(values)} finished runs of {name} disagree on {metric}: {listed}. The newest, first here, is used."


def _keys(tag: str, row_keys: Sequence[str]) -> Iterator[str]:
    """Yield the rows that a run serves; a name may itself hold a comma."""
    keys = tag.split(", ")
    if tag in row_keys:
        keys = [tag]
    for key in keys:
        if key != CANARY and not key.endswith(f": {CANARY}"):
            yield key


def _of_one_setting(runs: Sequence[TrackedRun], choice: _Choice, key: str) -> list[TrackedRun]:
    """Return those of a repeat's runs that have the setting that is asked for: the planned one, if there are such."""
    matching = [run for run in runs if run.fingerprint in choice.planned]
    # An older commit has other fingerprints, so that there the settings that were asked for decide.
    if not matching:
        overrides = dict(choice.request.scale.settings)
        for name in choice.fixed_settings(key):
            overrides.pop(name, None)
        matching = [run for run in runs if _has_settings(run, overrides)]
    for rival in matching[1:]:
        if rival.fingerprint != matching[0].fingerprint:
            raise ReportError(
                f"{choice.name}, {key} was run with several settings: {_unlike(matching[0], rival)}. Say which with "
                "--left-set or --right-set, or name another commit."
            )
    return matching


def _has_settings(run: TrackedRun, settings: Mapping[str, Any]) -> bool:
    for name, value in settings.items():
        if name not in run.params or not is_same_value(run.params[name], value):
            return False
    return True


def _unlike(run: TrackedRun, rival: TrackedRun) -> str:
    """Return the settings in which two runs differ or, if there are none, their commits."""
    listed = []
    for name in dict.fromkeys([*run.params, *rival.params]):
        value, rival_value = run.params.get(name), rival.params.get(name)
        if value != rival_value:
            listed.append(f"{name} = {value or 'unset'} or {rival_value or 'unset'}")
    commits = f"{run.short_commit} and {rival.short_commit}"
    return "; ".join(listed[:_LISTED]) or f"by code that means something else by them, of commits {commits}"
