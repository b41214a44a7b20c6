"""This module judges published findings: a verdict on each claim of a study, with the numbers behind it. Pure.

A contrast is judged by one interval of the paired difference (`reports.analysis.differences`), so that a wrong verdict
always means an interval that misses the truth. A claim is *reproduced* if all its contrasts are, each at the claim's
level α: no correction is needed, since the false one must pass too (intersection-union test). *Contradicted* and
*practically the same* take only one of its k contrasts, which therefore is judged at the level α / k (Bonferroni).

The primary claims of a report share an error of 5 %: with m of them planned, each is judged at 1 − 0.05 / m. The other
claims are exploratory and judged at 95 %, uncorrected. Where seeds are added until the primary claims are decided, a
look at them takes a part of their error (`ablations.protocol.spending`), so that all looks together hold; exploratory
claims are not protected against looking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from scipy import special

from ablations.claims import Claim, Contrast, ContrastKind
from ablations.planning.plan import Plan
from ablations.protocol.spending import level_at
from ablations.published import PublishedValue
from ablations.study import Study
from reports.analysis.differences import difference
from reports.analysis.statistics import LEVEL, MOST_SEEDS, Estimate, seeds_for_better, seeds_to_decide
from reports.analysis.summary import StudySummary, VariantSummary, row_key
from reports.collect.unlearned import is_at_chance
from reports.content.published import published_contrast

Verdict = Literal["contradicted", "practically the same", "undecided", "reproduced"]
Rank = Literal["primary", "exploratory"]

CONTRADICTED: Verdict = "contradicted"
PRACTICALLY_SAME: Verdict = "practically the same"
UNDECIDED: Verdict = "undecided"
REPRODUCED: Verdict = "reproduced"

WEAKEST_FIRST: tuple[Verdict, ...] = (CONTRADICTED, PRACTICALLY_SAME, UNDECIDED, REPRODUCED)
"""Of several contrasts, the verdict that stands first here is the claim's."""

MEANINGS: dict[Verdict, str] = {
    REPRODUCED: "the whole interval lies where the claim says",
    PRACTICALLY_SAME: "the interval lies within ± the size of interest, on both sides of what the claim asks for",
    CONTRADICTED: "the whole interval lies where the claim says it does not",
    UNDECIDED: "the runs do not say; beside it stands what would decide it",
}
"""The meaning of each verdict, in the order in which reports list them."""

LEFT_OUT = "rows left out"
MISSING_REPEAT = "missing repeat"
ONE_SEED = "one seed"
ONE_NETWORK = "one network, no interval"
MORE_IMAGES = "more test images would decide it"
NO_SPREAD = "no spread over seeds"
NEVER_LEARNED = "carries no verdict: a row never learned"
AT_CHANCE = "carries no verdict: all at chance"
SMALL = "by less than the size of interest"

_MORE_SEEDS_HELP = frozenset(("", ONE_SEED, NO_SPREAD))
"""Reasons against a verdict that further seeds may take away."""

Later = tuple[tuple[int, float], ...]
"""The looks to come under a stopping rule: each a number of seeds, and the level of the interval there."""


@dataclass(frozen=True)
class Seeds:
    """The number of seeds that would decide an undecided verdict, with 80 % power.

    Attributes:
        at_least: If the true difference is as seen, `None` where no number does.
        at_most: Whatever it is: so many that the whole interval is narrower than the size of interest. A claim of
            margin 0 is decided then, and any other whose truth is not about at its bound. `None` where no number does.
        needed: True if more seeds are missing, and not something else.
    """

    at_least: int | None = None
    at_most: int | None = None
    needed: bool = False

    def beyond(self, seeds: int) -> Seeds:
        """Return the same numbers after `seeds` have left the verdict undecided: at least one seed more."""
        at_least, at_most = self.at_least, self.at_most
        if at_least is not None:
            at_least = max(at_least, seeds + 1)
        # So many seeds were to be enough and were not: the upper number says nothing any more.
        if at_most is not None and at_most <= seeds:
            at_most = None
        return Seeds(at_least, at_most, self.needed)

    def and_also(self, seeds: Seeds) -> Seeds:
        """Return the number of seeds that decides both verdicts."""
        if not self.needed:
            return seeds
        if not seeds.needed:
            return self
        return Seeds(_most(self.at_least, seeds.at_least), _most(self.at_most, seeds.at_most), needed=True)

    @property
    def words(self) -> str:
        """The numbers as a table has them, for example `20 seeds`, `4 to 5,044 seeds`, `4 seeds or more`."""
        low, high = self.at_least, self.at_most
        if not self.needed:
            return ""
        if high is None:
            if low is None:
                return f"over {MOST_SEEDS:,} seeds"
            return f"{low:,} seeds or more"
        if low is None or low >= high:
            return f"{high:,} seeds"
        return f"{low:,} to {high:,} seeds"


