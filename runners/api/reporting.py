"""Makes the report on a plan, tracks it with the summary runs of its studies, and records that the results were seen.

It imports pandas and more, so verbs import it only when they write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.launches import Record
from ablations.planning.frozen_plan import FrozenPlan
from ablations.planning.plan import Plan
from ablations.vocabulary import FROZEN_FILE
from runners.api.maker import running_code
from runners.api.study_results import StudyResults, study_results
from runners.importing import without_collection
from runners.launching import session
from runners.state.files import check_writable, exclusively, write_json
from runners.state.layout import RunsFolder
from runners.state.looks import record_looks, recorded_looks
from runners.tracking import write_study_summary

with without_collection():
    from reports import canaries, make_report, summarize
    from reports.analysis.canary import Canary
    from reports.analysis.claims import verdicts
    from reports.analysis.protocol import deviations, frozen_of, looks_at
    from reports.collect.results import Results
    from reports.collect.runs import collect
    from reports.content.file_names import Destination
    from reports.document.prose import holes
    from reports.tables.summary_rows import summary_rows


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report, and what whoever made it must know at once.

    Attributes:
        files: The files by format.
        alarms: Canaries that differ from their reference, a sentence each.
        holes: A sentence on what is missing; empty if nothing is.
        deviations: The points in which the report departs from the frozen plan, a sentence each.
        studies: The tables and verdicts of its studies, as numbers.
    """

    files: dict[str, Path]
    alarms: tuple[str, ...]
    holes: str
    deviations: tuple[str, ...]
    studies: tuple[StudyResults, ...]


def write_report(
    plan: Plan,
    runs_dir: Path,
    uri: str,
    formats: Sequence[str],
    target: Destination,
    *,
    launches: Sequence[Record] = (),
    frozen: Sequence[FrozenPlan] = (),
    brief: bool = False,
) -> WrittenReport:
    """Write the report files and log them to the studies' summary runs.

    Writing it is a look at the results, which is recorded.

    Args:
        formats: Names of renderers.
        launches: The launches that have just ended; earlier ones are in the summary runs.
        frozen: The plans that were frozen before the runs, as far as they are known here; others are in the store.
        brief: Whether the report is to be two pages.
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
        summaries = summarize(plan, results)
        files = make_report(
            plan,
            uri,
            formats,
            target.folder,
            results=results,
            summaries=summaries,
            maker=running_code(),
            stem=target.stem,
            brief=brief,
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
    return WrittenReport(
        files,
        tuple(_alarms(canary_rows)),
        holes(plan, results),
        tuple(deviations(plan, results)),
        study_results(plan, results, summaries),
    )


def _alarms(canary_rows: Sequence[Canary]) -> Iterator[str]:
    for canary in canary_rows:
        if canary.state == "alarm":
            yield f"{canary.study.name}, {canary.key} {canary.verdict}"


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
