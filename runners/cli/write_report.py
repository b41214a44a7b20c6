"""Writes reports for the verbs that end with one, and prints where the files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runners.console.terminal import console
from runners.importing import without_collection
from runners.state.files import check_writable, exclusively

if TYPE_CHECKING:
    from ablations.launches import Record
    from ablations.planning.optimisation_plans import SearchPlan
    from ablations.planning.plan import Plan
    from reports.content.file_names import Destination
    from reports.evidence.manifest import Maker


def maker() -> Maker:
    """Return the commit of the running code, for a report's manifest."""
    from reports.evidence.manifest import Maker
    from runners.provenance import project_commit

    commit = project_commit()
    return Maker(commit.sha, commit.dirty)


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the report formats in `text`, refusing unknown ones before anything is trained."""
    from reports import render

    return render.parse_formats(text)


def write_search_report(
    plan: SearchPlan, uri: str, formats: Sequence[str], runs_dir: Path, output: Path | None = None
) -> None:
    """Write the report files on a search and print where they are."""
    from reports import make_search_report

    target = destination(output, runs_dir)
    say("report", make_search_report(plan, uri, formats, target.folder, stem=target.stem))


def destination(output: Path | None, runs_dir: Path) -> Destination:
    """Return the folder and stem of a report: those of `--output`, or else in the runs folder."""
    from reports.content.file_names import Destination
    from reports.render import FORMATS

    return Destination.of(output, runs_dir / "reports", FORMATS)


def say(what: str, files: Mapping[str, Path]) -> None:
    """Print the path of each file with its format."""
    for name, path in files.items():
        console().print(f"{what} ({name}): {path}", soft_wrap=True)


def write_report(
    plan: Plan,
    runs_dir: Path,
    uri: str,
    formats: Sequence[str],
    *,
    launch: Record | None = None,
    output: Path | None = None,
) -> None:
    """Write the report files, log them to the studies' summary runs, and print where they are.

    Args:
        plan: The plan that is reported.
        runs_dir: The runs folder.
        uri: The tracking store.
        formats: Names of renderers.
        launch: The launch that has just ended; earlier ones are in the summary runs.
        output: Where the files go, or `None` for the runs folder.
    """
    from runners.launching import session

    with without_collection():
        from reports import canaries, make_report, verdicts
        from reports.collect.runs import collect
        from reports.document.prose import holes
        from reports.tables.study import tracked_rows
    from runners.tracking import write_study_summary
    from runners.tracking.descriptions import RunLink, VariantRecord

    # Fails before minutes are spent on reading the store.
    check_writable(runs_dir)
    # Of two launches that end at once, each replaces the other's files and summaries as a whole.
    with exclusively(runs_dir / "reports.lock"):
        results = collect(plan, uri)
        if launch is not None:
            # Its record reaches the store only with the summaries that are written below.
            results = results.with_launch(launch)
        target = destination(output, runs_dir)
        files = make_report(plan, uri, formats, target.folder, results=results, maker=maker(), stem=target.stem)
        tracker = session.make_tracker(plan, runs_dir, uri, for_nodes=False)
        judged, canary_rows = verdicts(plan, results), canaries(plan, results)
        for study in plan.studies:
            entries = {key: entry.values for (name, key), entry in plan.tuned.items() if name == study.name}
            records = [
                VariantRecord(
                    row.key,
                    row.metrics,
                    row.title,
                    row.told,
                    [RunLink(**vars(run)) for run in row.runs],
                    entries.get(row.key, {}),
                )
                for row in tracked_rows(study, plan, results)
            ]
            verdict_texts: dict[str, str] = {
                f"{claim.key} ({claim.rank})": claim.words for claim in judged if claim.study == study.name
            }
            verdict_texts |= {canary.key: canary.verdict for canary in canary_rows if canary.study.name == study.name}
            write_study_summary(
                tracker, plan, study, records, list(files.values()), verdicts=verdict_texts, launches=results.launches
            )
    for canary in (canary for canary in canary_rows if canary.state == "alarm"):
        console().print(
            f"CANARY ALARM: {canary.study.name}, {canary.key} {canary.verdict}; see the report.", markup=False
        )
    say("report", files)
    missing = holes(plan, results)
    if missing:
        console().print(missing, markup=False, soft_wrap=True)
