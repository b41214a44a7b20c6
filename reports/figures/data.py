"""This module builds the figures of a study with their words and, first, the tidy tables behind them.

Drawing is in `reports.figures.drawing`.
"""

from __future__ import annotations

import math
import re

import pandas as pd

from ablations.foreign_study import ForeignStudy
from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import ENTROPY_PREFIX, TRAIN_LOSS, TRAIN_TOP1, VAL_TOP1, slug
from reports.analysis.summary import StudySummary
from reports.collect.results import Results
from reports.content.blocks import Figure
from reports.content.grid import grid_of
from reports.content.plan_words import (
    ELSEWHERE,
    MOST_TOLD_APART,
    Split,
    capitalized,
    data_words,
    enumerated,
    network_titles,
    network_words,
    part_title,
    plural,
    repeats_of,
    runs_heading,
    short_titles,
    specs_of,
    split_of,
)
from reports.content.published import published_value

ACCURACY_COLUMNS = ("network", "variant", "seed", "value", "mean", "low", "high")
CURVE_COLUMNS = ("variant", "step", "mean", "low", "high", "n")
TRAINING_COLUMNS = ("measure", *CURVE_COLUMNS)
GRID_COLUMNS = ("source", "across", "row", "level", "position", "mean", "low", "high", "confidence")
ENTROPY_COLUMNS = ("network", "layer", "depth", "step", "mean", "n")

_FEW, _SHORT = 10, 40
"""Most variants, and characters of their titles, in a figure of half the width of a page."""


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


