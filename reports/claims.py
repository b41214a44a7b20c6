"""Published finding → verdict: what our runs say about each claim of a study, with the numbers behind it. Pure.

A claim is judged by its weakest contrast. A contrast is judged by the mean over training seeds of the paired difference
and its 95 % interval (`reports.differences`), against its margin. Nothing is corrected for the number of claims: of
many true ones a few will miss, of many empty ones about one in forty is `reproduced` by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ablations.claims import Claim, Contrast
from ablations.planning import Plan
from ablations.published import PublishedValue
from ablations.study import Study
from ablations.vocabulary import HIGHER_IS_BETTER
from reports.differences import difference
from reports.published import published_contrast
from reports.results import Results
from reports.statistics import Estimate
from reports.summary import StudySummary, VariantSummary, summarize_study

Verdict = Literal["contradicted", "not reproduced", "not enough runs", "same direction", "reproduced"]

CONTRADICTED: Verdict = "contradicted"
NOT_REPRODUCED: Verdict = "not reproduced"
NOT_ENOUGH: Verdict = "not enough runs"
SAME_DIRECTION: Verdict = "same direction"
REPRODUCED: Verdict = "reproduced"

WEAKEST_FIRST: tuple[Verdict, ...] = (CONTRADICTED, NOT_REPRODUCED, NOT_ENOUGH, SAME_DIRECTION, REPRODUCED)
"""Of several contrasts, the verdict that stands first here is the claim's."""

MEANINGS: dict[Verdict, str] = {
    REPRODUCED: "the interval lies above the margin",
    SAME_DIRECTION: "the mean lies above the margin, the interval includes it",
    NOT_REPRODUCED: "the mean does not lie above the margin, the interval includes it",
    CONTRADICTED: "the interval lies below the margin",
    NOT_ENOUGH: "fewer than two seeds, a missing repeat, a row that never learned, or no row to compare",
}


@dataclass(frozen=True)
class JudgedContrast:
    """One contrast with its verdict.

    Attributes:
        contrast: What is compared.
        verdict: What our runs say.
        difference: Mean over seeds of better − worse, turned so that above zero is the claimed direction; nothing but
            the number of pairs where a repeat is missing.
        complete: How many seeds have every value that is compared.
        expected: How many seeds the plan asks for.
        published: The published difference, if all its numbers were published.
        unlearned: Names of the variants that never learned, because of which it carries no verdict.
    """

    contrast: Contrast
    verdict: Verdict
    difference: Estimate
    complete: int
    expected: int
    published: PublishedValue | None
    unlearned: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgedClaim:
    """One claim of a study with its verdict, on one inspected network if the study inspects any.

    Attributes:
        study: Name of the study.
        network: Name of the inspected network, or empty.
        claim: The claim.
        verdict: The weakest verdict of its contrasts; `not enough runs` if none could be judged.
        decisive: The contrast that decided: of those with the weakest verdict, the one farthest on the wrong side.
        contrasts: Every contrast that could be judged.
        left_out: Contrasts that name a variant which is not part of the study at this preset.
    """

    study: str
    network: str
    claim: Claim
    verdict: Verdict
    decisive: JudgedContrast | None
    contrasts: tuple[JudgedContrast, ...]
    left_out: tuple[Contrast, ...]

    @property
    def key(self) -> str:
        """The claim's name, with the inspected network in front if there is one."""
        return f"{self.network}: {self.claim.name}" if self.network else self.claim.name

    @property
    def held(self) -> int:
        """How many contrasts point in the claimed direction."""
        return sum(judged.verdict in (REPRODUCED, SAME_DIRECTION) for judged in self.contrasts)

    def as_record(self) -> dict[str, str | float]:
        """Returns the verdict as plain data for tracking; what is not known is left out."""
        record: dict[str, str | float] = {"study": self.study, "claim": self.claim.name, "verdict": self.verdict}
        if self.network:
            record["network"] = self.network
        if self.decisive is None:
            return record
        contrast, difference = self.decisive.contrast, self.decisive.difference
        record |= {"better": ", ".join(contrast.better), "worse": ", ".join(contrast.worse), "margin": contrast.margin}
        numbers = {"difference": difference.mean, "low": difference.low, "high": difference.high}
        record |= {name: value for name, value in numbers.items() if math.isfinite(value)}
        if self.decisive.published:
            record |= {"published": self.decisive.published.value}
        return record | {"n": self.decisive.complete}


def verdicts(plan: Plan, results: Results) -> tuple[JudgedClaim, ...]:
    """Returns the verdict on every claim of every study of a plan, per inspected network."""
    judged = (judge_study(study, summarize_study(study, plan, results)) for study in plan.studies)
    return tuple(claim for claims in judged for claim in claims)


def judge_study(study: Study, summary: StudySummary) -> tuple[JudgedClaim, ...]:
    """Returns the verdicts on one study's claims, network by network."""
    judged = []
    for network in study.inspected:
        name = network.name if network else ""
        rows = {row.variant: row for row in summary.of_network(name)}
        judged += [_judge_claim(study, name, claim, rows) for claim in study.claims]
    return tuple(judged)


def _judge_claim(study: Study, network: str, claim: Claim, rows: Mapping[str, VariantSummary]) -> JudgedClaim:
    left_out = tuple(contrast for contrast in claim.contrasts if not rows.keys() >= set(contrast.variants))
    judged = tuple(judge_contrast(study, contrast, rows) for contrast in claim.contrasts if contrast not in left_out)
    decisive = min(judged, key=_weakness, default=None)
    verdict = decisive.verdict if decisive else NOT_ENOUGH
    return JudgedClaim(study.name, network, claim, verdict, decisive, judged, left_out)


def _weakness(judged: JudgedContrast) -> tuple[int, float]:
    beyond = judged.difference.mean - judged.contrast.margin
    return WEAKEST_FIRST.index(judged.verdict), 0.0 if math.isnan(beyond) else beyond


def judge_contrast(study: Study, contrast: Contrast, rows: Mapping[str, VariantSummary]) -> JudgedContrast:
    """Returns the verdict on one contrast from the rows of its variants.

    A row that never learned says nothing of what it varies, so that its contrasts carry no verdict. Where lower is
    better the difference is turned round, so that above the margin always is the claimed direction.
    """
    better, worse = ([rows[name] for name in side] for side in (contrast.better, contrast.worse))
    found = difference(better, worse, study.metric, table=tuple(rows.values()))
    turned = found if study.metric in HIGHER_IS_BETTER else found.turned
    unlearned = tuple(row.variant for row in (*better, *worse) if row.unlearned)
    return JudgedContrast(
        contrast=contrast,
        verdict=NOT_ENOUGH if unlearned else judge(turned, contrast.margin),
        difference=turned,
        complete=found.n,
        expected=max(row.expected for row in (*better, *worse)),
        published=published_contrast(study, contrast),
        unlearned=unlearned,
    )


def judge(difference: Estimate, margin: float) -> Verdict:
    """Returns the verdict on a difference whose claimed direction is above `margin`.

    Seeds that all gave one value have no interval: what they say is a direction at best, never `reproduced` and
    never `contradicted`.
    """
    if difference.n < 2 or not difference.is_known:
        return NOT_ENOUGH
    if difference.has_interval and difference.low > margin:
        return REPRODUCED
    if difference.has_interval and difference.high < margin:
        return CONTRADICTED
    return SAME_DIRECTION if difference.mean > margin else NOT_REPRODUCED
