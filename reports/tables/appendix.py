"""This module builds the appendix's tables: settings, versions, and the run that every number comes from. Data only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, starmap
from typing import Any

from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.spec.fingerprint import SHORT
from ablations.spec.parts import Placement
from ablations.spec.settings import flatten
from ablations.spec.titles import intervention_title, placement_title
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from reports.collect.results import Results
from reports.content.blocks import Column, Paragraph, Table, Text
from reports.content.plan_words import network_titles, plugins_in, short_titles
from reports.tables.cells import TableRow, columns_of, grouped, number_cell, text_cells, visible_columns

Flat = dict[str, str]
MOST_RUNS = 500
"""More runs than these are listed in a file instead of a table."""
_UNSET, _NO_INTERVENTION = "–", "none"
RowTitles = tuple[str, str]
"""Titles of an inspected network (or empty) and of a variant."""


def shared_settings_table(plan: Plan, common: Flat) -> Table:
    """Return the `common` settings of a plan, in which those that nothing reads are left out."""
    nodes = "trainings" if plan.trials else "networks"
    return Table(
        title="Settings",
        caption=(
            f"The settings of most {nodes} of this report, defaults included; "
            "where a study has others, its table below says so. "
            "A network reads those that apply to it: a static one has no kernels and no temperature."
        ),
        columns=(Column("setting", "code"), Column("value")),
        rows=tuple(starmap(text_cells, common.items())),
    )


def common_settings(plan: Plan) -> Flat:
    """Return per setting the value that most trainings of the plan have; none for one that most do not have.

    Where nothing is trained, the counted networks take the place of the trainings.
    """
    nodes: Iterable[Node] = plan.trials.values() or plan.costs.values()
    flats = list(_counted_settings(nodes))
    # A network that is not dynamic lacks settings: the keys of all, in the order in which they first occur.
    keys: dict[str, None] = {}
    for flat, _ in flats:
        keys |= dict.fromkeys(flat)
    common: Flat = {}
    for key in keys:
        counts: Counter[str] = Counter()
        for flat, count in flats:
            counts[flat.get(key, _UNSET)] += count
        # Of equally frequent values, one that is set comes before none.
        value = max(counts, key=lambda value: (counts[value], value != _UNSET))
        if value != _UNSET:
            common[key] = value
    return common


def _counted_settings(nodes: Iterable[Node]) -> Iterator[tuple[Flat, int]]:
    """Yield settings with the number of nodes that have them; repeats share a spec's parts and count together."""
    first: dict[tuple[int, ...], Node] = {}
    counts: Counter[tuple[int, ...]] = Counter()
    for node in nodes:
        spec = node.spec
        # The plan makes the repeats of a row from the same parts, so that identity is enough and much faster.
        identity = tuple(id(getattr(spec, name)) for name in type(spec).model_fields if name != "seed")
        first.setdefault(identity, node)
        counts[identity] += 1
    for identity, node in first.items():
        yield _settings_that_count(node), counts[identity]


def varying_settings_table(study: Study, plan: Plan, common: Flat) -> Table:
    """Return the settings of a study that are not the `common` ones: a row per value, with the rows that have it."""
    settings_by_row = _settings_by_row(study, plan)
    all_rows = list(settings_by_row)
    common = {**common, "intervention": _NO_INTERVENTION}
    keyed_cells: list[tuple[str, TableRow]] = []
    for key in dict.fromkeys(chain.from_iterable(settings_by_row.values())):
        holders: dict[str, list[RowTitles]] = {}
        for row, settings in settings_by_row.items():
            # Of a network or a training, what is not set is not read; of the data it has a meaning: all of them.
            if key in settings or key.startswith("data."):
                holders.setdefault(settings.get(key, _UNSET), []).append(row)
        # A setting that all rows share with most of the report needs no line here.
        if list(holders) != [common.get(key, _UNSET)]:
            for value, holding_rows in holders.items():
                keyed_cells.append((key, text_cells(value, _listed(holding_rows, all_rows))))
    rows, rules = grouped(keyed_cells)
    return Table(
        title=study.title,
        caption="The settings in which its rows are not like most of this report, or not like each other.",
        columns=(Column("setting", "code"), Column("value"), Column("rows")),
        rows=rows,
        rules=rules,
    )


def _listed(rows: list[RowTitles], all_rows: list[RowTitles]) -> str:
    """Return rows in words: all variants on a network, or a variant on all networks, as one."""
    if len(rows) == len(all_rows):
        return "all"
    listed_networks, listed_variants = zip(*rows, strict=True)
    networks, variants = zip(*all_rows, strict=True)
    titles: dict[str, None] = {}
    for network, variant in rows:
        # The listed rows are some of all, each once: equal counts mean that none is missing.
        if network and listed_networks.count(network) == networks.count(network):
            titles[f"network {network}"] = None
        elif listed_variants.count(variant) == variants.count(variant):
            titles[variant] = None
        else:
            titles[f"{network}: {variant}"] = None
    # So many titles would hide the few rows that differ from them.
    if len(titles) > 3 and len(rows) > len(all_rows) / 2:
        return f"the other {len(rows)} of {len(all_rows)}"
    return "; ".join(titles)


def _settings_by_row(study: Study, plan: Plan) -> dict[RowTitles, Flat]:
    titles = short_titles(study)
    networks = network_titles(study)
    settings: dict[RowTitles, Flat] = {}
    for cell in plan.cells_of(study.name):
        row = (networks[cell.network], titles[cell.variant])
        # Repeats of a row differ in their seed alone, which is no setting here: the first stands for all.
        if row not in settings:
            node = plan.node(cell.fingerprint)
            intervention = _NO_INTERVENTION
            if node.intervention is not None:
                intervention = intervention_title(node.intervention)
            settings[row] = {**_settings_that_count(node), "intervention": intervention}
    return settings


