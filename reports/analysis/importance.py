"""Which factors of a search decide about accuracy: fANOVA and PED-ANOVA, with an interval and what chance alone gives.

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
"""Of fewer trials neither method says anything."""
BEST_SHARE = 0.25
"""Of the trials, whose values PED-ANOVA compares with all."""
RESAMPLES = 40
_TREES = 12
_LEVEL = 0.95


@dataclass(frozen=True)
class Importance:
    """How much one factor matters by one method.

    Attributes:
        factor: Its name.
        method: The method.
        value: Share of the importance of all factors, 0 to 1.
        low, high: Ends of the 95 % percentile interval over resampled trials and seeds of the method.
        chance: What 95 % of the values are below where accuracies are shuffled over the trials: nothing matters then.
    """

    factor: str
    method: Method
    value: float
    low: float
    high: float
    chance: float

    @property
    def is_beyond_chance(self) -> bool:
        """Whether it is more than what chance gives in 95 of 100 searches."""
        return self.value > self.chance


def importances(
    proposed: Sequence[Mapping[str, Any]],
    accuracies: Sequence[float],
    factors: Mapping[str, Factor],
    *,
    seed: int = 0,
    resamples: int | None = None,
) -> list[Importance]:
    """Returns the importance of each factor by each method, or nothing where there are too few trials.

    Args:
        proposed: (N) values by factor.
        accuracies: (N) accuracy of each.
        factors: (F) what was proposed from.
        seed: Of resampling, shuffling and the forests.
        resamples: How often trials are resampled, and how often accuracies are shuffled; `RESAMPLES` by default.
    """
    if len(accuracies) < FEWEST_TRIALS or len(set(accuracies)) < 2:
        return []
    values, times = np.asarray(accuracies, dtype=float), resamples or RESAMPLES
    found: list[Importance] = []
    for method in METHODS:
        chance = np.random.default_rng(seed)
        one = _Judge(method, proposed, factors)
        picks = [chance.integers(len(values), size=len(values)) for _ in range(times)]
        resampled = [one.judge(values[pick], pick, seed + 1 + number) for number, pick in enumerate(picks)]
        shuffles = [chance.permutation(values) for _ in range(times)]
        shuffled = [one.judge(mixed, None, seed + 1 + number) for number, mixed in enumerate(shuffles)]
        whole = one.judge(values, None, seed)
        found += [_summed_up(name, method, whole, resampled, shuffled) for name in factors]
    return found


def _summed_up(
    name: str,
    method: Method,
    whole: Mapping[str, float],
    resampled: Sequence[Mapping[str, float]],
    shuffled: Sequence[Mapping[str, float]],
) -> Importance:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile([one[name] for one in resampled], [tail, 1 - tail])
    chance = np.quantile([one[name] for one in shuffled], _LEVEL)
    return Importance(name, method, float(whole[name]), float(low), float(high), float(chance))


class _Judge:
    """Applies one method to trials of one search."""

    def __init__(self, method: Method, proposed: Sequence[Mapping[str, Any]], factors: Mapping[str, Factor]) -> None:
        self._method, self._proposed = method, [dict(values) for values in proposed]
        self._distributions = {name: _distribution(name, factor) for name, factor in factors.items()}

    def judge(self, accuracies: np.ndarray[Any, Any], pick: Any | None, seed: int) -> dict[str, float]:
        """Returns the share of each factor; `pick` are the trials' numbers if not all are taken once."""
        rows = self._proposed if pick is None else [self._proposed[number] for number in pick]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(params=row, distributions=self._distributions, value=float(value))
                for row, value in zip(rows, accuracies, strict=True)
            ]
        )
        with warnings.catch_warnings():
            # That little can be said of few trials is what the interval says.
            warnings.simplefilter("ignore")
            found = self._evaluate(study, seed)
        total = sum(found.values())
        return {name: found[name] / total if total > 0 else 1 / len(found) for name in self._distributions}

    def _evaluate(self, study: optuna.Study, seed: int) -> dict[str, float]:
        try:
            return self._evaluator(seed).evaluate(study, params=list(self._distributions))
        except RuntimeError:
            # fANOVA's word for accuracies that no tree can tell apart.
            return dict.fromkeys(self._distributions, 0.0)

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