def _most(seeds: int | None, more_seeds: int | None) -> int | None:
    """Return the larger of two numbers, `None` if no number is enough for one of them."""
    if seeds is None or more_seeds is None:
        return None
    return max(seeds, more_seeds)


@dataclass(frozen=True)
class JudgedContrast:
    """One contrast with its verdict.

    Attributes:
        difference: Mean over seeds of better − worse, turned so that above zero is the claimed direction, with its
            interval at `level`; nothing but the number of pairs where a repeat is missing.
        level: The level at which it is judged: the claim's if it is reproduced, a stricter one if it is not and stands
            among several.
        size: The size of interest, in the unit of the metric.
        complete: The number of seeds that have every value that is compared.
        expected: The number of seeds that the plan asks for.
        published: The published difference, if all its numbers were published.
        unlearned: Names of the variants that never learned, because of which it carries no verdict.
        reason: The reason why it could not be judged; empty where it was.
        later: The looks to come, if seeds are added until claims are decided.
    """

    contrast: Contrast
    verdict: Verdict
    difference: Estimate
    level: float
    size: float
    complete: int
    expected: int
    published: PublishedValue | None
    unlearned: tuple[str, ...] = ()
    reason: str = ""
    later: Later = ()

    @property
    def bound(self) -> float:
        """The value above which the difference must lie; of an equivalence, the size on either side of 0."""
        if self.contrast.kind == "better":
            return self.contrast.margin
        return -self.size

    @property
    def excess(self) -> float:
        """The distance of the mean from its bound, below zero on the wrong side; NaN without a mean."""
        if self.contrast.kind == "same":
            return self.size - abs(self.difference.mean)
        return self.difference.mean - self.bound

    @property
    def is_small(self) -> bool:
        """True if a verdict for or against a difference is about one below the size of interest."""
        decided = self.verdict in (REPRODUCED, CONTRADICTED) and self.contrast.kind == "better"
        return decided and -self.size < self.difference.low and self.difference.high < self.size

    @cached_property
    def seeds(self) -> Seeds:
        """The seeds that would decide it; none where it is decided, or where something else is missing."""
        if self.verdict != UNDECIDED or self.reason or self.difference.images_alone:
            return Seeds()
        # An interval narrower than this that holds the margin lies within ± the size of interest.
        width, margin = self.size, abs(self.contrast.margin)
        if margin < width:
            width -= margin
        at_most = self._seeds_enough(lambda level: _seeds_for_width(self.difference, width, level))
        at_least = self._seeds_enough(lambda level: _seeds_as_seen(self.difference, abs(self.excess), level))
        return Seeds(at_least, at_most, needed=True).beyond(self.complete)

    def _seeds_enough(self, seeds_at: Callable[[float], int | None]) -> int | None:
        """Return the fewest seeds that are enough at their level: of looks to come, the first one that has enough.

        Args:
            seeds_at: The seeds that are needed at a level, `None` where no number is enough.
        """
        level = self.level
        for seeds, level in self.later:
            needed = seeds_at(level)
            if needed is not None and needed <= seeds:
                return seeds
        # More than the last look has, at its level: seeds that the stopping rule does not allow.
        return seeds_at(level)

    @property
    def remark(self) -> str:
        """The text beside a verdict: why it is undecided, the seeds that would decide it, or that it is small."""
        if self.is_small:
            return SMALL
        if self.verdict == UNDECIDED and not self.reason and self.difference.images_alone:
            # No seeds: the network was trained elsewhere, once.
            return MORE_IMAGES
        return self.reason or self.seeds.words


