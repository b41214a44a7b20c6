"""A plan and its results → the document: which sections, tables, figures and sentences a report has. No markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ablations.datasets import get_dataset_facts
from ablations.planning import Plan
from ablations.study import Study
from reports import appendix, figures, prose
from reports.blocks import Block, Document, Facts, Figure, Items, Paragraph, Section
from reports.facts import trials_of
from reports.results import Results
from reports.summary import StudySummary, summarize_study
from reports.tables import study_table

_TITLE = "Ablations of dynamic convolution"
METHOD = (
    "Every ± is the standard deviation over training seeds (n − 1), every interval a 95 % Student t "
    "interval over training seeds, for differences paired by seed. They say what other seeds would have given on the "
    "same test images; they do not cover the sampling of the test images, and they are not corrected for the number of "
    "comparisons in a table."
)
RECIPE = (
    "The paper's exact training recipe per backbone is not known to us. The published numbers stand beside ours for "
    "the pattern they show, each with a mark for how it was obtained."
)


def build_document(plan: Plan, results: Results) -> Document:
    """Returns the report on all studies of the plan."""
    specs = [node.spec for node in plan.trials.values()]
    single = plan.studies[0].title if len(plan.studies) == 1 else ""
    preset = plan.request.preset.name
    datasets = " and ".join(dict.fromkeys(get_dataset_facts(spec.data.name).title for spec in specs))
    shown: dict[frozenset[str], str] = {}
    return Document(
        title=f"{single}: an ablation of dynamic convolution" if single else _TITLE,
        subtitle=f"{datasets} · preset {preset} · newest run {prose.when(results.newest)}",
        running_head=f"{single or _TITLE} · preset {preset}",
        timestamp=results.newest // 1000,
        summary=tuple(_summary(plan, results)),
        sections=tuple(Section(study.title, tuple(_study(study, plan, results, shown))) for study in plan.studies),
        appendix=tuple(_appendix(plan, results)),
    )


def _summary(plan: Plan, results: Results) -> Iterator[Block]:
    yield Facts(prose.run_facts(plan, results))
    for caveat in prose.caveats(plan, results):
        yield Paragraph(caveat, "Caution", "caveat")


def _study(study: Study, plan: Plan, results: Results, shown: dict[frozenset[str], str]) -> Iterator[Block]:
    summary = summarize_study(study, plan, results)
    yield Paragraph(study.question, "Question")
    if study.finding:
        yield Paragraph(study.finding, "Published finding" if study.published else "Expected finding")
    yield study_table(study, plan, results)
    first, *others = prose.reading(study, summary)
    yield Paragraph(first if not others else "Per inspected network:", "What the table shows")
    if others:
        yield Items((first, *others))
    yield from _study_caveats(study, plan, summary)
    yield from _figures(study, plan, results, shown)


def _study_caveats(study: Study, plan: Plan, summary: StudySummary) -> Iterator[Block]:
    if summary.missing:
        expected = len(plan.cells_of(study.name))
        yield Paragraph(
            f"{summary.missing} of {expected} cells have no value; the notes under the table name them. A variant with "
            "a missing repeat has no mean.",
            "Missing",
            "caveat",
        )


def _figures(study: Study, plan: Plan, results: Results, shown: dict[frozenset[str], str]) -> Iterator[Block]:
    yield _or_sentence(
        figures.accuracy_figure(study, plan, results), f"No figure of “{study.title}”: no repeat finished."
    )
    if not study.networks:
        without = "No figure of the training: no validation accuracy per epoch was tracked."
        yield _or_sentence(figures.curves_figure(study, plan, results), without)
    trials = frozenset(trials_of(plan, study.name))
    if trials in shown:
        yield Paragraph(f"The attention entropy of these networks is shown under “{shown[trials]}”.")
        return
    figure = figures.entropy_figure(study, plan, results)
    if figure is not None:
        shown[trials] = study.title
    yield _or_sentence(figure, "No figure of the attention entropy: none was tracked for these trainings.")


def _or_sentence(figure: Figure | None, sentence: str) -> Block:
    return figure if figure is not None else Paragraph(sentence)


def _appendix(plan: Plan, results: Results) -> Iterable[Section]:
    yield Section("Method and uncertainty", (Paragraph(METHOD, "Uncertainty"), Paragraph(RECIPE, "Published numbers")))
    varying = [appendix.varying_settings_table(study, plan) for study in plan.studies]
    tables = [table for table in varying if table.rows]
    yield Section("Configuration", (appendix.shared_settings_table(plan), *tables))
    versions = appendix.versions_table(results)
    unknown = Paragraph("The runs recorded no versions.")
    yield Section("Code and versions", (appendix.commits_table(results), versions if versions.rows else unknown))
    yield Section("Fingerprints and runs", (appendix.provenance_table(plan, results),))
