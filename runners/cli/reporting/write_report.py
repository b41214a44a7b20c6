"""Writes the reports of the verbs that end with one, and prints where the files are.

It imports pandas and more, so verbs import it only when they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from runners.api import reporting
from runners.cli.options.report import ReportOptions, print_files
from runners.console.terminal import console, print_lines
from runners.importing import without_collection
from runners.launching.session import store_answers

__all__ = ["store_answers", "write_report", "write_search_report"]

with without_collection():
    from reports import make_search_report


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
    brief: bool = False,
) -> None:
    """Write and track a report as `runners.api.reporting` does, and print where its files are and what is wrong."""
    target = report.destination(runs_dir)
    written = reporting.write_report(
        plan, runs_dir, uri, report.renderers, target, launches=launches, frozen=frozen, brief=brief
    )
    for alarm in written.alarms:
        console().print(f"CANARY ALARM: {alarm}; see the report.", markup=False)
    print_files("report", written.files)
    if written.holes:
        console().print(written.holes, markup=False, soft_wrap=True)
    print_lines(f"Deviation from the frozen plan: {sentence}" for sentence in written.deviations)
