"""This module builds the table of the launches behind a report: the estimate and the actual time of each. Data only."""

from __future__ import annotations

import datetime
import math

from ablations.launches import Record, duration, range_words
from reports.collect.results import Results
from reports.content.blocks import Column, Missing, Table, TableCell, Text
from reports.content.plan_words import plural
from reports.tables.cells import TableRow, columns_of, number_cell, text_cells, visible_columns

_CAPTION = (
    "Wall time of the launches that the numbers were made in. A range was to cover nine of ten launches; it comes from "
    "a few timed steps per network, or from earlier trainings on the machine. The ratio is actual over likely time; a "
    "launch that failed in part, was stopped or shared its work has none."
)
_ENERGY_CAPTION = " Energy is that of the whole machine meanwhile, as far as it counts it."
_ENERGY = "energy (kWh)"
JOULES_PER_KWH = 3.6e6


def launch_facts(results: Results) -> tuple[tuple[str, str], ...]:
    """Return the newest launch as a name and a value; nothing if none is known."""
    if not results.launches:
        return ()
    newest = results.launches[-1]
    actual = f"took {duration(newest.actual)} with {newest.workers} {plural(newest.workers, 'worker')}"
    if newest.estimated is None:
        return (("Last launch", f"{actual}; not estimated beforehand"),)
    words = f"estimated {range_words(newest.estimated)}, {actual}"
    if not math.isnan(newest.ratio):
        words += f", {newest.ratio:.2f} times that"
    return (("Last launch", words),)


def launches_table(results: Results) -> Table | None:
    """Return a row per launch, or `None` if none is known."""
    if not results.launches:
        return None
    all_columns = (
        *columns_of("text", "began (UTC)", "studies"),
        *columns_of("mark", "nodes", "workers"),
        *columns_of("text", "estimated", "took"),
        Column("ratio", "number"),
        Column(_ENERGY, "number"),
    )
    tells_energy = any(launch.energy is not None for launch in results.launches)
    columns, rows = visible_columns({_ENERGY: tells_energy}, all_columns, map(_row, results.launches))
    caption = _CAPTION
    if tells_energy:
        caption += _ENERGY_CAPTION
    return Table("Launches", caption, columns, rows)


def _row(launch: Record) -> TableRow:
    # In UTC: the same report has the same bytes on every machine.
    began = datetime.datetime.fromtimestamp(launch.began, tz=datetime.UTC)
    estimated: TableCell = Missing("not estimated")
    if launch.estimated is not None:
        estimated = Text(range_words(launch.estimated))
    return (
        *text_cells(f"{began:%Y-%m-%d %H:%M}", ", ".join(launch.studies), str(launch.nodes), str(launch.workers)),
        estimated,
        Text(duration(launch.actual)),
        number_cell(launch.ratio, 2),
        number_cell(math.nan if launch.energy is None else launch.energy / JOULES_PER_KWH, 4),
    )
