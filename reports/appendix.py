"""The appendix's tables: what was configured, with which versions, and which run every number comes from. Data only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ablations.fingerprint import SHORT
from ablations.naming import intervention_title, placement_title
from ablations.planning import EvaluationNode, Plan
from ablations.spec import Placement, TrialSpec
from ablations.study import Study
from reports.blocks import Cell, Column, Missing, Number, Table, Text
from reports.results import Results

Flat = dict[str, str]
Place = tuple[str, str]
"""Titles of an inspected network (or empty) and of a variant."""


def shared_settings_table(plan: Plan) -> Table:
    """Returns the settings that every training of the plan has in common, with those that nothing reads left out."""
    flats = [flat_settings(node.spec) for node in plan.trials.values()]
    shared = {key: value for key, value in flats[0].items() if all(flat.get(key) == value for flat in flats)}
    return Table(
        title="Shared settings",
        caption="The settings that all trainings of this report have in common, defaults included.",
        columns=(Column("setting", "code"), Column("value")),
        rows=tuple((Text(key), Text(value)) for key, value in shared.items()),
    )


def varying_settings_table(study: Study, plan: Plan) -> Table:
    """Returns the settings in which the variants of a study differ: a row per value, with the variants that have it."""
    keyed = _settings_by_variant(study, plan)
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for key in dict.fromkeys(key for settings in keyed.values() for key in settings):
        holders: dict[str, list[Place]] = {}
        for place, settings in keyed.items():
            holders.setdefault(settings.get(key, "–"), []).append(place)
        if len(holders) > 1:
            rules.append(len(rows))
            listed = [(value, _listed(places, list(keyed))) for value, places in holders.items()]
            rows += [(Text("" if i else key), Text(value), Text(words)) for i, (value, words) in enumerate(listed)]
    return Table(
        title=study.title,
        caption="The settings in which the variants differ; “–” where a variant does not read the setting.",
        columns=(Column("setting", "code"), Column("value"), Column("variants")),
        rows=tuple(rows),
        rules=tuple(rules[1:]),
    )


def _listed(places: list[Place], everywhere: list[Place]) -> str:
    """Returns places in words, all variants on a network or a variant on all networks as one."""
    words: list[str] = []
    for network, variant in places:
        if network and {place for place in everywhere if place[0] == network} <= set(places):
            words.append(f"network {network}")
        elif {place for place in everywhere if place[1] == variant} <= set(places):
            words.append(variant)
        else:
            words.append(f"{network}: {variant}")
    names = list(dict.fromkeys(words))
    many = len(places) > len(everywhere) / 2 and len(names) > 3
    return f"the other {len(places)} of {len(everywhere)}" if many else ", ".join(names)


def _settings_by_variant(study: Study, plan: Plan) -> dict[Place, Flat]:
    titles = {variant.name: variant.title for variant in study.variants}
    networks = {network.name: network.title for network in study.networks}
    keyed: dict[Place, Flat] = {}
    for cell in plan.cells_of(study.name):
        place = (networks.get(cell.network, ""), titles[cell.variant])
        if place not in keyed:
            node = plan.node(cell.fingerprint)
            trial = node.trial if isinstance(node, EvaluationNode) else node
            words = intervention_title(node.intervention) if isinstance(node, EvaluationNode) else "none"
            keyed[place] = {**flat_settings(trial.spec), "intervention": words}
    return keyed


def flat_settings(spec: TrialSpec) -> Flat:
    """Returns the settings of a trial but its seed as words, those that nothing reads left out."""
    return {key: _words(value) for key, value in _leaves(spec, "") if key != "seed" and value is not None}


def _leaves(model: Any, prefix: str) -> Iterable[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if hasattr(type(value), "model_fields") and not isinstance(value, Placement):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _words(value: Any) -> str:
    if isinstance(value, Placement):
        return placement_title(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def versions_table(results: Results) -> Table:
    """Returns the versions that the runs were made with, a row per name and value."""
    counts: dict[tuple[str, str], int] = {}
    for versions in results.runs["versions"]:
        for name, value in versions.items():
            counts[str(name), str(value)] = counts.get((str(name), str(value)), 0) + 1
    return Table(
        title="Versions",
        caption="Software and machine that the runs recorded.",
        columns=(Column("what"), Column("version"), Column("runs", "mark")),
        rows=tuple((Text(name), Text(value), Text(str(count))) for (name, value), count in sorted(counts.items())),
    )


def commits_table(results: Results) -> Table:
    """Returns the commits that the runs were made from; those of a modified working tree are flagged."""
    counts: dict[tuple[str, bool], int] = {}
    for commit, dirty in zip(results.runs["commit"], results.runs["dirty"], strict=True):
        counts[commit, dirty] = counts.get((commit, dirty), 0) + 1
    rows = tuple(
        (Text(commit or "unknown"), Text("modified" if dirty else "clean"), Text(str(count)))
        for (commit, dirty), count in sorted(counts.items())
    )
    return Table(
        title="Commits",
        caption="Source code that the runs were made from; “modified”: with changes that no commit holds.",
        columns=(Column("commit", "code"), Column("working tree"), Column("runs", "mark")),
        rows=rows,
    )


def provenance_table(plan: Plan, results: Results) -> Table:
    """Returns the runs that the report's numbers come from, trainings first, each with the rows that it serves."""
    runs = results.runs
    columns = (runs["fingerprint"], runs["run_id"], runs["commit"], runs["dirty"], runs["seed"], runs["seconds"])
    rows = tuple(_run_cells(plan, *values) for values in zip(*columns, strict=True))
    trainings = int((runs["kind"] == "trial").sum())
    return Table(
        title="Runs",
        caption=(
            "Where every number comes from: trainings, then evaluations of their checkpoints. Fingerprint: the first "
            f"{SHORT} digits of the SHA-256 of the whole configuration; an asterisk marks a modified working tree."
        ),
        columns=(
            Column("fingerprint", "code"),
            Column("MLflow run", "code"),
            Column("commit", "code"),
            Column("seed", "mark"),
            Column("serves"),
            Column("seconds", "number"),
        ),
        rows=rows,
        rules=(trainings,) if 0 < trainings < len(rows) else (),
    )


def _run_cells(plan: Plan, fingerprint: str, *values: Any) -> tuple[Cell, ...]:
    run_id, commit, dirty, seed, seconds = values
    serves = "; ".join(f"{study}: {', '.join(keys)}" for study, keys in plan.studies_of(fingerprint).items())
    return (
        Text(fingerprint[:SHORT]),
        Text(run_id),
        Text(commit[:7] + ("*" if dirty else "")),
        Text(str(seed)),
        Text(serves or "checkpoint only"),
        Missing() if math.isnan(seconds) else Number(seconds, 1),
    )
