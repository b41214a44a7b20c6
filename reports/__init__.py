"""This package makes reports: it turns studies and their runs into tables, figures, sentences and files.

It never imports torch, and `reports.collect` alone reads MLflow. Importing it is light: pandas, scipy, matplotlib,
MLflow and Typst are loaded when they are first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.planning.plan import Plan

if TYPE_CHECKING:
    from ablations.planning.optimisation_plans import SearchPlan
    from reports.analysis.canary import Canary
    from reports.analysis.claims import JudgedClaim
    from reports.analysis.summary import StudySummary
    from reports.collect.results import Results
    from reports.evidence.manifest import Maker

DEFAULT_FORMATS = ("pdf", "html", "tex", "md")

__all__ = ["DEFAULT_FORMATS", "canaries", "make_report", "make_search_report", "summarize", "verdicts"]


def make_report(
    plan: Plan,
    tracking_uri: str,
    formats: Sequence[str],
    folder: Path,
    *,
    results: Results | None = None,
    maker: Maker | None = None,
    stem: str | None = None,
) -> dict[str, Path]:
    """Write one document on all studies of a plan, in each of the formats, and return the files by format.

    The files are called `stem`, or after the studies and the request (`reports.content.file_names`); figures lie in
    `folder/figures`. With `results` at hand (`reports.collect.runs.collect`), the store is not read again. `maker` is
    the code that makes it, for the manifest. A list of runs that is too long for a table lies beside, under `csv`.

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If the folder cannot be written.
        TrackingError: If the store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    from reports.render import get_renderer
    from reports.render.files import ensure_folder

    renderers = {name: get_renderer(name) for name in dict.fromkeys(formats)}
    ensure_folder(folder)
    from reports.document.study_report import build_document

    # A wrong format or folder is found before anything heavy is imported or read.
    if results is None:
        from reports.collect.runs import collect

        results = collect(plan, tracking_uri)
    from reports.content.file_names import report_stem
    from reports.evidence.manifest import Maker, made_by, manifest, with_manifest
    from reports.render.files import write_attachments

    document = build_document(plan, results)
    content = manifest(plan, results, document, made_by(maker or Maker()))
    document = with_manifest(document, content, plan, results)
    stem = stem or report_stem(plan)
    files = {name: renderer(document, folder, stem) for name, renderer in renderers.items()}
    return files | write_attachments(document, folder, stem)


def make_search_report(
    plan: SearchPlan, tracking_uri: str, formats: Sequence[str], folder: Path, *, stem: str | None = None
) -> dict[str, Path]:
    """Write the document on a search in each of the formats and return the files by format.

    The files are called `stem`, or after the search and the request (`reports.content.file_names`).

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If the folder cannot be written.
        TrackingError: If the store cannot be reached.
        ReportError: If it holds no finished trial of the search.
    """
    from reports.collect.search import collect_search
    from reports.content.file_names import search_stem
    from reports.document.search_report import build_search_document
    from reports.render import get_renderer
    from reports.render.files import ensure_folder

    renderers = {name: get_renderer(name) for name in dict.fromkeys(formats)}
    ensure_folder(folder)
    document = build_search_document(plan, collect_search(plan, tracking_uri))
    stem = stem or search_stem(plan)
    return {name: renderer(document, folder, stem) for name, renderer in renderers.items()}


def summarize(plan: Plan, results: Results) -> list[StudySummary]:
    """Return per study of the plan the mean, interval and difference of each variant (`reports.analysis.summary`)."""
    from reports.analysis.summary import summarize_study

    return [summarize_study(study, plan, results) for study in plan.studies]


def verdicts(plan: Plan, results: Results) -> tuple[JudgedClaim, ...]:
    """Return the verdict on every claim of the plan's studies, per inspected network (`reports.analysis.claims`)."""
    from reports.analysis.claims import verdicts as judge_all

    return judge_all(plan, results)


def canaries(plan: Plan, results: Results) -> tuple[Canary, ...]:
    """Return the judged canaries of the plan, none if it has none (`reports.analysis.canary`)."""
    from reports.analysis.canary import judge_canaries

    return judge_canaries(plan, results)
