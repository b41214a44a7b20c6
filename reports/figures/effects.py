"""This module builds the figure of the effects of a factorial study and, first, the tidy table behind it."""

from __future__ import annotations

import pandas as pd

from ablations.planning.plan import Plan
from ablations.study import Study
from ablations.vocabulary import slug
from reports.analysis.factorial import FactorialSummary
from reports.content.blocks import Figure
from reports.content.plan_words import part_title, split_of
from reports.figures.data import scope_words

EFFECT_COLUMNS = ("term", "order", "value", "low", "high")


def effects_data(result: FactorialSummary) -> pd.DataFrame:
    """Return every effect that is known: `EFFECT_COLUMNS`.

    `order` is the number of factors in a term; `low` and `high` are the ends of its 95 % interval over training seeds,
    NaN where it has none.
    """
    rows = []
    for effect in result.effects:
        if effect.estimate.is_known:
            term = result.factorial.sum_title(effect.aliases.leading)
            rows.append((term, effect.aliases.order, effect.estimate.mean, effect.estimate.low, effect.estimate.high))
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def effects_figure(study: Study, plan: Plan, result: FactorialSummary) -> Figure | None:
    """Return the figure of all effects of a factorial study, or `None` if none is known."""
    data = effects_data(result)
    if data.empty:
        return None
    unit = study.metric_facts.unit.strip()
    axis = "effect"
    if unit:
        axis = f"effect ({unit})"
    return Figure(
        name=f"{slug(study.name)}-effects",
        kind="effects",
        data=data,
        title=part_title(study.title, "effects"),
        caption=(
            f"Effects of the parts and of their interactions on {study.metric_facts.words}, "
            f"{scope_words(study, plan, split_of(study.metric))}. Dots and bars: mean and 95 % interval over training "
            "seeds. Colours: effects of one part, of two parts together, and so on."
        ),
        alt="Every effect of the factorial with its interval; the table of effects has the numbers.",
        axis=axis,
    )
