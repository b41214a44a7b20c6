"""How each deciding metric is told: heading, decimals, unit of a difference, column of the published tables."""

from __future__ import annotations

from dataclasses import dataclass

from ablations import vocabulary as names


@dataclass(frozen=True)
class Telling:
    """How a metric is told.

    Attributes:
        heading: Heading of its column.
        decimals: Decimals of a value and of a difference.
        unit: What follows a difference in a sentence, with its space.
        published: Column of the published tables that is comparable, or empty.
        size: A difference that is of interest where a study does not say.
    """

    heading: str
    decimals: int = 2
    unit: str = ""
    published: str = ""
    size: float = 0.1


_TOLD = {
    names.TEST_TOP1: Telling("top-1 (%)", unit=" points", published="top1", size=1.0),
    names.TEST_TOP5: Telling("top-5 (%)", unit=" points", published="top5", size=1.0),
    names.TEST_LOSS: Telling("loss", decimals=4),
    names.VAL_TOP1: Telling("val. top-1 (%)", unit=" points", published="top1", size=1.0),
    names.VAL_LOSS: Telling("val. loss", decimals=4),
    names.ATTENTION_GAP: Telling("entropy gap", decimals=3),
    names.COST_PARAMETERS: Telling("parameters", decimals=0),
    names.COST_MULTIPLY_ADDS: Telling("multiply-adds", decimals=0),
}


def telling(metric: str) -> Telling:
    """Returns how a metric of `vocabulary.STUDY_METRICS` is told."""
    return _TOLD[metric]
