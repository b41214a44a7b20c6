"""This module summarizes a study whose runs were made elsewhere, with the statistics of all others. Pure."""

from __future__ import annotations

from ablations.foreign_study import ForeignStudy
from reports.analysis.summary import StudySummary, compare_rows, row_of
from reports.collect.foreign.cells import ForeignCells


def summarize_foreign(study: ForeignStudy, cells: ForeignCells) -> StudySummary:
    """Return the summary of a foreign study, in the order of its variants."""
    rows = []
    for variant, repeats in cells.repeats.items():
        # No network is inspected, so that all rows are of one table.
        rows.append(row_of("", variant, repeats, cells.checkpoints[variant], cells.correctness[variant]))
    return compare_rows(study, rows)
