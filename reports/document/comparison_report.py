"""This module builds the document on two sides of a study: each row on both, the differences, other settings. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ablations.errors import ReportError
from ablations.vocabulary import STUDY_METRICS
from reports.analysis.sides import Pair, difference, effects, pair_up
from reports.analysis.statistics import estimate
from reports.collect.results import FINISHED
from reports.collect.side_results import Side, SideRow, SideRun
from reports.content.blocks import (
    Cell,
    Column,
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

_MOST_LISTED = 8
"""Most names in a list; of a longer one the number of the others stands at its end."""
_DIFFERENCE_WORDS = (
    "Δ is right minus left. Paired: both sides have the same fingerprints, seed by seed, so that the interval is "
    "Student's t over the differences of the pairs. Unpaired: Welch's t interval, in which each side has its own "
    "spread over seeds. Same runs, or some of them on both sides: nothing can be told from them."
)
_EFFECTS_WORDS = (
    "Each row's paired difference to the reference of its own side, and how much larger it is on the right; with its "
    "95 % interval, in which the sides are paired or not as in the table above. It says whether a finding holds on "
    "both sides where their levels cannot be compared, as on two data sets."
)
_SAME_SETTINGS = Paragraph("The rows that both sides have do not differ in any setting.")


def side_by_side(left: Side, right: Side, matched: Mapping[str, str] | None = None) -> Document:
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
    pairs = pair_up(left, right, matched or {})
    # The newest run dates the document, so that equal runs give equal bytes whenever it is made.
    newest = max((run.ended for run in (*left.runs, *right.runs)), default=0)
    row_tables = [rows_table(left, right, pairs)]
    by_effect = effects_table(left, right, pairs)
    if by_effect is not None:
        row_tables.append(by_effect)
    settings = settings_table(left, right, pairs) or _SAME_SETTINGS
    return Document(
        title=f"{_name(left)} against {_name(right)}",
        subtitle=f"{STUDY_METRICS[left.metric]} · newest run {when(newest)}",
        running_head=f"{left.title} against {right.title}",
        timestamp=newest // 1000,
        summary=tuple(_summary(left, right)),
        sections=(
            Section("Row by row", tuple(row_tables)),
            Section("What is not the same", (sources_table(left, right), settings)),
        ),
        appendix=(Section("Runs", (runs_table(left, right, pairs),)),),
    )


def _name(side: Side) -> str:
    return f"{side.title} ({side.wanted.commit[:7]})" if side.wanted.commit else side.title


def _summary(left: Side, right: Side) -> Iterator[Facts | Paragraph]:
    yield Facts((("Left", _side_words(left)), ("Right", _side_words(right))))
    for name, side in (("left", left), ("right", right)):
        for warning in side.warnings:
            yield Paragraph(f"On the {name}: {warning}", "Caution", "caveat")


def _side_words(side: Side) -> str:
    request = side.wanted.request
    facts = [side.study, f"preset {request.preset.name}"]
    if side.wanted.commit:
        facts.append(f"commit {side.wanted.commit}")
    facts += [f"{key} = {value}" for key, value in request.overrides.items()]
    if request.tuned is not None:
        facts.append("tuned")
    return f"{', '.join(facts)}; {len(side.runs)} runs in {side.shown_store}"


def rows_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table:
    """Return each row on both sides with its difference."""
    heading = telling(left.metric).heading
    columns = [Column("row")]
    for group in ("left", "right"):
        columns += [Column(heading, "number", group), Column("n", "mark", group)]
    columns += [Column("Δ", "interval", "right − left"), Column("how", "text", "right − left")]
    rows = []
    for pair in pairs:
        cells = (*_cells(left, pair.left), *_cells(right, pair.right), *_delta(left, right, pair))
        rows.append((Text(_title(left, right, pair)), *cells))
    measured = STUDY_METRICS[left.metric]
    caption = f"{measured[0].upper()}{measured[1:]}: mean ± standard deviation over seeds. {_DIFFERENCE_WORDS}"
    return Table("Row by row", caption, tuple(columns), tuple(rows), tuple(_notes(left, right)))


def _title(left: Side, right: Side, pair: Pair) -> str:
    if not pair.right:
        return left.rows[pair.left].title
    if not pair.left:
        return right.rows[pair.right].title
    left_title, right_title = left.rows[pair.left].title, right.rows[pair.right].title
    return left_title if left_title == right_title else f"{left_title} | {right_title}"


def _cells(side: Side, key: str) -> tuple[Cell, Cell]:
    if not key:
        return Missing("not there"), Text("0")
    row, wording = side.rows[key], telling(side.metric)
    if not row.complete:
        count = f"{len(row.values)}/{row.expected}"
        return Missing(f"n = {count}"), Text(count)
    numbers = estimate(tuple(row.values.values()))
    return Number(numbers.mean, wording.decimals, numbers.sd), Text(str(numbers.n))


def _delta(left: Side, right: Side, pair: Pair) -> tuple[Cell, Cell]:
    if not (pair.left and pair.right):
        return Missing(), Text("")
    delta, comparison = difference(left.rows[pair.left], right.rows[pair.right])
    if not delta.is_known:
        return Missing(), Text(comparison)
    return interval_cell(delta, telling(left.metric).decimals), Text(comparison)


def _notes(left: Side, right: Side) -> Iterator[Note]:
    for name, side in (("left", left), ("right", right)):
        incomplete = [f"{row.title} ({_missing_repeats(row)})" for row in side.rows.values() if not row.complete]
        if incomplete:
            yield Note(f"Without a mean on the {name}, as a repeat is missing: {_listed(incomplete, '; ')}.")
    yield Note("Each interval holds for its row alone: nothing is corrected for the number of rows.")


def _missing_repeats(row: SideRow) -> str:
    repeats = [f"seed {seed} {run.status}" for seed, run in row.repeats.items() if seed not in row.values]
    repeats += [f"seed {seed} missing" for seed in sorted(row.absent)]
    return ", ".join(repeats)


def effects_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table | None:
    """Return each row's difference to the reference of its side, on both sides, or `None` where there is none."""
    decimals = telling(left.metric).decimals
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        estimates = effects(left, right, pair)
        if estimates is not None:
            left_effect, right_effect, side_difference = estimates
            cells = [interval_cell(effect, decimals) for effect in (left_effect, right_effect, side_difference)]
            rows.append((Text(_title(left, right, pair)), *cells))
    if not rows:
        return None
    columns = (Column("row"), *(Column(name, "interval") for name in ("Δ left", "Δ right", "right − left")))
    return Table("Effects", _EFFECTS_WORDS, columns, tuple(rows))