def _settings_that_count(node: Node) -> Flat:
    """Return the settings of a node; of a network whose cost is counted, only those of the network."""
    settings = flat_settings(node.spec)
    if node.kind == "cost":
        return {key: value for key, value in settings.items() if key.startswith("model.")}
    return settings


def flat_settings(spec: TrialSpec) -> Flat:
    """Return the settings of a trial but its seed as words, without those that nothing reads."""
    settings = flatten(spec.model_dump(exclude={"seed"}))
    # A placement has fields, but a reader takes it for one value.
    settings["model.where"] = spec.model.where
    return {key: _words(value) for key, value in settings.items() if value is not None}


def _words(value: Any) -> str:
    if isinstance(value, Placement):
        return placement_title(value)
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def versions_table(results: Results) -> Table:
    """Return the versions that the runs were made with, a row per name and value."""
    counts: Counter[tuple[str, str]] = Counter()
    for versions in results.runs["versions"]:
        for name, value in versions.items():
            counts[str(name), str(value)] += 1
    return Table(
        title="Versions",
        caption="Software and machine that the runs recorded.",
        columns=(Column("what"), Column("version"), Column("runs", "mark")),
        rows=tuple(text_cells(name, value, str(count)) for (name, value), count in sorted(counts.items())),
    )


def plugins_table(plan: Plan) -> Table | None:
    """Return the plug-ins that the numbers depend on, a row per registered name, or `None` if there are none."""
    rows = []
    for label, entry in sorted(plugins_in(plan).items()):
        version = entry["code"]
        # 64 characters are a SHA-256, of which the first digits are enough; a version is shorter and stays whole.
        if len(version) >= 64:
            version = version[:SHORT]
        rows.append(text_cells(label, entry["plugin"], version))
    if not rows:
        return None
    return Table(
        title="Plug-ins",
        caption=(
            "Code of the user's that the numbers depend on: its version where one was given, else the first "
            f"{SHORT} digits of the SHA-256 of the code. It is a part of the fingerprints."
        ),
        columns=(Column("registers"), Column("plug-in"), Column("version", "code")),
        rows=tuple(rows),
    )


def commits_table(results: Results) -> Table:
    """Return the commits that the runs were made from; those of a modified working tree are flagged."""
    counts = Counter(zip(results.runs["commit"], results.runs["dirty"], strict=True))
    rows = []
    for (commit, dirty), count in sorted(counts.items()):
        working_tree = "modified" if dirty else "clean"
        rows.append(text_cells(commit or "unknown", working_tree, str(count)))
    return Table(
        title="Commits",
        caption="Source code that the runs were made from; “modified”: with changes that no commit holds.",
        columns=(Column("commit", "code"), Column("working tree"), Column("runs", "mark")),
        rows=tuple(rows),
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
    commits = set(zip(results.runs["commit"], results.runs["dirty"], strict=True))
    all_columns = (
        *columns_of("code", "fingerprint", "MLflow run", "commit"),
        Column("seed", "mark"),
        Column("seconds", "number"),
        Column("serves"),
    )
    all_rows, rules = _provenance_rows(plan, results)
    # A column of one value says nothing: the caption has it instead.
    columns, rows = visible_columns({"commit": len(commits) != 1}, all_columns, all_rows)
    commit_sentence = ""
    if len(commits) == 1:
        commit_sentence = f" All are from commit {_commit(*commits.pop())}."
    return Table(
        title="Runs",
        caption=(
            "Where every number comes from: trainings, evaluations of their checkpoints, counted networks. "
            f"Fingerprint: the first {SHORT} digits of the SHA-256 of the whole configuration; an asterisk marks a "
            f"modified working tree.{commit_sentence}"
        ),
        columns=columns,
        rows=rows,
        rules=tuple(rules),
    )


def _commit(commit: str, dirty: bool) -> str:
    name = commit[:7] or "unknown"
    if dirty:
        return f"{name}*"
    return name


def _provenance_rows(plan: Plan, results: Results) -> tuple[list[TableRow], list[int]]:
    """Return the rows, those that serve the same together, and the indices of the rows that begin a group."""
    names = ["fingerprint", "run_id", "commit", "dirty", "seed", "seconds", "kind"]
    runs = results.runs[names].itertuples(index=False, name=None)
    groups: dict[tuple[str, str], list[TableRow]] = {}
    for fingerprint, run_id, commit, dirty, seed, seconds, kind in runs:
        texts = text_cells(fingerprint[:SHORT], run_id, _commit(commit, dirty), str(seed))
        # A training and an evaluation may serve the same rows, and are apart all the same.
        groups.setdefault((kind, serves(plan, fingerprint)), []).append((*texts, number_cell(seconds, 1)))
    rows: list[TableRow] = []
    rules = []
    for (_, use), members in groups.items():
        rules.append(len(rows))
        label = use
        for row in members:
            rows.append((*row, Text(label)))
            label = ""
    # The first group needs no rule above it.
    return rows, rules[1:]


def serves(plan: Plan, fingerprint: str) -> str:
    """Return the rows and studies that a run is behind, in words."""
    uses = []
    for study, keys in plan.studies_of(fingerprint).items():
        uses.append(f"{study}: {', '.join(keys)}")
    # A training that is no row itself is there for its checkpoint, which rows evaluate.
    return "; ".join(uses) or "checkpoint only"
