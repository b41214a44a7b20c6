"""This module builds the document on two sides of a study: each row on both, the differences, other settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablations.errors import ReportError
from reports.analysis.comparison import SAME, MatchedRow, difference, effects, match_rows, way_of_comparison
from reports.analysis.statistics import estimate
from reports.collect.compared_study import ComparedRow, ComparedSide, ComparedStudy
from reports.collect.foreign.compared import ComparedResults
from reports.collect.results import MISSING
from reports.content.blocks import (
    Block,
    Column,
    Document,
    Facts,
    Missing,
    Note,
    Number,
    Paragraph,
    Section,
    Table,
    TableCell,
    Text,
)
from reports.content.plan_words import capitalized, plural, setting_words
from reports.document.prose import when
from reports.tables.study import interval_cell

_LISTED = 8
_METHOD = (
    "Δ is right minus left. Paired: both sides have the same fingerprints, seed by seed, so that the interval is "
    "Student's t over the differences of the pairs. Unpaired: Welch's t interval, in which each side has its own "
    "spread over seeds. Same runs, or some of them on both sides: nothing can be told from them."
)
_EFFECTS = (
    "Each row's paired difference to the reference of its own side, and how much larger it is on the right; with its "
    "95 % interval, in which the sides are paired or not as in the table above. It says whether a finding holds on "
    "both sides where their levels cannot be compared, as on two data sets."
)


def side_by_side(left: ComparedSide, right: ComparedSide, matched: Mapping[str, str] | None = None) -> Document:
    """Return the document on two sides. `matched` pairs rows of left and right that do not share a name.

    Raises:
        ReportError: If the sides are judged by different metrics, or a row that is named is not there.
    """
    # A difference of two metrics has no meaning, whatever the rows are.
    if left.metric != right.metric:
        raise ReportError(
            f"{left.study} is judged by {left.metric} and {right.study} by {right.metric}: they cannot be compared."
        )
    if _scale(left) != _scale(right):
        raise ReportError(
            f"{left.metric} is not measured alike: {_scale_words(left)} on the left, {_scale_words(right)} on the "
            "right. Say unit and better alike in both study files."
        )
    rows = match_rows(left, right, matched or {})
    # The newest run dates the document, so that equal runs give equal bytes whenever it is made.
    newest = max(left.newest, right.newest)
    row_blocks: tuple[Block, ...]
    equal = equality_words(left, right, rows)
    if equal:
        # In place of tables in which every difference is 0, or none.
        row_blocks = (Paragraph(equal, "The same"),)
    else:
        row_blocks = tuple(filter(None, (rows_table(left, right, rows), effects_table(left, right, rows))))
    settings: Table | Paragraph | None = settings_table(left, right, rows)
    if settings is None:
        sentence = "The rows that both sides have do not differ in any setting."
        if isinstance(left, ComparedResults) or isinstance(right, ComparedResults):
            sentence = "Settings are not compared: those of results from elsewhere are not known here."
        settings = Paragraph(sentence)
    return Document(
        title=f"{_name(left)} against {_name(right)}",
        subtitle=f"{left.metric_facts.words} · newest run {when(newest)}",
        running_head=f"{left.title} against {right.title}",
        timestamp=newest // 1000,
        summary=tuple(_summary(left, right)),
        sections=(
            Section("Row by row", row_blocks),
            Section("What is not the same", (sources_table(left, right), settings)),
        ),
        appendix=(Section("Runs", (runs_table(left, right, rows),)),),
    )


def _scale(side: ComparedSide) -> tuple[str, bool]:
    return side.metric_facts.unit, side.metric_facts.higher_is_better


def _scale_words(side: ComparedSide) -> str:
    direction = "higher" if side.metric_facts.higher_is_better else "lower"
    return f"{side.metric_facts.words}, {direction} is better"


def _name(side: ComparedSide) -> str:
    if isinstance(side, ComparedStudy) and side.request.commit:
        return f"{side.title} ({side.request.commit[:7]})"
    return side.title


def _summary(left: ComparedSide, right: ComparedSide) -> Iterator[Facts | Paragraph]:
    yield Facts((("Left", _request_words(left)), ("Right", _request_words(right))))
    for name, side in (("left", left), ("right", right)):
        for warning in side.warnings:
            yield Paragraph(f"On the {name}: {warning}", "Caution", "caveat")


def _request_words(side: ComparedSide) -> str:
    if isinstance(side, ComparedResults):
        return f"{side.study}, results from elsewhere; {side.values} values in {side.source.title}"
    assert isinstance(side, ComparedStudy)
    request = side.request.scale
    facts = [side.study, f"preset {request.preset.name}"]
    if side.request.commit:
        facts.append(f"commit {side.request.commit}")
    # In the order in which they were given: it is a person's own command that is repeated here.
    facts += [setting_words(name, value) for name, value in request.overrides.items()]
    if request.tuned is not None:
        facts.append("tuned")
    return f"{', '.join(facts)}; {len(side.runs)} runs in {side.shown_store}"


def equality_words(left: ComparedSide, right: ComparedSide, matched: tuple[MatchedRow, ...]) -> str:
    """Return a sentence that both sides are the same, run by run or value by value; nothing if they are not."""
    pairs = []
    for row in matched:
        left_row, right_row = left.rows.get(row.left), right.rows.get(row.right)
        if not any(side_row and side_row.values for side_row in (left_row, right_row)):
            # A row that nobody has measured is no difference.
            continue
        if left_row is None or right_row is None:
            return ""
        pairs.append((left_row, right_row))
    if not pairs:
        return ""
    count = f"{len(pairs)} {plural(len(pairs), 'row')}"
    if all(way_of_comparison(*pair) == SAME for pair in pairs):
        return (
            f"Both sides are the very same runs, in each of {count}: nothing can be told from holding them against "
            "each other. Name another commit (STUDY@COMMIT), store, preset or setting on one side."
        )
    values = sum(len(row.values) for row, _ in pairs)
    if values and all(row.complete and dict(row.values) == dict(other.values) for row, other in pairs):
        return (
            f"Every value is the same on both sides, digit by digit: {values} {plural(values, 'value')} in {count}. "
            "All differences are 0, also between effects."
        )
    return ""


def rows_table(left: ComparedSide, right: ComparedSide, matched: tuple[MatchedRow, ...]) -> Table:
    """Return each row on both sides with its difference."""
    heading = left.metric_facts.heading
    columns = [Column("row")]
    for group in ("left", "right"):
        columns += [Column(heading, "number", group), Column("n", "mark", group)]
    columns += [Column("Δ", "interval", "right − left"), Column("how", "text", "right − left")]
    rows = []
    for row in matched:
        values = (*_cells(left, row.left), *_cells(right, row.right), *_delta(left, right, row))
        rows.append((Text(_title(left, right, row)), *values))
    measured = capitalized(left.metric_facts.words)
    caption = f"{measured}: mean ± standard deviation over seeds. {_METHOD}"
    return Table("Row by row", caption, tuple(columns), tuple(rows), tuple(_notes(left, right)))


def _title(left: ComparedSide, right: ComparedSide, matched: MatchedRow) -> str:
    if not matched.left:
        return right.rows[matched.right].title
    if not matched.right:
        return left.rows[matched.left].title
    # One title where both sides have the same.
    return " | ".join(dict.fromkeys((left.rows[matched.left].title, right.rows[matched.right].title)))


def _cells(side: ComparedSide, key: str) -> tuple[TableCell, TableCell]:
    if not key:
        return Missing("not there"), Text("0")
    row, wording = side.rows[key], side.metric_facts
    # Nothing is averaged over the repeats that happen to be there.
    if not row.complete:
        count = f"{len(row.values)}/{len(row.repeats)}"
        return Missing(f"n = {count}"), Text(count)
    numbers = estimate(tuple(row.values.values()))
    return Number(numbers.mean, wording.decimals, numbers.sd), Text(str(numbers.n))


def _delta(left: ComparedSide, right: ComparedSide, matched: MatchedRow) -> tuple[TableCell, TableCell]:
    if not (matched.left and matched.right):
        return Missing(), Text("")
    delta, comparison = difference(left.rows[matched.left], right.rows[matched.right])
    if not delta.is_known:
        return Missing(), Text(comparison)
    return interval_cell(delta, left.metric_facts.decimals), Text(comparison)


def _notes(left: ComparedSide, right: ComparedSide) -> Iterator[Note]:
    for name, side in (("left", left), ("right", right)):
        absent = [f"{row.title} ({_absence_words(row)})" for row in side.rows.values() if not row.complete]
        if absent:
            yield Note(f"Without a mean on the {name}, as a repeat is missing: {_shortened(absent, '; ')}.")
    yield Note("Each interval holds for its row alone: nothing is corrected for the number of rows.")


def _shortened(phrases: Sequence[str], separator: str) -> str:
    listed = separator.join(phrases[:_LISTED])
    if len(phrases) > _LISTED:
        listed += f" and {len(phrases) - _LISTED} more"
    return listed


def _absence_words(row: ComparedRow) -> str:
    failed, missing = [], []
    for seed, repeat in row.repeats.items():
        if repeat.status == MISSING:
            missing.append(f"seed {seed} {MISSING}")
        elif not repeat.finished:
            failed.append(f"seed {seed} {repeat.status}")
    # What has no run at all comes last.
    return ", ".join(failed + missing)


def effects_table(left: ComparedSide, right: ComparedSide, matched: tuple[MatchedRow, ...]) -> Table | None:
    """Return each row's difference to the reference of its side, on both sides, or `None` where there is none."""
    decimals = left.metric_facts.decimals
    rows: list[tuple[TableCell, ...]] = []
    for row in matched:
        # The reference itself has no difference to a reference, and neither has a row of one side.
        estimates = effects(left, right, row)
        if estimates is not None:
            cells = [interval_cell(effect, decimals) for effect in estimates]
            rows.append((Text(_title(left, right, row)), *cells))
    if not rows:
        return None
    effect_columns = (Column("Δ left", "interval"), Column("Δ right", "interval"), Column("right − left", "interval"))
    return Table("Effects", _EFFECTS, (Column("row"), *effect_columns), tuple(rows))


