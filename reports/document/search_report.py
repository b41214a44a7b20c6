"""This module builds the document on a search: the request, the front, the factors that matter, every trial."""

from __future__ import annotations

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
    factor_importances = importances(
        results.values(results.complete), [float(value) for value in results.complete["top1"]], results.search.factors
    )
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
    by_factor: dict[str, list[str]] = {}
    for importance in factor_importances:
        by_factor.setdefault(importance.factor, [])
        if importance.is_beyond_chance:
            by_factor[importance.factor].append(importance.method)
    both = [name for name, methods in by_factor.items() if len(methods) > 1]
    one_alone = [f"{name} ({methods[0]})" for name, methods in by_factor.items() if len(methods) == 1]
    neither = [name for name, methods in by_factor.items() if not methods]
    sentences = [f"More than by chance by both methods: {', '.join(both)}." if both else "No factor by both methods."]
    sentences += [f"By one alone: {', '.join(one_alone)}."] if one_alone else []
    sentences += [f"Not told apart from chance: {', '.join(neither)}."] if neither else []
    return " ".join(sentences)


def _facts(plan: SearchPlan, results: SearchResults) -> Iterator[tuple[str, str]]:
    trials = results.trials[results.trials["repeat"] == 0]
    repeats = results.trials[results.trials["repeat"] > 0]
    diverged = int((trials["outcome"] == "diverged").sum())
    yield "Preset", f"{plan.request.preset.name} ({plan.request.preset.summary})"
    planned = f"{len(plan.nodes)}" if plan.distinct is None else f"the {plan.distinct} distinct ones that there are"
    yield "Trials", f"{len(trials)} of {planned}, of which {diverged} with a loss that was not a number"
    yield (
        "Trained again",
        f"{len(repeats)} trainings of {repeats['slot'].nunique()} trials of the front, under other seeds",
    )
    yield "Time", measured_duration(float(results.trials["seconds"].sum()))
    yield "Commit", ", ".join(results.commits)


def _appendix(plan: SearchPlan, results: SearchResults) -> Iterator[Section]:
    yield Section("Method and uncertainty", tuple(Paragraph(text, lead) for lead, text in METHOD.items()))
    yield Section("Factors", (factors_table(plan),))
    yield Section("All trials", (trials_table(results),))


def factors_table(plan: SearchPlan) -> Table:
    """Return the factors with their values, and the settings that each option stands for."""
    rows = []
    for name, factor in plan.search.factors.items():
        # A factor of options has a row for each; a factor with a range has one row.
        for index, values in enumerate(factor.every(name) if factor.options is not None else [{}]):
            label = list(factor.options)[index] if factor.options is not None else str(factor)
            settings = "; ".join(f"{key} = {value}" for key, value in plain(values).items())
            # An option that sets nothing keeps the preset's value.
            settings = settings or (_AS_PRESET if factor.options is not None else name)
            rows.append((Text("" if index else name), Text(label), Text(settings)))
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
        # NaN is not equal to itself; such a trial diverged.
        accuracy = f"{row['top1']:.2f}" if row["top1"] == row["top1"] else "–"
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
