"""This module builds the report on a study whose runs were made elsewhere, by any code and in any field.

It has the table, the claims and the figure of every report. What only a ledger of our own runs can tell (settings,
code, data, computing, the plan before the runs) it does not have, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.foreign_study import ForeignStudy
from reports.analysis.advice import advice_paragraph
from reports.analysis.claims import JudgedClaim, judge_claims
from reports.analysis.summary import StudySummary
from reports.collect.foreign.cells import ForeignCells
from reports.collect.foreign.measurements import Source
from reports.content.blocks import Block, Document, Facts, Paragraph, Section
from reports.content.plan_words import plural, short_titles
from reports.document.findings import findings
from reports.document.prose import FEW_SEEDS, paragraphs, reading, when
from reports.document.study_report import CLAIMS
from reports.figures.claims import claims_figure
from reports.figures.data import foreign_figure
from reports.tables import claims as claim_tables
from reports.tables.export.records import study_records
from reports.tables.foreign import measurements_table
from reports.tables.p_values import comparisons_table, mcnemar_table
from reports.tables.study import foreign_study_table
from reports.tables.uncertainty_words import COVERAGE, COVERAGE_OF_SEEDS, IMPROVEMENTS, MCNEMAR, TESTS

_DIGEST = 12
"""Digits of a digest that a report shows; the manifest has all."""
_MOST_SEEDS = 20
"""Seeds of a list; of more, only their number is given."""

ELSEWHERE = (
    "These runs were made elsewhere. What they trained, with which code, data and settings, how often they were tried, "
    "and whether metric, seeds and claims were chosen before the results were seen, is not known here: this report "
    "says what the values say, and rests on their being what they are called. Nothing was planned, trained or tracked "
    "by the program that wrote it."
)
INTERVALS = (
    "Every ± is the standard deviation over seeds (n − 1), and differences are paired: the value of a variant minus "
    "that of the reference under the same seed. The interval of a difference is Student's t over seeds: it says what "
    "other seeds would have given. Three seeds leave one comparison two degrees of freedom, so its spread is partly "
    "taken from the rest of its table: the more alike the rows' spreads are (the squared p-value of Bartlett's test is "
    "the weight), the more. At one end that is the error of a two-way analysis of variance, at the other the paired t "
    "interval. No interval covers the choice of the data, and each holds for its comparison alone."
)
SEEDS = (
    "A seed says which repeats belong together. Where it stands for something that variants share (a split of the "
    "data, an order, a start) pairing makes intervals narrower; where it is a mere number they are as valid, and wider "
    "than they could be. Repeats must be independent of each other: one run under several seeds, or the best of "
    "several runs under one, make every interval too narrow, and nothing in the results can show it."
)
CHECKPOINTS = (
    "Rows that name one checkpoint under one seed are evaluations of the same network. Where the correct test images "
    "of both are given, their difference is taken image by image, and its interval is over seeds and test images, "
    f"crossed (variance components, Graybill and Wang 1980). {MCNEMAR}"
)


def build_foreign_document(
    study: ForeignStudy, source: Source, cells: ForeignCells, summary: StudySummary, claims: Sequence[JudgedClaim]
) -> Document:
    """Return the report on a foreign study."""
    newest = f" · newest run {when(source.ended)}" if source.ended else ""
    return Document(
        title=study.title,
        subtitle=f"{study.metric_facts.words} · results from {source.title}{newest}",
        running_head=f"{study.title} · results from elsewhere",
        # That of the newest run or none, instead of now: two reports from the same results are the same bytes.
        timestamp=source.ended // 1000,
        summary=tuple(_summary(study, source, cells, summary, claims)),
        sections=(Section(study.title, tuple(_study(study, summary, claims)), study.name),),
        appendix=tuple(_appendix(study, source, cells, summary, claims)),
        records=study_records([(study, summary)], claims),
    )


def foreign_verdicts(study: ForeignStudy, summary: StudySummary) -> tuple[JudgedClaim, ...]:
    """Return the verdicts on the claims of a foreign study; nothing is known of looks at its results, or of chance."""
    return judge_claims(study, summary)


def _summary(
    study: ForeignStudy, source: Source, cells: ForeignCells, summary: StudySummary, claims: Sequence[JudgedClaim]
) -> Iterator[Block]:
    direction = "higher" if study.metric_facts.higher_is_better else "lower"
    variants, seeds = len(study.variants), len(cells.seeds)
    repeats = f"{seeds} {plural(seeds, 'seed')}"
    if seeds <= _MOST_SEEDS:
        repeats += f": {', '.join(map(str, cells.seeds))}"
    facts = [
        ("Results", f"{source.title}, SHA-256 {source.digest[:_DIGEST]}"),
        ("Metric", f"{study.metric_facts.words}; {direction} is better"),
        ("Variants", f"{variants}, held against “{short_titles(study)[study.reference]}”"),
        ("Repeats", repeats),
        ("Cells", f"{cells.finished} of {cells.count} have a value"),
    ]
    if source.ended:
        facts.append(("Newest run", when(source.ended)))
    if claims:
        facts.append(("Verdicts", claim_tables.verdict_counts(claims)))
    yield from findings((study,), claims, ())
    yield Facts(tuple(facts))
    yield Paragraph(ELSEWHERE, "Made elsewhere", "caveat")
    if seeds < FEW_SEEDS:
        caution = f"With {seeds} {plural(seeds, 'seed')} per variant, spreads and intervals say almost nothing."
        yield Paragraph(caution, "Caution", "caveat")
    for note in cells.notes:
        yield Paragraph(note, "Caution", "caveat")
    figure = claims_figure((study,), claims)
    if figure is not None:
        yield figure


def _study(study: ForeignStudy, summary: StudySummary, claims: Sequence[JudgedClaim]) -> Iterator[Block]:
    yield Paragraph(study.question, "Question")
    if study.finding:
        yield Paragraph(study.finding, "Published finding" if study.published else "Expected finding")
    yield foreign_study_table(study, summary)
    for sentence in reading(study, summary):
        yield Paragraph(sentence, "What the table shows")
    table = claim_tables.claims_table(study, claims, with_legend=True)
    if table is not None:
        yield table
    advice = advice_paragraph(study, summary)
    if advice is not None:
        yield advice
    if summary.missing:
        yield Paragraph(
            f"{summary.missing} of {len(summary.variants) * summary.seeds} cells have no value; the notes under the "
            "table name them. A variant with a missing repeat has no mean.",
            "Missing",
            "caveat",
        )
    yield foreign_figure(study, summary) or Paragraph(f"No figure of “{study.title}”: no cell has a value.")


def _appendix(
    study: ForeignStudy, source: Source, cells: ForeignCells, summary: StudySummary, claims: Sequence[JudgedClaim]
) -> Iterator[Section]:
    shares_checkpoints = any(row.same_checkpoints for row in summary.variants)
    coverage = COVERAGE if shares_checkpoints else COVERAGE_OF_SEEDS
    method = {"Intervals": INTERVALS, "Seeds": SEEDS, "How well they cover": coverage, "p-values": TESTS}
    # Only what the report has needs an explanation.
    if shares_checkpoints:
        method["Checkpoints"] = CHECKPOINTS
    if summary.has_improvements:
        method["Probability of improvement"] = IMPROVEMENTS
    if claims:
        method["Verdicts"] = CLAIMS
    yield Section("Method and uncertainty", paragraphs(method))
    tests = tuple(filter(None, (comparisons_table([(study, summary)]), mcnemar_table([(study, summary)]))))
    if tests:
        yield Section("Comparisons", tests)
    if any(judged.contrasts for judged in claims):
        tables = (claim_tables.statements_table([study]), claim_tables.contrasts_table([study], claims))
        yield Section("Claims and contrasts", tables)
    yield Section("Measurements", (measurements_table(study, cells, source),))
