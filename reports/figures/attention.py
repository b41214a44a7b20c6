"""This module builds the figures of the attention profile of networks. Drawing is in `reports.figures.drawing`."""

from __future__ import annotations

import pandas as pd

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import slug
from reports.collect.results import Results
from reports.content.blocks import Figure
from reports.content.plan_words import part_title, short_titles, specs_of
from reports.figures.data import scope_words

PROFILE_COLUMNS = ("variant", "index", "resolution", "mean", "low", "high", "n")
CLASSES_COLUMNS = ("variant", "index", "class", "mean", "n")


def profile_data(study: Study, plan: Plan, results: Results) -> pd.DataFrame:
    """Return the entropy per variant and layer: `PROFILE_COLUMNS`; `low` and `high` are over seeds."""
    profiles = _of_study(study, plan, results)
    profiles = profiles[profiles["class"] == ""]
    grouped = profiles.groupby(["rank", "variant", "index"])
    values = grouped["entropy"].agg(["mean", "min", "max", "count"])
    # Runs share a network's layers, so that the first resolution is that of all.
    values.insert(0, "resolution", grouped["resolution"].first())
    return _named(values, PROFILE_COLUMNS)


def classes_data(study: Study, plan: Plan, results: Results) -> pd.DataFrame:
    """Return the entropy per variant, layer and class, mean over seeds: `CLASSES_COLUMNS`, classes in their order."""
    profiles = _of_study(study, plan, results)
    profiles = profiles[profiles["class"] != ""].dropna(subset=["entropy"])
    classes = list(dict.fromkeys(profiles["class"]))
    # Grouping sorts by name: the rank keeps the data set's own order of classes.
    profiles = profiles.assign(class_rank=profiles["class"].map(classes.index))
    values = profiles.groupby(["rank", "variant", "index", "class_rank", "class"])["entropy"].agg(["mean", "count"])
    return _named(values.reset_index("class_rank", drop=True), CLASSES_COLUMNS)


def _named(values: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    table = values.reset_index("rank", drop=True).reset_index()
    table.columns = pd.Index(columns)
    return table


def _of_study(study: Study, plan: Plan, results: Results) -> pd.DataFrame:
    """Return the profiles of a study's trials with the titles of their variants, and the rank of each title."""
    titles = short_titles(study)
    ranks = {variant.name: rank for rank, variant in enumerate(study.variants)}
    cells = [(cell.fingerprint, titles[cell.variant], ranks[cell.variant]) for cell in plan.cells_of(study.name)]
    named = pd.DataFrame(cells, columns=["fingerprint", "variant", "rank"])
    return results.attention.merge(named, on="fingerprint")


def profile_figure(study: Study, plan: Plan, results: Results) -> Figure | None:
    """Return the figure of the entropy along the depth, or `None` if no profile was tracked."""
    data = profile_data(study, plan, results)
    if data.empty:
        return None
    scope = scope_words(study, plan, "test")
    return Figure(
        name=f"{slug(study.name)}-profile",
        kind="profile",
        data=data,
        title=part_title(study.title, "along the depth"),
        caption=(
            "Entropy of the attention per dynamic layer from the input (left) to the output (right), divided by log K: "
            "1 is uniform, 0 is one-hot. Lines: mean over images and seeds; bands: from lowest to highest seed. "
            f"{_magnitudes(study, plan)}Above: the input resolution of the layers in px. {scope}."
        ),
        alt="Entropy of the attention over the layers of the network, one line per variant.",
        axis="normalised entropy",
    )


def _magnitudes(study: Study, plan: Plan) -> str:
    """Return a sentence, and a space, on the entropy of weights that may be negative; empty if no network has any."""
    for spec in specs_of(plan, study.name):
        if spec.model.normalization == "signed" or spec.model.layer == "dcd":
            return "Of weights that may be negative, the magnitudes count. "
    return ""


def classes_figure(study: Study, plan: Plan, results: Results) -> Figure | None:
    """Return the heat maps of the entropy per layer and class, or `None` if no profile was tracked."""
    data = classes_data(study, plan, results)
    if data.empty:
        return None
    scope = scope_words(study, plan, "test")
    return Figure(
        name=f"{slug(study.name)}-classes",
        kind="classes",
        data=data,
        title=part_title(study.title, "per class"),
        caption=(
            "Entropy of the attention per dynamic layer (from the input, top, to the output, bottom) and class of the "
            f"image, divided by log K. {_magnitudes(study, plan)}Mean over the images of the class and seeds. {scope}. "
            "The colours are even in the distance from 1, on a logarithmic scale."
        ),
        alt="Heat maps of the entropy of the attention, layers by classes, one per variant.",
        axis="normalised entropy",
    )
