"""This module holds one side of a comparison whose runs were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablations.foreign_study import ForeignStudy
from ablations.metrics import MetricFacts
from reports.collect.compared_study import ComparedRow
from reports.collect.foreign.cells import ForeignCells
from reports.collect.foreign.measurements import Source

_DIGEST = 7
"""Digits of a file's digest that tell its lines from those of another file of that name."""


@dataclass(frozen=True)
class ForeignRow(ComparedRow):
    """A row of foreign results.

    Attributes:
        origins: The run, or the line of a file, behind each value, by seed.
        networks: The network of each value, by seed.
    """

    origins: Mapping[int, str] = field(default_factory=dict)
    networks: Mapping[int, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> dict[int, str]:
        return dict(self.networks)

    @property
    def fingerprints(self) -> dict[int, str]:
        """Nothing that another run has: nobody says that two foreign runs are the same training made twice."""
        return dict(self.origins)

    @property
    def run_ids(self) -> dict[int, str]:
        return dict(self.origins)

    def has_runs_of(self, other: ComparedRow) -> bool:
        # Two files may hold the same runs, and independent ones hardly agree in every value.
        return super().has_runs_of(other) or (len(self.values) > 1 and self.values == other.values)


@dataclass(frozen=True)
class ComparedResults:
    """One side of a comparison: foreign results; see `collect.compared_study.ComparedStudy`."""

    source: Source
    study: str
    title: str
    metric: str
    metric_facts: MetricFacts
    references: tuple[str, ...]
    rows: Mapping[str, ComparedRow]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in the name of a file."""
        return self.study

    @property
    def newest(self) -> int:
        """The time when its newest run ended, in milliseconds since 1970, or 0 if nobody has said it."""
        return self.source.ended

    @property
    def values(self) -> int:
        """The number of its values."""
        return sum(len(row.values) for row in self.rows.values())


def compared_results(study: ForeignStudy, source: Source, cells: ForeignCells) -> ComparedResults:
    """Return the side of a foreign study."""
    rows = {}
    for variant in study.variants:
        origins = {}
        for seed, item in cells.measured[variant.name].items():
            # The line of a file names a value only together with the file.
            in_file = f"{source.digest[:_DIGEST]}, {item.origin}"
            origins[seed] = in_file if source.kind == "csv" else item.origin
        rows[variant.name] = ForeignRow(
            variant.title, cells.repeats[variant.name], {}, origins, cells.checkpoints[variant.name]
        )
    return ComparedResults(
        source,
        study.name,
        study.title,
        study.metric,
        study.metric_facts,
        (study.reference,),
        rows,
        cells.notes,
    )
