"""This module builds the appendix's tables: settings, versions, and the run that every number comes from. Data only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from ablations.spec.parts import Placement
from ablations.spec.titles import intervention_title, placement_title
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from reports.collect.results import Results
from reports.content.blocks import Cell, Column, Missing, Number, Paragraph, Table, Text
from reports.content.plan_words import plugins_in, short_titles

Flat = dict[str, str]
MOST_RUNS = 500
"""More runs than these are listed in a file instead of a table."""
_UNSET, _NO_INTERVENTION = "–", "none"
Place = tuple[str, str]
"""Titles of an inspected network (or empty) and of a variant."""


def shared_settings_table(plan: Plan, common: Flat) -> Table:
    """Return the `common` settings of a plan, in which those that nothing reads are left out."""
    return Table(
        title="Settings",
        caption=(
            f"The settings of most {'trainings' if plan.trials else 'networks'} of this report, defaults included; "
            "where a study has others, its table below says so. "
            "A network reads those that apply to it: a static one has no kernels and no temperature."
        ),
        columns=(Column("setting", "code"), Column("value")),
        rows=tuple((Text(key), Text(value)) for key, value in common.items()),
    )


def common_settings(plan: Plan) -> Flat:
    """Return per setting the value that most trainings of the plan have; none for one that most do not have.

    Where nothing is trained, the counted networks take the place of the trainings.
    """
    nodes: Iterable[Node] = plan.trials.values() or plan.costs.values()
    flats = _counted_settings(nodes)
    common: Flat = {}
    for key in dict.fromkeys(key for flat, _ in flats for key in flat):
        counts: Counter[str] = Counter()
        for flat, count in flats:
            counts[flat.get(key, _UNSET)] += count
        # Of equally frequent values, one that is set comes before none.
        value = max(counts, key=lambda value: (counts[value], value != _UNSET))
        if value != _UNSET:
            common[key] = value
    return common


def _counted_settings(nodes: Iterable[Node]) -> list[tuple[Flat, int]]:
    """Return settings with the number of nodes that have them; repeats share a spec's parts and count together."""
    first: dict[tuple[int, ...], Node] = {}
    counts: Counter[tuple[int, ...]] = Counter()
    for node in nodes:
        spec = node.spec
        # The plan makes the repeats of a row from the same parts, so that identity is enough and much faster.
        identity = tuple(id(getattr(spec, name)) for name in type(spec).model_fields if name != "seed")
        first.setdefault(identity, node)
        counts[identity] += 1
    return [(_that_count(node), counts[identity]) for identity, node in first.items()]


def varying_settings_table(study: Study, plan: Plan, common: Flat) -> Table:
    """Return the settings of a study that are not the `common` ones: a row per value, with the rows that have it."""
    keyed = _settings_by_variant(study, plan)
    common = {**common, "intervention": _NO_INTERVENTION}
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for key in dict.fromkeys(key for settings in keyed.values() for key in settings):
        holders: dict[str, list[Place]] = {}
        for row, settings in keyed.items():
            # Of a network or a training, what is not set is not read; of the data it has a meaning: all of them.
            if key in settings or key.startswith("data."):
                holders.setdefault(settings.get(key, _UNSET), []).append(row)
        # A setting that all rows share with most of the report needs no line here.
        if list(holders) != [common.get(key, _UNSET)]:
            rules.append(len(rows))
            listed = [(value, _listed(holder_rows, list(keyed))) for value, holder_rows in holders.items()]
            rows += [
                (Text("" if index else key), Text(value), Text(holder_titles))
                for index, (value, holder_titles) in enumerate(listed)
            ]
    return Table(
        title=study.title,
        caption="The settings in which its rows are not like most of this report, or not like each other.",
        columns=(Column("setting", "code"), Column("value"), Column("rows")),
        rows=tuple(rows),
        rules=tuple(rules[1:]),
    )


def _listed(places: list[Place], everywhere: list[Place]) -> str:
    """Return rows in words: all variants on a network, or a variant on all networks, as one."""
    titles: list[str] = []
    for network, variant in places:
        if network and {label for label in everywhere if label[0] == network} <= set(places):
            titles.append(f"network {network}")
        elif {label for label in everywhere if label[1] == variant} <= set(places):
            titles.append(variant)
        else:
            titles.append(f"{network}: {variant}")
    names = list(dict.fromkeys(titles))
    if len(places) == len(everywhere):
        return "all"
    is_majority = len(places) > len(everywhere) / 2 and len(names) > 3
    return f"the other {len(places)} of {len(everywhere)}" if is_majority else "; ".join(names)


def _settings_by_variant(study: Study, plan: Plan) -> dict[Place, Flat]:
    titles = short_titles(study)
    networks = {network.name: network.title for network in study.networks}
    keyed: dict[Place, Flat] = {}
    for cell in plan.cells_of(study.name):
        row = (networks.get(cell.network, ""), titles[cell.variant])
        if row not in keyed:
            node = plan.node(cell.fingerprint)
            intervention = _NO_INTERVENTION
            if node.intervention is not None:
                intervention = intervention_title(node.intervention)
            keyed[row] = {**_that_count(node), "intervention": intervention}
    return keyed


