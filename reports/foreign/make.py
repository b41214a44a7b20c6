"""This module makes reports on foreign results: it joins study file, results, document, manifest and renderers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import OptionError
from ablations.files.foreign_file import ForeignFile, load_foreign_study
from ablations.foreign_study import ForeignStudy, StatedMetric, StatedStudy
from reports.analysis.claims import JudgedClaim
from reports.analysis.foreign import summarize_foreign
from reports.analysis.summary import StudySummary
from reports.collect.foreign.cells import ForeignCells, cells_of
from reports.collect.foreign.measurements import Columns, ForeignResults
from reports.collect.foreign.source import default_name, read_results
from reports.content.blocks import Document
from reports.content.file_names import brief_stem
from reports.content.maker import Maker
from reports.document.brief import brief_of
from reports.document.foreign_report import build_foreign_document, foreign_verdicts
from reports.evidence.foreign_manifest import Json, foreign_manifest, with_foreign_manifest
from reports.evidence.manifest import made_by
from reports.render import get_renderer, render
from reports.render.files import ensure_folder


@dataclass(frozen=True)
class ForeignRequest:
    """The request for a report on foreign results, as the command line makes it.

    Attributes:
        address: The path of a CSV file, or `mlflow:URI/EXPERIMENT`.
        study_file: The study, or `None` for one that the other options describe.
        lower_is_better: Of the metric; only without a study file.
    """

    address: str
    study_file: Path | None = None
    reference: str | None = None
    metric: str | None = None
    variant_from: str = "variant"
    seed_from: str = "seed"
    lower_is_better: bool = False

    def read(self) -> tuple[ForeignStudy, ForeignResults]:
        """Return the study and the results that it is about.

        Raises:
            OptionError: If an option contradicts the study file.
            StudyError: If the study file is malformed, or does not fit the results.
            ResultsError: If the results cannot be read, or do not say what they must.
            TrackingError: If a tracking store cannot be read.
        """
        file = ForeignFile(StatedStudy(name=default_name(self.address)))
        if self.study_file is not None:
            file = load_foreign_study(self.study_file)
        self._check_options(file)
        stated = file.stated.metric
        name = stated.name if stated is not None else self.metric
        results = read_results(self.address, Columns(self.variant_from, self.seed_from, name))
        if stated is None:
            stated = StatedMetric(name=results.metric, better="lower" if self.lower_is_better else "higher")
        study = file.study(results.variants, results.values, stated, self.reference)
        return study, results

    def _check_options(self, file: ForeignFile) -> None:
        # What the file says is part of the study: an option that says something else is a mistake in one of them.
        stated = file.stated
        if self.metric is not None and stated.metric is not None and stated.metric.name != self.metric:
            raise OptionError(
                f"{file.at('metric')}the metric is {stated.metric.name!r}, and --metric says {self.metric!r}. "
                "Say it once."
            )
        if self.lower_is_better and stated.metric is not None:
            raise OptionError(f"{file.at('metric')}the file states the metric: say better: lower there.")
        if self.reference is not None and stated.reference not in (None, self.reference):
            raise OptionError(
                f"{file.at('reference')}the reference is {stated.reference!r}, and --reference says "
                f"{self.reference!r}. Say it once."
            )


@dataclass(frozen=True)
class ForeignReport:
    """A report on foreign results, computed and not yet written.

    Attributes:
        document: The document, which carries its manifest.
        content: That manifest.
    """

    study: ForeignStudy
    cells: ForeignCells
    summary: StudySummary
    claims: tuple[JudgedClaim, ...]
    document: Document
    content: Json


def compute_foreign(
    study: ForeignStudy, results: ForeignResults, made: Mapping[str, Any], *, brief: bool = False
) -> ForeignReport:
    """Return the report on a foreign study, in two pages if it is to be `brief`.

    Raises:
        ResultsError: If values do not fit the study.
    """
    cells = cells_of(study, results)
    summary = summarize_foreign(study, cells)
    claims = foreign_verdicts(study, summary)
    document = build_foreign_document(study, results.source, cells, summary, claims)
    if brief:
        document = brief_of(document)
    content = foreign_manifest(study, results, summary, claims, document, made)
    return ForeignReport(study, cells, summary, claims, with_foreign_manifest(document, content), content)


def make_foreign_report(
    request: ForeignRequest,
    formats: Sequence[str],
    folder: Path,
    maker: Maker,
    *,
    stem: str | None = None,
    brief: bool = False,
) -> tuple[ForeignReport, dict[str, Path]]:
    """Write the report on foreign results in each of the formats, and return it with its files by format.

    The files are called `stem`, or after the study; one in two pages (`brief`) has an ending of its own.

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If the folder cannot be written.
        AblationError: As `ForeignRequest.read` raises it.
    """
    for name in formats:
        get_renderer(name)
    study, results = request.read()
    report = compute_foreign(study, results, made_by(maker), brief=brief)
    ensure_folder(folder)
    return report, render(report.document, formats, folder, stem or brief_stem(study.name, brief=brief))
