"""This module builds the tables of verdicts, per study and for a whole report, and of every contrast behind them.

The differences themselves stand in the studies' own tables.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ablations.claims import Contrast
from ablations.foreign_study import ForeignStudy
from ablations.planning.plan import Plan
from ablations.study import Study
from reports.analysis.claims import AT_CHANCE, MEANINGS, JudgedClaim, JudgedContrast, Verdict, rank_of
from reports.collect.unlearned import quoted
from reports.content.blocks import Column, Interval, Missing, Note, Number, Table, TableCell, Text, Tone
from reports.content.formatting import number
from reports.content.plan_words import (
    capitalized,
    enumerated,
    looks_words,
    network_prefix,
    network_titles,
    part_title,
    runs_heading,
    short_titles,
)
from reports.content.published import decimals_of, mark_note
from reports.tables.cells import (
    TableRow,
    columns_of,
    grouped,
    published_cell,
    published_marks,
    text_cells,
    visible_columns,
)
from reports.tables.study import NO_SPREAD, NO_SPREAD_NOTE, interval_cell

SIGNS: dict[Verdict, str] = {"reproduced": "✓", "practically the same": "≈", "undecided": "…", "contradicted": "×"}
"""The sign in front of each verdict, so that it can be told without colour."""

_TONES: dict[Verdict, Tone] = {
    "reproduced": "good",
    "practically the same": "poor",
    "undecided": "quiet",
    "contradicted": "bad",
}
_OURS = "ours"
_CLAIM_COLUMNS = columns_of("text", "network", "claim", "rank", "verdict", "remark", "decided by")
_OVERVIEW_COLUMNS = columns_of("text", "study", "claim", "network", "rank", "verdict")
_CONTRAST_COLUMNS = columns_of("text", "claim", "contrast", "verdict", "remark")
_JUDGED = (
    "mean over seeds and interval of the paired difference in the contrast that decides, positive in the claimed "
    "direction; over seeds, and over test images too where all its rows measure the same checkpoints. Level: that of "
    "this interval"
)
_JUDGED_SINGLE = (
    "difference between evaluations of the one network, positive in the claimed direction, in the contrast that "
    "decides, with its interval over test images: a verdict is about this network. Level: that of this interval"
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
NOT_PROTECTED = (
    "Exploratory claims are judged at 95 % at each look. They, stars and the intervals of tables are not protected "
    "against looking: that seeds were added depends on the results."
)
WEAKEST = (
    "The weakest contrast decides a claim; what speaks against one of several contrasts is judged at a stricter level."
)


def _measured_columns(heading: str = _OURS) -> tuple[Column, ...]:
    return (Column(heading, "interval"), *columns_of("mark", "level", "must be"), Column("published", "number"))


def verdict_cell(verdict: Verdict) -> Text:
    """Return a verdict with its sign and its colour."""
    return Text(f"{SIGNS[verdict]} {verdict}", tone=_TONES[verdict])


def legend(looks: str = "") -> Note:
    """Return the note on the meaning of the verdicts, with what `stopping_words` says of looks."""
    meanings = "; ".join(f"{SIGNS[verdict]} {verdict}: {meaning}" for verdict, meaning in MEANINGS.items())
    text = f"{meanings[0].upper()}{meanings[1:]}. {WEAKEST} {RANKS} {SEEDS}"
    if looks:
        text += f" {looks}"
    return Note(text)


def stopping_words(plan: Plan) -> str:
    """Return sentences on the looks of a plan with a stopping rule, on what holds over all of them and what does not.

    Without any look, as where no study has a claim, there are none.
    """
    looks = looks_words(plan)
    if not looks:
        return ""
    return (
        f"Seeds were added until the primary claims were decided, at the latest at the last of the looks {looks}: "
        "intervals of primary claims hold over all looks together (error spending: each look has the part of the "
        f"error that its new seeds are of all). {NOT_PROTECTED}"
    )


def claims_table(study: Study, claims: Sequence[JudgedClaim], *, with_legend: bool, looks: str = "") -> Table | None:
    """Return the verdicts on one study's claims, or `None` if it has none; `looks` goes into the legend."""
    if not claims:
        return None
    # A column that says nothing of any claim, or the same of all, is not shown.
    visible = {"network": bool(study.networks), "must be": False, "decided by": False, "published": False}
    titled_cells = []
    for judged in claims:
        titled_cells.append((network_titles(study)[judged.network], _claim_cells(study, judged)))
        visible["decided by"] |= len(judged.contrasts) > 1
        if judged.decisive:
            visible["must be"] |= judged.decisive.bound != 0
            visible["published"] |= judged.decisive.published is not None
    all_rows, rules = grouped(titled_cells)
    # Without networks all rows are one group, which needs no rule.
    if not study.networks:
        rules = ()
    columns, rows = visible_columns(visible, (*_CLAIM_COLUMNS, *_measured_columns(runs_heading(study))), all_rows)
    notes = []
    if with_legend:
        notes.append(legend(looks))
    notes += [*_left_out(study, claims), *_without_verdict(study, claims), *_mark_notes(claims, published=with_legend)]
    caption = _claims_caption(study, has_bounds=visible["must be"], in_full=with_legend)
    return Table(part_title(study.title, "claims"), caption, columns, rows, tuple(notes), rules, role="verdicts")


