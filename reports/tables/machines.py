"""This module says in words which kinds of machine the runs behind a table come from.

Results are the same bits on one kind alone. A kind is a processor, the instructions and the number of threads that
torch uses there, a GPU, and the versions of what computes. Runs that earlier versions of the code tracked do not say
it: they are of no kind, and taken for no other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablations.planning.plan import Cell, Plan
from ablations.study import Study
from reports.collect.results import FINISHED, Results
from reports.content.plan_words import short_titles

MACHINE = ("processor", "instructions", "threads", "gpu")
_COMPUTES = ("torch", "kernels")
_RECORDED = "processor"

Machine = tuple[tuple[str, str], ...]
"""The properties of a kind of machine, name and value."""


def machine_words(study: Study, plan: Plan, results: Results) -> Iterator[str]:
    """Yield sentences on the machines behind a study's table; nothing if they are of one kind."""
    kinds = _kinds(results)
    # Cells and their statuses stand in the same order, that of the plan.
    cells = [
        cell
        for cell, status in zip(plan.cells_of(study.name), _statuses(study, results), strict=True)
        if status == FINISHED
    ]
    runs = dict.fromkeys(key for cell in cells for key in _behind(plan, cell))
    recorded = {key: kinds[key] for key in runs if kinds.get(key)}
    # Where no run says it, they are all of an earlier version, and the appendix has a sentence on that.
    if 0 < len(recorded) < len(runs):
        count = len(runs) - len(recorded)
        yield (
            f"{count} of the {len(runs)} runs behind this table {'does' if count == 1 else 'do'} not say on which "
            "processor: whether they compare like with like cannot be told."
        )
    distinct = list(dict.fromkeys(recorded.values()))
    if len(distinct) < 2:
        return
    listed = _listed(distinct)
    mixed_rows = _pairs_apart(study, plan, cells, recorded)
    if study.is_about_cost:
        yield f"The networks were timed on {len(distinct)} kinds of machine ({listed}): latencies do not compare."
    elif mixed_rows:
        yield (
            f"The runs come from {len(distinct)} kinds of machine ({listed}). Repeats that are paired come from "
            f"different ones in {'; '.join(mixed_rows)}: these differences hold that of the machines too."
        )
    else:
        yield (
            f"The runs come from {len(distinct)} kinds of machine ({listed}). Every repeat is paired with one of its "
            "own kind; means and spreads are over all kinds."
        )


def unrecorded_words(results: Results) -> Iterator[str]:
    """Yield a sentence on the number of runs that do not name their processor, if there are any."""
    count = sum(not versions.get(_RECORDED) for versions in results.runs["versions"])
    if count:
        yield (
            f"{count} of {len(results.runs)} runs do not say on which processor they were measured; earlier versions "
            "of the code did not record it."
        )


def _kinds(results: Results) -> dict[str, Machine]:
    """Return the kind of machine of each run by fingerprint; an empty one where it was not recorded."""
    pairs = zip(results.runs["fingerprint"], results.runs["versions"], strict=True)
    return {str(key): kind_of(versions) for key, versions in pairs}


def kind_of(versions: Mapping[str, object]) -> Machine:
    """Return the kind of machine in a run's versions, an empty one if it was not recorded."""
    if not versions.get(_RECORDED):
        return ()
    return tuple((name, str(versions[name])) for name in (*MACHINE, *_COMPUTES) if name in versions)


def _statuses(study: Study, results: Results) -> Sequence[str]:
    rows = results.cells[results.cells["study"] == study.name]
    return [str(status) for status in rows["status"]]


def _behind(plan: Plan, cell: Cell) -> tuple[str, ...]:
    """Return the fingerprints of the runs behind a cell's value: its own and that of the training."""
    checkpoint = plan.node(cell.fingerprint).checkpoint
    return tuple(dict.fromkeys((checkpoint, cell.fingerprint)))


def _pairs_apart(study: Study, plan: Plan, cells: Iterable[Cell], known: Mapping[str, Machine]) -> list[str]:
    """Return in words the rows with repeats that are paired with one of another kind of machine."""
    of_cell = {
        (cell.network, cell.variant, cell.seed): tuple(known.get(key, ()) for key in _behind(plan, cell))
        for cell in cells
    }
    titles = short_titles(study)
    networks = {network.name: f"{network.title}: " for network in study.networks}
    seeds: dict[tuple[str, str], list[int]] = {}
    for (network, variant, seed), kinds in of_cell.items():
        # An empty kind was not recorded, and nothing can be said of such a pair.
        reference_kinds = of_cell.get((network, study.reference, seed))
        if (
            reference_kinds is not None
            and all(kinds)
            and all(reference_kinds)
            and not _is_one_kind(kinds, reference_kinds)
        ):
            seeds.setdefault((network, variant), []).append(seed)
    return [
        f"“{networks.get(network, '')}{titles[variant]}” (seed{'s' if len(row_seeds) > 1 else ''} "
        f"{', '.join(map(str, sorted(row_seeds)))})"
        for (network, variant), row_seeds in seeds.items()
    ]


def _is_one_kind(own: tuple[Machine, ...], other: tuple[Machine, ...]) -> bool:
    return set(own) == set(other)


def _listed(kinds: Sequence[Machine]) -> str:
    """Return the properties in which some kinds differ: `processor A or B; threads 1 or 2`."""
    names = dict.fromkeys(name for kind in kinds for name, _ in kind)
    values = {name: list(dict.fromkeys(dict(kind).get(name, "none") for kind in kinds)) for name in names}
    return "; ".join(f"{name} {' or '.join(distinct)}" for name, distinct in values.items() if len(distinct) > 1)
