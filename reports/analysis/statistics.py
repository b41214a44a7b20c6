"""This module holds the statistics over repeats of a training. Pure: numbers in, numbers out, no words.

An interval says in its docstring which uncertainty it measures. `estimate`, `paired_difference` and
`contrast_interval` cover training seeds (initial weights and data order) on the test images at hand; `two_level`
covers seeds and test images, `over_images` the test images of a single network. None covers the choice of the data
set, and each holds for its own comparison: p-values, which are those of the intervals (`Estimate.p_value`), can be
corrected for the others in a table (`holm`). scipy and statsmodels do the work; statsmodels is imported where it is
needed, since that takes half a second. `tests/reports/analysis/test_simulation.py` holds coverage and false positives
against what is said here.

Legend: S seeds (checkpoints), I test images, M comparisons of a table.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Array = npt.NDArray[np.float64]

LEVEL = 0.95
"""Confidence level of every interval in a report."""

ALPHA = 0.05
"""Level at which a difference gets a star."""

POWER = 0.8
"""Chance of showing a difference of the size of interest that seed advice asks for."""

MOST_SEEDS = 100_000
"""Seed advice ends here: where more seeds are needed, there is none."""

_FEWEST_ROWS = 4
"""Of fewer rows hardly anything is left beside a comparison, and whether it is alike can hardly be told: with three, a
table without any difference got a star in up to 5.8 % instead of 5 %."""

_ALIKE_EXPONENT = 2.0
"""The table's weight falls with this power of the p-value for equal spreads.

