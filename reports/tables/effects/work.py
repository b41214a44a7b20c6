"""This module builds the table and the sentence that say which part of a factorial study does the work."""

from __future__ import annotations

from collections.abc import Iterator

from ablations.planning.plan import Plan
from ablations.study import Study
from reports.analysis.factorial import Effect, FactorialSummary, FactorShare
from reports.analysis.statistics import Estimate
from reports.collect.unlearned import quoted
from reports.content.blocks import Column, Interval, Missing, Note, Table, TableCell, Text
from reports.content.formatting import interval, number
from reports.content.plan_words import (
    data_words,
    enumerated,
    epochs_words,
    network_words,
    part_title,
    plural,
    repeats_of,
    specs_of,
    split_of,
)
from reports.tables.cells import TableRow, columns_of, text_cells, visible_columns
from reports.tables.study import NO_SPREAD, NO_SPREAD_NOTE, interval_cell
from reports.tables.uncertainty_words import STARS

_COLUMNS = (
    *columns_of("text", "part", "off", "on"),
    Column("effect", "interval"),
    Column(STARS, "mark"),
    Column("largest interaction", "text"),
    Column("Shapley value", "interval"),
    Column("share (%)", "interval"),
)
_LISTED = 3
"""At most so many combinations are named in a note; more are counted."""
CODING = (
    "Effect: the mean over all combinations with the part on minus the mean over those with it off, so that every "
    "training serves every effect. The interaction of two parts is half the difference between the effect of the one "
    "with the other on and with the other off."
)
_SHAPLEY = (
    "Shapley value: the gain by turning the part on, averaged over all orders in which the parts can be turned on. The "
    "values sum to the difference between all on and all off. Share: value divided by that difference, with Fieller's "
    "interval for a ratio."
)


def work_table(study: Study, plan: Plan, result: FactorialSummary) -> Table:
    """Return a row per factor: both levels, main effect, largest interaction, Shapley value, share of the gain."""
    factorial = result.factorial
    rows: list[TableRow] = []
    for share in result.shares:
        effect = result.main_effect(share.factor)
        labels = (
            factorial.title(share.factor),
            factorial.level_title(share.factor, on=False),
            factorial.level_title(share.factor, on=True),
        )
        rows.append(
            (
                *text_cells(*labels),
                _cell(study, effect.estimate, result),
                Text(effect.stars),
                _interaction_cell(study, result, share.factor),
                _cell(study, share.value, result),
                _share_cell(share),
            )
        )
    total: TableCell = Missing()
    if result.has_shares:
        # The whole is 100 % of itself by definition, which needs no interval.
        total = Interval(100, None, None, decimals=0)
    rows.append(
        (
            *text_cells("all of them", "none", "all"),
            *text_cells("", "", ""),
            _cell(study, result.gain, result),
            total,
        )
    )
    # Only where there are any.
    visible = {STARS: _has_stars(result)}
    columns, visible_rows = visible_columns(visible, _COLUMNS, rows)
    return Table(
        title=part_title(study.title, "parts"),
        caption=_caption(study, plan, result),
        columns=columns,
        rows=visible_rows,
        notes=tuple(_notes(study, result)),
        rules=(len(rows) - 1,),
    )


def _has_stars(result: FactorialSummary) -> bool:
    return any(effect.stars for effect in result.effects)


def _caption(study: Study, plan: Plan, result: FactorialSummary) -> str:
    specs = specs_of(plan, study.name)
    seeds = repeats_of(plan, study)
    count = len(result.factorial.design.combinations)
    measured = study.metric_facts.words
    units = study.metric_facts.unit.strip() or "units of the metric"
    return (
        f"{measured[0].upper()}{measured[1:]} on {data_words(specs, split_of(study.metric))}, {network_words(specs)}, "
        f"{epochs_words(specs)}, {count} combinations of {len(result.factorial.factors)} parts, "
        f"{seeds} {plural(seeds, 'seed')}. Differences in {units}, with 95 % intervals over training seeds."
    )


def _cell(study: Study, estimate: Estimate, result: FactorialSummary) -> TableCell:
    if estimate.is_known:
        return interval_cell(estimate, study.metric_facts.decimals)
    return Missing(f"n = {estimate.n}/{result.seeds}")


