"""This module builds the table of the launches behind a report: the estimate and the actual time of each. Data only."""

from __future__ import annotations

import datetime
import math

from ablations.launches import Record, duration, range_words
from reports.collect.results import Results
from reports.content.blocks import Cell, Column, Missing, Number, Table, Text

_CAPTION = (
    "Wall time of the launches that the numbers were made in. A range was to cover nine of ten launches; it comes from "
    "a few timed steps per network, or from earlier trainings on the machine. The ratio is actual over likely time; a "
    "launch that failed in part, was stopped or shared its work has none."
)


def launch_facts(results: Results) -> tuple[tuple[str, str], ...]:
    """Return the newest launch as a name and a value; nothing if none is known."""
    if not results.launches:
        return ()
    newest = results.launches[-1]
    actual = f"{duration(newest.actual)} with {newest.workers} worker{'s' if newest.workers > 1 else ''}"
    if newest.estimated is None:
        return (("Last launch", f"took {actual}; not estimated beforehand"),)
    ratio = f", {newest.ratio:.2f} times that" if not math.isnan(newest.ratio) else ""
    return (("Last launch", f"estimated {range_words(newest.estimated)}, took {actual}{ratio}"),)


def launches_table(results: Results) -> Table | None:
    """Return a row per launch, or `None` if none is known."""
    if not results.launches:
        return None
    columns = (
        Column("began (UTC)"),
        Column("studies"),
        Column("nodes", "mark"),
        Column("workers", "mark"),
        Column("estimated"),
        Column("took"),
        Column("ratio", "number"),
    )
    rows = tuple(_row(launch) for launch in results.launches)
    return Table(title="Launches", caption=_CAPTION, columns=columns, rows=rows)


def _row(launch: Record) -> tuple[Cell, ...]:
    # In UTC: the same report has the same bytes on every machine.
    began = datetime.datetime.fromtimestamp(launch.began, tz=datetime.UTC)
    return (
        Text(f"{began:%Y-%m-%d %H:%M}"),
        Text(", ".join(launch.studies)),
        Text(str(launch.nodes)),
        Text(str(launch.workers)),
        Text(range_words(launch.estimated)) if launch.estimated is not None else Missing("not estimated"),
        Text(duration(launch.actual)),
        Missing() if math.isnan(launch.ratio) else Number(launch.ratio, 2),
    )
