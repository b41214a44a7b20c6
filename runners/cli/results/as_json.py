"""Writes the results of studies as plain data, for `results --json`. docs/command-line.md describes the keys."""

from __future__ import annotations

from collections.abc import Sequence

from ablations.planning.plan import Plan
from ablations.published import PublishedValue
from runners.api.study_results import ResultRow, StudyResults
from runners.cli.options.json_output import Json
from runners.importing import without_collection

with without_collection():
    from reports.analysis.claims import JudgedClaim
    from reports.analysis.statistics import Estimate


def results_as_data(plan: Plan, studies: Sequence[StudyResults]) -> Json:
    """Return the preset and the overrides of a plan, and the rows and claims of each study."""
    return {
        "preset": plan.request.preset.name,
        "overrides": dict(plan.request.overrides),
        "studies": [_study(results) for results in studies],
    }


def _study(results: StudyResults) -> Json:
    study, facts = results.study, results.study.metric_facts
    return {
        "study": study.name,
        "title": study.title,
        "setting": results.setting,
        "metric": study.metric,
        "metric_title": facts.heading,
        "higher_is_better": facts.higher_is_better,
        "reference": study.reference,
        "size_of_interest": study.smallest_of_interest,
        "rows": [_row(row) for row in results.rows],
        "claims": [_claim(claim) for claim in results.claims],
    }


def _row(row: ResultRow) -> Json:
    difference = None
    if row.delta is not None:
        difference = {**_ends(row.delta), "p": row.p, "p_holm": row.p_holm, "p_better": row.p_better}
        difference["stars"] = row.stars
    return {
        "network": row.network,
        "variant": row.variant,
        "title": row.title,
        "is_reference": row.is_reference,
        "n": row.n,
        "planned": row.planned,
        "mean": row.mean.mean,
        "sd": row.mean.sd,
        "mean_low": row.mean.low,
        "mean_high": row.mean.high,
        "difference": difference,
        "never_learned": row.has_unlearned,
        "published": _published(row.published),
        "published_difference": _published(row.published_delta),
        "values": dict(row.values),
        "missing": dict(row.absent),
    }


def _claim(claim: JudgedClaim) -> Json:
    decisive = claim.decisive
    difference = None
    if decisive is not None and decisive.difference.is_known:
        difference = {**_ends(decisive.difference), "level": decisive.level}
    return {
        "claim": claim.claim.name,
        "statement": claim.claim.statement,
        "network": claim.network,
        "rank": claim.rank,
        "verdict": claim.verdict,
        "remark": claim.remark,
        "difference": difference,
        "published_difference": _published(None if decisive is None else decisive.published),
    }


def _ends(estimate: Estimate) -> Json:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def _published(value: PublishedValue | None) -> Json | None:
    if value is None:
        return None
    return {"value": round(value.value, 6), "confidence": value.confidence}
