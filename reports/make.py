"""This module makes reports: it joins the reading of the store, the document, its manifest and the renderers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from reports.analysis import claims
from reports.analysis.canary import Canary, judge_canaries
from reports.analysis.claims import JudgedClaim
from reports.analysis.summary import StudySummary, summarize
from reports.collect.results import Results
from reports.collect.runs import collect
from reports.collect.search import collect_search
from reports.content.blocks import Document
from reports.content.file_names import brief_stem, report_stem, search_stem
from reports.content.maker import Maker
from reports.document.brief import brief_of
from reports.document.search_report import build_search_document
from reports.document.study_report import build_document
from reports.evidence.manifest import made_by, manifest, with_manifest
from reports.render import get_renderer, render
from reports.render.files import ensure_folder, write_attachments


def make_report(
    plan: Plan,
    tracking_uri: str,
    formats: Sequence[str],
    folder: Path,
    *,
    results: Results | None = None,
    summaries: Sequence[StudySummary] | None = None,
    maker: Maker | None = None,
    stem: str | None = None,
    brief: bool = False,
) -> dict[str, Path]:
    """Write one document on all studies of a plan, in each of the formats, and return the files by format.

    The files are called `stem`, or after the studies and the request (`reports.content.file_names`); figures lie in
    `folder/figures`. With `results` at hand (`reports.collect.runs.collect`), the store is not read again, and with
    their `summaries` (`summarize`) nothing is computed twice. `maker` is the code that makes it, for the manifest. A
    list of runs that is too long for a table lies beside, under `runs`. With `brief` it is two pages: the answers, and
    the main tables with their verdicts.

    Raises:
        UnknownNameError: If there is no such format.
        OutputError: If the folder cannot be written.
        TrackingError: If the store cannot be reached.
        ReportError: If it holds no finished run of the plan.
    """
    _check(formats, folder)
    if results is None:
        results = collect(plan, tracking_uri)
    if summaries is None:
        summaries = summarize(plan, results)
    document = build_document(plan, results, summaries)
    if brief:
        document = brief_of(document)
    content = manifest(plan, results, summaries, document, made_by(maker or Maker()))
    # The manifest quotes the document, which can carry it only then.
    document = with_manifest(document, content, plan, results)
    stem = stem or brief_stem(report_stem(plan), brief=brief)
    return render(document, formats, folder, stem) | write_attachments(document, folder, stem)


def _check(formats: Sequence[str], folder: Path) -> None:
    """Find a wrong format or folder before anything is read."""
    for name in formats:
        get_renderer(name)
    ensure_folder(folder)


def study_document(plan: Plan, results: Results) -> Document:
    """Return the report on all studies of a plan as a document, without its manifest."""
    return build_document(plan, results, summarize(plan, results))


def make_search_report(
    plan: SearchPlan, tracking_uri: str, formats: Sequence[str], folder: Path, *, stem: str | None = None
) -> dict[str, Path]:
    """Write the document on a search in each of the formats and return the files by format.

    The files are called `stem`, or after the search and the request (`reports.content.file_names`).

    Raises:
        ReportError: If the store holds no finished trial of the search; the others are those of `make_report`.
    """
    _check(formats, folder)
    document = build_search_document(plan, collect_search(plan, tracking_uri))
    return render(document, formats, folder, stem or search_stem(plan))


def verdicts(plan: Plan, results: Results) -> tuple[JudgedClaim, ...]:
    """Return the verdict on every claim of the plan's studies, per inspected network (`reports.analysis.claims`)."""
    return claims.verdicts(plan, summarize(plan, results))


def canaries(plan: Plan, results: Results) -> tuple[Canary, ...]:
    """Return the judged canaries of the plan, none if it has none (`reports.analysis.canary`)."""
    return judge_canaries(plan, results)
