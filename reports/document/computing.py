"""This module tells what a report cost: the computing of all runs of its studies, by kind, outcome and machine.

A reader sees the numbers of a report, but their price is also what was tuned, failed, done anew and aborted for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ablations.launches import measured_duration
from reports.collect.computing.accounted import KINDS, AccountedRun, Computing, Outcome, total_seconds
from reports.collect.results import Results
from reports.content.blocks import Block, Paragraph, Section, Table
from reports.content.plan_words import plural
from reports.tables.cells import TableRow, columns_of, grouped, text_cells
from reports.tables.launches import JOULES_PER_KWH

_KIND_TITLES = {
    "trial": "training",
    "network": "network trained elsewhere",
    "evaluation": "evaluation",
    "cost": "count of a network",
    "tuning": "trial of a tuning",
    "search": "trial of a search",
}
_OUTCOME_TITLES: dict[Outcome, str] = {
    "counted": "in this report",
    "finished": "finished, not in this report",
    "superseded": "done anew",
    "failed": "failed",
    "aborted": "aborted",
    "running": "not ended",
}
# The settings of these runs are proposed by an optimiser, so that none of them is a cell of a table.
_PROPOSED = ("tuning", "search")
_AMOUNTS = ("runs", "attempts", "device time", "share")
_DEFINITIONS = (
    "Time is device time: the wall time of all attempts at a run, times the devices that it ran on. A device is a GPU, "
    "or a process on a CPU with its threads. A run that was resumed or tried again counts the time of every attempt; a "
    "run that several studies share counts once. Of an attempt that was killed, the time until its last sign of life "
    "counts, which is a lower bound. Of a failed or aborted run of an earlier version, the time from its beginning to "
    "its end counts."
)
_LIMITS = (
    "All runs of these studies in these experiments of the tracking store count, whatever their settings and seeds. "
    "What is not there is not counted: runs that were deleted in MLflow, runs in other stores, at other presets or on "
    "other data, and what was tried before anything was tracked."
)


def computing_fact(computing: Computing) -> str:
    """Return the computing in a line: the report's runs, all runs, and the number of those that it does not count."""
    # The time of what was not counted stands beside the report's own, as leaving it out flatters a method.
    words = f"{_time(computing.counted)} in this report's runs; {_time(computing.runs)} in all"
    counts = []
    for number, label in _uncounted(computing):
        if number:
            counts.append(f"{number:,} {label}")
    if counts:
        words += f", with {', '.join(counts)}"
    return words


def _uncounted(computing: Computing) -> Iterable[tuple[int, str]]:
    """Yield the numbers of runs that no number of the report comes from, with their labels."""
    of_tuning, of_search, beside = 0, 0, 0
    for run in computing.of("finished"):
        if run.kind == "tuning":
            of_tuning += 1
        elif run.kind == "search":
            of_search += 1
        else:
            beside += 1
    yield len(computing.of("failed")), "failed"
    yield len(computing.of("superseded")), "done anew"
    yield len(computing.of("aborted")), "aborted"
    yield len(computing.of("running")), "not ended"
    yield of_tuning, "of tuning"
    yield of_search, "of a search"
    yield beside, "with other settings or seeds"


def computing_section(results: Results) -> Section | None:
    """Return the appendix's section on computing, or `None` if no run is known."""
    computing = results.computing
    if not computing.runs:
        return None
    blocks: list[Block] = [Paragraph(sum_words(computing)), _runs_table(computing), _machines_table(computing)]
    blocks.append(Paragraph(energy_words(results), "Energy"))
    blocks += [Paragraph(_DEFINITIONS, "What counts"), Paragraph(_LIMITS, "What is not known")]
    return Section("Computing", tuple(blocks))