def _claims_caption(study: Study, *, has_bounds: bool, in_full: bool) -> str:
    wording = study.metric_facts
    units = "points" if wording.unit == " points" else f"units of “{wording.heading}”"
    bound = "" if has_bounds else "; it must lie above 0"
    size = study.smallest_of_interest
    if not in_full:
        return f"In {units}; the size of interest is {size:g}{bound}. “Verdicts” says how to read it."
    judged = _JUDGED_SINGLE if study.trains_nothing else _JUDGED
    held = "Published findings held against our runs"
    if not study.published:
        # Of a study of one's own nothing was published.
        held = "Claims held against our runs"
    if isinstance(study, ForeignStudy):
        held = "Claims held against the results"
    held = f"{held}, in {units}. {capitalized(runs_heading(study))}: "
    return f"{held}{judged}{bound}. The size of interest is {size:g}."


def _claim_cells(study: Study, judged: JudgedClaim) -> TableRow:
    cells = text_cells(judged.claim.name, judged.rank)
    return (*cells, verdict_cell(judged.verdict), Text(judged.remark), *_measured_cells(study, judged.decisive))


def _measured_cells(study: Study, judged: JudgedContrast | None) -> TableRow:
    """Return the contrast in words, our difference, its level, where it must lie, and the published difference."""
    if judged is None:
        # This preset leaves out a row of each of its contrasts.
        return (Missing(),) * 5
    level: TableCell = Missing()
    if judged.difference.has_interval:
        level = Text(level_words(judged.level))
    return (
        Text(contrast_words(study, judged.contrast)),
        _difference_cell(study, judged),
        level,
        Text(_bound(judged)),
        published_cell(judged.published, signed=True),
    )


def _difference_cell(study: Study, judged: JudgedContrast) -> TableCell:
    if judged.unlearned:
        return Missing("never learned")
    if not judged.difference.is_known:
        return Missing(f"n = {judged.complete}/{judged.expected}")
    return interval_cell(judged.difference, study.metric_facts.decimals)


def level_words(level: float) -> str:
    """Return the level of an interval in per cent, with two digits of its error or more: `95 %`, `98.33 %`."""
    # As many digits as tell the error 1 − level, which the correction of primary claims makes small.
    decimals = max(2, math.ceil(-math.log10(100 * (1 - level))) + 1)
    return f"{100 * level:.{decimals}f}".rstrip("0").rstrip(".") + " %"


def _bound(judged: JudgedContrast) -> str:
    """Return the range in which a difference must lie, for example `> 0.0` or `within ±1`."""
    if judged.contrast.kind == "same":
        return f"within ±{judged.size:g}"
    return f"> {number(judged.bound, decimals_of(judged.bound), signed=True)}"