def sources_table(left: Side, right: Side) -> Table:
    """Return the sources of both sides, with a mark where they differ."""
    right_sources = _sources(right)
    rows = []
    for name, left_value in _sources(left).items():
        mark = "" if left_value == right_sources[name] else "≠"
        rows.append(tuple(map(Text, (name, left_value, right_sources[name], mark))))
    columns = (Column("what"), Column("left"), Column("right"), Column("", "mark"))
    return Table("Where they come from", "An asterisk marks a modified working tree.", columns, tuple(rows))


def _sources(side: Side) -> dict[str, str]:
    return {
        "study": side.study,
        "experiment": side.experiment,
        "tracking store": side.shown_store,
        "commits": _listed(sorted({run.commit for run in side.runs})),
        "data": _listed(sorted({run.data for run in side.runs})),
        "runs": str(len(side.runs)),
        "newest run": when(max((run.ended for run in side.runs), default=0)),
    }


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    listed = separator.join(names[:_MOST_LISTED])
    return f"{listed} and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else listed


def settings_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table | None:
    """Return the settings in which rows differ between the sides, or `None` if they do not."""
    titles_by_change: dict[tuple[str, str, str], list[str]] = {}
    compared = 0
    for pair in pairs:
        if not (pair.left and pair.right):
            continue
        left_row, right_row = left.rows[pair.left], right.rows[pair.right]
        # A row without a run has no settings to compare.
        if not (left_row.repeats and right_row.repeats):
            continue
        compared += 1
        for change in _changes(_params(left_row), _params(right_row)):
            titles_by_change.setdefault(change, []).append(_title(left, right, pair))
    if not titles_by_change:
        return None
    rows = []
    for change, titles in titles_by_change.items():
        holders = "all" if len(titles) == compared else "; ".join(titles)
        rows.append(tuple(map(Text, (*change, holders))))
    columns = (Column("setting", "code"), Column("left"), Column("right"), Column("rows"))
    return Table("Settings", "In which a row is not the same on both sides.", columns, tuple(rows))


def _changes(left: Mapping[str, str], right: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            yield name, left.get(name, "unset"), right.get(name, "unset")


def _params(row: SideRow) -> Mapping[str, str]:
    # Repeats of a row differ in their seed alone, which params leave out: any one will do.
    return next((run.params for run in row.repeats.values()), {})


def runs_table(left: Side, right: Side, pairs: tuple[Pair, ...]) -> Table:
    """Return the runs behind the comparison, side by side."""
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for pair in pairs:
        left_runs = left.rows[pair.left].repeats if pair.left else {}
        right_runs = right.rows[pair.right].repeats if pair.right else {}
        rules.append(len(rows))
        for index, seed in enumerate(sorted({*left_runs, *right_runs})):
            # Repeats of a row stand in a group, whose first line alone has the title.
            title = "" if index else _title(left, right, pair)
            cells: list[Cell] = [Text(title), Text(str(seed))]
            for run in (left_runs.get(seed), right_runs.get(seed)):
                cells += _run_cells(run, telling(left.metric).decimals)
            rows.append(tuple(cells))
    columns: tuple[Column, ...] = (Column("row"), Column("seed", "mark"))
    for group in ("left", "right"):
        columns += (Column("MLflow run", "code", group), Column("value", "number", group))
    return Table("Runs", "Where every number comes from.", columns, tuple(rows), rules=tuple(rules[1:]))


def _run_cells(run: SideRun | None, decimals: int) -> tuple[Cell, Cell]:
    if run is None:
        return Text(""), Missing()
    if run.status != FINISHED:
        return Text(run.run_id), Missing(run.status)
    return Text(run.run_id), Number(run.value, decimals)