With 1 the worst comparison of rows whose spreads differ twofold is covered too rarely, 3 is wider where they are equal.
"""

_SAME = 1e-9
_LARGE = 1e6
"""An effect in standard deviations that two seeds are certain to show."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_TAIL = 1e-17
_FAR = 9.0
"""Tails that an integral for power leaves out: a probability, and standard deviations of a normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its spread.

    Attributes:
        mean: Arithmetic mean, NaN if there is no value.
        sd: Standard deviation over seeds with n − 1 in the denominator, NaN below two values.
        low: Lower end of the interval for the mean, NaN where there is none.
        high: Upper end.
        n: Number of values, or of pairs for a difference.
        covers_images: True if the interval covers other test images too, and not other seeds alone.
        df: Degrees of freedom of `error`, NaN without an interval. More than n − 1 where the rest of a table says
            how much a difference varies, too; they need not be a whole number.
        error: Standard error over seeds that the interval rests on, NaN without an interval.
        image_error: Standard error over test images, which counts as known; 0 where the images are those at hand.
        images_alone: True if the interval covers other test images and no other seed: `error` and `df` are over images,
            of which there is one network.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    covers_images: bool = False
    df: float = math.nan
    error: float = math.nan
    image_error: float = 0.0
    images_alone: bool = False

    def at(self, level: float) -> Estimate:
        """Return the same with its interval at another level, above 0 and below 1; without an interval, the same."""
        if not self.has_interval:
            return self
        half = self._half_width((1 - level) / 2)
        return replace(self, low=self.mean - half, high=self.mean + half)

    def _half_width(self, tail: float) -> float:
        """Return half the width of the interval that leaves out a probability of `tail` on each side."""
        # The quantile of the small tail with its sign turned: 1 − tail would be rounded to 1.
        over_seeds = -float(special.stdtrit(self.df, tail)) * self.error
        return math.hypot(over_seeds, float(special.ndtri(tail)) * self.image_error)

    @property
    def p_value(self) -> float:
        """The two-sided p-value of a mean of 0: one minus the level at which the interval just touches 0.

        So a difference has p < 0.05 if and only if its 95 % interval excludes 0. NaN without an interval.
        """
        if not self.has_interval:
            return math.nan
        size = abs(self.mean)
        smallest = math.log(np.finfo(float).tiny)
        if self.image_error == 0.0:
            return min(1.0, 2 * float(special.stdtr(self.df, -size / self.error)))
        if size == 0.0:
            return 1.0
        # The logarithm of the tail, since a p-value may be as small as numbers are.
        if self._half_width(math.exp(smallest)) <= size:
            return 0.0
        # With two sources of error the half width has no closed inverse: the tail is searched for.
        tail = optimize.brentq(lambda log: self._half_width(math.exp(log)) - size, smallest, math.log(0.5))
        return min(1.0, 2 * math.exp(tail))

    @property
    def interval_sd(self) -> float:
        """The standard deviation over seeds that the interval rests on: `sd`, or the one that a table shares in."""
        return self.error * math.sqrt(self.n)

    @property
    def df_per_seed(self) -> float:
        """Degrees of freedom per seed beyond the first: 1 for values on their own, more where a table shares."""
        if self.n < 2:
            return math.nan
        return self.df / (self.n - 1)

    @property
    def is_known(self) -> bool:
        """True if there is a mean."""
        return not math.isnan(self.mean)

    @property
    def turned(self) -> Estimate:
        """The same of the values with the opposite sign."""
        return replace(self, mean=-self.mean, low=-self.high, high=-self.low)

    @property
    def has_interval(self) -> bool:
        """True if there is an interval: at least two values that are not all the same."""
        return not math.isnan(self.low)

    @property
    def no_spread(self) -> bool:
        """True if several seeds gave one and the same value, so that an interval would claim certainty."""
        return self.n > 1 and self.sd == 0.0 and not self.has_interval

    @property
    def excludes_zero(self) -> bool:
        """True if the interval lies on one side of zero; False without an interval."""
        return self.has_interval and (self.low > 0 or self.high < 0)


def unknown(n: int) -> Estimate:
    """Return the estimate of a mean that cannot be given, because only `n` of its values are there."""
    return Estimate(math.nan, math.nan, math.nan, math.nan, n)


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Return the mean over seeds with its two-sided Student t interval, mean ± t · sd / √n.

    The interval is about training seeds, not about the sampling of test images. It assumes independent values of a
    roughly normal distribution, and so does the coverage of 95 %: of values with a skewness of 1 it covers 93 %, of
    values as skewed as an exponential's (2) it covers 88 %. One value has no interval; values that are all the same
    have none either, because a width of zero would claim a certainty that few seeds cannot give.

    Args:
        values: One finite value per seed.
    """
    n = len(values)
    array = np.asarray(values, dtype=float)
    if not n:
        return unknown(0)
    mean = float(array.mean())
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    # Equal accuracies may differ in their last digit, so the spread is compared with their size.
    if float(np.ptp(array)) <= _SAME * max(1.0, float(np.abs(array).max())):
        return Estimate(mean, 0.0, math.nan, math.nan, n)
    sd = float(array.std(ddof=1))
    return _with_interval(mean, sd, n, n - 1.0, sd / math.sqrt(n)).at(level)


def _with_interval(
    mean: float, sd: float, n: int, df: float, error: float, image_error: float | None = None
) -> Estimate:
    """Return an estimate with its 95 % interval, which covers test images if it has their error."""
    # The ends stand at the mean first: `at` widens only an estimate that has an interval.
    point = Estimate(mean, sd, mean, mean, n, image_error is not None, df, error, image_error or 0.0)
    return point.at(LEVEL)


def _t_quantile(df: float, level: float) -> float:
    return float(special.stdtrit(df, (1 + level) / 2))


