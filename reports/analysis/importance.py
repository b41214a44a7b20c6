"""This module measures how much each factor of a search decides about accuracy, beside the level of chance.

fANOVA: the share of the variance of accuracy over the whole space that a factor explains alone, by a random forest.
PED-ANOVA: how much more often its good values are among the best quarter of the trials than among all. Both are
divided by their sum over the factors. Legend: N trials, F factors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna

from ablations.spec.factors import Factor

Method = Literal["fANOVA", "PED-ANOVA"]
METHODS: tuple[Method, ...] = ("fANOVA", "PED-ANOVA")

FEWEST_TRIALS = 10
"""Both methods need at least so many trials."""
BEST_SHARE = 0.25
"""PED-ANOVA compares the values of this share of the trials, the best, with those of all."""
RESAMPLES = 40
_TREES = 12
_LEVEL = 0.95


@dataclass(frozen=True)
class Importance:
    """The importance of one factor by one method.

    Attributes:
        value: Share of the importance of all factors, 0 to 1.
        low, high: Ends of the 95 % percentile interval over resampled trials and seeds of the method.
        chance: The 95 % quantile of the values where accuracies are shuffled over the trials, so that nothing matters.
    """

    factor: str
    method: Method
    value: float
    low: float
    high: float
    chance: float

    @property
    def is_beyond_chance(self) -> bool:
        """True if it is more than chance gives in 95 of 100 searches."""
        return self.value > self.chance


def importances(
    proposed: Sequence[Mapping[str, Any]],
    accuracies: Sequence[float],
    factors: Mapping[str, Factor],
    *,
    seed: int = 0,
    resamples: int | None = None,
) -> list[Importance]:
    """Return the importance of each factor by each method, or nothing where there are too few trials.

    Args:
        proposed: (N) values by factor.
        accuracies: (N) accuracy of each.
        factors: (F) the factors that values were proposed for.
        seed: Seed of resampling, shuffling and the forests.
        resamples: The number of resamplings and, again, of shufflings; `RESAMPLES` by default.
    """
    if len(accuracies) < FEWEST_TRIALS or len(set(accuracies)) < 2:
        return []
    values, repeats = np.asarray(accuracies, dtype=float), resamples or RESAMPLES
    result: list[Importance] = []
    for method in METHODS:
        # Each method draws from a fresh generator, so that its numbers do not depend on the order of the methods.
        generator = np.random.default_rng(seed)
        judge = _Judge(method, proposed, factors)
        resampled, shuffled = [], []
        # Resampled trials give the interval.
        for repeat in range(1, repeats + 1):
            pick = generator.integers(len(values), size=len(values))
            resampled.append(judge.judge(values[pick], pick, seed + repeat))
        # Shuffled accuracies have no link to any factor and give the level of chance.
        for repeat in range(1, repeats + 1):
            shuffled.append(judge.judge(generator.permutation(values), None, seed + repeat))
        value_by_factor = judge.judge(values, None, seed)
        tail = (1 - _LEVEL) / 2
        for name in factors:
            # A percentile interval: the middle 95 % of the resampled values.
            low, high = np.quantile([shares[name] for shares in resampled], [tail, 1 - tail])
            chance = np.quantile([shares[name] for shares in shuffled], _LEVEL)
            value = float(value_by_factor[name])
            result.append(Importance(name, method, value, float(low), float(high), float(chance)))
    return result


class _Judge:
    """Applies one method to trials of one search."""

    def __init__(self, method: Method, proposed: Sequence[Mapping[str, Any]], factors: Mapping[str, Factor]) -> None:
        self._method, self._proposed = method, proposed
        self._distributions = {name: _distribution(name, factor) for name, factor in factors.items()}

    def judge(self, accuracies: np.ndarray[Any, Any], pick: Any | None, seed: int) -> dict[str, float]:
        """Return the share of each factor; `pick` are the trials' numbers if not all are taken once."""
        rows = self._proposed
        if pick is not None:
            rows = [self._proposed[number] for number in pick]
        # Without this, optuna logs a line per study, of which there are hundreds here.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Optuna computes importances of a study alone, so that the trials go into one in memory.
        study = optuna.create_study(direction="maximize")
        for row, value in zip(rows, accuracies, strict=True):
            trial = optuna.trial.create_trial(params=dict(row), distributions=self._distributions, value=float(value))
            study.add_trial(trial)
        with warnings.catch_warnings():
            # That little can be said of few trials is what the interval says.
            warnings.simplefilter("ignore")
            try:
                raw = self._evaluator(seed).evaluate(study, params=list(self._distributions))
            except RuntimeError:
                # fANOVA's word for accuracies that no tree can tell apart.
                raw = dict.fromkeys(self._distributions, 0.0)
        total = sum(raw.values())
        if total > 0:
            return {name: raw[name] / total for name in self._distributions}
        # Where no factor explains anything, all share equally: a sum of zero cannot be divided by.
        return dict.fromkeys(self._distributions, 1 / len(raw))

    def _evaluator(self, seed: int) -> optuna.importance.BaseImportanceEvaluator:
        if self._method == "fANOVA":
            return optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
        return optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)


def _distribution(name: str, factor: Factor) -> optuna.distributions.BaseDistribution:
    if factor.labels is not None:
        return optuna.distributions.CategoricalDistribution(factor.labels)
    assert factor.low is not None
    assert factor.high is not None
    if factor.is_whole(name):
        return optuna.distributions.IntDistribution(int(factor.low), int(factor.high), log=factor.log)
    return optuna.distributions.FloatDistribution(factor.low, factor.high, log=factor.log)
