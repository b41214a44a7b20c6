"""This module builds the table of foreign results as they were read: every cell with its value, or why it has none."""

from __future__ import annotations

from ablations.foreign_study import ForeignStudy
from reports.collect.foreign.cells import ForeignCells
from reports.collect.foreign.measurements import Source
from reports.content.blocks import Column, Missing, Paragraph, Table, TableCell, Text
from reports.content.plan_words import short_titles
from reports.tables.cells import TableRow, columns_of, grouped, visible_columns

MOST_CELLS = 600
"""More cells than these are in the manifest alone."""


def measurements_table(study: ForeignStudy, cells: ForeignCells, source: Source) -> Table | Paragraph:
    """Return every cell of a foreign study, exactly as it was read; of very many, a sentence on where they are."""
    if cells.count > MOST_CELLS:
        return Paragraph(
            f"The numbers come from {cells.count:,} cells, too many for a table here. Each is in manifest.json, which "
            "the PDF and the HTML page carry with them."
        )
    titles = short_titles(study)
    titled_cells: list[tuple[str, TableRow]] = []
    for variant, repeats in cells.repeats.items():
        for seed, repeat in repeats.items():
            value: TableCell = Missing(repeat.status)
            run: TableCell = Text("")
            if repeat.finished:
                # All digits: whoever looks one up in the results must find it.
                value = Text(repr(repeat.value))
                run = Text(cells.measured[variant][seed].origin)
            titled_cells.append((titles[variant], (Text(str(seed)), value, run)))
    rows, rules = grouped(titled_cells)
    columns = (Column("variant"), *columns_of("mark", "seed", study.metric_facts.heading), Column("MLflow run", "code"))
    # The lines of a file change when it is sorted anew, which changes no result.
    columns, rows = visible_columns({"MLflow run": source.kind == "mlflow"}, columns, rows)
    caption = f"Every value with all its digits, as read from {source.title}. A repeat without one has the reason."
    return Table("Measurements", caption, columns, rows, rules=rules)
