"""Writes the reports of the verbs that end with one, and prints where the files are.

It imports pandas and more, so verbs import it only when they write.
"""

from __future__ import annotations

from pathlib import Path

from ablations.launches import Record
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from runners.cli.options.report import ReportOptions, print_files
from runners.console.terminal import console
from runners.importing import without_collection
from runners.launching import session
from runners.provenance import project_commit
from runners.state.files import check_writable, exclusively
from runners.state.layout import RunsFolder
from runners.tracking import write_study_summary

with without_collection():
    from reports import canaries, make_report, make_search_report, summarize
    from reports.analysis.claims import verdicts
    from reports.collect.runs import collect
    from reports.document.prose import holes
    from reports.evidence.manifest import Maker
    from reports.tables.summary_rows import summary_rows


def maker() -> Maker:
    """Return the commit of the running code, for a report's manifest."""
    commit = project_commit()
    return Maker(commit.sha, commit.dirty)


def write_search_report(plan: SearchPlan, runs_dir: Path, uri: str, report: ReportOptions) -> None:
    """Write the report files on a search and print where they are."""
    target = report.destination(runs_dir)
    print_files("report", make_search_report(plan, uri, report.renderers, target.folder, stem=target.stem))


def write_report(plan: Plan, runs_dir: Path, uri: str, report: ReportOptions, *, launch: Record | None = None) -> None:
    """Write the report files, log them to the studies' summary runs, and print where they are.

    Args:
        launch: The launch that has just ended; earlier ones are in the summary runs.
    """
    # Fails before minutes are spent on reading the store.
    check_writable(runs_dir)
    # Of two launches that end at once, each replaces the other's files and summaries as a whole.
    with exclusively(RunsFolder(runs_dir).reports_lock):
        results = collect(plan, uri)
        if launch is not None:
            # Its record reaches the store only with the summaries that are written below.
            results = results.with_launch(launch)
        target = report.destination(runs_dir)
        summaries = summarize(plan, results)
        files = make_report(
            plan,
            uri,
            report.renderers,
            target.folder,
            results=results,
            summaries=summaries,
            maker=maker(),
            stem=target.stem,
        )
        tracker = session.make_tracker(plan, runs_dir, uri, for_nodes=False)
        claims, canary_rows = verdicts(plan, summaries), canaries(plan, results)
        for study, summary in zip(plan.studies, summaries, strict=True):
            rows = list(summary_rows(study, plan, results, summary))
            verdict_texts: dict[str, str] = {}
            for claim in claims:
                if claim.study == study.name:
                    verdict_texts[f"{claim.key} ({claim.rank})"] = claim.words
            for canary in canary_rows:
                if canary.study.name == study.name:
                    verdict_texts[canary.key] = canary.verdict
            write_study_summary(
                tracker, plan, study, rows, list(files.values()), verdicts=verdict_texts, launches=results.launches
            )
    for canary in canary_rows:
        if canary.state == "alarm":
            console().print(
                f"CANARY ALARM: {canary.study.name}, {canary.key} {canary.verdict}; see the report.", markup=False
            )
    print_files("report", files)
    missing = holes(plan, results)
    if missing:
        console().print(missing, markup=False, soft_wrap=True)
