"""This module computes the effects of a factorial study and the share that each factor has of the gain. Pure.

Every effect, every Shapley value and the gain is a weighted sum of the combinations (`ablations.factorial.design`), so
that it has the interval of one: over training seeds, with a width that the rest of the table shares in
(`reports.analysis.differences.weighted_sum`). A sum that needs a row with a missing repeat is missing. Rows that never
learned leave the effects without a test.

Sources: for the values, Shapley, A value for n-person games, 1953; for the interval of a ratio, Fieller, JRSS B 16
(1954).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from scipy import optimize

from ablations.factorial.declaration import Factorial
from ablations.factorial.design import AliasSet
from ablations.study import Study
from reports.analysis.differences import weighted_sum
from reports.analysis.statistics import ALPHA, Estimate, holm
from reports.analysis.summary import StudySummary

_MOST_DOUBLINGS = 60
"""The end of a ratio's interval is searched for up to 2^60 times the first step; farther away there is none."""


@dataclass(frozen=True)
class Effect:
    """The effect of a term, or of the sum of terms that a fraction cannot tell apart.

    Attributes:
        aliases: The terms, with the sign of each in the sum.
        estimate: Mean of the effect over seeds with its interval, in the unit of the metric.
        p_value: Two-sided p-value, NaN where there is no interval or a row never learned.
        p_holm: The same, corrected over all effects of the study.
    """

    aliases: AliasSet
    estimate: Estimate
    p_value: float = math.nan
    p_holm: float = math.nan

    @property
    def stars(self) -> str:
        """`*` below 0.05 and `**` below 0.01, corrected over the effects of the study."""
        # A NaN is below nothing, so that an effect without a test has no stars.
        if self.p_holm < ALPHA / 5:
            return "**"
        if self.p_holm < ALPHA:
            return "*"
        return ""

    @property
    def is_tested(self) -> bool:
        """True if it has a p-value."""
        return not math.isnan(self.p_value)


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means with the ends of its 95 % interval, NaN where it has none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """True if both ends are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))


@dataclass(frozen=True)
class FactorShare:
    """The part of the gain that is due to one factor.

    Attributes:
        value: Its Shapley value, in the unit of the metric: the gain by turning it on, averaged over all orders.
        share: The value divided by the gain; `None` where the interval of the gain does not exclude zero, since there
            is no gain to share then.
    """

    factor: str
    value: Estimate
    share: Ratio | None


@dataclass(frozen=True)
class FactorialSummary:
    """The effects of a factorial study.

    Attributes:
        effects: An effect per alias set of the design, main effects first.
        gain: All factors on minus all off; in a fraction, by the model in which only leading terms count.
        shares: The parts of the gain, which sum to it, in the order of the factors.
        seeds: The number of repeats that the plan asks for.
        unlearned: Names of the combinations of which a training never learned.
    """

    factorial: Factorial
    effects: tuple[Effect, ...]
    gain: Estimate
    shares: tuple[FactorShare, ...]
    seeds: int
    unlearned: tuple[str, ...] = ()

    @property
    def has_shares(self) -> bool:
        """True if the gain has shares."""
        return any(share.share is not None for share in self.shares)

    @property
    def tested(self) -> tuple[Effect, ...]:
        """The effects with a p-value, which are corrected for each other."""
        return tuple(effect for effect in self.effects if effect.is_tested)

    def main_effect(self, factor: str) -> Effect:
        """Return the main effect of a factor."""
        return next(effect for effect in self.effects if (factor,) in effect.aliases.leading)

    def strongest_interaction(self, factor: str) -> Effect | None:
        """Return the largest interaction of two factors of which one is `factor`; `None` if none is estimated."""
        strongest = None
        for effect in self.effects:
            is_candidate = effect.aliases.order == 2 and any(factor in term for term in effect.aliases.leading)
            if not is_candidate or not effect.estimate.is_known:
                continue
            if strongest is None or abs(effect.estimate.mean) > abs(strongest.estimate.mean):
                strongest = effect
        return strongest


def summarize_factorial(study: Study, summary: StudySummary) -> FactorialSummary | None:
    """Return the effects of a study; `None` if it is no factorial, or no longer has all its combinations."""
    factorial = study.whole_factorial
    if factorial is None:
        return None
    design = factorial.design

    def estimate_of(weights: Mapping[str, Fraction | float]) -> Estimate:
        weighted_rows = []
        for row in summary.variants:
            # A row of weight zero may have missing repeats.
            if weights[row.variant]:
                weighted_rows.append((row, float(weights[row.variant])))
        return weighted_sum(weighted_rows, summary.variants)

    unlearned = tuple(row.variant for row in summary.unlearned)
    effects = []
    for aliases in design.alias_sets:
        estimate = estimate_of(design.effect_weights(aliases.term))
        # The interval stays where the test goes: it describes what was measured, and blames no factor for it.
        p_value = estimate.p_value
        if unlearned:
            # A training that never learned differs from the others for a reason that no factor explains.
            p_value = math.nan
        effects.append(Effect(aliases, estimate, p_value))
    gain_weights = design.gain_weights()
    gain = estimate_of(gain_weights)
    shares = []
    for factor in design.factors:
        weights = design.shapley_weights(factor)
        value = estimate_of(weights)
        share = None
        # Fieller's set for the ratio is a finite interval only if the gain's own interval leaves zero out.
        if not unlearned and gain.excludes_zero and value.is_known:

            def excess(ratio: float, weights: Mapping[str, Fraction] = weights) -> Estimate:
                return estimate_of({name: float(weights[name]) - ratio * float(gain_weights[name]) for name in weights})

            # The weights are bound as a default above, since the loop goes on to those of the next factor.
            share = fieller(excess, value.mean / gain.mean)
        shares.append(FactorShare(factor, value, share))
    return FactorialSummary(factorial, _corrected(effects), gain, tuple(shares), summary.seeds, unlearned)


def _corrected(effects: list[Effect]) -> tuple[Effect, ...]:
    # An effect without a test is left out of the family: nobody looks at a p-value that is not there.
    tested = [effect for effect in effects if effect.is_tested]
    # Holm's correction is over all effects, whatever their order, as all of them are looked at.
    corrected = iter(holm([effect.p_value for effect in tested]))
    result = []
    for effect in effects:
        if effect.is_tested:
            effect = replace(effect, p_holm=next(corrected))
        result.append(effect)
    return tuple(result)


def fieller(excess: Callable[[float], Estimate], ratio: float) -> Ratio:
    """Return a ratio of two means with its 95 % interval: all r for which numerator − r · denominator may be zero.

    The interval is about training seeds. It is finite where that of the denominator excludes zero (Fieller 1954).

    Args:
        excess: Returns numerator − r · denominator with its interval, for any r.
        ratio: Numerator divided by denominator.
    """
    if not excess(ratio).has_interval:
        return Ratio(ratio)
    return Ratio(ratio, _end(excess, ratio, -1.0), _end(excess, ratio, 1.0))


def _end(excess: Callable[[float], Estimate], ratio: float, direction: float) -> float:
    def beyond(distance: float) -> float:
        """Return the distance of zero from the interval, negative inside of it."""
        estimate = excess(ratio + direction * distance)
        return abs(estimate.mean) - (estimate.high - estimate.low) / 2

    # Shares are fractions of one, so that a sixteenth is a small step and sixty doublings reach any end.
    distance = 1.0 / 16
    for _ in range(_MOST_DOUBLINGS):
        value = beyond(distance)
        if math.isnan(value):
            # Beside the ratio there is no interval, for example as all seeds gave one value.
            return math.nan
        if value > 0:
            # Zero is inside of the interval at the ratio itself and outside at this distance: an end lies between.
            return ratio + direction * float(optimize.brentq(beyond, 0.0, distance))
        distance *= 2
    return math.nan