def contrast_words(study: Study, contrast: Contrast) -> str:
    """Return a contrast as titles, for example `attention vs. average`: the first minus the second is meant."""
    titles = short_titles(study)
    # A contrast may name a variant that this preset leaves out; the whole study still has its title.
    for variant in study.whole.variants:
        titles.setdefault(variant.name, variant.title)
    sides = []
    for names in (contrast.better, contrast.worse):
        # Half the combinations of a factorial would be a list that nobody reads.
        shared = study.factorial.shared_levels_title(names) if study.factorial is not None else ""
        sides.append(shared or " and ".join([titles[name] for name in names]))
    better, worse = sides
    # A contrast with one side is about its size.
    return f"{better} vs. {worse or 0}"


def _listed(study: Study, contrasts: Iterable[Contrast]) -> str:
    return "; ".join([contrast_words(study, contrast) for contrast in contrasts])


def _left_out(study: Study, claims: Iterable[JudgedClaim]) -> Iterator[Note]:
    names: set[str] = set()
    for judged in claims:
        name = judged.claim.name
        # Once per claim: the rows that are left out are the same on every network.
        if judged.left_out and name not in names:
            names.add(name)
            if study.before_rows is not None and not judged.contrasts:
                yield Note(
                    f"“{name}” is not judged, as it needs rows that were not asked for: {_needed(study, judged)}."
                )
            else:
                yield Note(f"Not asked at this preset for “{name}”: {_listed(study, judged.left_out)}.")


def _needed(study: Study, judged: JudgedClaim) -> str:
    """Return the titles of the rows that a claim needs and that are not here."""
    titles = short_titles(study.whole)
    here = {variant.name for variant in study.variants}
    return enumerated([f"“{titles[name]}”" for name in judged.claim.variants if name not in here])


def _without_verdict(study: Study, claims: Iterable[JudgedClaim]) -> Iterator[Note]:
    """Yield notes on contrasts without a verdict: a row never learned, or all rows are at chance."""
    titles = short_titles(study)
    for judged in claims:
        unlearned: list[str] = []
        # The note names the contrasts, since their rows may be compared with others in other contrasts.
        at_chance: list[Contrast] = []
        for contrast in judged.contrasts:
            for name in contrast.unlearned:
                unlearned.append(titles[name])
            if contrast.reason == AT_CHANCE:
                at_chance.append(contrast.contrast)
        # Not by `capitalized`, which would make another letter of the τ of a network's title.
        prefix = network_prefix(study, judged.network)
        subject = f"{prefix}of “{judged.claim.name}”" if prefix else f"Of “{judged.claim.name}”"
        if unlearned:
            yield Note(f"{subject}, contrasts with {quoted(unlearned)} carry no verdict: the training never learned.")
        if at_chance:
            yield Note(f"{subject}, all that is compared is at chance: {_listed(study, at_chance)}.")


def _mark_notes(claims: Iterable[JudgedClaim], *, published: bool) -> Iterator[Note]:
    """Yield the notes on marks; on those of published numbers only if asked for."""
    values = []
    has_mean_alone = False
    for judged in claims:
        if judged.decisive:
            values.append(judged.decisive.published)
            has_mean_alone |= judged.decisive.difference.no_spread
    if published:
        for mark in published_marks(values):
            yield Note(mark_note(mark), mark)
    if has_mean_alone:
        yield Note(NO_SPREAD_NOTE, NO_SPREAD)


def overview_table(plan: Plan, claims: Sequence[JudgedClaim], guide: Iterable[Note] = ()) -> Table:
    """Return the verdicts on all claims of a report, study by study; `guide` says how to read all further tables."""
    titled_cells = []
    # Intervals, bounds and published differences are in the tables of the studies.
    visible = {"network": False}
    for study, judged in _with_studies(plan.studies, claims):
        visible["network"] |= bool(judged.network)
        cells = text_cells(judged.claim.name, network_titles(study)[judged.network], judged.rank)
        titled_cells.append((study.title, (*cells, verdict_cell(judged.verdict), _mean_cell(study, judged))))
    all_rows, rules = grouped(titled_cells)
    columns, rows = visible_columns(visible, (*_OVERVIEW_COLUMNS, Column(_OURS, "number")), all_rows)
    caption = (
        "All claims of this report. Ours: the difference in the contrast that decides, positive in the claimed "
        "direction, in points of accuracy or, of the attention profile, entropy from 0 to 1. The tables of the studies "
        "have the intervals, the published differences and what would decide the rest."
    )
    notes = (legend(stopping_words(plan)), *_mark_notes(claims, published=False), *guide)
    return Table("Verdicts", caption, columns, rows, notes, rules, role="verdicts")


