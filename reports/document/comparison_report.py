"""This module builds the document on two sides of a study: each row on both, the differences, other settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ablations.errors import ReportError
from ablations.vocabulary import STUDY_METRICS
from reports.analysis.comparison import MatchedRow, difference, effects, match_rows
from reports.analysis.statistics import estimate
from reports.collect.compared_study import ComparedRow, ComparedStudy
from reports.collect.results import MISSING
from reports.content.blocks import (
    Cell,
    Column,
    ColumnKind,
    Document,
    Facts,
    Missing,
    Note,
    Number,
    Paragraph,
    Section,
    Table,
    Text,
)
from reports.content.plan_words import telling
from reports.document.prose import when
from reports.tables.study import interval_cell

_LISTED = 8
_HOW = (
    "Δ is right minus left. Paired: both sides have the same fingerprints, seed by seed, so that the interval is "
    "Student's t over the differences of the pairs. Unpaired: Welch's t interval, in which each side has its own "
    "spread over seeds. Same runs, or some of them on both sides: nothing can be told from them."
)
_EFFECTS = (
    "Each row's paired difference to the reference of its own side, and how much larger it is on the right; with its "
    "95 % interval, in which the sides are paired or not as in the table above. It says whether a finding holds on "
    "both sides where their levels cannot be compared, as on two data sets."
)


def side_by_side(left: ComparedStudy, right: ComparedStudy, matched: Mapping[str, str] | None = None) -> Document:
    """Return the document on two sides.

    Args:
        left: One side.
        right: The other.
        matched: Rows of the left with the rows of the right that they are held against; others are by name.

    Raises:
        ReportError: If the sides are judged by different metrics, or a row that is named is not there.
    """
    # A difference of two metrics has no meaning, whatever the rows are.
    if left.metric != right.metric:
        raise ReportError(
            f"{left.study} is judged by {left.metric} and {right.study} by {right.metric}: they cannot be compared."
        )
    rows = match_rows(left, right, matched or {})
    # The newest run dates the document, so that equal runs give equal bytes whenever it is made.
    newest = max(left.newest, right.newest)
    by_effect = effects_table(left, right, rows)
    differing = settings_table(left, right, rows)
    return Document(
        title=f"{_name(left)} against {_name(right)}",
        subtitle=f"{STUDY_METRICS[left.metric]} · newest run {when(newest)}",
        running_head=f"{left.title} against {right.title}",
        timestamp=newest // 1000,
        summary=tuple(_summary(left, right)),
        sections=(
            Section("Row by row", (rows_table(left, right, rows), *([by_effect] if by_effect else []))),
            Section("What is not the same", (sources_table(left, right), *([differing] if differing else [_SETTINGS]))),
        ),
        appendix=(Section("Runs", (runs_table(left, right, rows),)),),
    )


_SETTINGS = Paragraph("The rows that both sides have do not differ in any setting.")


def _name(side: ComparedStudy) -> str:
    return f"{side.title} ({side.request.commit[:7]})" if side.request.commit else side.title


def _summary(left: ComparedStudy, right: ComparedStudy) -> Iterator[Facts | Paragraph]:
    yield Facts((("Left", _told(left)), ("Right", _told(right))))
    for name, side in (("left", left), ("right", right)):
        yield from (Paragraph(f"On the {name}: {warning}", "Caution", "caveat") for warning in side.warnings)


def _told(side: ComparedStudy) -> str:
    request = side.request.scale
    facts = [side.study, f"preset {request.preset.name}"]
    facts += [f"commit {side.request.commit}"] if side.request.commit else []
    facts += [f"{key} = {value}" for key, value in request.overrides.items()]
    facts += ["tuned"] if request.tuned is not None else []
    return f"{', '.join(facts)}; {len(side.runs)} runs in {side.shown_store}"


def rows_table(left: ComparedStudy, right: ComparedStudy, matched: tuple[MatchedRow, ...]) -> Table:
    """Return each row on both sides with its difference."""
    wording = telling(left.metric)
    columns = (
        Column("row"),
        *(Column(heading, kind, group) for group in ("left", "right") for heading, kind in _own(wording.heading)),
        Column("Δ", "interval", "right − left"),
        Column("how", "text", "right − left"),
    )
    rows = [
        (
            Text(_title(left, right, row)),
            *_cells(left, row.left),
            *_cells(right, row.right),
            *_delta(left, right, row),
        )
        for row in matched
    ]
    measured = STUDY_METRICS[left.metric]
    caption = f"{measured[0].upper()}{measured[1:]}: mean ± standard deviation over seeds. {_HOW}"
    return Table("Row by row", caption, columns, tuple(rows), tuple(_notes(left, right)))


def _own(heading: str) -> tuple[tuple[str, ColumnKind], ...]:
    return ((heading, "number"), ("n", "mark"))


def _title(left: ComparedStudy, right: ComparedStudy, matched: MatchedRow) -> str:
    if not (matched.left and matched.right):
        return left.rows[matched.left].title if matched.left else right.rows[matched.right].title
    left_title, right_title = left.rows[matched.left].title, right.rows[matched.right].title
    return left_title if left_title == right_title else f"{left_title} | {right_title}"


def _cells(side: ComparedStudy, key: str) -> tuple[Cell, Cell]:
    if not key:
        return Missing("not there"), Text("0")
    row, wording = side.rows[key], telling(side.metric)
    if not row.complete:
        count = f"{len(row.values)}/{len(row.repeats)}"
        return Missing(f"n = {count}"), Text(count)
    numbers = estimate(tuple(row.values.values()))
    return Number(numbers.mean, wording.decimals, numbers.sd), Text(str(numbers.n))


def _delta(left: ComparedStudy, right: ComparedStudy, matched: MatchedRow) -> tuple[Cell, Cell]:
    if not (matched.left and matched.right):
        return Missing(), Text("")
    delta, comparison = difference(left.rows[matched.left], right.rows[matched.right])
    if not delta.is_known:
        return Missing(), Text(comparison)
    return interval_cell(delta, telling(left.metric).decimals), Text(comparison)


def _notes(left: ComparedStudy, right: ComparedStudy) -> Iterator[Note]:
    for name, side in (("left", left), ("right", right)):
        absent = [f"{row.title} ({_why(row)})" for row in side.rows.values() if not row.complete]
        if absent:
            remainder = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
            yield Note(
                f"Without a mean on the {name}, as a repeat is missing: {'; '.join(absent[:_LISTED])}{remainder}."
            )
    yield Note("Each interval holds for its row alone: nothing is corrected for the number of rows.")


def _why(row: ComparedRow) -> str:
    absent = {seed: repeat.status for seed, repeat in row.repeats.items() if not repeat.finished}
    failed = [f"seed {seed} {status}" for seed, status in absent.items() if status != MISSING]
    # What has no run at all comes last.
    return ", ".join([*failed, *(f"seed {seed} {MISSING}" for seed, status in absent.items() if status == MISSING)])


def effects_table(left: ComparedStudy, right: ComparedStudy, matched: tuple[MatchedRow, ...]) -> Table | None:
    """Return each row's difference to the reference of its side, on both sides, or `None` where there is none."""
    decimals = telling(left.metric).decimals
    rows: list[tuple[Cell, ...]] = []
    for row in matched:
        estimates = effects(left, right, row)
        if estimates is not None:
            left_effect, right_effect, side_difference = estimates
            cells = [interval_cell(effect, decimals) for effect in (left_effect, right_effect, side_difference)]
            rows.append((Text(_title(left, right, row)), *cells))
    if not rows:
        return None
    columns = (Column("row"), *(Column(name, "interval") for name in ("Δ left", "Δ right", "right − left")))
    return Table("Effects", _EFFECTS, columns, tuple(rows))


