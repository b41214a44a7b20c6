"""This module builds the ledger: the trials, epochs and seconds of each variant, and its tuned settings. Data only.

A comparison is fair as far as its rows had equal budgets. Where they had not, a footnote says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablations.launches import measured_duration
from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.planning.tuned_values import TunedVariant
from ablations.spec.factors import default_nuisance
from ablations.study import Study
from reports.collect.results import Results
from reports.content.blocks import Block, Column, Note, Paragraph, Section, Table, Text
from reports.content.plan_words import network_prefix, network_titles, plural, short_titles
from reports.tables.cells import TableRow, columns_of, grouped, text_cells, value_words

TRIALS, EPOCHS, FACTORS, ALL = "a", "b", "c", "d"
_NOTES = {
    TRIALS: "Unequal budgets: not the number of tuning trials that most rows of its study were given.",
    EPOCHS: "Unequal budgets: not the number of epochs per training that most rows of its study have.",
    ALL: "Fewer trials than the budget: all settings that there are within its factors were tried, each once.",
    FACTORS: "Not the nuisance factors that most rows of its study were tuned in: one of them is not read by this row.",
}
_TUNED_CAPTION = (
    "Tuning: Optuna trials on the validation split, those among them that were stopped early and those whose loss was "
    "not a number, their epochs and their time one after the other. "
)
_TRAINED_CAPTION = (
    "Training: finished repeats of those planned, their epochs and their time. Rows that share their trainings are one "
    "row here."
)
_NO_TUNING = "–"


@dataclass(frozen=True)
class _Budget:
    """The budget of the rows that share one training."""

    titles: tuple[str, ...]
    trials: tuple[Node, ...]
    tuned: TunedVariant | None

    @property
    def epochs(self) -> int:
        return self.trials[0].spec.train.epochs


def fairness_section(plan: Plan, results: Results) -> Section | None:
    """Return the appendix's section on the budget of each variant, or `None` if nothing is trained."""
    if not plan.trials:
        return None
    blocks: list[Block] = list(_factors(plan))
    for table in (ledger_table(plan, results), tuned_table(plan)):
        if table.rows:
            blocks.append(table)
    return Section("What each variant was given", tuple(blocks))


def tuning_fact(plan: Plan) -> str:
    """Return a line on the tuning of the variants, or on its absence."""
    if not plan.tuned:
        return "none: all variants share their nuisance settings, which may suit one better than another"
    budgets = sorted({entry.spent.trials for entry in plan.tuned.values()})
    trials = str(budgets[0])
    if len(budgets) > 1:
        trials = f"{budgets[0]} to {budgets[-1]}"
    return f"{trials} {plural(budgets[-1], 'trial')} per variant on the validation split, before the seeds"


def _trained_studies(plan: Plan) -> list[Study]:
    return [study for study in plan.studies if not study.is_about_cost]


def _factors(plan: Plan) -> Iterator[Paragraph]:
    """Yield per study its scientific and its nuisance settings; all others are fixed."""
    tuned_studies = {name for name, _ in plan.tuned}
    for study in _trained_studies(plan):
        scientific = sorted(study.scientific)
        tuning = "tuned for each variant" if study.name in tuned_studies else "shared, not tuned"
        yield Paragraph(
            f"Scientific: {', '.join(scientific) or 'what is done to the trained network'}. "
            f"Nuisance ({tuning}): {', '.join(_nuisance(study, plan)) or 'none'}. Everything else is fixed.",
            lead=f"Factors of “{study.title}”",
        )


def _nuisance(study: Study, plan: Plan) -> list[str]:
    if study.nuisance is not None:
        return sorted(study.nuisance)
    # Which settings these are is the same for every trial; only their ranges depend on one.
    first = next(iter(plan.trials.values()))
    return sorted(set(default_nuisance(first.spec)) - study.scientific)


def ledger_table(plan: Plan, results: Results) -> Table:
    """Return the table of each training's budget: tuning trials, epochs and time, and those of its repeats."""
    seconds = dict(zip(results.runs["fingerprint"], results.runs["seconds"], strict=True))
    marks: set[str] = set()
    titled_cells: list[tuple[str, TableRow]] = []
    for study in _trained_studies(plan):
        budgets = list(_budgets(study, plan))
        usual = _usual(budgets)
        for budget in budgets:
            # A row is held against what is usual in its own study.
            budget_marks = tuple(_unequal(budget, usual))
            marks.update(budget_marks)
            rows_cell = Text("; ".join(budget.titles), budget_marks)
            effort = (*_tuning_texts(budget, plan), *_training_texts(budget, seconds))
            titled_cells.append((study.title, (rows_cell, *text_cells(*effort))))
    rows, rules = grouped(titled_cells)
    return Table(
        title="Ledger",
        caption=_TUNED_CAPTION + _TRAINED_CAPTION if plan.tuned else _TRAINED_CAPTION,
        columns=_columns(plan),
        rows=rows,
        notes=tuple([Note(text, mark) for mark, text in _NOTES.items() if mark in marks]),
        rules=rules,
    )


def _columns(plan: Plan) -> tuple[Column, ...]:
    labels = columns_of("text", "study", "rows")
    training = columns_of("mark", "repeats", "epochs", "time", group="training")
    if not plan.tuned:
        return labels + training
    tuning = columns_of("mark", "trials", "stopped early", "diverged", "epochs", "time", group="tuning")
    return labels + tuning + training