def paired_differences(values: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Return value − reference for each seed that both have, in the order of the seeds."""
    return {seed: values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())}


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float], level: float = LEVEL) -> Estimate:
    """Return the mean paired difference to the reference with the t interval of the differences.

    Repeats are paired by seed: the r-th repeat of every variant has the same initial seed and data order, so what a
    seed does to both cancels. The interval is about training seeds, not about the sampling of test images. It assumes
    that the differences are independent and roughly normal. Skewed accuracies are less of a problem than it seems:
    the difference of two variants that are skewed alike is nearly symmetric, and the interval covers 95 to 97 %. It
    falls short (90 %) where one of the two varies several times as much as the other and is skewed like an
    exponential.
    """
    return estimate(tuple(paired_differences(values, reference).values()), level)


def unpaired_difference(values: Sequence[float], reference: Sequence[float], level: float = LEVEL) -> Estimate:
    """Return the difference of two means, mean(values) − mean(reference), with Welch's t interval.

    The interval is about training seeds, not about the sampling of test images. The seeds of both sides have nothing
    to do with each other, and each side has its own spread; it assumes independent, roughly normal values. A side with
    one value has no spread and leaves no interval, and neither do two sides of which none varies.

    Args:
        values: One finite value per seed.
        reference: The same of the other side, of any number. A side without values leaves nothing to subtract.
    """
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    if not len(values) or not len(reference):
        return unknown(0)
    left, right = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    # `n` is the smaller count: a side with one value leaves no interval.
    mean, n = float(left.mean() - right.mean()), min(len(left), len(right))
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    if estimate(tuple(left)).no_spread and estimate(tuple(right)).no_spread:
        return Estimate(mean, 0.0, math.nan, math.nan, n)
    compared = CompareMeans(DescrStatsW(left), DescrStatsW(right))
    sd = math.hypot(left.std(ddof=1), right.std(ddof=1))
    # Welch's: each side has a variance of its own, and the degrees of freedom are Satterthwaite's.
    df, error = float(compared.dof_satt()), float(compared.std_meandiff_separatevar)
    return _with_interval(mean, sd, n, df, error).at(level)


def contrast_interval(values_RS: npt.ArrayLike, weights_R: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the mean over seeds of a contrast of separate trainings, with an interval that their table shares in.

    Few seeds leave a paired t interval hardly any degrees of freedom: with three there are two, and t is 4.30. Rows
    that are trained apart, on equal footing, spread about alike, so that the rest of the table says how much a
    comparison varies, too. A table is taken as value = row + seed + noise. The variance of the contrast's paired
    difference is a weighted mean of two independent estimates:

    - its own, of n − 1 degrees of freedom;
    - the residual variance of what is orthogonal to it in the table, of (R − 2)(n − 1) degrees of freedom, with these
      times p² for a weight, where p is Bartlett's p-value for equal spreads of the rows.

    At p = 1 that is the error of the two-way analysis of variance, and at p = 0 it is the paired t interval of
    `estimate`, as it is with fewer than four rows; there is no jump between them. The interval is about training
    seeds, not about the sampling of test images. It is not for rows that measure the same checkpoints: these move
    together in any way, and their spreads differ thirtyfold.

    It covers 95 to 98 % on average and 93 % or more of the worst comparison where spreads are equal or differ up to
    twofold; of a row that varies four times as much as seven others it covers 90 % with three seeds
    (`benchmarks.verdicts`, docs/explanation/statistics.md).

    Args:
        values_RS: (R, S), finite. Rows that never vary say nothing of the others and are left out. A training must
            be there once: two rows of one and the same training are one row.
        weights_R: (R,), for example 1 for one row and −1 for another. Rows of weight 0 are the rest of the table.

    Returns:
        An estimate whose `sd` is that of its own paired differences and whose `df` says how much the table shared. A
        contrast whose weights do not sum to zero, in which the seeds' effect stays, or that names a row which never
        varies, stands on its own.
    """
    table, weights = np.asarray(values_RS, dtype=float), np.asarray(weights_R, dtype=float)
    on_its_own = estimate(tuple(weights @ table), level)
    # The tolerance is relative to a row's size, as in `estimate`.
    varies = np.ptp(table, axis=1) > _SAME * np.maximum(1.0, np.abs(table).max(1))
    named = weights != 0
    # Only in a contrast of weights that sum to zero does the seeds' effect cancel.
    is_comparison = named.any() and abs(weights.sum()) <= _SAME * np.abs(weights).sum()
    if on_its_own.n < 2 or not is_comparison or not varies[named].all() or varies.sum() < _FEWEST_ROWS:
        return on_its_own
    variance, df = shared_variance(table[varies], weights[varies])
    if math.sqrt(variance) <= _SAME * max(1.0, float(np.abs(table).max())):
        return on_its_own
    return _with_interval(
        on_its_own.mean, on_its_own.sd, on_its_own.n, float(df), math.sqrt(variance / on_its_own.n)
    ).at(level)


def shared_variance(values: Array, weights_R: Array) -> tuple[Array, Array]:
    """Return the variance of a contrast's paired difference, partly learned from its table, with its df.

    Args:
        values: (..., R, S), finite, R ≥ 3 and S ≥ 2; every row varies. Leading axes are tables.
        weights_R: (R,), of sum zero, not all zero.
    """
    rows, seeds = values.shape[-2:]
    # A two-way table of R rows and S seeds leaves (R − 1)(S − 1) for the noise; the contrast itself takes S − 1 of
    # them.
    df, rest_df = seeds - 1, (rows - 2) * (seeds - 1)
    # A contrast of independent rows of variance σ² has the variance σ² · Σ w².
    norm = float(weights_R @ weights_R)
    own_variance = np.einsum("r,...rs->...s", weights_R, values).var(-1, ddof=1)
    # Means of rows and of seeds are taken off in turn, which leaves the noise of the table.
    centred = values - values.mean(-1, keepdims=True)
    residuals = centred - centred.mean(-2, keepdims=True)
    # The squares of the whole table minus those along the contrast: what is orthogonal to it.
    squares = (residuals**2).sum((-2, -1)) - df * own_variance / norm
    residual_variance = norm * np.maximum(squares, 0.0) / rest_df
    weight = rest_df * equal_spread_p_value(centred) ** _ALIKE_EXPONENT
    return np.asarray((df * own_variance + weight * residual_variance) / (df + weight)), np.asarray(df + weight)


def equal_spread_p_value(centred: Array) -> Array:
    """Return the p-value for equal spreads of the rows of a table, (...): the smaller of two by Bartlett's test.

    A seed's effect is its mean over the rows, and must be taken off first. That carries a wild row into all others,
    which makes them look alike. So the spreads are also tested with the effect as all rows but the widest have it.

    Args:
        centred: (..., R, S), the means of rows taken off; R ≥ 3 and S ≥ 2.
    """
    rows, seeds = centred.shape[-2:]
    residuals = centred - centred.mean(-2, keepdims=True)
    variance_R = (residuals**2).sum(-1) / (seeds - 1)
    is_widest = np.arange(rows) == variance_R.argmax(-1)[..., None]
    mean_of_others = (centred * ~is_widest[..., None]).sum(-2, keepdims=True) / (rows - 1)
    # Of equal spreads σ, the widest row minus the others' mean has σ² R / (R − 1), another row σ² (R − 2) / (R − 1).
    correction = np.where(is_widest, (rows - 1) / rows, (rows - 1) / (rows - 2))
    without_R = correction * ((centred - mean_of_others) ** 2).sum(-1) / (seeds - 1)
    return np.minimum(bartlett_p_value(variance_R, seeds - 1), bartlett_p_value(without_R, seeds - 1))


def bartlett_p_value(variance_R: Array, df: int) -> Array:
    """Return the p-value of Bartlett's test for equal variances, (...).

    The test rejects too often where values are not normal. Here that costs width alone, never coverage: a comparison
    then stands on its own. A test that is robust against skewness (Brown and Forsythe) has no power with three seeds.

    Args:
        variance_R: (..., R) with R ≥ 2.
        df: Degrees of freedom of each.
    """
    rows = variance_R.shape[-1]
    # A row that moves with the seeds exactly as the mean of all does would make a logarithm of zero.
    positive_R = np.maximum(variance_R, np.finfo(float).tiny)
    # Bartlett's statistic, divided below by its correction for few degrees of freedom.
    statistic = df * (rows * np.log(positive_R.mean(-1)) - np.log(positive_R).sum(-1))
    return np.asarray(special.chdtrc(rows - 1, statistic / (1 + (rows + 1) / (3 * rows * df))))


def excluded_beyond(intervals: Iterable[Estimate]) -> float:
    """Return the size beyond which a table excludes any difference: the end of an interval that is farthest from 0.

    That "every true difference of this table is at most x" is false only if the interval of the comparison with the
    largest true difference misses it on its outer side. So it holds in 97.5 % with intervals of 95 %, whatever the
    number of comparisons. NaN if a comparison has no interval, and if there is none.
    """
    ends: list[float] = []
    for interval in intervals:
        if not interval.has_interval:
            return math.nan
        ends += (abs(interval.low), abs(interval.high))
    return max(ends, default=math.nan)


def two_level(differences_SI: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the mean difference of two evaluations of the same checkpoints, over seeds and test images.

    The interval measures what other seeds **and** other test images of the same kind would have given. Seeds and
    images are crossed, since every checkpoint is measured on the same images: a difference is the sum of the mean, an
    effect of the seed, an effect of the image and a rest, each random and independent. The variance of the mean is

        V = σ²_seed / S + σ²_rest / (S I) + σ²_image / I,

    whose first two terms the spread over seeds estimates with S − 1 degrees of freedom, and whose last term is what
    the mean squares over images exceed those of the rest by, with so many that it counts as known. The half width is
    √(t² (first two) + z² (last)): Student's t where seeds dominate, the normal's where images do, and a little wide
    in between. Checkpoints that all differ by the same have no interval, as in `estimate`.

    Source: modified large-sample intervals for sums of variance components, Graybill and Wang, JASA 75 (1980).

    Args:
        differences_SI: (S, I) with at least two seeds and two images, for example 100 · (right − right).
    """
    array_SI = np.asarray(differences_SI, dtype=float)
    seeds, images = array_SI.shape
    over_seeds = estimate(tuple(array_SI.mean(1)), level)
    if not over_seeds.has_interval:
        return over_seeds
    mean_I, mean = array_SI.mean(0), over_seeds.mean
    rest_SI = array_SI - array_SI.mean(1, keepdims=True) - mean_I + mean
    # Mean squares of the crossed layout: the rest has (S − 1)(I − 1) degrees of freedom, the images have I − 1.
    rest_square = float((rest_SI**2).sum()) / ((seeds - 1) * (images - 1))
    image_square = seeds * float(mean_I.var(ddof=1))
    # The estimate of a variance component may fall below zero, where it counts as none.
    of_images = max(0.0, image_square - rest_square) / (seeds * images)
    result = _with_interval(mean, over_seeds.sd, seeds, over_seeds.df, over_seeds.error, math.sqrt(of_images))
    return result.at(level)


def over_images(differences_I: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Return the mean difference of two evaluations of one network, over test images alone.

    The interval measures what other test images of the same kind would have given for this very network. It says
    nothing of other trainings, of which there is none. Images are independent, so that the mean of their differences
    has Student's t interval with I − 1 degrees of freedom. Evaluations that are right about the very same images have
    no interval, as in `estimate`.

    Args:
        differences_I: (I,) with at least two images, for example 100 · (right − right).
    """
    array_I = np.asarray(differences_I, dtype=float)
    result = estimate(tuple(array_I), level)
    if not result.has_interval:
        return Estimate(result.mean, math.nan, math.nan, math.nan, 1)
    # One network has no spread over seeds, and the number of repeats is 1 however many images there are.
    return replace(result, sd=math.nan, n=1, covers_images=True, images_alone=True)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return the p-values corrected by Holm for their number: the chance of any false positive stays below alpha."""
    from statsmodels.stats.multitest import multipletests

    if not len(p_values):
        return ()
    # statsmodels collects garbage at every call, which takes a second of a large report; frozen objects cost nothing.
    # What the caller has frozen stays so.
    was_frozen = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        corrected = multipletests(list(p_values), method="holm")[1]
    finally:
        if not was_frozen:
            gc.unfreeze()
    return tuple(map(float, corrected))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for two evaluations of one checkpoint.

    It compares the numbers of images that only one of them classifies correctly, and is about the sampling of test
    images alone: one checkpoint says nothing about other seeds.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)


def spread_range(sd: float, df: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the chi-square interval of a standard deviation that is estimated with so many degrees of freedom."""
    # `chdtri` takes the probability above a value, so that the small tail comes first and gives the lower end.
    low = sd * math.sqrt(df / float(special.chdtri(df, (1 - level) / 2)))
    high = sd * math.sqrt(df / float(special.chdtri(df, (1 + level) / 2)))
    return low, high


def seeds_for_better(
    sd: float, beyond: float, level: float = LEVEL, df_per_seed: float = 1.0, image_error: float = 0.0
) -> int | None:
    """Return the fewest seeds that show a true difference with 80 % power, `None` beyond `MOST_SEEDS`.

    Args:
        sd: Standard deviation over seeds of the paired difference, above 0 (`Estimate.interval_sd`).
        beyond: The true difference minus the margin that the interval must exclude, above 0.
        df_per_seed: Degrees of freedom per seed beyond the first (`Estimate.df_per_seed`).
        image_error: Standard error over test images, which no number of seeds makes smaller (`Estimate.image_error`).
    """
    return _fewest_seeds(lambda seeds: power_better(seeds, sd, beyond, level, df_per_seed, image_error))


def seeds_for_same(
    sd: float, size: float, level: float = LEVEL, df_per_seed: float = 1.0, image_error: float = 0.0
) -> int | None:
    """Return the fewest seeds that show with 80 % power, where nothing differs, that nothing differs by `size`.

    Arguments are those of `seeds_for_better`; `size` is above 0.
    """
    return _fewest_seeds(lambda seeds: power_same(seeds, sd, size, level, df_per_seed, image_error=image_error))


def seeds_to_decide(
    sd: float, size: float, level: float = LEVEL, df_per_seed: float = 1.0, image_error: float = 0.0
) -> int | None:
    """Return the fewest seeds that decide a claim of margin 0 with 80 % power, whatever the truth is.

    They make the whole interval narrower than `size`: it cannot hold 0 and reach beyond ± `size`, then. Arguments are
    those of `seeds_for_better`; `size` is the smallest difference of interest, above 0.
    """
    return _fewest_seeds(lambda seeds: power_narrow(seeds, sd, size, level, df_per_seed, image_error))


def _fewest_seeds(power_at: Callable[[int], float]) -> int | None:
    """Return the fewest seeds, from 2, with a power of `POWER`; where that is reached, power rises with seeds."""
    if power_at(MOST_SEEDS) < POWER:
        return None
    # Bisection over whole numbers: `few` never has the power, `enough` always has.
    few, enough = 1, MOST_SEEDS
    while enough - few > 1:
        middle = (few + enough) // 2
        if power_at(middle) >= POWER:
            enough = middle
        else:
            few = middle
    return enough


def power_better(
    seeds: int, sd: float, beyond: float, level: float = LEVEL, df_per_seed: float = 1.0, image_error: float = 0.0
) -> float:
    """Return the chance that the interval lies beyond the margin, on the side of the true difference.

    Of an interval over seeds that is P(T > c) of a noncentral t: T = (Z + δ) / √(V / df) with a standard normal Z, V
    of a chi-square, δ = √n · beyond / sd, and c Student's bound. It is an integral over Z or over √V. scipy's own
    function is NaN for some degrees of freedom, and a search that takes NaN for too little power gives any number.

    Args:
        seeds: Pairs, at least two.
        sd: Standard deviation of the paired differences, above 0.
        beyond: The true difference minus the margin, at least 0.
        level: Of the two-sided interval.
        df_per_seed: Degrees of freedom per seed beyond the first.
        image_error: Standard error over test images, which counts as known.
    """
    df = df_per_seed * (seeds - 1)
    if image_error > 0:
        # Given the estimated spread, the half width is fixed and the mean is normal: the power is a mean over the
        # nodes.
        half_widths, error = _half_widths(seeds, sd, level, df, image_error)
        return float(_WEIGHTS / 2 @ special.ndtr((beyond - half_widths) / error))
    # Cut off, so that a tiny spread does not overflow; the power is 1 long before.
    shift = min(beyond / sd, _LARGE) * math.sqrt(seeds)
    slope = _t_quantile(df, level) / math.sqrt(df)
    # Each integral steps where the other variable's distribution does. The wider step of the two is the smooth one.
    if slope <= 1:
        root_v = _between(float(stats.chi.ppf(_TAIL, df)), float(stats.chi.isf(_TAIL, df)))
        weights = _WEIGHTS * stats.chi.pdf(root_v, df)
        # The density of many degrees of freedom is right up to a factor, which a weighted mean is rid of.
        return min(1.0, float(weights @ special.ndtr(shift - slope * root_v) / weights.sum()))
    low = max(-shift, -_FAR)
    # Below −shift the noncentral t is negative and exceeds no positive bound.
    z = _between(low, _FAR)
    weights = _WEIGHTS * stats.norm.pdf(z) * (_FAR - low) / 2
    return min(1.0, float(weights @ special.chdtr(df, ((z + shift) / slope) ** 2)))


def power_same(
    seeds: int,
    sd: float,
    size: float,
    level: float = LEVEL,
    df_per_seed: float = 1.0,
    *,
    truth: float = 0.0,
    image_error: float = 0.0,
) -> float:
    """Return the chance that the interval lies within ± `size`: the power of two one-sided tests.

    With a half width H and a standard error e of the mean, that is the mean over the estimated spread of
    Φ((size − truth − H) / e) − Φ((H − size − truth) / e), where that is positive. Arguments are those of
    `power_better`; `size` is the smallest difference of interest, above 0, and `truth` the true difference.
    """
    half_widths, error = _half_widths(seeds, sd, level, df_per_seed * (seeds - 1), image_error)
    # Both one-sided tests must reject: the mean plus H below `size`, and the mean minus H above −`size`.
    upper = special.ndtr((size - truth - half_widths) / error)
    lower = special.ndtr((half_widths - size - truth) / error)
    return float(_WEIGHTS / 2 @ np.maximum(upper - lower, 0.0))


def power_narrow(
    seeds: int, sd: float, width: float, level: float = LEVEL, df_per_seed: float = 1.0, image_error: float = 0.0
) -> float:
    """Return the chance that the whole interval is narrower than `width`. Arguments are those of `power_better`."""
    df = df_per_seed * (seeds - 1)
    over_images = -float(special.ndtri((1 - level) / 2)) * image_error
    # The interval is narrow enough if its part over seeds stays below what the images leave.
    for_seeds = (width / 2) ** 2 - over_images**2
    if for_seeds <= 0:
        return 0.0
    return float(special.chdtr(df, df * for_seeds * seeds / (_t_quantile(df, level) * sd) ** 2))


def _half_widths(seeds: int, sd: float, level: float, df: float, image_error: float) -> tuple[Array, float]:
    """Return the half widths at the nodes of the estimated spread's probability, and the mean's standard error."""
    # The nodes lie in −1 to 1; as probabilities they give equally fine steps of the estimated spread.
    ratio = np.sqrt(special.chdtri(df, (1 - _NODES) / 2) / df)
    over_seeds = _t_quantile(df, level) * ratio * sd / math.sqrt(seeds)
    over_images = -float(special.ndtri((1 - level) / 2)) * image_error
    return np.hypot(over_seeds, over_images), math.hypot(sd / math.sqrt(seeds), image_error)


def _between(low: float, high: float) -> Array:
    """Return the points between two ends at which an integrand is taken."""
    return np.asarray((low + high) / 2 + (high - low) / 2 * _NODES)
