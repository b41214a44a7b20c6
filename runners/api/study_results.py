"""Reads the tables of a plan's studies as numbers, with the published ones beside them and the verdicts on its claims.

It is the one source of the verb `results`, of what a run ends with, and of `runners.api.table`. It imports pandas and
more, so whatever needs it imports it only then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.claims import Contrast
from ablations.datasets.registry import stated_facts
from ablations.planning.plan import Plan
from ablations.published import PublishedValue
from ablations.study import Study
from runners.importing import without_collection

with without_collection():
    from reports.analysis.claims import JudgedClaim, verdicts
    from reports.analysis.statistics import Estimate
    from reports.analysis.summary import StudySummary, VariantSummary, summarize
    from reports.archive.bundle import open_bundle
    from reports.bundles.checking import planned_in
    from reports.bundles.packing import DATA_FILE
    from reports.bundles.surroundings import read_facts
    from reports.collect.results import Results
    from reports.collect.runs import collect
    from reports.collect.stores.opening import bundle_address
    from reports.content.plan_words import (
        data_words,
        epochs_words,
        network_titles,
        network_words,
        repeats_of,
        short_titles,
        specs_of,
        split_of,
    )
    from reports.content.published import published_contrast, published_value


@dataclass(frozen=True)
class ResultRow:
    """One row of a study's table.

    Attributes:
        network: The name of the inspected network, empty for a study that trains its variants.
        title: The row as a table prints it.
        is_reference: Whether the other rows are held against it.
        values: The metric by seed, for the repeats that finished.
        absent: The status by seed of the repeats that did not.
        mean: The mean over seeds with its standard deviation and its 95 % interval; NaN where a repeat is missing.
        delta: The paired difference to the reference with its 95 % interval; `None` for the reference, and where means
            are not compared.
        p: Two-sided p-value of the difference, NaN without one; `p_holm` is corrected over the table of the study.
        p_better: The probability that a repeat of it is better than one of the reference; NaN where it cannot be told.
        stars: `*` below 0.05 and `**` below 0.01, corrected.
        has_unlearned: Whether a training that is measured never learned.
        published: The published number, and its difference to that of the reference; `None` where there is none.
    """

    network: str
    variant: str
    title: str
    is_reference: bool
    values: Mapping[int, float]
    absent: Mapping[int, str]
    mean: Estimate
    delta: Estimate | None
    p: float
    p_holm: float
    p_better: float
    stars: str
    has_unlearned: bool
    published: PublishedValue | None
    published_delta: PublishedValue | None

    @property
    def n(self) -> int:
        """The number of repeats that have a value."""
        return len(self.values)

    @property
    def planned(self) -> int:
        """The number of repeats that were asked for."""
        return len(self.values) + len(self.absent)


@dataclass(frozen=True)
class StudyResults:
    """The table of one study and the verdicts on its claims.

    Attributes:
        networks: The titles of the inspected networks by name; one empty name for a study that trains its variants.
        setting: Data, networks, length of training and seeds, in words.
    """

    study: Study
    networks: Mapping[str, str]
    setting: str
    rows: tuple[ResultRow, ...]
    claims: tuple[JudgedClaim, ...]

    def of_network(self, network: str) -> tuple[ResultRow, ...]:
        """Return the rows on one network."""
        return tuple(row for row in self.rows if row.network == network)


def study_results(
    plan: Plan, results: Results, summaries: Sequence[StudySummary] | None = None
) -> tuple[StudyResults, ...]:
    """Return the tables and verdicts of a plan's studies, in their order.

    Args:
        summaries: Those of its studies, if they are known already.
    """
    summaries = summarize(plan, results) if summaries is None else summaries
    claims = verdicts(plan, summaries)
    tables = []
    for study, summary in zip(plan.studies, summaries, strict=True):
        titles = short_titles(study)
        rows = tuple(_row(study, row, titles[row.variant]) for row in summary.variants)
        judged = tuple(claim for claim in claims if claim.study == study.name)
        tables.append(StudyResults(study, network_titles(study), _setting(plan, study), rows, judged))
    return tuple(tables)


def bundled_results(path: Path) -> tuple[Plan, tuple[StudyResults, ...]]:
    """Return the plan in a bundle, and the tables and verdicts that the runs in it make.

    Raises:
        BundleError: If the file cannot be read, is no bundle, or was changed.
        AblationError: If it names something that is not known here: a plug-in, a setting of a later version.
    """
    bundle = open_bundle(path)
    # For the whole time: a plan asks for the facts of its data when they are needed.
    with stated_facts(read_facts(bundle.read(DATA_FILE))):
        plan, _ = planned_in(bundle)
        return plan, study_results(plan, collect(plan, bundle_address(path)))


def _row(study: Study, row: VariantSummary, title: str) -> ResultRow:
    is_reference = row.variant == study.reference
    published_delta = None
    if not is_reference:
        published_delta = published_contrast(study, Contrast(better=(row.variant,), worse=(study.reference,)))
    return ResultRow(
        network=row.network,
        variant=row.variant,
        title=title,
        is_reference=is_reference,
        values=row.values,
        absent=row.absent,
        mean=row.estimate,
        delta=row.delta,
        p=row.p_value,
        p_holm=row.p_holm,
        p_better=math.nan if row.improvement is None else row.improvement.probability,
        stars=row.stars,
        has_unlearned=bool(row.unlearned),
        published=published_value(study, study.variant(row.variant)),
        published_delta=published_delta,
    )


def _setting(plan: Plan, study: Study) -> str:
    specs = specs_of(plan, study.name)
    words = [data_words(specs, split_of(study.metric)), network_words(specs)]
    if not study.is_about_cost:
        words.append(epochs_words(specs))
    count = repeats_of(plan, study)
    if not study.trains_nothing:
        words.append("1 seed" if count == 1 else f"{count} seeds")
    return ", ".join(words)
