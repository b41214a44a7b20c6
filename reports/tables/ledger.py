"""This module builds the ledger: the trials, epochs and seconds of each variant, and its tuned settings. Data only.

A comparison is fair as far as its rows had equal budgets. Where they had not, a footnote says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from ablations.planning.tuned_values import TunedVariant
from ablations.spec.factors import default_nuisance
from ablations.study import Study
from reports.collect.results import Results
from reports.content.blocks import Block, Cell, Column, Note, Paragraph, Section, Table, Text
from reports.content.plan_words import short_titles
from reports.tables.claims import grouped

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
_NOTHING = "–"

Place = tuple[str, str]
"""Names of an inspected network (or empty) and of a variant."""


@dataclass(frozen=True)
class _Given:
    """The budget of the rows that share one training."""

    study: Study
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
    blocks: list[Block] = [Paragraph(text, lead) for lead, text in _factors(plan)]
    tables = (ledger_table(plan, results), tuned_table(plan))
    return Section("What each variant was given", (*blocks, *(table for table in tables if table.rows)))


def tuning_fact(plan: Plan) -> str:
    """Return a line on the tuning of the variants, or on its absence."""
    if not plan.tuned:
        return "none: all variants share their nuisance settings, which may suit one better than another"
    budgets = sorted({entry.spent.trials for entry in plan.tuned.values()})
    trials = f"{budgets[0]}" if len(budgets) == 1 else f"{budgets[0]} to {budgets[-1]}"
    return f"{trials} trial{'s' if budgets != [1] else ''} per variant on the validation split, before the seeds"


def _factors(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield per study its scientific and its nuisance settings; all others are fixed."""
    for study in plan.studies:
        if study.is_about_cost:
            continue
        scientific = sorted(study.scientific)
        nuisance = _nuisance(study, plan)
        tuning = "tuned for each variant" if any(name == study.name for name, _ in plan.tuned) else "shared, not tuned"
        yield (
            f"Factors of “{study.title}”",
            f"Scientific: {', '.join(scientific) or 'what is done to the trained network'}. "
            f"Nuisance ({tuning}): {', '.join(nuisance) or 'none'}. Everything else is fixed.",
        )


def _nuisance(study: Study, plan: Plan) -> list[str]:
    if study.nuisance is not None:
        return sorted(study.nuisance)
    defaults = default_nuisance(next(iter(plan.trials.values())).spec)
    return sorted(key for key in defaults if key not in study.scientific)


def ledger_table(plan: Plan, results: Results) -> Table:
    """Return the table of each training's budget: tuning trials, epochs and time, and those of its repeats."""
    seconds = dict(zip(results.runs["fingerprint"], results.runs["seconds"], strict=True))
    marks: set[str] = set()
    rows = []
    for study in plan.studies:
        budgets = [] if study.is_about_cost else list(_given(study, plan))
        usual = _usual(budgets)
        for budget in budgets:
            # A row is held against what is usual in its own study.
            budget_marks = tuple(_unequal(budget, usual))
            marks |= set(budget_marks)
            rows.append(
                (
                    study.title,
                    (*_head(budget, budget_marks), *_tuning_cells(budget, plan), *_training_cells(budget, seconds)),
                )
            )
    cells, rules = grouped(rows)
    return Table(
        title="Ledger",
        caption=(_TUNED_CAPTION if plan.tuned else "") + _TRAINED_CAPTION,
        columns=_columns(plan),
        rows=cells,
        notes=tuple(Note(text, mark) for mark, text in _NOTES.items() if mark in marks),
        rules=rules,
    )


def _columns(plan: Plan) -> tuple[Column, ...]:
    tuning = ("trials", "stopped early", "diverged", "epochs", "time") if plan.tuned else ()
    return (
        Column("study"),
        Column("rows"),
        *(Column(heading, "mark", "tuning") for heading in tuning),
        *(Column(heading, "mark", "training") for heading in ("repeats", "epochs", "time")),
    )


def _given(study: Study, plan: Plan) -> Iterator[_Given]:
    """Yield the rows of a study; those that share their trainings are one."""
    shared: dict[str, dict[Place, None]] = {}
    trials: dict[str, dict[str, Node]] = {}
    bases: dict[Place, str] = {}
    titles = short_titles(study)
    for cell in plan.cells_of(study.name):
        trial = plan.node(cell.fingerprint).training
        row = (cell.network, cell.variant)
        if row not in bases:
            # Repeats of a training differ in their seed alone, so that a fixed seed makes them equal.
            bases[row] = trial.spec.model_copy(update={"seed": 0}).model_dump_json()
        shared.setdefault(bases[row], {})[row] = None
        trials.setdefault(bases[row], {})[trial.fingerprint] = trial
    for base, rows in shared.items():
        network, variant = next(iter(rows))
        key = f"{network}: {variant}" if network else variant
        row_titles = tuple(_titles(study, titles, list(rows)))
        yield _Given(study, row_titles, tuple(trials[base].values()), plan.tuned.get((study.name, key)))