def training_data(study: Study, plan: Plan, results: Results) -> pd.DataFrame:
    """Return training and validation error per epoch and variant: `TRAINING_COLUMNS`, what was tracked of them.

    An error is 100 minus the accuracy, in per cent. Where a training has no accuracy on its own images, because they
    were mixed or an earlier version trained it, the loss of all of them stands in its place.
    """
    parts = []
    loss = curves_data(study, plan, results, TRAIN_LOSS)
    training = curves_data(study, plan, results, TRAIN_TOP1)
    if len(training) == len(loss) and not training.empty:
        parts.append(_error(training).assign(measure="training error (%)"))
    elif not loss.empty:
        parts.append(loss.assign(measure="training loss"))
    accuracy = curves_data(study, plan, results)
    if not accuracy.empty:
        parts.append(_error(accuracy).assign(measure="validation error (%)"))
    if not parts:
        return pd.DataFrame(columns=list(TRAINING_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(TRAINING_COLUMNS)]


def _error(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the error of an accuracy in per cent, whose highest end is the lowest of the error."""
    ends = {"low": 100 - accuracy["high"], "high": 100 - accuracy["low"]}
    return accuracy.assign(mean=100 - accuracy["mean"], **ends)


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


def accuracy_figure(
    study: Study, plan: Plan, summary: StudySummary, *, half: bool = False, with_legend: bool = True
) -> Figure | None:
    """Return the figure of the deciding metric per variant, of half the width if asked for; `None` without data.

    Without a legend, the caption leaves to the report what dots and bars mean.
    """
    measured = capitalized(study.metric_facts.words)
    # Of two figures that stand side by side, the table above says on which data and networks.
    scope = f", {_seeds(study, plan)}" if half else f" on {scope_words(study, plan, split_of(study.metric))}"
    caption = f"{measured} per variant{scope}."
    if with_legend:
        caption += f" {VALUES_LEGEND}"
    if study.trains_nothing:
        caption = (
            f"{measured} per variant on {scope_words(study, plan, split_of(study.metric))}. Dots: the one network that "
            "was trained elsewhere."
        )
    if len(study.inspected) > 1:
        caption += " The panels have different scales."
    return _values_figure(study, summary, caption, half=half)


VALUES_LEGEND = (
    "Hollow dots: single seeds; filled dots and bars: mean and 95 % t interval over training seeds, for variants "
    "without a missing repeat."
)
CURVES_LEGEND = "Lines: mean over seeds; bands: from the lowest to the highest seed."


def _seeds(study: Study, plan: Plan) -> str:
    seeds = repeats_of(plan, study)
    return f"{seeds} {plural(seeds, 'seed')}"


def foreign_figure(study: ForeignStudy, summary: StudySummary) -> Figure | None:
    """Return the figure of the metric per variant of a study whose runs were made elsewhere, or `None` without data."""
    caption = (
        f"{capitalized(study.metric_facts.words)} per variant. Hollow dots: single seeds; filled dots and bars: mean "
        "and 95 % t interval over seeds, for variants without a missing repeat."
    )
    return _values_figure(study, summary, caption)


def _values_figure(study: Study, summary: StudySummary, caption: str, *, half: bool = False) -> Figure | None:
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
        half=half,
    )


def curves_figure(study: Study, plan: Plan, results: Results, *, with_legend: bool = True) -> Figure | None:
    """Return the figure of training and validation error, or `None` without data or with too many curves.

    Without a legend, the caption leaves to the report what lines and bands mean.
    """
    data = training_data(study, plan, results)
    if data.empty or data["variant"].nunique() > MOST_TOLD_APART:
        return None
    half = fits_half(study)
    scope = _seeds(study, plan) if half else scope_words(study, plan, "validation")
    caption = f"{capitalized(enumerated(_measures(data)))} per epoch, {scope}."
    if with_legend:
        caption += f" {CURVES_LEGEND}"
    return Figure(
        name=f"{slug(study.name)}-curves",
        kind="curves",
        data=data,
        title=part_title(study.title, "training"),
        caption=caption,
        alt="Training and validation over the epochs, one line per variant.",
        axis="epoch",
        half=half,
    )


def _measures(data: pd.DataFrame) -> list[str]:
    return [measure.removesuffix(" (%)") for measure in dict.fromkeys(data["measure"])]


def fits_half(study: Study) -> bool:
    """Return True if the figures of a study with a line per variant are legible in half the width of a page."""
    titles = short_titles(study).values()
    return not study.networks and len(titles) <= _FEW and max(map(len, titles)) <= _SHORT


def grid_figure(study: Study, plan: Plan, summary: StudySummary) -> Figure | None:
    """Return the figure of the metric along the column that lies across, or `None` without a line in it."""
    grid, data = grid_of(study), grid_data(study, summary)
    # A line takes two points, of which the first may be that of another kind, such as a static network.
    if grid is None or data[data["source"] == runs_heading(study)].groupby("row")["level"].nunique().max() < 2:
        return None
    measured = study.metric_facts.words
    published = ""
    if data["source"].nunique() > 1:
        published = " Published numbers, of another data set and network, have a panel and a scale of their own."
    return Figure(
        name=f"{slug(study.name)}-grid",
        kind="grid",
        data=data,
        title=f"{study.title}: along {grid.across}",
        caption=(
            f"{capitalized(measured)}, {scope_words(study, plan, split_of(study.metric))}: mean and 95 % t interval "
            f"over training seeds, where no repeat is missing.{published}"
        ),
        alt=f"{capitalized(measured)} along {grid.across}, one line per row of the table.",
        axis=measured,
    )


def grid_data(study: Study, summary: StudySummary) -> pd.DataFrame:
    """Return a row per complete variant of a study with a column across, and per published one: `GRID_COLUMNS`.

    `position` is the place of a level on the axis, and the published variants are those of the whole study.
    """
    points: list[tuple[str, str, str, str, int, float, float, float, str]] = []
    whole = grid_of(study.whole)
    grid = grid_of(study)
    if grid is None or whole is None:
        return pd.DataFrame(columns=list(GRID_COLUMNS))
    # A study of which an override has changed rows has levels that the whole one lacks.
    levels = dict.fromkeys([*whole.levels, *grid.levels])
    positions = {level: position for position, level in enumerate(levels)}
    for (row, level), variant in grid.variants.items():
        result = summary.get("", variant.name)
        if result.complete:
            low, high = result.estimate.low, result.estimate.high
            place = (runs_heading(study), grid.across, grid.row_title(row), level, positions[level])
            points.append((*place, result.estimate.mean, low, high, ""))
    for (row, level), variant in whole.variants.items():
        published = published_value(study.whole, variant)
        if published is not None:
            place = ("published", whole.across, whole.row_title(row), level, positions[level])
            points.append((*place, published.value, math.nan, math.nan, published.confidence))
    data = pd.DataFrame(points, columns=list(GRID_COLUMNS))
    # A preset may have only some of the levels: the others would be empty places on the axis.
    used = sorted(set(data["position"]))
    return data.assign(position=data["position"].map(used.index))


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
            "divided by log K: 1 is uniform, 0 is one-hot. Lines: each network after its last epoch. Colours and lines "
            "are even in the distance from 1, on a logarithmic scale. Mean over images and seeds; "
            f"{scope_words(study, plan, 'validation')}."
        ),
        alt="Heat maps of the attention entropy, layers by epochs, and its lines after the last, per trained network.",
        axis="normalised entropy",
    )


def scope_words(study: Study, plan: Plan, split: Split) -> str:
    """Return the data, the networks and the number of seeds behind a figure."""
    specs = specs_of(plan, study.name)
    if study.trains_nothing:
        return f"{data_words(specs, split)}, {network_words(specs)}, {ELSEWHERE}"
    return f"{data_words(specs, split)}, {network_words(specs)}, {_seeds(study, plan)}"
