"""Writes the reports of the verbs that end with one, and prints where the files are.

It imports pandas and more, so verbs import it only when they write.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from ablations.vocabulary import FROZEN_FILE
from runners.cli.options.report import ReportOptions, print_files
from runners.cli.reporting.maker import running_code
from runners.console.terminal import console, print_lines
from runners.importing import without_collection
from runners.launching import session
from runners.launching.session import store_answers
from runners.state.files import check_writable, exclusively, write_json
from runners.state.layout import RunsFolder
from runners.state.looks import record_looks, recorded_looks
from runners.tracking import write_study_summary

__all__ = ["store_answers", "with_protocol", "write_report", "write_search_report"]

with without_collection():
    from reports import canaries, make_report, make_search_report, summarize
    from reports.analysis.claims import verdicts
    from reports.analysis.protocol import deviations, frozen_of, looks_at
    from reports.collect.results import Results
    from reports.collect.runs import collect
    from reports.document.prose import holes
    from reports.tables.summary_rows import summary_rows


def write_search_report(plan: SearchPlan, runs_dir: Path, uri: str, report: ReportOptions) -> None:
    """Write the report files on a search and print where they are."""
    target = report.destination(runs_dir)
    print_files("report", make_search_report(plan, uri, report.renderers, target.folder, stem=target.stem))


def write_report(
    plan: Plan,
    runs_dir: Path,
    uri: str,
    report: ReportOptions,
    *,
    launches: Sequence[Record] = (),
    frozen: Sequence[FrozenPlan] = (),
) -> None:
    """Write the report files, log them to the studies' summary runs, and print where they are.

    Writing it is a look at the results, which is recorded.

    Args:
        launches: The launches that have just ended; earlier ones are in the summary runs.
        frozen: The plans that were frozen before the runs, as far as they are known here; others are in the store.
    """
    # Fails before minutes are spent on reading the store.
    check_writable(runs_dir)
    # Of two launches that end at once, each replaces the other's files and summaries as a whole.
    with exclusively(RunsFolder(runs_dir).reports_lock):
        results = collect(plan, uri)
        for launch in launches:
            # Its record reaches the store only with the summaries that are written below.
            results = results.with_launch(launch)
        results = with_protocol(results, plan, runs_dir, frozen)
        target = report.destination(runs_dir)
        summaries = summarize(plan, results)
        files = make_report(
            plan,
            uri,
            report.renderers,
            target.folder,
            results=results,
            summaries=summaries,
            maker=running_code(),
            stem=target.stem,
        )
        tracker = session.make_tracker(plan, runs_dir, uri, for_nodes=False)
        claims, canary_rows = verdicts(plan, summaries), canaries(plan, results)
        # The store keeps the frozen plans with the report, as the runs folder may be lost or be on another machine.
        kept = list(files.values()) + write_frozen_plans(results, RunsFolder(runs_dir).frozen)
        frozen_plan = frozen_of(results)
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
                tracker,
                plan,
                study,
                rows,
                kept,
                verdicts=verdict_texts,
                launches=results.launches,
                looks=[look for look in results.looks if look.study == study.name],
                frozen=frozen_plan.digest if frozen_plan is not None else None,
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
    print_lines(f"Deviation from the frozen plan: {sentence}" for sentence in deviations(plan, results))


def with_protocol(results: Results, plan: Plan, runs_dir: Path, frozen: Sequence[FrozenPlan]) -> Results:
    """Record a look at the results now, and return them with all looks and frozen plans that are known."""
    earlier = recorded_looks(runs_dir, [study.name for study in plan.studies], plan.request.scale)
    results = results.with_looks(earlier).with_looks(looks_at(plan, results, time.time()))
    # Looks from the store are written down here as well, so that they outlive it.
    record_looks(runs_dir, results.looks)
    return results.with_frozen(frozen)


def write_frozen_plans(results: Results, folder: Path) -> list[Path]:
    """Write the frozen plans of a report into one file, for the store, and return its path; none if there is none."""
    if not results.frozen:
        return []
    # Not among the plans: every JSON file of their folder is read as one plan, and this is a list of them.
    path = folder / ".store" / FROZEN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [frozen.content for frozen in results.frozen])
    return [path]
