"""Which kinds of machine the runs behind a table come from, in words: results are the same bits on one kind alone.

A kind is a processor, the instructions and the number of threads that torch uses there, a GPU, and the versions of what
computes. Runs that earlier versions of the code tracked do not say it: they are of no kind, and taken for no other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Cell, Plan
from ablations.study import Study
from reports.collect.results import FINISHED, Results
from reports.content.plan_words import short_titles

MACHINE = ("processor", "instructions", "threads", "gpu")
_COMPUTES = ("torch", "kernels")
_RECORDED = "processor"

Machine = tuple[tuple[str, str], ...]
"""What is told of a kind of machine, name and value."""


def machine_words(study: Study, plan: Plan, results: Results) -> Iterator[str]:
    """Yields what a reader of a study's table must know of the machines behind it; nothing if they are of one kind."""
    kinds = _kinds(results)
    cells = [
        cell
        for cell, status in zip(plan.cells_of(study.name), _statuses(study, results), strict=True)
        if status == FINISHED
    ]
    runs = dict.fromkeys(key for cell in cells for key in _behind(plan, cell))
    known = {key: kinds[key] for key in runs if kinds.get(key)}
    if 0 < len(known) < len(runs):
        count = len(runs) - len(known)
        yield (
            f"{count} of the {len(runs)} runs behind this table {'does' if count == 1 else 'do'} not say on which "
            "processor: whether they compare like with like cannot be told."
        )
    distinct = list(dict.fromkeys(known.values()))
    if len(distinct) < 2:
        return
    listed = _listed(distinct)
    apart = _pairs_apart(study, plan, cells, known)
    if study.is_about_cost:
        yield f"The networks were timed on {len(distinct)} kinds of machine ({listed}): latencies do not compare."
    elif apart:
        yield (
            f"The runs come from {len(distinct)} kinds of machine ({listed}). Repeats that are paired come from "
            f"different ones in {'; '.join(apart)}: these differences hold that of the machines too."
        )
    else:
        yield (
            f"The runs come from {len(distinct)} kinds of machine ({listed}). Every repeat is paired with one of its "
            "own kind; means and spreads are over all kinds."
        )


def unrecorded_words(results: Results) -> Iterator[str]:
    """Yields how many runs do not say on which processor they were measured, if some do not."""
    count = sum(not versions.get(_RECORDED) for versions in results.runs["versions"])
    if count:
        yield (
            f"{count} of {len(results.runs)} runs do not say on which processor they were measured; earlier versions "
            "of the code did not record it."
        )


def _kinds(results: Results) -> dict[str, Machine]:
    """Returns the kind of machine of each run by fingerprint; an empty one where it was not recorded."""
    pairs = zip(results.runs["fingerprint"], results.runs["versions"], strict=True)
    return {str(key): kind_of(versions) for key, versions in pairs}


def kind_of(versions: Mapping[str, object]) -> Machine:
    """Returns the kind of machine that a run's versions tell, an empty one if it was not recorded."""
    if not versions.get(_RECORDED):
        return ()
    return tuple((name, str(versions[name])) for name in (*MACHINE, *_COMPUTES) if name in versions)


def _statuses(study: Study, results: Results) -> Sequence[str]:
    rows = results.cells[results.cells["study"] == study.name]
    return [str(status) for status in rows["status"]]


def _behind(plan: Plan, cell: Cell) -> tuple[str, ...]:
    """Returns the fingerprints of the runs that a cell's value comes from: its own and that of the training."""
    node = plan.node(cell.fingerprint)
    return (node.trial.fingerprint, cell.fingerprint) if isinstance(node, EvaluationNode) else (cell.fingerprint,)


def _pairs_apart(study: Study, plan: Plan, cells: Iterable[Cell], known: Mapping[str, Machine]) -> list[str]:
    """Returns the rows some of whose repeats are paired with one of another kind of machine, in words."""
    of_cell = {
        (cell.network, cell.variant, cell.seed): tuple(known.get(key, ()) for key in _behind(plan, cell))
        for cell in cells
    }
    titles = short_titles(study)
    networks = {network.name: f"{network.title}: " for network in study.networks}
    seeds: dict[tuple[str, str], list[int]] = {}
    for (network, variant, seed), own in of_cell.items():
        other = of_cell.get((network, study.reference, seed))
        if other is not None and all(own) and all(other) and not _is_one_kind(own, other):
            seeds.setdefault((network, variant), []).append(seed)
    return [
        f"“{networks.get(network, '')}{titles[variant]}” (seed{'s' if len(found) > 1 else ''} "
        f"{', '.join(map(str, sorted(found)))})"
        for (network, variant), found in seeds.items()
    ]


def _is_one_kind(own: tuple[Machine, ...], other: tuple[Machine, ...]) -> bool:
    return set(own) == set(other)


def _listed(kinds: Sequence[Machine]) -> str:
    """Returns in what some kinds differ: `processor A or B; threads 1 or 2`."""
    names = dict.fromkeys(name for kind in kinds for name, _ in kind)
    values = {name: list(dict.fromkeys(dict(kind).get(name, "none") for kind in kinds)) for name in names}
    return "; ".join(f"{name} {' or '.join(found)}" for name, found in values.items() if len(found) > 1)