def _mean_cell(study: Study, judged: JudgedClaim) -> TableCell:
    """Return the deciding difference of a claim without its interval."""
    if judged.decisive is None:
        return Missing()
    cell = _difference_cell(study, judged.decisive)
    if isinstance(cell, Interval):
        return Number(cell.value, cell.decimals, signed=True, marks=cell.marks)
    return cell


def _with_studies(studies: Iterable[Study], claims: Iterable[JudgedClaim]) -> Iterator[tuple[Study, JudgedClaim]]:
    studies_by_name = {study.name: study for study in studies}
    for judged in claims:
        yield studies_by_name[judged.study], judged


def judged_words(plan: Plan) -> str:
    """Return a sentence on the numbers of the tables of claims: ours, their level, and where they must lie."""
    judged_by = _JUDGED_SINGLE if all(study.trains_nothing for study in plan.studies) else _JUDGED
    return f"Claims, ours: {judged_by}; where its whole length must lie: “must be”, or above 0."


def verdict_counts(claims: Iterable[JudgedClaim]) -> str:
    """Return the number of claims per verdict, for example `2 reproduced, 1 contradicted`."""
    counts = Counter(judged.verdict for judged in claims)
    # In the order of the legend, not in that of the claims.
    return ", ".join([f"{counts[verdict]} {verdict}" for verdict in MEANINGS if counts[verdict]])


def contrasts_table(studies: Sequence[Study], claims: Sequence[JudgedClaim]) -> Table:
    """Return every contrast that was judged, claim by claim."""
    titled_cells = []
    for study, judged in _with_studies(studies, claims):
        title = f"{network_prefix(study, judged.network)}{judged.claim.name}"
        for contrast in judged.contrasts:
            titled_cells.append((title, _contrast_cells(study, contrast)))
    rows, rules = grouped(titled_cells)
    heading = runs_heading(studies[0]) if studies else _OURS
    caption = (
        f"Every contrast behind the verdicts. {capitalized(heading)}: mean over seeds and interval of the first minus "
        "the second, turned round where lower is better, at the level beside it: the claim's where the contrast is "
        "reproduced, else the one at which one of its contrasts decides a claim. Intervals are over seeds, and over "
        "test images too where all rows of a contrast measure the same checkpoints."
    )
    if all(study.trains_nothing for study in studies):
        caption = (
            "Every contrast behind the verdicts. Ours: the first minus the second, evaluated on one network and turned "
            "round where lower is better, with its interval over test images at the level beside it: the claim's where "
            "the contrast is reproduced, else the one at which one of its contrasts decides a claim."
        )
    return Table("Contrasts", caption, (*_CONTRAST_COLUMNS, *_measured_columns(heading)), rows, rules=rules)


def _contrast_cells(study: Study, judged: JudgedContrast) -> TableRow:
    contrast, *measured = _measured_cells(study, judged)
    return (contrast, verdict_cell(judged.verdict), Text(judged.remark), *measured)


def statements_table(studies: Sequence[Study]) -> Table:
    """Return the claims of all studies in full."""
    titled_cells = []
    for study in studies:
        for claim in study.claims:
            titled_cells.append((study.title, text_cells(claim.name, rank_of(study, claim), claim.statement)))
    rows, rules = grouped(titled_cells)
    columns = columns_of("text", "study", "claim", "rank", "statement")
    caption = "The claims in full: published findings, in our words."
    own = [study for study in studies if study.claims and not study.published]
    if own:
        titles = enumerated([f"“{study.title}”" for study in own])
        caption = f"The claims in full, in our words: published findings, and what is expected of {titles}."
        if len(own) == len([study for study in studies if study.claims]):
            caption = "The claims in full, in the words of the study."
    if any(isinstance(study, ForeignStudy) for study in studies):
        caption = "The claims in full, in the words of the study file."
    return Table("Claims", caption, columns, rows, rules=rules)