def sources_table(left: ComparedStudy, right: ComparedStudy) -> Table:
    """Return the sources of both sides, with a mark where they differ."""
    facts = [
        ("study", left.study, right.study),
        ("experiment", left.experiment, right.experiment),
        ("tracking store", left.shown_store, right.shown_store),
        ("commits", *(_listed(run.marked_commit for run in side.runs) for side in (left, right))),
        ("data", *(_listed(run.data or "unknown" for run in side.runs) for side in (left, right))),
        ("runs", *(str(len(side.runs)) for side in (left, right))),
        ("newest run", *(when(side.newest) for side in (left, right))),
    ]
    rows = tuple(
        (Text(name), Text(left_value), Text(right_value), Text("" if left_value == right_value else "≠"))
        for name, left_value, right_value in facts
    )
    columns = (Column("what"), Column("left"), Column("right"), Column("", "mark"))
    return Table("Where they come from", "An asterisk marks a modified working tree.", columns, rows)


def _listed(values: Iterable[str]) -> str:
    distinct = sorted(set(values))
    remainder = f" and {len(distinct) - _LISTED} more" if len(distinct) > _LISTED else ""
    return ", ".join(distinct[:_LISTED]) + remainder


def settings_table(left: ComparedStudy, right: ComparedStudy, matched: tuple[MatchedRow, ...]) -> Table | None:
    """Return the settings in which rows differ between the sides, or `None` if they do not."""
    common = [(row, left.rows[row.left], right.rows[row.right]) for row in matched if row.left and row.right]
    both = [(row, left_row, right_row) for row, left_row, right_row in common if left_row.runs and right_row.runs]
    holders: dict[tuple[str, str, str], list[str]] = {}
    for row, left_row, right_row in both:
        on_left, on_right = left_row.params, right_row.params
        for name in dict.fromkeys([*on_left, *on_right]):
            if on_left.get(name) != on_right.get(name):
                change = (name, on_left.get(name, "unset"), on_right.get(name, "unset"))
                holders.setdefault(change, []).append(_title(left, right, row))
    if not holders:
        return None
    rows = [
        (*map(Text, change), Text("all" if len(titles) == len(both) else "; ".join(titles)))
        for change, titles in holders.items()
    ]
    columns = (Column("setting", "code"), Column("left"), Column("right"), Column("rows"))
    return Table("Settings", "In which a row is not the same on both sides.", columns, tuple(rows))


def runs_table(left: ComparedStudy, right: ComparedStudy, matched: tuple[MatchedRow, ...]) -> Table:
    """Return the runs behind the comparison, side by side."""
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for row in matched:
        left_row, right_row = left.rows.get(row.left), right.rows.get(row.right)
        sides = [side for side in (left_row, right_row) if side is not None]
        rules.append(len(rows))
        for index, seed in enumerate(sorted({seed for side in sides for seed in side.runs})):
            label = Text("" if index else _title(left, right, row))
            cells: list[Cell] = [label, Text(str(seed))]
            for side in (left_row, right_row):
                cells += _run_cells(side, seed, telling(left.metric).decimals)
            rows.append(tuple(cells))
    columns: tuple[Column, ...] = (Column("row"), Column("seed", "mark"))
    for group in ("left", "right"):
        columns += (Column("MLflow run", "code", group), Column("value", "number", group))
    return Table("Runs", "Where every number comes from.", columns, tuple(rows), rules=tuple(rules[1:]))


def _run_cells(row: ComparedRow | None, seed: int, decimals: int) -> tuple[Cell, Cell]:
    if row is None or seed not in row.runs:
        return Text(""), Missing()
    repeat = row.repeats[seed]
    value = Number(repeat.value, decimals) if repeat.finished else Missing(repeat.status)
    return Text(row.runs[seed].run_id), value
