"""This module builds the tables of verdicts, per study and for a whole report, and of every contrast behind them.

The differences themselves stand in the studies' own tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablations.claims import Contrast
from ablations.planning.plan import Plan
from ablations.published import PublishedValue
from ablations.study import Study
from reports.analysis.claims import AT_CHANCE, MEANINGS, JudgedClaim, JudgedContrast, Verdict, rank_of
from reports.collect.unlearned import quoted
from reports.content.blocks import Cell, Column, Interval, Missing, Note, Number, Table, Text, Tone
from reports.content.formatting import number
from reports.content.plan_words import short_titles, telling
from reports.content.published import decimals_of, mark_note, marks_of
from reports.tables.groups import Rows, grouped
from reports.tables.study import NO_SPREAD, NO_SPREAD_NOTE

Columns = tuple[Column, ...]

SIGNS: dict[Verdict, str] = {
    "reproduced": "✓",
    "practically the same": "≈",
    "undecided": "…",
    "contradicted": "×",
}
"""The sign in front of each verdict, so that it can be told without colour."""

_TONES: dict[Verdict, Tone] = {
    "reproduced": "good",
    "practically the same": "poor",
    "undecided": "quiet",
    "contradicted": "bad",
}
_CLAIM_COLUMNS = (
    Column("network"),
    Column("claim"),
    Column("rank"),
    Column("verdict"),
    Column("remark"),
    Column("decided by"),
    Column("ours", "interval"),
    Column("level", "mark"),
    Column("must be", "mark"),
    Column("published", "number"),
)
_OVERVIEW_COLUMNS = (
    Column("study"),
    Column("claim"),
    Column("network"),
    Column("rank"),
    Column("verdict"),
    Column("remark"),
    Column("ours", "interval"),
    Column("level", "mark"),
    Column("published", "number"),
)
_CONTRAST_COLUMNS = (
    Column("claim"),
    Column("contrast"),
    Column("verdict"),
    Column("remark"),
    Column("ours", "interval"),
    Column("level", "mark"),
    Column("must be", "mark"),
    Column("published", "number"),
)
_JUDGED = (
    "Ours: mean over seeds and interval of the paired difference in the contrast that decides, positive in the claimed "
    "direction; over seeds, and over test images too where all its rows measure the same checkpoints. Level: that of "
    "this interval"
)
RANKS = (
    "Primary claims, one per study and inspected network, are judged at a level at which all of a report hold together "
    "in 95 %. The others are exploratory: judged one by one at 95 %, so that of many empty ones about one in forty is "
    "reproduced by chance."
)
SEEDS = (
    "Of what is undecided, so many seeds would decide it in four of five cases: the fewer if the true difference is as "
    "seen, the more whatever it is."
)
WEAKEST = (
    "The weakest contrast decides a claim; what speaks against one of several contrasts is judged at a stricter level."
)


def verdict_cell(verdict: Verdict) -> Text:
    """Return a verdict with its sign and its colour."""
    return Text(f"{SIGNS[verdict]} {verdict}", tone=_TONES[verdict])


def legend() -> Note:
    """Return the note on the meaning of the verdicts."""
    meanings = "; ".join(f"{SIGNS[verdict]} {verdict}: {meaning}" for verdict, meaning in MEANINGS.items())
    return Note(f"{meanings[0].upper()}{meanings[1:]}. {WEAKEST} {RANKS} {SEEDS}")


def claims_table(study: Study, claims: Sequence[JudgedClaim], *, with_legend: bool) -> Table | None:
    """Return the verdicts on one study's claims, or `None` if it has none."""
    if not claims:
        return None
    rows, rules = grouped([(_network(study, judged), _claim_cells(study, judged)) for judged in claims])
    visible_columns = {
        "network": bool(study.networks),
        "must be": _has_bounds(claims),
        "decided by": any(len(judged.contrasts) > 1 for judged in claims),
        "published": any(judged.decisive and judged.decisive.published for judged in claims),
    }
    columns, rows = _only(visible_columns, _CLAIM_COLUMNS, rows)
    # Without networks all rows are one group, which needs no rule.
    rules = rules if study.networks else ()
    notes = (
        *((legend(),) if with_legend else ()),
        *_left_out(study, claims),
        *_without_verdict(study, claims),
        *_mark_notes(claims),
    )
    return Table(f"{study.title}: claims", _claims_caption(study, claims), columns, rows, notes, rules)