def _seeds_for_width(estimate: Estimate, width: float, level: float) -> int | None:
    """Return the fewest seeds with which an interval is narrower than `width` in four of five cases."""
    # The part of it that is about test images stays, however many seeds there are.
    of_images = _half_of_images(estimate, level)
    if of_images >= width / 2:
        return None
    # Both parts add as squares: the seeds may have the part of the width that the images leave.
    of_seeds = 2 * math.sqrt((width / 2) ** 2 - of_images**2)
    return seeds_to_decide(estimate.interval_sd, of_seeds, level, estimate.df_per_seed)


def _seeds_as_seen(estimate: Estimate, beyond: float, level: float) -> int | None:
    """Return the fewest seeds with which an interval ends before a bound `beyond` away in four of five cases."""
    # The half width over seeds and images is taken for the sum of both: √(a² + b²) ≤ a + b errs towards more seeds.
    of_seeds = beyond - _half_of_images(estimate, level)
    if of_seeds > 0:
        return seeds_for_better(estimate.interval_sd, of_seeds, level, estimate.df_per_seed)
    return None


def _half_of_images(estimate: Estimate, level: float) -> float:
    return float(special.ndtri((1 + level) / 2)) * estimate.image_error


@dataclass(frozen=True)
class JudgedClaim:
    """One claim of a study with its verdict, on one inspected network if the study inspects any.

    Attributes:
        rank: `primary` for the study's primary claim, which is corrected for those of the report, else `exploratory`.
        level: The level at which all its contrasts must hold.
        verdict: The weakest verdict of its contrasts; *undecided* if none could be judged.
        decisive: The contrast that decided: of those with the weakest verdict, the one farthest on the wrong side.
        contrasts: Those that this preset asks.
        left_out: Those that name a variant which is not part of the study at this preset. Where a user asked for some
            rows and one is missing that any contrast needs, all of them.
    """

    study: str
    network: str
    claim: Claim
    rank: Rank
    level: float
    verdict: Verdict
    decisive: JudgedContrast | None
    contrasts: tuple[JudgedContrast, ...]
    left_out: tuple[Contrast, ...]

    @property
    def key(self) -> str:
        """The claim's name, with the inspected network in front if there is one."""
        return row_key(self.network, self.claim.name)

    @cached_property
    def seeds(self) -> Seeds:
        """The seeds that would decide it: as many as the neediest of its undecided contrasts takes."""
        seeds = Seeds()
        for judged in self.contrasts:
            seeds = seeds.and_also(judged.seeds)
        return seeds

    @property
    def lacks_seeds(self) -> bool:
        """True if it is undecided and further seeds may decide it."""
        if self.verdict != UNDECIDED or self.decisive is None or self.decisive.difference.images_alone:
            return False
        return self.decisive.reason in _MORE_SEEDS_HELP

    @property
    def remark(self) -> str:
        """The text beside its verdict; see `JudgedContrast.remark`."""
        if self.decisive is None:
            return LEFT_OUT
        # The seeds of the claim, not of its decisive contrast alone.
        if self.verdict == UNDECIDED:
            return self.decisive.reason or self.seeds.words or self.decisive.remark
        return self.decisive.remark

    @property
    def words(self) -> str:
        """The verdict in words, for example `reproduced, by less than the size of interest`."""
        if not self.remark:
            return self.verdict
        if self.verdict != UNDECIDED:
            return f"{self.verdict}, {self.remark}"
        if self.seeds.needed and self.remark == self.seeds.words:
            return f"{self.verdict}: {self.remark} would decide it"
        return f"{self.verdict}: {self.remark}"


