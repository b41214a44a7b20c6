"""Writes the reports of the verbs that end with one, and prints where the files are.

It imports pandas and more, so verbs import it only when they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablations.invocation import suggested_command
from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.plan import Plan
from runners.api import reporting
from runners.api.study_results import StudyResults
from runners.cli.options.report import ReportOptions, print_files
from runners.cli.results.table import print_results, print_verdicts
from runners.console.terminal import console, is_quiet, is_verbose, print_lines
from runners.importing import without_collection
from runners.launching.session import store_answers

__all__ = ["print_end_of_run", "store_answers", "write_report", "write_search_report"]

with without_collection():
    from reports import make_search_report

_MOST_TABLES = 4
"""A run of more studies ends with their verdicts alone, as so many tables would push them off the screen."""


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
) -> tuple[StudyResults, ...]:
    """Write and track a report as `runners.api.reporting` does, and print where its files are and what is wrong.

    Returns:
        The tables and verdicts of its studies.
    """
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
    return written.studies


def print_end_of_run(studies: Sequence[StudyResults]) -> None:
    """Print what a run has found: the tables of its studies, or of many studies the verdicts alone."""
    if len(studies) <= _MOST_TABLES:
        print_results(console(), studies, brief=is_quiet(), every=is_verbose())
        return
    print_verdicts(console(), [results for results in studies if results.claims])
    print_lines([f"The tables: {suggested_command('results')}"])
