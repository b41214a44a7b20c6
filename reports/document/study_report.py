"""This module builds the report on studies: it decides which sections, tables, figures and sentences there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ablations.planning.plan import Plan
from ablations.spec.parts import ModelSpec
from ablations.study import Study
from ablations.vocabulary import ATTENTION_GAP
from reports.analysis import schedule
from reports.analysis.advice import advice_paragraph
from reports.analysis.canary import canary_facts, canary_paragraphs, canary_warning, judge_canaries, study_canaries
from reports.analysis.claims import JudgedClaim, judge_study, row_at_chance, verdicts
from reports.analysis.factorial import FactorialSummary, summarize_factorial
from reports.analysis.summary import StudySummary
from reports.collect.results import Results
from reports.content.blocks import Block, Document, Facts, Items, Paragraph, Section, Table
from reports.content.grid import grid_of
from reports.content.plan_words import (
    MOST_TOLD_APART,
    looks_words,
    network_titles,
    part_title,
    short_titles,
    specs_of,
    trials_of,
)
from reports.document import prose
from reports.document.checklist import checklist_section
from reports.document.computing import computing_fact, computing_section
from reports.document.findings import findings
from reports.document.protocol import deviation_blocks, protocol_facts, protocol_section
from reports.document.reading_guide import has_one_epoch, reading_guide
from reports.figures import attention, data
from reports.figures.claims import claims_figure
from reports.figures.effects import effects_figure
from reports.figures.tradeoff import tradeoff_figure
from reports.tables import appendix
from reports.tables import claims as claim_tables
from reports.tables.costs import cost_reading, cost_table
from reports.tables.effects.terms import terms_table
from reports.tables.effects.work import work_reading, work_table
from reports.tables.export.records import study_records
from reports.tables.grid import grid_table
from reports.tables.launches import launch_facts, launches_table
from reports.tables.ledger import fairness_section, tuning_fact
from reports.tables.machines import machine_words, unrecorded_words
from reports.tables.p_values import comparisons_table, mcnemar_table
from reports.tables.study import study_table
from reports.tables.trained_costs import trained_cost_table
from reports.tables.uncertainty_words import CANARY, COVERAGE, IMPROVEMENTS, INTERVALS, P_VALUES, SINGLE
from reports.tables.variance.table import variance_table
from reports.tables.variance.words import VARIANCES, variance_reading

_FEW_FACTORS = 3
"""Effects of more factors are listed in the appendix."""
_MOST_COMBINATIONS = 8
"""Most combinations of a factorial in a figure of the training."""
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
    preset = plan.request.preset.name
    title = head = _TITLE
    if len(plan.studies) == 1:
        head = plan.studies[0].title
        title = part_title(head, "an ablation of dynamic convolution")
    # Each data set is named once, in the order of the plan.
    measured = (*plan.trials.values(), *plan.networks.values())
    datasets = " and ".join(dict.fromkeys(node.spec.data.facts.title for node in measured))
    claims = verdicts(plan, summaries)
    sections = []
    has_overview = bool(claims) and len(plan.studies) > 1
    if has_overview:
        # A single study's verdicts stand in its own section, with what explains them.
        overview = claim_tables.overview_table(plan, claims, reading_guide(plan, summaries))
        sections.append(Section("Verdicts", (overview,)))
    # Studies may share their trainings; the dictionary remembers the study whose figure has them.
    titles_by_trials: dict[frozenset[str], str] = {}
    for study, summary in zip(plan.studies, summaries, strict=True):
        blocks = tuple(_study(study, plan, results, summary, titles_by_trials, with_legend=not has_overview))
        sections.append(Section(study.title, blocks, study.name))
    return Document(
        title=title,
        subtitle=f"{datasets or 'Nothing trained'} · preset {preset} · newest run {prose.when(results.newest)}",
        running_head=f"{head} · preset {preset}",
        # Of the newest run instead of now: two reports from the same runs are the same bytes.
        timestamp=results.newest // 1000,
        summary=tuple(_summary(plan, results, claims)),
        sections=tuple(sections),
        appendix=tuple(_appendix(plan, results, summaries, claims, titles_by_trials)),
        records=study_records(zip(plan.studies, summaries, strict=True), claims),
    )


def _summary(plan: Plan, results: Results, claims: Sequence[JudgedClaim]) -> Iterator[Block]:
    canaries = judge_canaries(plan, results)
    warning = canary_warning(canaries)
    if warning is not None:
        yield warning
    leads = schedule.leads(plan, results)
    yield from findings(plan.studies, claims, leads)
    facts = list(prose.scale_facts(plan, results))
    if claims:
        facts.append(("Verdicts", claim_tables.verdict_counts(claims)))
    facts += protocol_facts(plan, results)
    if canaries:
        facts.append(("Canaries", canary_facts(canaries)))
    yield Facts(tuple(facts))
    figure = claims_figure(plan.studies, claims)
    if figure is not None:
        yield figure
    yield from deviation_blocks(plan, results)
    for caveat in prose.caveats(plan, results):
        yield Paragraph(caveat, "Caution", "caveat")
    for sentence in (schedule.convergence_words(plan, results), schedule.trailing_words(leads)):
        if sentence:
            yield Paragraph(sentence, "Schedule", "caveat")


def _facts(plan: Plan, results: Results) -> Facts:
    """Return what a reader of page 1 need not know, and one who checks the report may ask."""
    facts = list(prose.run_facts(plan, results))
    looks = looks_words(plan)
    if looks:
        facts.append(("Seeds", f"added until the primary claims were decided: looks {looks}"))
    facts += launch_facts(results)
    if results.computing.runs:
        facts.append(("Computing", computing_fact(results.computing)))
    if plan.trials:
        facts.append(("Tuning", tuning_fact(plan)))
    return Facts(tuple(facts))


def _study(
    study: Study,
    plan: Plan,
    results: Results,
    summary: StudySummary,
    titles_by_trials: dict[frozenset[str], str],
    *,
    with_legend: bool,
) -> Iterator[Block]:
    yield Paragraph(study.question, "Question")
    if study.finding:
        kind = "Published" if study.published else "Expected"
        yield Paragraph(study.finding, f"{kind} finding")
    scale = prose.scale_words(study, plan)
    if scale:
        yield Paragraph(scale, "Cut down")
    if study.is_about_cost:
        yield cost_table(study, plan, results)
        yield Paragraph(cost_reading(study, results), "What the table shows")
    else:
        yield from _measured(study, plan, results, summary, with_legend=with_legend)
    for sentence in machine_words(study, plan, results):
        yield Paragraph(sentence, "Machines", "caveat")
    if study.metric == ATTENTION_GAP:
        yield from _profiles(study, plan, results)
    elif not study.is_about_cost:
        yield from _figures(study, plan, results, summary, titles_by_trials)


def _measured(
    study: Study, plan: Plan, results: Results, summary: StudySummary, *, with_legend: bool
) -> Iterator[Block]:
    # An alarm comes before the numbers that it makes doubtful, a silent canary after them.
    silent = []
    for paragraph in canary_paragraphs(study_canaries(study, results)):
        if paragraph.role == "alarm":
            yield paragraph
        else:
            silent.append(paragraph)
    yield from _effects(study, plan, summary)
    yield _main_table(study, plan, results, summary, with_legend=with_legend)
    if study.compares_variances:
        lines: tuple[str, ...] = (variance_reading(study, summary),)
    else:
        lines = tuple(prose.reading(study, summary))
    if len(lines) == 1:
        yield Paragraph(lines[0], "What the table shows")
    else:
        yield Paragraph("Per inspected network:", "What the table shows")
        yield Items(lines)
    # Before the claims, so that they can fill the page that the figure does not fit on.
    yield from _values_and_curves(study, plan, results, summary, with_legend=with_legend)
    judged = judge_study(study, summary, plan)
    looks = claim_tables.stopping_words(plan)
    claims = claim_tables.claims_table(study, judged, with_legend=with_legend, looks=looks)
    if claims is not None:
        yield claims
    # In a report on several studies, the appendix has the number of seeds for each row.
    advice = advice_paragraph(study, summary) if with_legend else None
    if advice is not None:
        yield advice
    yield from silent
    yield from _study_caveats(study, plan, summary)
    yield from _at_chance(study, plan, summary)


def _main_table(study: Study, plan: Plan, results: Results, summary: StudySummary, *, with_legend: bool) -> Table:
    """Return the table that answers the question of a study, in the layout that its data ask for."""
    if study.compares_variances:
        return variance_table(study, plan, summary)
    grid = grid_of(study)
    if grid is not None:
        return grid_table(study, plan, summary, grid, with_legend=with_legend)
    return study_table(study, plan, summary, results=results, with_legend=with_legend)


def _values_and_curves(
    study: Study, plan: Plan, results: Results, summary: StudySummary, *, with_legend: bool
) -> Iterator[Block]:
    """Yield the figure of the metric and that of the training, side by side where both are legible so."""
    curves = None
    if _has_curves(study, plan):
        curves = data.curves_figure(study, plan, results, with_legend=with_legend)
    is_half = curves is not None and curves.half
    values = data.accuracy_figure(study, plan, summary, half=is_half, with_legend=with_legend)
    # The values of a factorial are in its table, and its effects in a figure.
    if values is None or with_legend or study.factorial is None:
        yield values or Paragraph(f"No figure of “{study.title}”: no repeat finished.")
    if curves is not None:
        # Alone, a figure of half the width would leave the other half empty.
        yield curves if values is not None else replace(curves, half=False)


def _has_curves(study: Study, plan: Plan) -> bool:
    """Return True if a study trains over several epochs, and its lines can be told apart."""
    if study.trains_nothing or study.networks or study.metric == ATTENTION_GAP:
        return False
    # Combinations are called by all that is on, so that the legend of more would take the room of the curves.
    if study.factorial is not None and len(study.variants) > _MOST_COMBINATIONS:
        return False
    return max((spec.train.epochs for spec in specs_of(plan, study.name)), default=0) > 1


def _effects(study: Study, plan: Plan, summary: StudySummary) -> Iterator[Block]:
    if study.factorial is None:
        return
    result = summarize_factorial(study, summary)
    if result is None:
        reason = "The overrides leave some of its combinations alike"
        if study.before_rows is not None:
            reason = "Some of its combinations were not asked for"
        yield Paragraph(
            f"{reason}, so that there are no effects of its factors to tell.",
            "No effects",
            "caveat",
        )
        return
    yield work_table(study, plan, result)
    yield Paragraph(work_reading(study, result), "Which part does the work")
    if _shows_terms(result):
        yield terms_table(study, result)
    figure = effects_figure(study, plan, result)
    if figure is not None:
        yield figure


def _shows_terms(result: FactorialSummary) -> bool:
    """Return True if all effects of a study are few enough for its section; those of others are in the appendix."""
    return len(result.factorial.factors) <= _FEW_FACTORS


def _at_chance(study: Study, plan: Plan, summary: StudySummary) -> Iterator[Block]:
    titles = short_titles(study)
    for network, title in network_titles(study).items():
        rows = summary.of_network(network)
        changed = [row for row in rows if study.variant(row.variant).intervention is not None]
        # Every study has its reference in each preset, see `Study._check_scales`.
        reference = next(row for row in rows if row.variant == study.reference)
        # Interventions are only to blame if the untouched network did learn.
        learned = reference not in changed and not reference.unlearned and reference.estimate.is_known
        if not learned or not changed or row_at_chance(study, reference, plan):
            continue
        # One intervention that leaves some accuracy can be compared, and the table says enough then.
        if all(row_at_chance(study, row, plan) for row in changed):
            sentence = schedule.chance_words(study, title, [titles[row.variant] for row in changed])
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
    study: Study, plan: Plan, results: Results, summary: StudySummary, titles_by_trials: dict[frozenset[str], str]
) -> Iterator[Block]:
    if study.trains_nothing:
        # Figures over the epochs are those of trainings.
        return
    if study.with_cost:
        without_both = "no network has been counted and has every repeat"
        yield tradeoff_figure(study, plan, results, summary) or Paragraph(
            f"No figure of accuracy against multiply-adds: {without_both}."
        )
    grid = data.grid_figure(study, plan, summary)
    if grid is not None:
        yield grid
    if max((spec.train.epochs for spec in specs_of(plan, study.name)), default=0) == 1:
        # Where it holds for all studies of a report, that says it once.
        if len(plan.studies) == 1 or not has_one_epoch(plan):
            yield Paragraph("No figures over the epochs of the training: it has one.")
        return
    untracked, unreported = "no validation accuracy per epoch was tracked", "none was tracked for these trainings"
    if len(study.variants) > MOST_TOLD_APART:
        untracked = unreported = f"{len(study.variants)} variants could not be told apart in it"
    if study.factorial is not None and len(study.variants) > _MOST_COMBINATIONS:
        yield Paragraph(f"No figure of the training: {len(study.variants)} combinations have too long a legend.")
    elif not study.networks and data.curves_figure(study, plan, results) is None:
        yield Paragraph(f"No figure of the training: {untracked}.")
    if _entropy_is_appended(study, plan):
        return
    trials = frozenset(trials_of(plan, study.name))
    for earlier_trials, title in titles_by_trials.items():
        # A figure that an earlier section has, of these trainings or of more, is not shown again.
        if trials <= earlier_trials:
            yield Paragraph(f"The attention entropy of these networks is shown under “{title}”.")
            return
    figure = data.entropy_figure(study, plan, results)
    if figure is not None:
        titles_by_trials[trials] = study.title
    yield figure or Paragraph(f"No figure of the attention entropy: {unreported}.")


def _entropy_is_appended(study: Study, plan: Plan) -> bool:
    """Return True if the attention entropy of a study's networks is no part of its answer, and goes to the appendix.

    It is a part of it where networks that differ in their temperature alone are compared, and where a report has that
    study alone. What a factorial asks, its effects answer.
    """
    temperatures: dict[ModelSpec, set[tuple[str, float]]] = {}
    for spec in specs_of(plan, study.name):
        tau = spec.train.temperature
        if tau is not None:
            temperatures.setdefault(spec.model, set()).add((tau.schedule, tau.start))
    is_compared = study.factorial is None and any(len(values) > 1 for values in temperatures.values())
    return len(plan.studies) > 1 and not is_compared


def _appended_figures(
    plan: Plan, results: Results, summaries: Sequence[StudySummary], titles_by_trials: dict[frozenset[str], str]
) -> Iterator[Block]:
    """Yield the figures that no answer rests on: the values of factorials, and the entropy of most studies."""
    for study, summary in zip(plan.studies, summaries, strict=True):
        if study.factorial is not None and len(plan.studies) > 1:
            values = data.accuracy_figure(study, plan, summary)
            if values is not None:
                yield values
        if study.trains_nothing or study.metric == ATTENTION_GAP or not _entropy_is_appended(study, plan):
            continue
        trials = frozenset(trials_of(plan, study.name))
        # Networks that another figure has are not shown again.
        figure = None
        if not any(trials <= earlier_trials for earlier_trials in titles_by_trials):
            figure = data.entropy_figure(study, plan, results)
        if figure is not None:
            titles_by_trials[trials] = study.title
            yield figure


def _profiles(study: Study, plan: Plan, results: Results) -> Iterator[Block]:
    without_profile = "No figure of the attention per layer and class: no run holds an attention profile."
    yield attention.profile_figure(study, plan, results) or Paragraph(without_profile)
    classes = attention.classes_figure(study, plan, results)
    if classes is not None:
        yield classes


def _appended_effects(plan: Plan, summaries: Sequence[StudySummary]) -> Iterator[Block]:
    for study, summary in zip(plan.studies, summaries, strict=True):
        result = summarize_factorial(study, summary)
        if result is not None and not _shows_terms(result):
            yield terms_table(study, result)


def _appendix(
    plan: Plan,
    results: Results,
    summaries: Sequence[StudySummary],
    claims: Sequence[JudgedClaim],
    titles_by_trials: dict[frozenset[str], str],
) -> Iterable[Section]:
    # Only what the report has needs an explanation.
    method = dict(_METHOD) if plan.trials else {}
    if any(summary.has_improvements for summary in summaries):
        method["Probability of improvement"] = IMPROVEMENTS
    if any(study.compares_variances for study in plan.studies):
        method["Variances"] = VARIANCES
    if plan.networks:
        method["One network"] = SINGLE
    if claims:
        method["Verdicts"] = CLAIMS
    looks = claim_tables.stopping_words(plan)
    if looks:
        method["Looks"] = looks
    if plan.costs:
        method["Counts and latency"] = COUNTS
    if plan.canaries:
        method["Canary"] = CANARY
    if any(study.published for study in plan.studies):
        method["Published numbers"] = RECIPE
    yield Section("About the runs", (_facts(plan, results),))
    yield Section("Method and uncertainty", prose.paragraphs(method))
    pairs = zip(plan.studies, summaries, strict=True)
    compared = [(study, summary) for study, summary in pairs if not study.is_about_cost]
    tests = tuple(filter(None, (comparisons_table(compared), mcnemar_table(compared))))
    if tests:
        yield Section("Comparisons", tests)
    effects = tuple(_appended_effects(plan, summaries))
    if effects:
        yield Section("Effects and interactions", effects)
    costs = []
    for study, summary in zip(plan.studies, summaries, strict=True):
        if study.with_cost:
            costs.append(trained_cost_table(study, plan, results, summary))
    if costs:
        yield Section("Costs of the networks", tuple(costs))
    figures = tuple(_appended_figures(plan, results, summaries, titles_by_trials))
    if figures:
        yield Section("Further figures", figures)
    fairness = fairness_section(plan, results)
    if fairness is not None:
        yield fairness
    if any(judged.contrasts for judged in claims):
        tables_of_claims = (
            claim_tables.statements_table(plan.studies),
            claim_tables.contrasts_table(plan.studies, claims),
        )
        yield Section("Claims and contrasts", tables_of_claims)
    common = appendix.common_settings(plan)
    settings_tables = [appendix.shared_settings_table(plan, common)]
    for study in plan.studies:
        table = appendix.varying_settings_table(study, plan, common)
        if table.rows:
            settings_tables.append(table)
    yield Section("Configuration", tuple(settings_tables))
    code: list[Block] = [appendix.commits_table(results)]
    plugins = appendix.plugins_table(plan)
    if plugins is not None:
        code.append(plugins)
    versions = appendix.versions_table(results)
    if versions.rows:
        code.append(versions)
    else:
        code.append(Paragraph("The runs recorded no versions."))
    code += map(Paragraph, unrecorded_words(results))
    yield Section("Code and versions", tuple(code))
    protocol = protocol_section(plan, results)
    if protocol is not None:
        yield protocol
    launches = launches_table(results)
    if launches is not None:
        yield Section("Estimated and actual time", (launches,))
    computing = computing_section(results)
    if computing is not None:
        yield computing
        yield checklist_section(plan, results, summaries, claims)
    yield Section("Fingerprints and runs", (appendix.provenance(plan, results),))