def _has_bounds(claims: Iterable[JudgedClaim]) -> bool:
    """Return True if any deciding contrast asks for a difference elsewhere than above 0."""
    return any(judged.decisive and judged.decisive.bound for judged in claims)


def _claims_caption(study: Study, claims: Sequence[JudgedClaim]) -> str:
    units = {" points": "points"}.get(telling(study.metric).unit, f"units of “{telling(study.metric).heading}”")
    size = study.size_of_interest or telling(study.metric).size
    bound = "" if _has_bounds(claims) else "; it must lie above 0"
    return f"Published findings held against our runs, in {units}. {_JUDGED}{bound}. The size of interest is {size:g}."


def _only(shown: Mapping[str, bool], columns: Columns, rows: Rows) -> tuple[Columns, Rows]:
    """Return the columns, and the cells in them, without the columns that are not to be shown."""
    indices = [index for index, column in enumerate(columns) if shown.get(column.heading, True)]
    return tuple(columns[index] for index in indices), tuple(tuple(row[index] for index in indices) for row in rows)


def _claim_cells(study: Study, judged: JudgedClaim) -> tuple[Cell, ...]:
    decisive = judged.decisive
    return (
        Text(judged.claim.name),
        Text(judged.rank),
        verdict_cell(judged.verdict),
        Text(judged.remark),
        Text(contrast_words(study, decisive.contrast)) if decisive else Missing(),
        _ours(study, decisive),
        _level(decisive),
        Text(_bound(decisive)) if decisive else Missing(),
        _published(decisive.published if decisive else None),
    )


def _level(judged: JudgedContrast | None) -> Cell:
    return Text(level_words(judged.level)) if judged and judged.difference.has_interval else Missing()


def level_words(level: float) -> str:
    """Return the level of an interval in per cent, with two digits of its error or more: `95 %`, `98.33 %`."""
    # As many digits as tell the error 1 − level, which the correction of primary claims makes small.
    decimals = max(2, math.ceil(-math.log10(100 * (1 - level))) + 1)
    return f"{100 * level:.{decimals}f}".rstrip("0").rstrip(".") + " %"


def _bound(judged: JudgedContrast) -> str:
    """Return the range in which a difference must lie, for example `> 0.0` or `within ±1`."""
    if judged.contrast.kind == "same":
        return f"within ±{judged.size:g}"
    return f"> {number(judged.bound, decimals_of(judged.bound), signed=bool(judged.bound))}"


def _network(study: Study, judged: JudgedClaim) -> str:
    return next((network.title for network in study.networks if network.name == judged.network), "")


def contrast_words(study: Study, contrast: Contrast) -> str:
    """Return a contrast as titles, for example `attention vs. average`: the first minus the second is meant."""
    # A contrast may name a variant that this preset leaves out; the whole study still has its title.
    titles = {variant.name: variant.title for variant in study.whole.variants} | short_titles(study)
    better, worse = (" and ".join(titles[name] for name in names) for names in (contrast.better, contrast.worse))
    return f"{better} vs. {worse or 0}"


def _ours(study: Study, judged: JudgedContrast | None) -> Cell:
    if judged is None:
        return Missing()
    difference, decimals = judged.difference, _decimals(study)
    if judged.unlearned:
        return Missing("never learned")
    if not difference.is_known:
        return Missing(f"n = {judged.complete}/{judged.expected}")
    # Seeds that all gave one value have a mean and a mark in place of an interval.
    low, high = (difference.low, difference.high) if difference.has_interval else (None, None)
    return Interval(difference.mean, low, high, decimals, (NO_SPREAD,) if difference.no_spread else ())


def _decimals(study: Study) -> int:
    return telling(study.metric).decimals


def _published(value: PublishedValue | None) -> Cell:
    return (
        Missing()
        if value is None
        else Number(value.value, decimals_of(value.value), signed=True, marks=marks_of(value))
    )


def _left_out(study: Study, claims: Iterable[JudgedClaim]) -> Iterator[Note]:
    # Once per claim: the rows that are left out are the same on every network.
    for judged in {judged.claim.name: judged for judged in claims}.values():
        if judged.left_out:
            listed = "; ".join(contrast_words(study, contrast) for contrast in judged.left_out)
            yield Note(f"Not asked at this preset for “{judged.claim.name}”: {listed}.")


