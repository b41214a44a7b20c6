"""This module holds the facts about a metric that judges a study: its words, its unit and which way is better."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ablations.spec.parts import Frozen, PositiveFloat
from ablations.vocabulary import (
    ATTENTION_GAP,
    COST_MULTIPLY_ADDS,
    COST_PARAMETERS,
    HIGHER_IS_BETTER,
    STUDY_METRICS,
    TEST_LOSS,
    TEST_TOP1,
    TEST_TOP5,
    VAL_LOSS,
    VAL_TOP1,
    usual_size_of_interest,
)

POINTS = " points"
"""The unit of a difference of percentages."""


class MetricFacts(Frozen):
    """The facts about a metric.

    Attributes:
        words: Its name in a sentence, with its unit.
        heading: The heading of its column.
        decimals: Those of a value and of a difference.
        unit: The unit of a difference in a sentence, with the space before it.
        published: Column of the published tables that is comparable, or empty.
        usual_size: The smallest difference that matters where a study does not say; `None` if nobody can tell.
    """

    words: str
    heading: str
    decimals: Annotated[int, Field(ge=0, le=10)] = 2
    unit: str = ""
    published: str = ""
    higher_is_better: bool = True
    usual_size: PositiveFloat | None = None


def _facts(metric: str, heading: str, *, decimals: int = 2, unit: str = "", published: str = "") -> MetricFacts:
    return MetricFacts(
        words=STUDY_METRICS[metric],
        heading=heading,
        decimals=decimals,
        unit=unit,
        published=published,
        higher_is_better=metric in HIGHER_IS_BETTER,
        usual_size=usual_size_of_interest(metric),
    )


METRICS = {
    TEST_TOP1: _facts(TEST_TOP1, "top-1 (%)", unit=POINTS, published="top1"),
    TEST_TOP5: _facts(TEST_TOP5, "top-5 (%)", unit=POINTS, published="top5"),
    TEST_LOSS: _facts(TEST_LOSS, "loss", decimals=4),
    VAL_TOP1: _facts(VAL_TOP1, "val. top-1 (%)", unit=POINTS, published="top1"),
    VAL_LOSS: _facts(VAL_LOSS, "val. loss", decimals=4),
    ATTENTION_GAP: _facts(ATTENTION_GAP, "entropy gap", decimals=3),
    COST_PARAMETERS: _facts(COST_PARAMETERS, "parameters", decimals=0),
    COST_MULTIPLY_ADDS: _facts(COST_MULTIPLY_ADDS, "multiply-adds", decimals=0),
}
"""The facts about the metrics of `vocabulary.STUDY_METRICS`."""
