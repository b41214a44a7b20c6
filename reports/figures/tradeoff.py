"""This module builds the figure of accuracy against multiply-adds: ours, and the published networks beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import pandas as pd

from ablations.planning.plan import Plan
from ablations.published import PublishedTable, get_published
from ablations.spec.layers import LAYERS
from ablations.spec.names import NETWORKS
from ablations.spec.parts import ModelSpec
from ablations.spec.titles import model_title
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from ablations.vocabulary import COST_MULTIPLY_ADDS, slug
from reports.analysis.summary import StudySummary, VariantSummary
from reports.collect.results import Repeat, Results
from reports.content.blocks import Figure
from reports.content.plan_words import enumerated, part_title, short_titles, specs_of
from reports.figures.data import scope_words

TRADEOFF_COLUMNS = (
    "panel",
    "source",
    "backbone",
    "depth",
    "width",
    "kind",
    "linked",
    "multiply_adds",
    "mean",
    "low",
    "high",
    "confidence",
)
OURS, PUBLISHED = "ours", "published"
STATIC = "static"
_MILLION = 1e6
_WITH_COUNTS = "backbones"
"""The published table with multiply-adds, for studies whose own table has none."""

_PUBLISHED_DATA = "imagenet"
_MOST_NAMED = 4
_KINDS = {"dynamic": ("dynamic", 4), "condconv": ("condconv", 8), "odconv_1": ("odconv", 1), "odconv_4": ("odconv", 4)}
"""The published ways to make W(x): layer kind and number of kernels."""

_Point = tuple[str, str, str, float, float, str, bool, float, float, float, float, str]


def tradeoff_data(study: Study, plan: Plan, results: Results, summary: StudySummary) -> pd.DataFrame:
    """Return a row per network of a study, and per published one that is comparable: `TRADEOFF_COLUMNS`.

    `source` is `OURS` or `PUBLISHED`, and `panel` the images of both. `depth` and `width` multiply the blocks and the
    channels of the `backbone`; they are NaN where it has none. `kind` is the way to make W(x), and `linked` is True if
    the static network of the same size and source is what it improves on. `mean` is the deciding metric, with its 95 %
    t interval over training seeds from `low` to `high`, which are NaN where there is none. Ours is each network that
    was counted and has every repeat.
    """
    points = list(_own_points(study, plan, results, summary))
    if points:
        points += _published_points(study, plan)
    return pd.DataFrame(points, columns=list(TRADEOFF_COLUMNS))


def _own_points(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Iterator[_Point]:
    specs = _specs_by_variant(study, plan)
    counts = results.cost_repeats(study.name, COST_MULTIPLY_ADDS)
    for row in summary.variants:
        if not _why_left_out(row, counts):
            spec, estimate = specs[row.variant], row.estimate
            low, high = math.nan, math.nan
            if estimate.has_interval:
                low, high = estimate.low, estimate.high
            kind = kind_title(spec.model)
            # Without such a setting a backbone has None, and NaN keeps the column one of numbers.
            size = (spec.model.depth or math.nan, spec.model.width or math.nan)
            network = (spec.data.facts.title, OURS, _backbone_title(spec.model), *size, kind, kind != STATIC)
            yield (*network, counts[row.variant].value, estimate.mean, low, high, "")


def _specs_by_variant(study: Study, plan: Plan) -> dict[str, TrialSpec]:
    specs: dict[str, TrialSpec] = {}
    for cell in plan.cells_of(study.name):
        # Repeats differ in their seed alone, so that the first spec will do.
        specs.setdefault(cell.variant, plan.node(cell.fingerprint).spec)
    return specs


def _why_left_out(row: VariantSummary, counts: Mapping[str, Repeat]) -> str:
    """Return the reason why a variant has no point in the figure, or nothing if it has one."""
    if not row.complete:
        return f"n = {len(row.values)}/{row.expected}"
    if row.variant not in counts or not counts[row.variant].finished:
        return "not counted"
    return ""


def _backbone_title(model: ModelSpec) -> str:
    if model.name in NETWORKS:
        return NETWORKS[model.name].title
    return model.name


def kind_title(model: ModelSpec) -> str:
    """Return the way in which a network makes its kernels, with all that is not usual: `DY K=4 signed`."""
    words = []
    prefix = LAYERS[model.layer].title
    if prefix:
        words.append(prefix.rstrip("-"))
    if model.squeeze_excitation:
        words.append("SE")
        prefix += "SE-"
    # A title calls a backbone whose name it must leave out a network.
    settings = model_title(model, without=("model.name",)).removeprefix(f"{prefix}network")
    return " ".join([*words, *settings.split()]) or STATIC


def _published_kind(key: str) -> str:
    """Return a published way to make W(x) as `kind_title` calls ours."""
    if key not in _KINDS:
        return key
    layer, kernels = _KINDS[key]
    return f"{LAYERS[layer].title.rstrip('-')} K={kernels}"


def _published_points(study: Study, plan: Plan) -> Iterator[_Point]:
    column = study.metric_facts.published
    table = _table_with_counts(study)
    if table is None or not column:
        return
    specs = specs_of(plan, study.name)
    names = {spec.model.name for spec in specs}
    # Under the title of our own images if these are the published ones, so that both share a panel.
    panel = next((spec.data.facts.title for spec in specs if spec.data.name == _PUBLISHED_DATA), "ImageNet")
    # A row is called by backbone, width where it has one, and kind: "mobilenet_v2_0.5_dynamic".
    pattern = re.compile(rf"({'|'.join(map(re.escape, NETWORKS))})_(?:(\d+\.\d+)_)?(.+)")
    for key in table.rows:
        match = pattern.fullmatch(key)
        accuracy, count = table.get(key, column), table.get(key, "madds")
        if match is None or match[1] not in names or accuracy is None or count is None:
            continue
        name, width, kind = match.groups()
        # A static network that the table has too; the authors of ODConv compare theirs with one of their own.
        linked = kind != STATIC and table.baselines.get(key, {}) in (*table.rows.values(), {})
        # The published networks are of the usual depth, where their backbone can have another one.
        depth = 1.0 if "depth" in NETWORKS[name].options else math.nan
        size = (depth, float(width) if width else math.nan)
        network = (panel, PUBLISHED, NETWORKS[name].title, *size, _published_kind(kind), linked)
        # A is the surest letter, so that the last one in the alphabet holds for the point.
        confidence = max(accuracy.confidence, count.confidence)
        yield (*network, count.value * _MILLION, accuracy.value, math.nan, math.nan, confidence)


def _table_with_counts(study: Study) -> PublishedTable | None:
    """Return the published table of a study, or another one of the paper's if that has no multiply-adds."""
    if study.published is None:
        return None
    table = get_published(study.published)
    if any("madds" in cells for cells in table.rows.values()):
        return table
    return get_published(_WITH_COUNTS)