def _without_verdict(study: Study, claims: Iterable[JudgedClaim]) -> Iterator[Note]:
    """Yield notes on contrasts without a verdict: a row never learned, or all rows are at chance."""
    titles = short_titles(study)
    for judged in claims:
        variants = [name for contrast in judged.contrasts for name in contrast.unlearned]
        if variants:
            network = f"{_network(study, judged)}: " if judged.network else ""
            yield Note(
                f"{network}of “{judged.claim.name}”, contrasts with {quoted(titles[name] for name in variants)} carry "
                "no verdict: the training never learned."
            )
        # The note names the contrasts, since their rows may be compared with others in other contrasts.
        floored = [contrast.contrast for contrast in judged.contrasts if contrast.reason == AT_CHANCE]
        if floored:
            network = f"{_network(study, judged)}: " if judged.network else ""
            listed = "; ".join(contrast_words(study, contrast) for contrast in floored)
            yield Note(f"{network}of “{judged.claim.name}”, all that is compared is at chance: {listed}.")


def _mark_notes(claims: Iterable[JudgedClaim]) -> Iterator[Note]:
    decisive = [judged.decisive for judged in claims if judged.decisive]
    for mark in sorted({mark for contrast in decisive for mark in marks_of(contrast.published)}):
        yield Note(mark_note(mark), mark)
    if any(contrast.difference.no_spread for contrast in decisive):
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)


def overview_table(plan: Plan, claims: Sequence[JudgedClaim]) -> Table:
    """Return the verdicts on all claims of a report, study by study."""
    studies = {study.name: study for study in plan.studies}
    rows, rules = grouped(
        [(studies[judged.study].title, _overview_cells(studies[judged.study], judged)) for judged in claims]
    )
    columns, rows = _only({"network": any(judged.network for judged in claims)}, _OVERVIEW_COLUMNS, rows)
    units = "points of accuracy or, of the attention profile, entropy from 0 to 1"
    caption = f"All claims of this report, in {units}. {_JUDGED}."
    return Table("Verdicts", caption, columns, rows, (legend(), *_mark_notes(claims)), rules)


def _overview_cells(study: Study, judged: JudgedClaim) -> tuple[Cell, ...]:
    return (
        Text(judged.claim.name),
        Text(_network(study, judged)),
        Text(judged.rank),
        verdict_cell(judged.verdict),
        Text(judged.remark),
        _ours(study, judged.decisive),
        _level(judged.decisive),
        _published(judged.decisive.published if judged.decisive else None),
    )


def verdict_counts(claims: Iterable[JudgedClaim]) -> str:
    """Return the number of claims per verdict, for example `2 reproduced, 1 contradicted`."""
    claim_verdicts = [judged.verdict for judged in claims]
    counts = [(claim_verdicts.count(verdict), verdict) for verdict in MEANINGS]
    return ", ".join(f"{count} {verdict}" for count, verdict in counts if count)


def contrasts_table(plan: Plan, claims: Sequence[JudgedClaim]) -> Table:
    """Return every contrast that was judged, claim by claim."""
    studies = {study.name: study for study in plan.studies}
    named_cells = []
    for judged in claims:
        study = studies[judged.study]
        name = f"{_network(study, judged)}: {judged.claim.name}" if judged.network else judged.claim.name
        named_cells += [(name, _contrast_cells(study, contrast)) for contrast in judged.contrasts]
    rows, rules = grouped(named_cells)
    caption = (
        "Every contrast behind the verdicts. Ours: mean over seeds and interval of the first minus the second, turned "
        "round where lower is better, at the level beside it: the claim's where the contrast is reproduced, else the "
        "one at which one of its contrasts decides a claim. Intervals are over seeds, and over test images too where "
        "all rows of a contrast measure the same checkpoints."
    )
    return Table("Contrasts", caption, _CONTRAST_COLUMNS, rows, rules=rules)


def statements_table(plan: Plan) -> Table:
    """Return the claims of all studies in full."""
    rows, rules = grouped(
        [
            (study.title, (Text(claim.name), Text(rank_of(study, claim)), Text(claim.statement)))
            for study in plan.studies
            for claim in study.claims
        ]
    )
    columns = (Column("study"), Column("claim"), Column("rank"), Column("statement"))
    return Table("Claims", "The claims in full: published findings, in our words.", columns, rows, rules=rules)


def _contrast_cells(study: Study, judged: JudgedContrast) -> tuple[Cell, ...]:
    return (
        Text(contrast_words(study, judged.contrast)),
        verdict_cell(judged.verdict),
        Text(judged.remark),
        _ours(study, judged),
        _level(judged),
        Text(_bound(judged)),
        _published(judged.published),
    )