def _that_count(node: Node) -> Flat:
    """Return the settings of a node; of a network whose cost is counted, only those of the network."""
    settings = flat_settings(node.spec)
    if node.kind == "cost":
        return {key: value for key, value in settings.items() if key.startswith("model.")}
    return settings


def flat_settings(spec: TrialSpec) -> Flat:
    """Return the settings of a trial but its seed as words, without those that nothing reads."""
    return {key: _words(value) for key, value in _leaves(spec, "") if key != "seed" and value is not None}


def _leaves(model: Any, prefix: str) -> Iterable[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        # A placement has fields, but a reader takes it for one value.
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
    """Return the versions that the runs were made with, a row per name and value."""
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


def plugins_table(plan: Plan) -> Table | None:
    """Return the plug-ins that the numbers depend on, a row per registered name, or `None` if there are none."""
    rows = tuple(
        # 64 characters are a SHA-256, of which the first digits are enough; a version is shorter and stays whole.
        (Text(label), Text(entry["plugin"]), Text(entry["code"] if len(entry["code"]) < 64 else entry["code"][:SHORT]))
        for label, entry in sorted(plugins_in(plan).items())
    )
    if not rows:
        return None
    return Table(
        title="Plug-ins",
        caption=(
            "Code of the user's that the numbers depend on: its version where one was given, else the first "
            f"{SHORT} digits of the SHA-256 of the code. It is a part of the fingerprints."
        ),
        columns=(Column("registers"), Column("plug-in"), Column("version", "code")),
        rows=rows,
    )


def commits_table(results: Results) -> Table:
    """Return the commits that the runs were made from; those of a modified working tree are flagged."""
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


def provenance(plan: Plan, results: Results) -> Table | Paragraph:
    """Return the runs behind the report's numbers as a table or, if they are many, a paragraph naming their file."""
    if len(results.runs) <= MOST_RUNS:
        return provenance_table(plan, results)
    return Paragraph(
        f"The numbers come from {len(results.runs):,} runs, too many for a table here. Each is listed with its "
        "fingerprint, its MLflow run, its seed and what it serves in the file beside this report whose name ends "
        "in runs.csv, and with its metrics in manifest.json, which the PDF and the HTML page carry with them."
    )


def provenance_table(plan: Plan, results: Results) -> Table:
    """Return the runs behind the report's numbers: a row per run, with its use once per group of seeds.

    Trainings come first, then evaluations of their checkpoints, then counted networks.
    """
    commits = {(commit, dirty) for commit, dirty in zip(results.runs["commit"], results.runs["dirty"], strict=True)}
    columns: tuple[Column, ...] = (
        Column("fingerprint", "code"),
        Column("MLflow run", "code"),
        Column("commit", "code"),
    )
    columns += (Column("seed", "mark"), Column("seconds", "number"), Column("serves"))
    rows, rules = _provenance_rows(plan, results)
    commit_sentence = ""
    # A column of one value says nothing: the caption has it instead.
    if len(commits) == 1:
        columns, rows = columns[:2] + columns[3:], [row[:2] + row[3:] for row in rows]
        commit_sentence = f" All are from commit {_commit(*commits.pop())}."
    return Table(
        title="Runs",
        caption=(
            "Where every number comes from: trainings, evaluations of their checkpoints, counted networks. "
            f"Fingerprint: the first {SHORT} digits of the SHA-256 of the whole configuration; an asterisk marks a "
            f"modified working tree.{commit_sentence}"
        ),
        columns=columns,
        rows=tuple(rows),
        rules=tuple(rules),
    )


def _commit(commit: str, dirty: bool) -> str:
    return (commit[:7] or "unknown") + ("*" if dirty else "")


def _provenance_rows(plan: Plan, results: Results) -> tuple[list[tuple[Cell, ...]], list[int]]:
    """Return the rows, those that serve the same together, and the indices of the rows that begin a group."""
    runs = results.runs
    names = ("fingerprint", "run_id", "commit", "dirty", "seed", "seconds", "kind")
    groups: dict[tuple[str, str], list[tuple[Cell, ...]]] = {}
    for fingerprint, run_id, commit, dirty, seed, seconds, kind in zip(*(runs[name] for name in names), strict=True):
        seconds_cell: Cell = Missing() if math.isnan(seconds) else Number(seconds, 1)
        row = (Text(fingerprint[:SHORT]), Text(run_id), Text(_commit(commit, dirty)), Text(str(seed)), seconds_cell)
        groups.setdefault((kind, serves(plan, fingerprint)), []).append(row)
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for (_, use), members in groups.items():
        rules.append(len(rows))
        rows += [(*row, Text("" if index else use)) for index, row in enumerate(members)]
    return rows, rules[1:]


def serves(plan: Plan, fingerprint: str) -> str:
    """Return the rows and studies that a run is behind, in words."""
    keys_by_study = plan.studies_of(fingerprint)
    return "; ".join(f"{study}: {', '.join(keys)}" for study, keys in keys_by_study.items()) or "checkpoint only"