def _titles(study: Study, titles: Mapping[str, str], places: Sequence[Place]) -> Iterator[str]:
    """Yield the titles of rows; of all rows on an inspected network, the network's, which is what was trained."""
    networks = {network.name: network.title for network in study.networks}
    for network in dict.fromkeys(network for network, _ in places):
        variants = [variant for row_network, variant in places if row_network == network]
        if network and len(variants) == len(study.variants):
            yield networks[network]
        else:
            yield from (f"{networks[network]}: {titles[name]}" if network else titles[name] for name in variants)


class _Usual(NamedTuple):
    """The budget of most rows of a study; of equally frequent ones the largest; `None` where no row has any."""

    trials: int | None
    factors: tuple[str, ...] | None
    epochs: int | None


def _usual(given: Sequence[_Given]) -> _Usual:
    tuned = [budget.tuned for budget in given if budget.tuned is not None]
    return _Usual(
        # One that tried all there is was not given less than the others.
        _most([entry.spent.trials for entry in tuned if entry.spent.distinct is None]),
        _most([tuple(sorted(entry.values)) for entry in tuned]),
        _most([budget.epochs for budget in given]),
    )


def _unequal(one: _Given, usual: _Usual) -> Iterator[str]:
    if one.tuned is not None:
        # A search that tried every distinct setting had no use for more trials.
        if one.tuned.spent.distinct is not None and one.tuned.spent.is_whole:
            yield ALL
        elif one.tuned.spent.trials != usual.trials:
            yield TRIALS
        if tuple(sorted(one.tuned.values)) != usual.factors:
            yield FACTORS
    if one.epochs != usual.epochs:
        yield EPOCHS


def _most(values: Sequence[Any]) -> Any:
    counts = Counter(values)
    # Of equal counts the larger value, so that the order of the rows does not matter.
    return max(counts, key=lambda value: (counts[value], value), default=None)


def _head(one: _Given, marks: tuple[str, ...]) -> tuple[Cell, ...]:
    return (Text("; ".join(one.titles), marks),)


def _tuning_cells(one: _Given, plan: Plan) -> tuple[Cell, ...]:
    if not plan.tuned:
        return ()
    if one.tuned is None:
        return (Text(_NOTHING),) * 5
    spent = one.tuned.spent
    counts = (spent.trials, spent.pruned, spent.diverged, spent.epochs)
    return (*(Text(f"{count:,}") for count in counts), Text(duration(spent.seconds)))


def _training_cells(one: _Given, seconds: dict[str, float]) -> tuple[Cell, ...]:
    finished = [trial for trial in one.trials if trial.fingerprint in seconds]
    repeats = f"{len(finished)}" if len(finished) == len(one.trials) else f"{len(finished)} of {len(one.trials)}"
    # A comparison with NaN is false: a run without a tracked time adds none.
    spent = sum(seconds[trial.fingerprint] for trial in finished if seconds[trial.fingerprint] >= 0)
    return Text(repeats), Text(f"{len(finished) * one.epochs:,}"), Text(duration(spent))


def duration(seconds: float) -> str:
    """Return a time in its two largest units: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    minutes, remainder = divmod(total, 60)
    if minutes < 60:
        return f"{minutes} min {remainder:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def tuned_table(plan: Plan) -> Table:
    """Return the tuned settings of each row, beside their values before and the range of the search."""
    trained = [study for study in plan.studies if not study.is_about_cost]
    rows = [
        (study.title, tuple(map(Text, texts)))
        for study in trained
        for budget in _given(study, plan)
        if budget.tuned is not None
        for texts in _found(budget.titles, budget.tuned)
    ]
    cells, rules = grouped(rows)
    return Table(
        title="Tuned settings",
        caption=(
            "What was found for each row: the trial with the highest validation accuracy (top-1 in %, one training "
            "under a seed that no repeat has) among those trained to the end. A value at an end of its range asks for "
            "a wider one."
        ),
        columns=(
            Column("study"),
            Column("row"),
            Column("setting", "code"),
            Column("before", "mark"),
            Column("tuned", "mark"),
            Column("range", "mark"),
            Column("validation", "mark"),
        ),
        rows=cells,
        rules=rules,
    )


def _found(titles: Sequence[str], entry: TunedVariant) -> Iterator[tuple[str, ...]]:
    name, top1 = "; ".join(titles), f"{entry.validation_top1:.2f}"
    for setting, value in sorted(entry.values.items()):
        yield name, setting, _words(entry.base.get(setting)), _words(value), str(entry.factors[setting]), top1
        name = top1 = ""


def _words(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