def _budgets(study: Study, plan: Plan) -> Iterator[_Budget]:
    """Yield the budgets of a study's rows; rows that share their trainings have one together."""
    # By the settings of a training: the rows that share it, each with its key, and its repeats.
    keys: dict[str, dict[tuple[str, str], str]] = {}
    trials: dict[str, dict[str, Node]] = {}
    bases: dict[tuple[str, str], str] = {}
    for cell in plan.cells_of(study.name):
        trial = plan.node(cell.fingerprint).training
        row = (cell.network, cell.variant)
        if row not in bases:
            # Repeats of a training differ in their seed alone, so that a fixed seed makes them equal.
            bases[row] = trial.spec.model_copy(update={"seed": 0}).model_dump_json()
        keys.setdefault(bases[row], {})[row] = cell.key
        trials.setdefault(bases[row], {})[trial.fingerprint] = trial
    titles = short_titles(study)
    for base, shared in keys.items():
        # Rows with the same training have the same tuned settings: the first stands for all.
        tuned = plan.tuned.get((study.name, next(iter(shared.values()))))
        yield _Budget(tuple(_titles(study, titles, shared)), tuple(trials[base].values()), tuned)


def _titles(study: Study, titles: Mapping[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the titles of rows; of all rows on an inspected network, the network's, which is what was trained."""
    variants: dict[str, list[str]] = {}
    for network, variant in rows:
        variants.setdefault(network, []).append(titles[variant])
    for network, variant_titles in variants.items():
        if not network:
            yield from variant_titles
        elif len(variant_titles) == len(study.variants):
            yield network_titles(study)[network]
        else:
            for title in variant_titles:
                yield network_prefix(study, network) + title


class _Usual(NamedTuple):
    """The budget of most rows of a study; of equally frequent ones the largest; `None` where no row has any."""

    trials: int | None
    factors: tuple[str, ...] | None
    epochs: int | None


def _usual(budgets: Sequence[_Budget]) -> _Usual:
    trials, factors, epochs = [], [], []
    for budget in budgets:
        epochs.append(budget.epochs)
        if budget.tuned is not None:
            factors.append(tuple(sorted(budget.tuned.values)))
            # One that tried all there is was not given less than the others.
            if budget.tuned.spent.distinct is None:
                trials.append(budget.tuned.spent.trials)
    return _Usual(_most(trials), _most(factors), _most(epochs))


def _unequal(budget: _Budget, usual: _Usual) -> Iterator[str]:
    if budget.tuned is not None:
        # A search that tried every distinct setting had no use for more trials.
        if budget.tuned.spent.distinct is not None and budget.tuned.spent.is_whole:
            yield ALL
        elif budget.tuned.spent.trials != usual.trials:
            yield TRIALS
        if tuple(sorted(budget.tuned.values)) != usual.factors:
            yield FACTORS
    if budget.epochs != usual.epochs:
        yield EPOCHS


def _most(values: Sequence[Any]) -> Any:
    counts = Counter(values)
    # Of equal counts the larger value, so that the order of the rows does not matter.
    return max(counts, key=lambda value: (counts[value], value), default=None)


def _tuning_texts(budget: _Budget, plan: Plan) -> tuple[str, ...]:
    if not plan.tuned:
        return ()
    if budget.tuned is None:
        return (_NO_TUNING,) * 5
    spent = budget.tuned.spent
    time = measured_duration(spent.seconds)
    return f"{spent.trials:,}", f"{spent.pruned:,}", f"{spent.diverged:,}", f"{spent.epochs:,}", time


def _training_texts(budget: _Budget, seconds: Mapping[str, float]) -> tuple[str, ...]:
    finished = 0
    spent = 0.0
    for trial in budget.trials:
        if trial.fingerprint in seconds:
            finished += 1
            # A comparison with NaN is false: a run without a tracked time adds none.
            if seconds[trial.fingerprint] >= 0:
                spent += seconds[trial.fingerprint]
    repeats = str(finished)
    if finished < len(budget.trials):
        repeats = f"{finished} of {len(budget.trials)}"
    return repeats, f"{finished * budget.epochs:,}", measured_duration(spent)


def tuned_table(plan: Plan) -> Table:
    """Return the tuned settings of each row, beside their values before and the range of the search."""
    titled_cells = []
    for study in _trained_studies(plan):
        for budget in _budgets(study, plan):
            if budget.tuned is not None:
                for texts in _tuned_texts(budget.titles, budget.tuned):
                    titled_cells.append((study.title, text_cells(*texts)))
    rows, rules = grouped(titled_cells)
    return Table(
        title="Tuned settings",
        caption=(
            "What was found for each row: the trial with the highest validation accuracy (top-1 in %, one training "
            "under a seed that no repeat has) among those trained to the end. A value at an end of its range asks for "
            "a wider one."
        ),
        columns=(
            *columns_of("text", "study", "row"),
            Column("setting", "code"),
            *columns_of("mark", "before", "tuned", "range", "validation"),
        ),
        rows=rows,
        rules=rules,
    )


def _tuned_texts(titles: Sequence[str], entry: TunedVariant) -> Iterator[tuple[str, ...]]:
    name, top1 = "; ".join(titles), f"{entry.validation_top1:.2f}"
    for setting, value in sorted(entry.values.items()):
        base = value_words(entry.base.get(setting))
        yield name, setting, base, value_words(value), str(entry.factors[setting]), top1
        # Both stand in the first line of a row alone.
        name = top1 = ""
