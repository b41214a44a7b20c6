"""Two sides of a study → a document: each row on both, their difference, what else is not the same. Pure, no markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ablations.errors import ReportError
from ablations.vocabulary import STUDY_METRICS
from reports.analysis.sides import Pair, difference, effects, pair_up
from reports.analysis.statistics import estimate
from reports.collect.results import FINISHED
from reports.collect.side_results import Side, SideRow, SideRun
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


def side_by_side(left: Side, right: Side, matched: Mapping[str, str] | None = None) -> Document:
    """Returns the document on two sides.

    Args:
        left: One side.
        right: The other.
        matched: Rows of the left with the rows of the right that they are held against; others are by name.

    Raises:
        ReportError: If the sides are judged by different metrics, or a row that is named is not there.
    """
    if left.metric != right.metric:
        raise ReportError(
            f"{left.study} is judged by {left.metric} and {right.study} by {right.metric}: they cannot be compared."
        )
    pairs = pair_up(left, right, matched or {})
    newest = max((run.ended for side in (left, right) for run in side.runs), default=0)
    by_effect = effects_table(left, right, pairs)
    differing = settings_table(left, right, pairs)
    return Document(
        title=f"{_name(left)} against {_name(right)}",
        subtitle=f"{STUDY_METRICS[left.metric]} · newest run {when(newest)}",
        running_head=f"{left.title} against {right.title}",
        timestamp=newest // 1000,
        summary=tuple(_summary(left, right)),
        sections=(
            Section("Row by row", (rows_table(left, right, pairs), *([by_effect] if by_effect else []))),
            Section("What is not the same", (sources_table(left, right), *([differing] if differing else [_SETTINGS]))),
        ),
        appendix=(Section("Runs", (runs_table(left, right, pairs),)),),
    )


_SETTINGS = Paragraph("The rows that both sides have do not differ in any setting.")


def _name(side: Side) -> str:
    return f"{side.title} ({side.wanted.commit[:7]})" if side.wanted.commit else side.title


def _summary(left: Side, right: Side) -> Iterator[Facts | Paragraph]:
    yield Facts((("Left", _told(left)), ("Right", _told(right))))
    for name, side in (("left", left), ("right", right)):
        yield from (Paragraph(f"On the {name}: {warning}", "Caution", "caveat") for warning in side.warnings)


def _told(side: Side) -> str:
    request = side.wanted.request
    words = [side.study, f"preset {request.preset.name}"]
    words += [f"commit {side.wanted.commit}"] if side.wanted.commit else []
    words += [f"{key} = {value}" for key, value in request.overrides.items()]
    words += ["tuned"] if request.tuned is not None else []
    return f"{', '.join(words)}; {len(side.runs)} runs in {side.shown_store}"


def rows_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table:
    """Returns each row on both sides with its difference."""
    told = telling(left.metric)
    columns = (
        Column("row"),
        *(Column(heading, kind, group) for group in ("left", "right") for heading, kind in _own(told.heading)),
        Column("Δ", "interval", "right − left"),
        Column("how", "text", "right − left"),
    )
    rows = [
        (
            Text(_title(left, right, pair)),
            *_cells(left, pair.left),
            *_cells(right, pair.right),
            *_delta(left, right, pair),
        )
        for pair in pairs
    ]
    measured = STUDY_METRICS[left.metric]
    caption = f"{measured[0].upper()}{measured[1:]}: mean ± standard deviation over seeds. {_HOW}"
    return Table("Row by row", caption, columns, tuple(rows), tuple(_notes(left, right)))


def _own(heading: str) -> tuple[tuple[str, ColumnKind], ...]:
    return ((heading, "number"), ("n", "mark"))


def _title(left: Side, right: Side, pair: Pair) -> str:
    if not (pair.left and pair.right):
        return left.rows[pair.left].title if pair.left else right.rows[pair.right].title
    one, other = left.rows[pair.left].title, right.rows[pair.right].title
    return one if one == other else f"{one} | {other}"


def _cells(side: Side, key: str) -> tuple[Cell, Cell]:
    if not key:
        return Missing("not there"), Text("0")
    row, told = side.rows[key], telling(side.metric)
    if not row.complete:
        count = f"{len(row.values)}/{row.expected}"
        return Missing(f"n = {count}"), Text(count)
    numbers = estimate(tuple(row.values.values()))
    return Number(numbers.mean, told.decimals, numbers.sd), Text(str(numbers.n))


def _delta(left: Side, right: Side, pair: Pair) -> tuple[Cell, Cell]:
    if not (pair.left and pair.right):
        return Missing(), Text("")
    found, how = difference(left.rows[pair.left], right.rows[pair.right])
    if not found.is_known:
        return Missing(), Text(how)
    return interval_cell(found, telling(left.metric).decimals), Text(how)


def _notes(left: Side, right: Side) -> Iterator[Note]:
    for name, side in (("left", left), ("right", right)):
        absent = [f"{row.title} ({_why(row)})" for row in side.rows.values() if not row.complete]
        if absent:
            more = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
            yield Note(f"Without a mean on the {name}, as a repeat is missing: {'; '.join(absent[:_LISTED])}{more}.")
    yield Note("Each interval holds for its row alone: nothing is corrected for the number of rows.")


def _why(row: SideRow) -> str:
    failed = [f"seed {seed} {run.status}" for seed, run in row.repeats.items() if seed not in row.values]
    return ", ".join([*failed, *(f"seed {seed} missing" for seed in sorted(row.absent))])


def effects_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table | None:
    """Returns each row's difference to its own side's reference on both sides, or `None` where that cannot be told."""
    decimals = telling(left.metric).decimals
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        known = effects(left, right, pair)
        if known is not None:
            one, other, apart = known
            cells = [interval_cell(found, decimals) for found in (one, other, apart)]
            rows.append((Text(_title(left, right, pair)), *cells))
    if not rows:
        return None
    columns = (Column("row"), *(Column(name, "interval") for name in ("Δ left", "Δ right", "right − left")))
    return Table("Effects", _EFFECTS, columns, tuple(rows))


def sources_table(left: Side, right: Side) -> Table:
    """Returns where both sides come from; what differs is marked."""
    facts = [
        ("study", left.study, right.study),
        ("experiment", left.experiment, right.experiment),
        ("tracking store", left.shown_store, right.shown_store),
        ("commits", *(_listed(run.commit for run in side.runs) for side in (left, right))),
        ("data", *(_listed(run.data for run in side.runs) for side in (left, right))),
        ("runs", *(str(len(side.runs)) for side in (left, right))),
        ("newest run", *(when(max((run.ended for run in side.runs), default=0)) for side in (left, right))),
    ]
    rows = tuple((Text(name), Text(one), Text(other), Text("" if one == other else "≠")) for name, one, other in facts)
    columns = (Column("what"), Column("left"), Column("right"), Column("", "mark"))
    return Table("Where they come from", "An asterisk marks a modified working tree.", columns, rows)


def _listed(values: Iterable[str]) -> str:
    found = sorted(set(values))
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return ", ".join(found[:_LISTED]) + more


def settings_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table | None:
    """Returns the settings in which rows differ between the sides, or `None` if they do not."""
    there = [(pair, left.rows[pair.left], right.rows[pair.right]) for pair in pairs if pair.left and pair.right]
    both = [(pair, one, other) for pair, one, other in there if one.repeats and other.repeats]
    holders: dict[tuple[str, str, str], list[str]] = {}
    for pair, row, beside in both:
        one, other = _params(row), _params(beside)
        for name in dict.fromkeys([*one, *other]):
            if one.get(name) != other.get(name):
                found = (name, one.get(name, "unset"), other.get(name, "unset"))
                holders.setdefault(found, []).append(_title(left, right, pair))
    if not holders:
        return None
    rows = [
        (*map(Text, found), Text("all" if len(titles) == len(both) else "; ".join(titles)))
        for found, titles in holders.items()
    ]
    columns = (Column("setting", "code"), Column("left"), Column("right"), Column("rows"))
    return Table("Settings", "In which a row is not the same on both sides.", columns, tuple(rows))


def _params(row: SideRow) -> Mapping[str, str]:
    return next((run.params for run in row.repeats.values()), {})


def runs_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table:
    """Returns the runs behind the comparison, side by side."""
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for pair in pairs:
        one = left.rows[pair.left].repeats if pair.left else {}
        other = right.rows[pair.right].repeats if pair.right else {}
        rules.append(len(rows))
        for index, seed in enumerate(sorted({*one, *other})):
            label = Text("" if index else _title(left, right, pair))
            cells: list[Cell] = [label, Text(str(seed))]
            for run in (one.get(seed), other.get(seed)):
                cells += _run_cells(run, telling(left.metric).decimals)
            rows.append(tuple(cells))
    columns: tuple[Column, ...] = (Column("row"), Column("seed", "mark"))
    for group in ("left", "right"):
        columns += (Column("MLflow run", "code", group), Column("value", "number", group))
    return Table("Runs", "Where every number comes from.", columns, tuple(rows), rules=tuple(rules[1:]))


def _run_cells(run: SideRun | None, decimals: int) -> tuple[Cell, Cell]:
    if run is None:
        return Text(""), Missing()
    return Text(run.run_id), Number(run.value, decimals) if run.status == FINISHED else Missing(run.status)
