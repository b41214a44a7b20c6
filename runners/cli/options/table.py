"""Defines the options of `report` that choose a single table of it, for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from runners.cli.options.groups import grouped

if TYPE_CHECKING:
    from reports.tables.export.choice import TableChoice


@dataclass(frozen=True)
class TableOptions:
    """The values of `table_options`.

    Attributes:
        table: The name of a table, or `None` for the whole report.
        columns: Names of columns or rows, separated by commas.
        rows: Names of rows, or of columns where rows have become the columns.
        digits: Decimals of its numbers, or `None` for those of the report.
        interval: Whether differences have their intervals.
        spread: Whether means have their standard deviations.

    Raises:
        UsageError: If an option is given that only counts with `--table`.
    """

    table: str | None
    columns: str
    rows: str
    digits: int | None
    interval: bool
    spread: bool

    def __post_init__(self) -> None:
        # Silently ignored, they would leave a reader with other numbers than were asked for.
        is_plain = not self.columns and not self.rows and self.digits is None and self.interval and self.spread
        if self.table is None and not is_plain:
            raise click.UsageError(
                "--columns, --rows, --digits, --no-interval and --no-spread are about --table: which table?"
            )

    def choice(self) -> TableChoice:
        """Return what is taken of the table."""
        # scipy comes with it, for which `report --help` shall not wait.
        from reports.tables.export.choice import TableChoice

        assert self.table is not None
        return TableChoice(
            self.table,
            _names(self.columns),
            _names(self.rows),
            digits=self.digits,
            with_intervals=self.interval,
            with_spread=self.spread,
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


table_options = grouped(
    "table",
    TableOptions,
    click.option(
        "--table", metavar="NAME", help="Print one table, called like its study, for a paper; --output writes it."
    ),
    click.option("--columns", default="", metavar="NAMES", help="Its columns; or its rows, which become columns."),
    click.option("--rows", default="", metavar="NAMES", help="Its rows; its columns where rows became columns."),
    click.option("--digits", type=click.IntRange(0, 10), metavar="N", help="Decimals of its numbers."),
    click.option("--interval/--no-interval", default=True, help="Differences in it with their intervals or without."),
    click.option("--spread/--no-spread", default=True, help="Means in it with their standard deviations or without."),
)
