"""This module builds the document on a search: the request, the front, the factors that matter, every trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ablations.launches import measured_duration
from ablations.planning.optimisation_plans import SearchPlan
from ablations.spec.factors import plain
from reports.analysis.importance import BEST_SHARE, FEWEST_TRIALS, Importance, importances
from reports.analysis.search_front import FrontMember, front_of
from reports.collect.search import SearchResults
from reports.content.blocks import Block, Column, Document, Facts, Paragraph, Section, Table, Text
from reports.document import prose
from reports.tables.cells import value_words
from reports.tables.search import front_table, importance_figure, importance_table, pareto_figure

_AS_PRESET = "as the preset has it"
METHOD = {
    "Trials": (
        "Each trial is one training under a seed of its own, judged on the validation split; the test split is not "
        "looked at. Optuna proposes settings (TPE, the first ten at random), so that later trials crowd where earlier "
        "ones were good: counts per value say where it looked, not what is usual."
    ),
    "fANOVA": (
        "The share of the variance of accuracy over the whole space that a factor explains by itself, in a random "
        "forest fitted to the trials (Hutter et al. 2014). What factors explain only together is in no share."
    ),
    "PED-ANOVA": (
        f"How much more often the values of a factor are those of the best {100 * BEST_SHARE:.0f} % of the trials than "
        "those of all (Watanabe et al. 2023)."
    ),
    "Uncertainty": (
        "Intervals come from drawing as many trials again with replacement, under other seeds of the method. Chance is "
        "found by shuffling the accuracies over the trials. Neither knows that Optuna chose the trials by what it had "
        "seen, so both are somewhat too sure. Accuracies of the front come from further seeds alone."
    ),
}


def build_search_document(plan: SearchPlan, results: SearchResults) -> Document:
    """Return the report on a search."""
    search, preset = plan.search, plan.request.preset.name
    return Document(
        title=search.title,
        subtitle=f"{plan.spec.data.facts.title} · preset {preset} · newest run {prose.when(results.newest)}",
        running_head=f"{search.title} · preset {preset}",
        timestamp=results.newest // 1000,
        summary=(Facts(tuple(_facts(plan, results))),),
        sections=(search_section(results),),
        appendix=tuple(_appendix(plan, results)),
    )


def search_section(results: SearchResults) -> Section:
    """Return the section on a search: its question, the front, the importances."""
    front = front_of(results)
    accuracies = list(map(float, results.complete["top1"]))
    factor_importances = importances(results.values(results.complete), accuracies, results.search.factors)
    return Section(results.search.title, tuple(_blocks(results, front, factor_importances)))


def _blocks(
    results: SearchResults, front: Sequence[FrontMember], factor_importances: Sequence[Importance]
) -> Iterator[Block]:
    yield Paragraph(results.search.question, "Question")
    if not front:
        yield Paragraph("No trial was trained to the end.", "Missing", "caveat")
        return
    if len(results.complete) < results.requested:
        missing = f"{len(results.complete)} of {results.requested} trials were trained to the end and count here."
        yield Paragraph(missing, "Missing", "caveat")
    yield front_table(results, front)
    yield pareto_figure(results, front)
    if factor_importances:
        yield Paragraph(reading(factor_importances), "What the table shows")
        yield importance_table(results, factor_importances)
        yield importance_figure(results, factor_importances)
    else:
        sentence = (
            f"Of fewer than {FEWEST_TRIALS} trials, or of equal accuracies, neither method says which factor matters."
        )
        yield Paragraph(sentence, "No importances")


def reading(factor_importances: Sequence[Importance]) -> str:
    """Return a sentence on the factors that matter more than by chance, by both methods or by one."""
    methods_by_factor: dict[str, list[str]] = {}
    for importance in factor_importances:
        methods = methods_by_factor.setdefault(importance.factor, [])
        if importance.is_beyond_chance:
            methods.append(importance.method)
    both, single, neither = [], [], []
    for name, methods in methods_by_factor.items():
        # There are two methods, so more than one of them is both.
        if len(methods) > 1:
            both.append(name)
        elif methods:
            single.append(f"{name} ({methods[0]})")
        else:
            neither.append(name)
    sentences = ["No factor by both methods."]
    if both:
        sentences = [f"More than by chance by both methods: {', '.join(both)}."]
    if single:
        sentences.append(f"By one alone: {', '.join(single)}.")
    if neither:
        sentences.append(f"Not told apart from chance: {', '.join(neither)}.")
    return " ".join(sentences)


def _facts(plan: SearchPlan, results: SearchResults) -> Iterator[tuple[str, str]]:
    trials = results.trials[results.trials["repeat"] == 0]
    repeats = results.trials[results.trials["repeat"] > 0]
    diverged = int((trials["outcome"] == "diverged").sum())
    yield "Preset", f"{plan.request.preset.name} ({plan.request.preset.summary})"
    planned = str(len(plan.nodes))
    if plan.distinct is not None:
        planned = f"the {plan.distinct} distinct ones that there are"
    yield "Trials", f"{len(trials)} of {planned}, of which {diverged} with a loss that was not a number"
    # Counted by slot: each member of the front has several repeats.
    members = repeats["slot"].nunique()
    yield "Trained again", f"{len(repeats)} trainings of {members} trials of the front, under other seeds"
    yield "Time", measured_duration(float(results.trials["seconds"].sum()))
    yield "Commit", ", ".join(results.commits)


def _appendix(plan: SearchPlan, results: SearchResults) -> Iterator[Section]:
    yield Section("Method and uncertainty", prose.paragraphs(METHOD))
    yield Section("Factors", (factors_table(plan),))
    yield Section("All trials", (trials_table(results),))


def factors_table(plan: SearchPlan) -> Table:
    """Return the factors with their values, and the settings that each option stands for."""
    rows = []
    for name, factor in plan.search.factors.items():
        if factor.options is None:
            # A factor with a range sets what it is called.
            rows.append((Text(name), Text(str(factor)), Text(name)))
            continue
        title = name
        for label, values in zip(factor.options, factor.every(name), strict=True):
            settings = "; ".join(f"{key} = {value}" for key, value in plain(values).items())
            # An option that sets nothing keeps the preset's value.
            rows.append((Text(title), Text(label), Text(settings or _AS_PRESET)))
            # Only the first option has the factor's name.
            title = ""
    return Table(
        title="Factors",
        caption="What Optuna proposed from. Everything else is as the preset has it.",
        columns=(Column("factor"), Column("values"), Column("settings", "code")),
        rows=tuple(rows),
    )


def trials_table(results: SearchResults) -> Table:
    """Return every training with its proposed values, its measurements and its run."""
    names = list(results.search.factors)
    rows = []
    for row in results.trials.to_dict("records"):
        # A trial that diverged has no accuracy.
        accuracy = "–" if math.isnan(row["top1"]) else f"{row['top1']:.2f}"
        # Slots begin at 0, and people count from 1.
        words = [str(int(row["slot"]) + 1), str(int(row["repeat"]))]
        words += [value_words(row[name]) for name in names]
        words += [accuracy, f"{row['multiply_adds'] / 1e6:.2f}", str(row["outcome"]), str(row["run_id"])]
        rows.append(tuple(map(Text, words)))
    return Table(
        title="Trials",
        caption="Repeat 0 is the training that was proposed; validation top-1 in %; million multiply-adds.",
        columns=(
            Column("trial", "mark"),
            Column("repeat", "mark"),
            *(Column(name.rpartition(".")[2], "mark") for name in names),
            Column("top-1", "mark"),
            Column("M", "mark"),
            Column("outcome", "mark"),
            Column("run", "code"),
        ),
        rows=tuple(rows),
    )
