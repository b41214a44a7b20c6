"""This module builds the figure of page 1: the primary claims, their intervals, and the published differences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ablations.study import Study
from reports.analysis.claims import JudgedClaim
from reports.content.blocks import Figure
from reports.content.plan_words import network_titles

CLAIM_COLUMNS = ("unit", "study", "claim", "verdict", "value", "low", "high", "published", "size")


def claims_data(studies: Sequence[Study], claims: Sequence[JudgedClaim]) -> pd.DataFrame:
    """Return the deciding difference of every primary claim that has one: `CLAIM_COLUMNS`.

    `unit` is the unit of `value`, positive in the claimed direction; `low` and `high` are the ends of its interval at
    the claim's level, and `published` the published difference, NaN without one; `size` is the size of interest.
    """
    by_name = {study.name: study for study in studies}
    rows = []
    for judged in claims:
        decisive = judged.decisive
        if judged.rank != "primary" or decisive is None or not decisive.difference.is_known:
            continue
        study = by_name[judged.study]
        wording = study.metric_facts
        network = network_titles(study)[judged.network]
        claim = judged.claim.name + (f" ({network})" if network else "")
        published = float("nan") if decisive.published is None else decisive.published.value
        difference = decisive.difference
        ends = (difference.low, difference.high) if difference.has_interval else (float("nan"), float("nan"))
        unit = wording.unit.strip() or wording.heading
        row = (unit, study.title, claim, judged.verdict, difference.mean, *ends, published, decisive.size)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def claims_figure(studies: Sequence[Study], claims: Sequence[JudgedClaim]) -> Figure | None:
    """Return the figure of the primary claims, or `None` if none of them has a difference."""
    data = claims_data(studies, claims)
    if data.empty:
        return None
    diamonds = "Diamonds: the published difference. " if data["published"].notna().any() else ""
    return Figure(
        name="primary-claims",
        kind="claims",
        data=data,
        title="The primary claims",
        caption=(
            "Each primary claim by the contrast that decides it. Dots and bars: difference in the claimed direction "
            "(mean over seeds) and its interval, at a level at which all of them hold together in 95 %. "
            f"{diamonds}Grey: differences below the size of interest. Beyond it the axis is logarithmic where "
            "differences are far apart."
        ),
        alt="The difference that decides each primary claim, with its interval; the table of verdicts has the numbers.",
        axis="difference in the claimed direction",
    )
