"""This module builds the table of every main effect and interaction of a factorial study."""

from __future__ import annotations

from ablations.study import Study
from reports.analysis.factorial import Effect, FactorialSummary
from reports.content.blocks import Column, Missing, Note, Table, TableCell, Text
from reports.content.formatting import DASH, number
from reports.content.plan_words import part_title
from reports.tables.cells import TableRow, columns_of, visible_columns
from reports.tables.effects.work import CODING, fraction_words
from reports.tables.p_values import p_words
from reports.tables.study import interval_cell

_COLUMNS = (
    *columns_of("text", "effect of", "with, as zero"),
    Column("effect", "interval"),
    *columns_of("mark", "df", "p", "Holm"),
)


def terms_table(study: Study, result: FactorialSummary) -> Table:
    """Return a row per effect, main effects first: its interval, degrees of freedom and p-values."""
    rows: list[TableRow] = []
    rules = []
    # Effects come by their order, so that a rule stands where it rises.
    previous = result.effects[0].aliases.order
    for effect in result.effects:
        if effect.aliases.order != previous:
            rules.append(len(rows))
            previous = effect.aliases.order
        rows.append(_cells(study, result, effect))
    columns, visible_rows = visible_columns({"with, as zero": result.factorial.is_fraction}, _COLUMNS, rows)
    notes = [Note(f"{CODING} An interaction of more parts is half the difference of that of one fewer.")]
    if result.factorial.is_fraction:
        notes.append(Note(fraction_words(result)))
    caption = (
        "Every effect that the combinations can tell, in units of the metric, with 95 % intervals over training seeds. "
        "df: degrees of freedom of the interval, more than one less than the seeds where the trainings of the table "
        "share their spread. p: two-sided; Holm: corrected over all effects of this table."
    )
    return Table(
        part_title(study.title, "effects and interactions"), caption, columns, visible_rows, tuple(notes), tuple(rules)
    )


def _cells(study: Study, result: FactorialSummary, effect: Effect) -> TableRow:
    factorial, aliases = result.factorial, effect.aliases
    value: TableCell = Missing(f"n = {effect.estimate.n}/{result.seeds}")
    if effect.estimate.is_known:
        value = interval_cell(effect.estimate, study.metric_facts.decimals)
    df = number(effect.estimate.df, 1) if effect.estimate.has_interval else DASH
    p_value, corrected = DASH, DASH
    if effect.is_tested:
        p_value, corrected = p_words(effect.p_value), p_words(effect.p_holm)
    texts = (df, p_value, corrected)
    return (
        Text(factorial.sum_title(aliases.leading)),
        Text(factorial.sum_title(aliases.others)),
        value,
        *map(Text, texts),
    )