def sum_words(computing: Computing) -> str:
    """Return the sentences on the time of the report's runs, of all runs, and on their ratio."""
    counted, every = total_seconds(computing.counted), total_seconds(computing.runs)
    words = (
        f"The numbers of this report took {measured_duration(counted)}; everything that was computed for these studies "
        f"took {measured_duration(every)}"
    )
    if counted > 0:
        words += f", {every / counted:.2f} times as much"
    words += "."
    unknown = sum(run.seconds is None for run in computing.runs)
    if unknown:
        words += f" The time of {unknown:,} {plural(unknown, 'run')} is not known and not in these sums."
    tried_again = [run.attempts - 1 for run in computing.runs if run.attempts > 1]
    if tried_again:
        words += (
            f" {len(tried_again):,} {plural(len(tried_again), 'run')} took more than one attempt: "
            f"{sum(tried_again):,} more in all."
        )
    return words


def energy_words(results: Results) -> str:
    """Return the sentences on the energy of the launches behind the report, as far as their machines tell it."""
    launches = results.launches
    # A launch without a counter is not one without energy, so that both numbers of launches are told.
    counted = [launch for launch in launches if launch.energy is not None]
    if not counted:
        return f"Not told by the machines of the launches on record ({len(launches)})."
    joules = math.fsum(launch.energy or 0.0 for launch in counted)
    parts = " and ".join(sorted({launch.energy_of for launch in counted}))
    return (
        f"{joules / JOULES_PER_KWH:.4f} kWh in {len(counted)} of {len(launches)} launches on record, counted by "
        f"{parts} themselves, without the rest of the machine. Other work on the machine meanwhile is in it; launches "
        "that are not on record are not."
    )


def _runs_table(computing: Computing) -> Table:
    runs: dict[tuple[str, Outcome], list[AccountedRun]] = {}
    for run in computing.runs:
        runs.setdefault((run.kind, run.outcome), []).append(run)
    every = total_seconds(computing.runs)
    titled_cells: list[tuple[str, TableRow]] = []
    for kind in KINDS:
        for outcome, title in _OUTCOME_TITLES.items():
            members = runs.get((kind, outcome))
            if members is None:
                continue
            # What a tuning or a search tries is in no table, and is no waste either.
            if outcome == "finished" and kind in _PROPOSED:
                title = "finished"
            titled_cells.append((_KIND_TITLES[kind], text_cells(title, *_amounts(members, every))))
    rows, rules = grouped(titled_cells)
    columns = (*columns_of("text", "kind", "outcome"), *columns_of("mark", *_AMOUNTS))
    total = text_cells("all", "", *_amounts(computing.runs, every))
    return Table(
        title="Runs and their time",
        caption=(
            "All runs of these studies, by kind and outcome. Runs that failed, were aborted or were done anew are in "
            "no other table."
        ),
        columns=columns,
        rows=(*rows, total),
        rules=(*rules, len(rows)),
    )


def _machines_table(computing: Computing) -> Table:
    """Return the time on each kind of machine, the most first."""
    by_machine: dict[tuple[bool, str], list[AccountedRun]] = {}
    for run in computing.runs:
        by_machine.setdefault((run.gpu, run.machine), []).append(run)
    every = total_seconds(computing.runs)
    # The name decides between equal times: the same report has the same bytes.
    machines = sorted(by_machine, key=lambda key: (-total_seconds(by_machine[key]), key))
    rows = []
    for gpu, machine in machines:
        label, device = machine, "GPU" if gpu else "CPU"
        if not machine:
            label, device = "not recorded", "–"
        rows.append(text_cells(label, device, *_amounts(by_machine[gpu, machine], every)))
    return Table(
        title="Machines",
        caption="Device time by kind of device. A run that failed before it chose its device recorded none.",
        columns=(*columns_of("text", "machine", "device"), *columns_of("mark", *_AMOUNTS)),
        rows=tuple(rows),
    )


def _amounts(runs: Sequence[AccountedRun], every: float) -> tuple[str, ...]:
    """Return number, attempts, time and share of some runs in words."""
    share = "–"
    if every > 0:
        share = f"{100 * total_seconds(runs) / every:.1f} %"
    return f"{len(runs):,}", f"{sum(run.attempts for run in runs):,}", _time(runs), share


def _time(runs: Iterable[AccountedRun]) -> str:
    return measured_duration(total_seconds(runs))