def verdicts(plan: Plan, summaries: Sequence[StudySummary]) -> tuple[JudgedClaim, ...]:
    """Return the verdict on every claim of a plan, per inspected network, by the summaries of its studies."""
    judged: list[JudgedClaim] = []
    for study, summary in zip(plan.studies, summaries, strict=True):
        judged += judge_study(study, summary, plan)
    return tuple(judged)


def primary_level(plan: Plan) -> float:
    """Return the level at which all looks at a primary claim hold, so that all of a report do (Bonferroni)."""
    return stricter(LEVEL, plan.primary_claims)


def stricter(level: float, tries: int) -> float:
    """Return the level of each of several intervals of which all cover the truth with the probability `level`."""
    return 1 - (1 - level) / max(1, tries)


def judge_study(study: Study, summary: StudySummary, plan: Plan) -> tuple[JudgedClaim, ...]:
    """Return the verdicts on one study's claims, network by network."""
    # Primary claims alone share the error of the report.
    level = primary_level(plan)
    later: list[tuple[int, float]] = []
    looks, seeds = plan.request.looks_of(study), plan.request.seeds_of(study)
    for look in looks:
        if look > seeds:
            later.append((look, level_at(level, looks, look)))
    if looks:
        level = level_at(level, looks, seeds)
    return judge_claims(study, summary, level, tuple(later), lambda row: row_at_chance(study, row, plan))


def judge_claims(
    study: Study,
    summary: StudySummary,
    level: float = LEVEL,
    later: Later = (),
    guesses: Callable[[VariantSummary], bool] = lambda row: False,
) -> tuple[JudgedClaim, ...]:
    """Return the verdicts on one study's claims, network by network.

    Args:
        level: The level of the primary claim.
        later: The looks to come at it, with their levels.
        guesses: Returns whether the accuracy of a row is that of guessing.
    """
    levels: dict[Rank, tuple[float, Later]] = {"primary": (level, later), "exploratory": (LEVEL, ())}
    judged = []
    for inspected in study.inspected:
        network = "" if inspected is None else inspected.name
        # Claims are judged on each network by itself, with rows of that network alone.
        rows: dict[str, VariantSummary] = {}
        at_chance: set[str] = set()
        for row in summary.of_network(network):
            rows[row.variant] = row
            if guesses(row):
                at_chance.add(row.variant)
        for claim in study.claims:
            claim_level, later_looks = levels[rank_of(study, claim)]
            judged.append(_judge_claim(study, network, claim, rows, at_chance, level=claim_level, later=later_looks))
    return tuple(judged)


def rank_of(study: Study, claim: Claim) -> Rank:
    """Return `primary` for the primary claim of its study, else `exploratory`."""
    if claim == study.primary_claim:
        return "primary"
    return "exploratory"


def row_at_chance(study: Study, row: VariantSummary, plan: Plan) -> bool:
    """Return True if a row's mean accuracy is that of guessing; False where it is unknown or of another metric."""
    cells = plan.cells_of_row(study.name, row.network, row.variant)
    return row.estimate.is_known and is_at_chance(plan.node(cells[0].fingerprint).spec, study.metric, row.estimate.mean)


def _judge_claim(
    study: Study,
    network: str,
    claim: Claim,
    rows: Mapping[str, VariantSummary],
    at_chance: Collection[str],
    *,
    level: float,
    later: Later,
) -> JudgedClaim:
    contrasts = study.contrasts_of(claim)
    count = len(contrasts)
    left_out = [contrast for contrast in claim.contrasts if contrast not in contrasts]
    judged = []
    for contrast in contrasts:
        judged.append(
            judge_contrast(study, contrast, rows, level=level, contrasts=count, at_chance=at_chance, later=later)
        )
    decisive = min(judged, key=_weakness, default=None)
    # A claim of which no contrast is asked stays undecided.
    verdict = decisive.verdict if decisive else UNDECIDED
    rank = rank_of(study, claim)
    return JudgedClaim(study.name, network, claim, rank, level, verdict, decisive, tuple(judged), tuple(left_out))