def sources_table(left: ComparedSide, right: ComparedSide) -> Table:
    """Return the sources of both sides, with a mark where they differ."""
    right_sources = _sources(right)
    rows: list[tuple[TableCell, ...]] = []
    for name, left_value in _sources(left).items():
        right_value = right_sources[name]
        mark = "" if left_value == right_value else "≠"
        rows.append((Text(name), Text(left_value), Text(right_value), Text(mark)))
    columns = (Column("what"), Column("left"), Column("right"), Column("", "mark"))
    return Table("Where they come from", "An asterisk marks a modified working tree.", columns, tuple(rows))


def _sources(side: ComparedSide) -> dict[str, str]:
    if isinstance(side, ComparedResults):
        return {
            "study": side.study,
            "experiment": "elsewhere",
            "tracking store": side.source.title,
            "commits": "unknown",
            "data": "unknown",
            "runs": str(side.values),
            "newest run": when(side.newest),
        }
    assert isinstance(side, ComparedStudy)
    return {
        "study": side.study,
        "experiment": side.experiment,
        "tracking store": side.shown_store,
        "commits": _listed(run.marked_commit for run in side.runs),
        "data": _listed(run.data or "unknown" for run in side.runs),
        "runs": str(len(side.runs)),
        "newest run": when(side.newest),
    }


