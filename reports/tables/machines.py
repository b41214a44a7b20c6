"""This module says in words which kinds of machine the runs behind a table come from.

Results are the same bits on one kind alone. A kind is a processor, the instructions and the number of threads that
torch uses there, a GPU, and the versions of what computes. Runs that earlier versions of the code tracked do not say
it: they are of no kind, and taken for no other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from ablations.planning.plan import Cell, Plan
from ablations.study import Study
from reports.collect.results import Results
from reports.collect.tracked_runs import FINISHED
from reports.content.plan_words import network_prefix, plural, short_titles

MACHINE = ("processor", "instructions", "threads", "gpu")
_COMPUTES = ("torch", "kernels")
_RECORDED = "processor"

MachineKind = tuple[tuple[str, str], ...]
"""The properties of a kind of machine, name and value."""


def machine_words(study: Study, plan: Plan, results: Results) -> Iterator[str]:
    """Yield sentences on the machines behind a study's table; nothing if they are of one kind."""
    # By fingerprint; empty where an earlier version of the code recorded no processor.
    kinds = dict(zip(results.runs["fingerprint"], map(kind_of, results.runs["versions"]), strict=True))
    statuses = results.cells.loc[results.cells["study"] == study.name, "status"]
    cells: list[Cell] = []
    runs: dict[str, None] = {}
    # Cells and their statuses stand in the same order, that of the plan.
    for cell, status in zip(plan.cells_of(study.name), statuses, strict=True):
        if status == FINISHED:
            cells.append(cell)
            runs |= dict.fromkeys(_behind(plan, cell))
    recorded = {key: kinds[key] for key in runs if kinds.get(key)}
    # Where no run says it, they are all of an earlier version, and the appendix has a sentence on that.
    if 0 < len(recorded) < len(runs):
        count = len(runs) - len(recorded)
        verb = "does" if count == 1 else "do"
        yield (
            f"{count} of the {len(runs)} runs behind this table {verb} not say on which processor: whether they "
            "compare like with like cannot be told."
        )
    distinct = list(dict.fromkeys(recorded.values()))
    if len(distinct) < 2:
        return
    subject = f"{len(distinct)} kinds of machine ({_listed(distinct)})"
    mixed_rows = _pairs_apart(study, plan, cells, recorded)
    # Latencies have no repeats: networks are compared with each other, not in pairs.
    if study.is_about_cost:
        yield f"The networks were timed on {subject}: latencies do not compare."
    elif mixed_rows:
        yield (
            f"The runs come from {subject}. Repeats that are paired come from different ones in "
            f"{'; '.join(mixed_rows)}: these differences hold that of the machines too."
        )
    else:
        yield (
            f"The runs come from {subject}. Every repeat is paired with one of its own kind; means and spreads are "
            "over all kinds."
        )


def unrecorded_words(results: Results) -> Iterator[str]:
    """Yield a sentence on the number of runs that do not name their processor, if there are any."""
    count = list(map(kind_of, results.runs["versions"])).count(())
    if count:
        yield (
            f"{count} of {len(results.runs)} runs do not say on which processor they were measured; earlier versions "
            "of the code did not record it."
        )


def kind_of(versions: Mapping[str, object]) -> MachineKind:
    """Return the kind of machine in a run's versions, an empty one if it was not recorded."""
    if not versions.get(_RECORDED):
        return ()
    return tuple((name, str(versions[name])) for name in (*MACHINE, *_COMPUTES) if name in versions)


def _behind(plan: Plan, cell: Cell) -> tuple[str, ...]:
    """Return the fingerprints of the runs behind a cell's value: its own and that of the training."""
    checkpoint = plan.node(cell.fingerprint).checkpoint
    return tuple(dict.fromkeys((checkpoint, cell.fingerprint)))


def _pairs_apart(study: Study, plan: Plan, cells: Iterable[Cell], machines: Mapping[str, MachineKind]) -> list[str]:
    """Return in words the rows with repeats that are paired with one of another kind of machine."""
    kinds: dict[tuple[str, str, int], set[MachineKind]] = {}
    for cell in cells:
        kinds[cell.network, cell.variant, cell.seed] = {machines.get(key, ()) for key in _behind(plan, cell)}
    seeds: dict[tuple[str, str], list[int]] = {}
    for (network, variant, seed), row_kinds in kinds.items():
        # An empty kind was not recorded, and nothing can be said of such a pair, nor of one without its reference.
        reference_kinds = kinds.get((network, study.reference, seed), {()})
        if () not in row_kinds | reference_kinds and row_kinds != reference_kinds:
            seeds.setdefault((network, variant), []).append(seed)
    titles = short_titles(study)
    words = []
    for (network, variant), row_seeds in seeds.items():
        title = network_prefix(study, network) + titles[variant]
        listed = ", ".join(map(str, sorted(row_seeds)))
        words.append(f"“{title}” ({plural(len(row_seeds), 'seed')} {listed})")
    return words


def _listed(kinds: Iterable[MachineKind]) -> str:
    """Return the properties in which some kinds differ: `processor A or B; threads 1 or 2`."""
    properties: list[dict[str, str]] = list(map(dict, kinds))
    words = []
    for name in dict.fromkeys(chain.from_iterable(properties)):
        values = dict.fromkeys(kind.get(name, "none") for kind in properties)
        if len(values) > 1:
            words.append(f"{name} {' or '.join(values)}")
    return "; ".join(words)
