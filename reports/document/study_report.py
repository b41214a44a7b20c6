"""This module builds the report on studies: it decides which sections, tables, figures and sentences there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import ATTENTION_GAP
from reports.analysis import schedule
from reports.analysis.advice import advice_paragraph
from reports.analysis.canary import canary_facts, canary_paragraphs, canary_warning, judge_canaries, study_canaries
from reports.analysis.claims import JudgedClaim, judge_study, row_at_chance, verdicts
from reports.analysis.summary import StudySummary
from reports.collect.results import Results
from reports.content.blocks import Block, Document, Facts, Figure, Items, Paragraph, Section
from reports.content.plan_words import MOST_TOLD_APART, short_titles, trials_of
from reports.document import prose
from reports.figures import attention, data
from reports.tables import appendix
from reports.tables import claims as claim_tables
from reports.tables.costs import cost_reading, cost_table
from reports.tables.launches import launch_facts, launches_table
from reports.tables.ledger import fairness_section, tuning_fact
from reports.tables.machines import machine_words, unrecorded_words
from reports.tables.p_values import comparisons_table, mcnemar_table
from reports.tables.study import study_table
from reports.tables.uncertainty_words import CANARY, COVERAGE, INTERVALS, P_VALUES

_TITLE = "Ablations of dynamic convolution"
_METHOD = {"Intervals": INTERVALS, "How well they cover": COVERAGE, "p-values": P_VALUES}
CLAIMS = (
    "A claim is one or more contrasts between rows. Each is judged by the mean over seeds of the paired difference and "
    "its interval, and there are three kinds: better, by more than a margin that is 0 unless the claim says otherwise; "
    "at least as good, that is, worse by less than the size of interest (non-inferiority); the same, within ± the size "
    "of interest (equivalence: two one-sided tests, here by the interval that is printed, at half the usual error). A "
    "claim is reproduced if each of its contrasts is, at the claim's level. One of k contrasts is enough to contradict "
    "it, and is judged with one k-th of the error. A wrong verdict always means an interval that misses the truth. "
    "Seeds that all gave one value have no interval and decide nothing. "
    f"{claim_tables.RANKS} The level of m primary claims is 1 − 0.05 / m (Bonferroni), whatever could be judged of "
    "them. Seeds that would decide are those that do so in four of five cases, by the spread that the contrast's own "
    "interval rests on. If two numbers are given, the first holds if the true difference is as seen, the second "
    "whatever it is: the whole interval is then narrower than the size of interest. A truth about at the bound of a "
    "claim is decided by no number, and no number of seeds makes up for few test images."
)
COUNTS = (
    "Parameters and multiply-adds are counted and exact for the network as it is built here. A latency is one "
    "measurement on one machine: it has no interval, and another machine or another day gives another."
)
RECIPE = (
    "The paper's exact training recipe per backbone is not known to us. The published numbers stand beside ours for "
    "the pattern they show, each with a mark for how it was obtained."
)


def build_document(plan: Plan, results: Results, summaries: Sequence[StudySummary]) -> Document:
    """Return the report on all studies of the plan, of each of which there is a summary."""
    single = plan.studies[0].title if len(plan.studies) == 1 else ""
    preset = plan.request.preset.name
    # Each data set is named once, in the order of the plan.
    datasets = " and ".join(dict.fromkeys(node.spec.data.facts.title for node in plan.trials.values()))
    claims = verdicts(plan, summaries)
    shown_trials: dict[frozenset[str], str] = {}
    # Studies may share their trainings; the dictionary remembers the study whose figure has them.
    sections = [
        Section(study.title, tuple(_study(study, plan, results, summary, shown_trials)))
        for study, summary in zip(plan.studies, summaries, strict=True)
    ]
    if claims and len(plan.studies) > 1:
        # A single study's verdicts stand in its own section.
        sections.insert(0, Section("Verdicts", (claim_tables.overview_table(plan, claims),)))
    return Document(
        title=f"{single}: an ablation of dynamic convolution" if single else _TITLE,
        subtitle=f"{datasets or 'Nothing trained'} · preset {preset} · newest run {prose.when(results.newest)}",
        running_head=f"{single or _TITLE} · preset {preset}",
        timestamp=results.newest // 1000,
        summary=tuple(_summary(plan, results, claims)),
        sections=tuple(sections),
        appendix=tuple(_appendix(plan, results, summaries, claims)),
    )


def _summary(plan: Plan, results: Results, claims: Sequence[JudgedClaim]) -> Iterator[Block]:
    canaries = judge_canaries(plan, results)
    warning = canary_warning(canaries)
    if warning is not None:
        yield warning
    facts = [("Verdicts", claim_tables.verdict_counts(claims))] if claims else []
    facts += launch_facts(results)
    facts += [("Canaries", canary_facts(canaries))] if canaries else []
    facts += [("Tuning", tuning_fact(plan))] if plan.trials else []
    leads = schedule.leads(plan, results)
    facts += [("Dynamic against static", schedule.lead_fact(leads))] if leads else []
    yield Facts((*prose.run_facts(plan, results), *facts))
    for caveat in prose.caveats(plan, results):
        yield Paragraph(caveat, "Caution", "caveat")
    for sentence in (schedule.convergence_words(plan, results), schedule.trailing_words(leads)):
        if sentence:
            yield Paragraph(sentence, "Schedule", "caveat")


def _study(
    study: Study, plan: Plan, results: Results, summary: StudySummary, shown: dict[frozenset[str], str]
) -> Iterator[Block]:
    yield Paragraph(study.question, "Question")
    if study.finding:
        yield Paragraph(study.finding, "Published finding" if study.published else "Expected finding")
    scale = prose.scale_words(study, plan)
    if scale:
        yield Paragraph(scale, "Cut down")
    if study.is_about_cost:
        yield cost_table(study, plan, results)
        yield Paragraph(cost_reading(study, results), "What the table shows")
    else:
        yield from _measured(study, plan, results, summary)
    yield from (Paragraph(sentence, "Machines", "caveat") for sentence in machine_words(study, plan, results))
    if study.metric == ATTENTION_GAP:
        yield from _profiles(study, plan, results, summary)
    elif not study.is_about_cost:
        yield from _figures(study, plan, results, summary, shown)


def _measured(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Iterator[Block]:
    canaries = tuple(canary_paragraphs(study_canaries(study, results)))
    # An alarm comes before the numbers that it makes doubtful, a silent canary after them.
    yield from (paragraph for paragraph in canaries if paragraph.role == "alarm")
    yield study_table(study, plan, summary)
    line, *further_lines = prose.reading(study, summary)
    yield Paragraph(line if not further_lines else "Per inspected network:", "What the table shows")
    if further_lines:
        yield Items((line, *further_lines))
    claims = claim_tables.claims_table(study, judge_study(study, summary, plan), with_legend=len(plan.studies) == 1)
    if claims is not None:
        yield claims
    advice = advice_paragraph(study, summary)
    if advice is not None:
        yield advice
    yield from (paragraph for paragraph in canaries if paragraph.role != "alarm")
    yield from _study_caveats(study, plan, summary)
    yield from _at_chance(study, plan, summary)


def _at_chance(study: Study, plan: Plan, summary: StudySummary) -> Iterator[Block]:
    for network in study.inspected:
        rows = summary.of_network(network.name if network else "")
        changed = [row for row in rows if study.variant(row.variant).intervention is not None]
        reference = next(row for row in rows if row.variant == study.reference)
        # Interventions are only to blame if the untouched network did learn.
        learned = reference not in changed and not reference.unlearned and reference.estimate.is_known
        if not learned or not changed or row_at_chance(study, reference, plan):
            continue
        # One intervention that leaves some accuracy can be compared, and the table says enough then.
        if all(row_at_chance(study, row, plan) for row in changed):
            titles = short_titles(study)
            sentence = schedule.chance_words(
                study, network.title if network else "", [titles[changed_row.variant] for changed_row in changed]
            )
            yield Paragraph(sentence, "At chance", "caveat")


def _study_caveats(study: Study, plan: Plan, summary: StudySummary) -> Iterator[Block]:
    if summary.unlearned:
        yield Paragraph(
            f"{len(summary.unlearned)} of {len(summary.variants)} rows are of trainings that never learned: their loss "
            "or accuracy ended where guessing is. The notes under the table name them; no claim is judged by them.",
            "Never learned",
            "caveat",
        )
    if summary.missing:
        expected = len(plan.cells_of(study.name))
        yield Paragraph(
            f"{summary.missing} of {expected} cells have no value; the notes under the table name them. A variant with "
            "a missing repeat has no mean.",
            "Missing",
            "caveat",
        )


def _figures(
    study: Study, plan: Plan, results: Results, summary: StudySummary, shown: dict[frozenset[str], str]
) -> Iterator[Block]:
    yield _or_sentence(data.accuracy_figure(study, plan, summary), f"No figure of “{study.title}”: no repeat finished.")
    rows = len(study.variants)
    many = f"{rows} variants could not be told apart in it" if rows > MOST_TOLD_APART else ""
    if not study.networks:
        reason = "no validation accuracy per epoch was tracked"
        yield _or_sentence(data.curves_figure(study, plan, results), f"No figure of the training: {many or reason}.")
    trials = frozenset(trials_of(plan, study.name))
    # A figure that an earlier section has, of these trainings or of more, is not shown again.
    earlier_title = next((title for earlier_trials, title in shown.items() if trials <= earlier_trials), "")
    if earlier_title:
        yield Paragraph(f"The attention entropy of these networks is shown under “{earlier_title}”.")
        return
    figure = data.entropy_figure(study, plan, results)
    if figure is not None:
        shown[trials] = study.title
    reason = "none was tracked for these trainings"
    yield _or_sentence(figure, f"No figure of the attention entropy: {many or reason}.")


def _profiles(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Iterator[Block]:
    sentence = f"No figure of “{study.title}”: no repeat finished."
    yield _or_sentence(data.accuracy_figure(study, plan, summary), sentence)
    profile = attention.profile_figure(study, plan, results)
    yield _or_sentence(profile, "No figure of the attention per layer and class: no run holds an attention profile.")
    classes = attention.classes_figure(study, plan, results)
    if classes is not None:
        yield classes


def _or_sentence(figure: Figure | None, sentence: str) -> Block:
    return figure if figure is not None else Paragraph(sentence)


def _appendix(
    plan: Plan, results: Results, summaries: Sequence[StudySummary], claims: Sequence[JudgedClaim]
) -> Iterable[Section]:
    method = [Paragraph(text, lead) for lead, text in _METHOD.items()] if plan.trials else []
    method += [Paragraph(CLAIMS, "Verdicts")] if claims else []
    method += [Paragraph(COUNTS, "Counts and latency")] if plan.costs else []
    method += [Paragraph(CANARY, "Canary")] if plan.canaries else []
    yield Section("Method and uncertainty", (*method, Paragraph(RECIPE, "Published numbers")))
    pairs = zip(plan.studies, summaries, strict=True)
    compared = [(study, summary) for study, summary in pairs if not study.is_about_cost]
    tested = [table for table in (comparisons_table(compared), mcnemar_table(compared)) if table]
    if tested:
        yield Section("Comparisons", tuple(tested))
    fairness = fairness_section(plan, results)
    if fairness is not None:
        yield fairness
    if any(judged.contrasts for judged in claims):
        tables_of_claims = (claim_tables.statements_table(plan), claim_tables.contrasts_table(plan, claims))
        yield Section("Claims and contrasts", tables_of_claims)
    common = appendix.common_settings(plan)
    varying = [appendix.varying_settings_table(study, plan, common) for study in plan.studies]
    tables = [table for table in varying if table.rows]
    yield Section("Configuration", (appendix.shared_settings_table(plan, common), *tables))
    versions = appendix.versions_table(results)
    no_versions = Paragraph("The runs recorded no versions.")
    plugins = appendix.plugins_table(plan)
    code = [appendix.commits_table(results), *([plugins] if plugins is not None else [])]
    unrecorded = [Paragraph(sentence) for sentence in unrecorded_words(results)]
    yield Section("Code and versions", (*code, versions if versions.rows else no_versions, *unrecorded))
    launches = launches_table(results)
    if launches is not None:
        yield Section("Estimated and actual time", (launches,))
    yield Section("Fingerprints and runs", (appendix.provenance(plan, results),))