def _listed(values: Iterable[str]) -> str:
    # Sorted, as the order of runs in a store is no property of what is compared.
    return _shortened(sorted(set(values)), ", ")


def settings_table(left: ComparedSide, right: ComparedSide, matched: tuple[MatchedRow, ...]) -> Table | None:
    """Return the settings in which rows differ between the sides, or `None` if they do not."""
    compared_rows = 0
    holders: dict[tuple[str, str, str], list[str]] = {}
    for row in matched:
        # Settings are those of runs: a row without a run on either side shows none.
        if not (row.left and row.right and left.rows[row.left].runs and right.rows[row.right].runs):
            continue
        compared_rows += 1
        on_left, on_right = left.rows[row.left].params, right.rows[row.right].params
        for name in dict.fromkeys([*on_left, *on_right]):
            if on_left.get(name) != on_right.get(name):
                change = (name, on_left.get(name, "unset"), on_right.get(name, "unset"))
                holders.setdefault(change, []).append(_title(left, right, row))
    if not holders:
        return None
    rows: list[tuple[TableCell, ...]] = []
    for change, titles in holders.items():
        holder_words = "all" if len(titles) == compared_rows else "; ".join(titles)
        rows.append((*map(Text, change), Text(holder_words)))
    columns = (Column("setting", "code"), Column("left"), Column("right"), Column("rows"))
    return Table("Settings", "In which a row is not the same on both sides.", columns, tuple(rows))


def runs_table(left: ComparedSide, right: ComparedSide, matched: tuple[MatchedRow, ...]) -> Table:
    """Return the runs behind the comparison, side by side."""
    decimals = left.metric_facts.decimals
    rows: list[tuple[TableCell, ...]] = []
    rules = []
    for row in matched:
        left_row, right_row = left.rows.get(row.left), right.rows.get(row.right)
        seeds: set[int] = set()
        for side in filter(None, (left_row, right_row)):
            seeds.update(side.run_ids)
        rules.append(len(rows))
        title = _title(left, right, row)
        for seed in sorted(seeds):
            left_cells, right_cells = _run_cells(left_row, seed, decimals), _run_cells(right_row, seed, decimals)
            rows.append((Text(title), Text(str(seed)), *left_cells, *right_cells))
            # Only the first seed has the row's title.
            title = ""
    columns: tuple[Column, ...] = (Column("row"), Column("seed", "mark"))
    for group in ("left", "right"):
        columns += (Column("MLflow run", "code", group), Column("value", "number", group))
    # The heading has a rule already, so that the first row needs none.
    return Table("Runs", "Where every number comes from.", columns, tuple(rows), rules=tuple(rules[1:]))


def _run_cells(row: ComparedRow | None, seed: int, decimals: int) -> tuple[TableCell, TableCell]:
    if row is None or seed not in row.run_ids:
        return Text(""), Missing()
    run_id, repeat = Text(row.run_ids[seed]), row.repeats[seed]
    if not repeat.finished:
        return run_id, Missing(repeat.status)
    return run_id, Number(repeat.value, decimals)