def judge_contrast(
    study: Study,
    contrast: Contrast,
    rows: Mapping[str, VariantSummary],
    *,
    level: float = LEVEL,
    contrasts: int = 1,
    at_chance: Collection[str] = (),
    later: Later = (),
) -> JudgedContrast:
    """Return the verdict on one contrast from the rows of its variants.

    A row that never learned says nothing of what it varies, and rows that are all at chance nothing of each other.
    Where lower is better the difference is turned round, so that above zero always is the claimed direction.

    Args:
        rows: All rows of the study on one inspected network, by variant.
        level: The claim's level, at which the contrast must hold.
        contrasts: The number of contrasts of the claim. Any one can decide against it, which takes a stricter level.
        at_chance: Variants whose accuracy is that of guessing.
        later: The looks to come with the claim's levels there.
    """
    better, worse = [rows[name] for name in contrast.better], [rows[name] for name in contrast.worse]
    measured = difference(better, worse, study.metric, table=tuple(rows.values()))
    if not study.metric_facts.higher_is_better:
        measured = measured.turned
    size = study.smallest_of_interest
    unlearned, expected = [], 0
    for row in (*better, *worse):
        expected = max(expected, row.expected)
        if row.unlearned:
            unlearned.append(row.variant)
    if unlearned:
        reason = NEVER_LEARNED
    # Without a side to subtract, a contrast is about a number, which rows at chance can still miss.
    elif contrast.worse and set(contrast.variants) <= set(at_chance):
        reason = AT_CHANCE
    else:
        reason = _why_not(measured, expected, is_single=better[0].trained_elsewhere)

    def verdict_at(level: float) -> Verdict:
        if reason:
            return UNDECIDED
        return judge(measured.at(level), contrast.kind, size, contrast.margin)

    verdict = verdict_at(level)
    if verdict != REPRODUCED:
        # A stricter interval is wider, so that it cannot be reproduced there.
        level = stricter(level, contrasts)
        later = tuple((look, stricter(look_level, contrasts)) for look, look_level in later)
        verdict = verdict_at(level)
    return JudgedContrast(
        contrast=contrast,
        verdict=verdict,
        difference=measured.at(level),
        level=level,
        size=size,
        complete=measured.n,
        expected=expected,
        published=published_contrast(study, contrast),
        unlearned=tuple(unlearned),
        reason=reason,
        later=later,
    )


def _why_not(estimate: Estimate, expected: int, *, is_single: bool) -> str:
    """Return the reason why there is no interval to judge a contrast by, or nothing if there is one."""
    if estimate.has_interval:
        return ""
    if estimate.n < expected:
        return MISSING_REPEAT
    if is_single:
        return ONE_NETWORK
    if estimate.n < 2:
        return ONE_SEED
    return NO_SPREAD


def _weakness(judged: JudgedContrast) -> tuple[int, bool, float]:
    excess = judged.excess
    if math.isnan(excess):
        excess = 0.0
    # What could not be judged at all comes before what a few more seeds would decide.
    # Smallest first: the verdict, then the contrasts with a reason, then the distance from the bound.
    return WEAKEST_FIRST.index(judged.verdict), not judged.reason, excess


def judge(difference: Estimate, kind: ContrastKind, size: float, margin: float = 0.0) -> Verdict:
    """Return the verdict on a difference by its interval, whatever its level: a wrong one means that it misses.

    Seeds that all gave one value have no interval, and so no verdict.

    Args:
        difference: Turned so that above zero is the claimed direction.
        size: The size of interest, above 0.
        margin: Beyond which it is stated to lie, for the kind `better`.
    """
    if not difference.has_interval:
        return UNDECIDED
    low, high = difference.low, difference.high
    within = -size < low and high < size
    if kind == "same":
        # An equivalence is contradicted only by an interval that lies whole beyond ± the size of interest.
        if high < -size or low > size:
            return CONTRADICTED
        return REPRODUCED if within else UNDECIDED
    # Non-inferiority: at least as good allows a loss that is smaller than the size of interest.
    bound = margin if kind == "better" else -size
    if low > bound:
        return REPRODUCED
    if high < bound:
        return CONTRADICTED
    return PRACTICALLY_SAME if within else UNDECIDED
