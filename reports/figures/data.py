"""This module builds the figures of a study with their words and, first, the tidy tables behind them.

Drawing is in `reports.figures.drawing`.
"""

from __future__ import annotations

import re

import pandas as pd

from ablations.foreign_study import ForeignStudy
from ablations.metrics import METRICS
from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import ENTROPY_PREFIX, VAL_TOP1, slug
from reports.analysis.summary import StudySummary
from reports.collect.results import Results
from reports.content.blocks import Figure
from reports.content.plan_words import (
    ELSEWHERE,
    MOST_TOLD_APART,
    Split,
    capitalized,
    data_words,
    network_titles,
    network_words,
    part_title,
    plural,
    repeats_of,
    short_titles,
    specs_of,
    split_of,
)

ACCURACY_COLUMNS = ("network", "variant", "seed", "value", "mean", "low", "high")
CURVE_COLUMNS = ("variant", "step", "mean", "low", "high", "n")
ENTROPY_COLUMNS = ("network", "layer", "depth", "step", "mean", "n")


def accuracy_data(study: Study, summary: StudySummary) -> pd.DataFrame:
    """Return the deciding metric of every repeat that finished: `ACCURACY_COLUMNS`.

    `network` and `variant` are titles in the order of the study; `mean`, `low` and `high` (the 95 % t interval over
    training seeds) repeat in each row of a variant and are NaN where a repeat is missing.
    """
    networks, titles = network_titles(study), short_titles(study)
    rows = []
    for row in summary.variants:
        mean, low, high = float("nan"), float("nan"), float("nan")
        if row.complete:
            mean, low, high = row.estimate.mean, row.estimate.low, row.estimate.high
        for seed, value in row.values.items():
            rows.append((networks[row.network], titles[row.variant], seed, value, mean, low, high))
    return pd.DataFrame(rows, columns=list(ACCURACY_COLUMNS))


def curves_data(study: Study, plan: Plan, results: Results, metric: str = VAL_TOP1) -> pd.DataFrame:
    """Return a metric per epoch and variant over the seeds: `CURVE_COLUMNS`; `low` and `high` are min and max.

    A study that inspects trained networks has no curves of its own.
    """
    variant_titles = short_titles(study)
    # Cells on an inspected network are evaluations, which have no epochs.
    cells = [(cell.fingerprint, variant_titles[cell.variant]) for cell in plan.cells_of(study.name) if not cell.network]
    titles = pd.DataFrame(cells, columns=["fingerprint", "variant"])
    curves = results.curves[results.curves["metric"] == metric].dropna(subset=["value"]).merge(titles, on="fingerprint")
    if curves.empty:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    grouped = curves.groupby(["variant", "step"])["value"].agg(["mean", "min", "max", "count"]).reset_index()
    grouped.columns = pd.Index(CURVE_COLUMNS)
    return _ordered(grouped, "variant", list(dict.fromkeys(titles["variant"])), ["step"])


def entropy_data(study: Study, plan: Plan, results: Results) -> pd.DataFrame:
    """Return the normalised attention entropy per trained network, layer and epoch: `ENTROPY_COLUMNS`.

    `depth` counts the layers from the input; `mean` is over seeds. Static networks have no attention and no row.
    """
    titles = trial_titles(study, plan)
    curves = results.curves[results.curves["metric"].str.startswith(ENTROPY_PREFIX)]
    curves = curves[curves["fingerprint"].isin(titles)].dropna(subset=["value"])
    if curves.empty:
        return pd.DataFrame(columns=list(ENTROPY_COLUMNS))
    layers = curves["metric"].str.removeprefix(ENTROPY_PREFIX)
    curves = curves.assign(network=curves["fingerprint"].map(titles), layer=layers)
    grouped = curves.groupby(["network", "layer", "step"])["value"].agg(["mean", "count"]).reset_index()
    ordered_layers = sorted(set(layers), key=_natural)
    grouped.insert(2, "depth", grouped["layer"].map(ordered_layers.index) + 1)
    grouped.columns = pd.Index(ENTROPY_COLUMNS)
    return _ordered(grouped, "network", list(dict.fromkeys(titles.values())), ["depth", "step"])


def trial_titles(study: Study, plan: Plan) -> dict[str, str]:
    """Return a title that tells the trained networks behind a study apart, by fingerprint; seeds share one."""
    titles: dict[str, str] = {}
    networks, variants = network_titles(study), short_titles(study)
    for cell in plan.cells_of(study.name):
        variant = study.variant(cell.variant)
        title = variants[variant.name]
        if cell.network:
            # A variant that changes no setting is the inspected network itself, as it was trained.
            title = f"{networks[cell.network]}, {title}" if variant.changes else networks[cell.network]
        titles.setdefault(plan.node(cell.fingerprint).checkpoint, title)
    return titles