def _interaction_cell(study: Study, result: FactorialSummary, factor: str) -> TableCell:
    effect = result.strongest_interaction(factor)
    if effect is None:
        return Missing()
    value = number(effect.estimate.mean, study.metric_facts.decimals, signed=True)
    return Text(f"{_partners(result, effect, factor)} ({value}{effect.stars})")


def _partners(result: FactorialSummary, effect: Effect, factor: str) -> str:
    if len(effect.aliases.leading) > 1:
        return result.factorial.sum_title(effect.aliases.leading)
    (partner,) = set(effect.aliases.term) - {factor}
    return f"with {result.factorial.title(partner)}"


def _share_cell(share: FactorShare) -> TableCell:
    if share.share is None:
        return Missing()
    ratio = share.share
    if not ratio.has_interval:
        return Interval(100 * ratio.value, None, None, decimals=0)
    return Interval(100 * ratio.value, 100 * ratio.low, 100 * ratio.high, decimals=0)


def _notes(study: Study, result: FactorialSummary) -> Iterator[Note]:
    yield Note(f"{CODING} {_SHAPLEY}")
    if result.factorial.is_fraction:
        yield Note(fraction_words(result))
    if result.unlearned:
        subject = quoted([study.variant(name).title for name in result.unlearned])
        if len(result.unlearned) > _LISTED:
            subject = f"{len(result.unlearned)} combinations"
        yield Note(f"No test and no share, as trainings of {subject} never learned.")
    elif not result.gain.is_known or any(not effect.estimate.is_known for effect in result.effects):
        yield Note("A part whose effect needs a combination with a missing repeat has none.")
    elif not result.has_shares:
        yield Note("No shares: the interval of the difference between all on and all off does not exclude 0.")
    if _has_stars(result):
        tests = f"all {len(result.tested)} effects and interactions"
        yield Note(f"* p < 0.05, ** p < 0.01: two-sided, corrected by Holm over {tests}.")
    if any(effect.estimate.no_spread for effect in result.effects):
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)


def fraction_words(result: FactorialSummary) -> str:
    """Return the sentences on a fraction: its generators, its resolution, and what counts as zero."""
    design = result.factorial.design
    generators = enumerated(result.factorial.fraction)
    words = [result.factorial.sum_title({word: sign}) for word, sign in design.defining_relation.items()]
    return (
        f"A fraction, {len(design.combinations)} of {2 ** len(design.factors)} combinations, by {generators}: "
        f"resolution {design.resolution_numeral}, as the product {enumerated(words)} never changes. Effects that "
        "cannot be told apart are one sum: those of the fewest parts stand for it, in equal portions, and the others "
        "count as zero. Values and shares hold under that assumption."
    )


def work_reading(study: Study, result: FactorialSummary) -> str:
    """Return a reading of the table: the largest share, and the effects that have a star."""
    gain = result.gain
    if not gain.is_known:
        return "Repeats are missing, so that the difference between all on and all off is not known yet."
    wording = study.metric_facts
    difference = f"{number(gain.mean, wording.decimals, signed=True)}{wording.unit}"
    if gain.has_interval:
        difference += f" {interval(gain.low, gain.high, wording.decimals)}"
    sentences = [f"All parts on differ from all off by {difference}."]
    shares = [share for share in result.shares if share.share is not None]
    if shares:
        largest = max(shares, key=lambda share: abs(share.value.mean))
        assert largest.share is not None
        words = f"{number(100 * largest.share.value, 0)} %"
        if largest.share.has_interval:
            words += f" {interval(100 * largest.share.low, 100 * largest.share.high, 0)}"
        sentences.append(f"“{result.factorial.title(largest.factor)}” has the largest share of it, {words}.")
    else:
        sentences.append("There are no shares to give; the notes say why.")
    if result.tested:
        starred = [result.factorial.sum_title(effect.aliases.leading) for effect in result.tested if effect.stars]
        tests = f"all {len(result.tested)} effects and interactions"
        sentences.append(f"Corrected over {tests}, p < 0.05 for {quoted(starred) or 'none'}.")
    return " ".join(sentences)
