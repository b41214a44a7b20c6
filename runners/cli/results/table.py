"""Builds the tables of studies' results for a terminal: as many columns as its width has room for, then the verdicts.

It imports pandas and more, so verbs import it only when they print results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ablations.published import PublishedValue
from ablations.visible import visible
from runners.api.study_results import ResultRow, StudyResults
from runners.importing import without_collection

with without_collection():
    from reports.analysis.claims import JudgedClaim
    from reports.content.blocks import Tone
    from reports.content.formatting import DASH, number
    from reports.content.published import decimals_of, mark_note, marks_of
    from reports.tables.claims import verdict_cell

_TONES: dict[Tone, str] = {"good": "green", "poor": "yellow", "bad": "red", "quiet": "dim"}
_INDENT = " "
_ENDLESS = 10_000
_UNLEARNED = "!"
_LEGEND = (
    "±: standard deviation over seeds. Δ: paired difference to the reference with its 95 % interval; * p < 0.05, "
    "** p < 0.01, corrected over the table."
)


@dataclass(frozen=True)
class _Column:
    """A column: its heading, its cells, and whether a narrow terminal does without it."""

    heading: str
    cells: Sequence[str]
    is_optional: bool = False


def print_results(
    terminal: Console, studies: Sequence[StudyResults], *, brief: bool = False, every: bool = False
) -> None:
    """Print the table and the verdicts of each study, and at the end the meaning of the signs.

    Args:
        brief: Whether settings and meanings are left out.
        every: Whether the value of each seed is printed, too.
    """
    for results in studies:
        terminal.print()
        for block in _blocks(results, terminal, brief=brief, every=every):
            terminal.print(block)
    if studies and not brief:
        terminal.print()
        terminal.print(Text(" ".join(_meanings(studies)), style="dim"))


def print_verdicts(terminal: Console, studies: Sequence[StudyResults]) -> None:
    """Print the verdicts on the claims of each study without its table."""
    for results in studies:
        terminal.print()
        terminal.print(_title(results))
        terminal.print(_verdicts(results))


def _blocks(results: StudyResults, terminal: Console, *, brief: bool, every: bool) -> Iterator[RenderableType]:
    yield _title(results)
    if not brief:
        yield Text(visible(results.setting, lines=False), style="dim")
    yield _fitted(results, terminal)
    if every:
        yield from _seeds(results)
    if results.claims:
        yield _verdicts(results)


def _title(results: StudyResults) -> Text:
    name, title = results.study.name, results.study.title
    words = [(visible(title, lines=False), "bold")]
    if title != name:
        words.append((f" ({visible(name, lines=False)})", "dim"))
    return Text.assemble(*words)


def _fitted(results: StudyResults, terminal: Console) -> Table:
    """Return the table with the optional columns for which there is room, the last ones of them first given up."""
    columns = _columns(results)
    while True:
        table = _table(results, columns)
        optional = [column for column in columns if column.is_optional]
        # Measured as if there were room for everything, as a table is never wider than its terminal.
        endless = terminal.options.update(max_width=_ENDLESS)
        if not optional or terminal.measure(table, options=endless).maximum <= terminal.width:
            return table
        columns = [column for column in columns if column is not optional[-1]]


def _columns(results: StudyResults) -> list[_Column]:
    """Return the columns, each with a cell per row of the study."""
    facts, rows = results.study.metric_facts, results.rows
    columns = [
        _Column("n", [_count(row) for row in rows]),
        _Column(facts.heading, _means(rows, facts.decimals)),
    ]
    if any(row.delta is not None for row in rows):
        columns.append(_Column("Δ [95 % interval]", _deltas(rows, facts.decimals)))
    if any(row.published for row in rows):
        columns.append(_Column("published", _published([row.published for row in rows])))
    # In the order in which room is found for them.
    if any(row.published_delta for row in rows):
        texts = _published([row.published_delta for row in rows], signed=True)
        columns.append(_Column("its Δ", texts, is_optional=True))
    if any(math.isfinite(row.p_better) for row in rows):
        texts = [number(row.p_better) if math.isfinite(row.p_better) else "" for row in rows]
        columns.append(_Column("P(better)", texts, is_optional=True))
    if any(math.isfinite(row.mean.low) for row in rows):
        columns.append(_Column("95 % interval of mean", _intervals(rows, facts.decimals), is_optional=True))
    return columns


def _table(results: StudyResults, columns: Sequence[_Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    has_networks = list(results.networks) != [""]
    table.add_column("variant", overflow="fold")
    widths = []
    for column in columns:
        width = max(len(text) for text in (column.heading, *column.cells))
        # Filled up here, as rich would cut the blanks that stand for missing stars.
        table.add_column(column.heading.rjust(width), no_wrap=True)
        widths.append(width)
    indent = _INDENT if has_networks else ""
    previous = ""
    for index, row in enumerate(results.rows):
        if has_networks and row.network != previous:
            if previous:
                table.add_section()
            table.add_row(Text(visible(results.networks[row.network], lines=False), style="bold"))
            previous = row.network
        title = Text(indent + visible(row.title, lines=False))
        cells = [column.cells[index].rjust(width) for column, width in zip(columns, widths, strict=True)]
        table.add_row(title, *map(Text, cells))
    return table


def _count(row: ResultRow) -> str:
    return str(row.n) if row.n == row.planned else f"{row.n}/{row.planned}"


def _means(rows: Iterable[ResultRow], decimals: int) -> list[str]:
    parts: list[tuple[str, ...]] = []
    for row in rows:
        mean, spread = DASH, ""
        if row.mean.is_known:
            mean = number(row.mean.mean, decimals)
            # One repeat has no spread.
            if math.isfinite(row.mean.sd):
                spread = f" ± {number(row.mean.sd, decimals)}"
        parts.append((mean, spread, _UNLEARNED if row.has_unlearned else ""))
    return _aligned(parts)


def _deltas(rows: Iterable[ResultRow], decimals: int) -> list[str]:
    parts: list[tuple[str, ...]] = []
    for row in rows:
        if row.is_reference:
            parts.append(("reference", "", "", ""))
        elif row.delta is None or not row.delta.is_known:
            parts.append((DASH, "", "", ""))
        elif not row.delta.has_interval:
            parts.append((number(row.delta.mean, decimals, signed=True), "", "", ""))
        else:
            mean, low, high = (number(end, decimals, signed=True) for end in _ends(row.delta))
            parts.append((mean, f" [{low}", f", {high}]", f" {row.stars}" if row.stars else ""))
    return _aligned(parts, words=("reference", DASH))


def _ends(estimate: Any) -> tuple[float, float, float]:
    return estimate.mean, estimate.low, estimate.high


def _intervals(rows: Iterable[ResultRow], decimals: int) -> list[str]:
    pairs = []
    for row in rows:
        if math.isfinite(row.mean.low):
            pairs.append((f"[{number(row.mean.low, decimals)}", f", {number(row.mean.high, decimals)}]"))
        else:
            pairs.append(("", ""))
    return _aligned(pairs)


def _published(values: Sequence[PublishedValue | None], *, signed: bool = False) -> list[str]:
    decimals = max((decimals_of(value.value) for value in values if value is not None), default=1)
    pairs = []
    for value in values:
        if value is None:
            pairs.append(("", ""))
        else:
            # A number that is not surely known has a letter behind it.
            pairs.append((number(value.value, decimals, signed=signed), "".join(marks_of(value))))
    return _aligned(pairs)


def _aligned(parts: Sequence[tuple[str, ...]], words: Sequence[str] = ()) -> list[str]:
    """Return the parts of each cell as one text, so that the parts of all cells stand below each other.

    Args:
        words: First parts that stand for a whole cell and take no room among the others.
    """
    widths = [0] * max((len(cell) for cell in parts), default=0)
    for cell in parts:
        if cell[0] not in words:
            widths = [max(width, len(part)) for width, part in zip(widths, cell, strict=True)]
    total = sum(widths)
    texts = []
    for cell in parts:
        if cell[0] in words:
            # Below the last digits, in front of the marks or stars that others have behind them.
            texts.append(cell[0].rjust(total - widths[-1]).ljust(total))
        else:
            padded = [_filled(part, width) for part, width in zip(cell, widths, strict=True)]
            texts.append("".join(padded))
    return texts


def _filled(part: str, width: int) -> str:
    """Return a part filled up to a width: signs in front of a number stay where they are."""
    for lead in (" ± ", " [", ", ", "["):
        if part.startswith(lead):
            return lead + part.removeprefix(lead).rjust(width - len(lead))
    # Marks and stars begin at the left; numbers end at the right.
    if part.strip("* ABC!") == "":
        return part.ljust(width)
    return part.rjust(width)


def _seeds(results: StudyResults) -> Iterator[RenderableType]:
    """Yield the values of each row by seed, with what became of those that have none."""
    decimals = results.study.metric_facts.decimals
    grid = Table.grid(padding=(0, 2))
    for row in results.rows:
        prefix = f"{results.networks[row.network]}: " if row.network else ""
        values = [f"{seed}: {number(value, decimals)}" for seed, value in row.values.items()]
        values += [f"{seed}: {status}" for seed, status in row.absent.items()]
        grid.add_row(Text(visible(prefix + row.title, lines=False)), Text(visible(", ".join(values), lines=False)))
    yield Text("By seed:", style="dim")
    yield Padding(grid, (0, 0, 0, 2))


def _verdicts(results: StudyResults) -> RenderableType:
    """Return a line per claim: the sign of its verdict, the claim, and the verdict in words."""
    grid = Table.grid(padding=(0, 1))
    for claim in results.claims:
        cell = verdict_cell(claim.verdict)
        grid.add_row(Text(cell.text.partition(" ")[0], style=_TONES.get(cell.tone, "")), _verdict_line(results, claim))
    return grid


def _verdict_line(results: StudyResults, claim: JudgedClaim) -> Text:
    prefix = f"{results.networks[claim.network]}: " if claim.network else ""
    rank = "" if claim.rank == "exploratory" else " (primary)"
    tone = _TONES.get(verdict_cell(claim.verdict).tone, "")
    return Text.assemble(
        visible(f"{prefix}{claim.claim.name}{rank}: ", lines=False), (visible(claim.words, lines=False), tone)
    )


def _meanings(studies: Sequence[StudyResults]) -> Iterator[str]:
    """Yield the sentences on the signs that occur."""
    yield _LEGEND
    marks: set[str] = set()
    for results in studies:
        for row in results.rows:
            marks.update(marks_of(row.published))
    if any(row.has_unlearned for results in studies for row in results.rows):
        yield f"{_UNLEARNED}: a training behind it never learned, so that it says nothing of what it varies."
    for mark in sorted(marks):
        yield f"{mark}: {mark_note(mark)}"