def _natural(layer: str) -> list[tuple[int, str]]:
    key = []
    for piece in re.split(r"(\d+)", layer):
        if piece.isdecimal():
            # By value, so that layer 10 comes after layer 9, and after any text.
            key.append((int(piece), ""))
        else:
            key.append((-1, piece))
    return key


def _ordered(frame: pd.DataFrame, column: str, order: list[str], sort_columns: list[str]) -> pd.DataFrame:
    ranked = frame.assign(_rank=frame[column].map(order.index))
    return ranked.sort_values(["_rank", *sort_columns], kind="stable").drop(columns="_rank").reset_index(drop=True)


def accuracy_figure(study: Study, plan: Plan, summary: StudySummary) -> Figure | None:
    """Return the figure of the deciding metric per variant, or `None` without data."""
    measured = capitalized(study.metric_facts.words)
    caption = (
        f"{measured} per variant on {scope_words(study, plan, split_of(study.metric))}. "
        "Hollow dots: single seeds; filled dots and bars: mean and 95 % t interval over training seeds, for "
        "variants without a missing repeat."
    )
    if study.trains_nothing:
        caption = (
            f"{measured} per variant on {scope_words(study, plan, split_of(study.metric))}. Dots: the one network that "
            "was trained elsewhere."
        )
    if len(study.inspected) > 1:
        caption += " The panels have different scales."
    return _values_figure(study, summary, caption)


def foreign_figure(study: ForeignStudy, summary: StudySummary) -> Figure | None:
    """Return the figure of the metric per variant of a study whose runs were made elsewhere, or `None` without data."""
    caption = (
        f"{capitalized(study.metric_facts.words)} per variant. Hollow dots: single seeds; filled dots and bars: mean "
        "and 95 % t interval over seeds, for variants without a missing repeat."
    )
    return _values_figure(study, summary, caption)


def _values_figure(study: Study, summary: StudySummary, caption: str) -> Figure | None:
    data = accuracy_data(study, summary)
    if data.empty:
        return None
    measured = capitalized(study.metric_facts.words)
    return Figure(
        name=f"{slug(study.name)}-accuracy",
        kind="accuracy",
        data=data,
        title=study.title,
        caption=caption,
        alt=f"{measured} of each variant with its interval; the table has the numbers.",
        axis=study.metric_facts.words,
    )


def curves_figure(study: Study, plan: Plan, results: Results) -> Figure | None:
    """Return the figure of the validation accuracy per epoch, or `None` without data or with too many curves."""
    data = curves_data(study, plan, results)
    if data.empty or data["variant"].nunique() > MOST_TOLD_APART:
        return None
    return Figure(
        name=f"{slug(study.name)}-curves",
        kind="curves",
        data=data,
        title=part_title(study.title, "training"),
        caption=(
            f"Validation accuracy per epoch, {scope_words(study, plan, 'validation')}. Lines: mean over seeds; "
            "bands: from the lowest to the highest seed."
        ),
        alt="Validation accuracy over the epochs, one line per variant.",
        axis=METRICS[VAL_TOP1].words,
    )


def entropy_figure(study: Study, plan: Plan, results: Results) -> Figure | None:
    """Return the figure of the attention entropy per layer and epoch, or `None` without data or with too many."""
    data = entropy_data(study, plan, results)
    if data.empty or data["network"].nunique() > MOST_TOLD_APART:
        return None
    return Figure(
        name=f"{slug(study.name)}-entropy",
        kind="entropy",
        data=data,
        title=part_title(study.title, "attention entropy"),
        caption=(
            "Entropy of the attention per dynamic layer (from the input, top, to the output, bottom) and epoch, "
            "divided by log K: 1 is uniform, 0 is one-hot. The colours are even in the distance from 1, on a "
            "logarithmic scale. Mean over images and seeds; "
            f"{scope_words(study, plan, 'validation')}."
        ),
        alt="Heat maps of the attention entropy, layers by epochs, one per trained network.",
        axis="normalised entropy",
    )


def scope_words(study: Study, plan: Plan, split: Split) -> str:
    """Return the data, the networks and the number of seeds behind a figure."""
    specs, seeds = specs_of(plan, study.name), repeats_of(plan, study)
    if study.trains_nothing:
        return f"{data_words(specs, split)}, {network_words(specs)}, {ELSEWHERE}"
    return f"{data_words(specs, split)}, {network_words(specs)}, {seeds} {plural(seeds, 'seed')}"