def tradeoff_figure(study: Study, plan: Plan, results: Results, summary: StudySummary) -> Figure | None:
    """Return the figure of accuracy against multiply-adds, or `None` if no network has both."""
    data = tradeoff_data(study, plan, results, summary)
    if data.empty:
        return None
    measured = study.metric_facts.words
    return Figure(
        name=f"{slug(study.name)}-tradeoff",
        kind="tradeoff",
        data=data,
        title=part_title(study.title, "accuracy against multiply-adds"),
        caption=" ".join(_caption(study, plan, results, summary, data)),
        alt=f"{measured} of each network against its multiply-adds; the tables have the numbers.",
        axis=measured,
    )


def _caption(study: Study, plan: Plan, results: Results, summary: StudySummary, data: pd.DataFrame) -> Iterator[str]:
    yield (
        f"Ours: {scope_words(study, plan, 'test')}; mean and 95 % t interval over training seeds. Hollow: static "
        "networks. A grey line leads from a static network to the others of its size; a coloured line joins the "
        "widths of one kind."
    )
    published = data[data["source"] == PUBLISHED]
    if not published.empty:
        yield "Published networks are lighter"
        marks = sorted(set(published["confidence"]) - {"A"})
        words = {"B": "B is from one second-hand source", "C": "C is read off a figure"}
        explained = [words[mark] for mark in marks]
        yield f"({'; '.join(explained)})." if explained else "(all read off the paper or in two sources)."
        if data["panel"].nunique() > 1:
            yield "They are of another data set and image size, so each panel has scales of its own."
    counts = results.cost_repeats(study.name, COST_MULTIPLY_ADDS)
    titles = short_titles(study)
    left_out = []
    for row in summary.variants:
        reason = _why_left_out(row, counts)
        if reason:
            left_out.append(f"{titles[row.variant]} ({reason})")
    if len(left_out) > _MOST_NAMED:
        left_out[_MOST_NAMED:] = [f"{len(left_out) - _MOST_NAMED} others"]
    if left_out:
        yield f"Without a point: {enumerated(left_out)}."
