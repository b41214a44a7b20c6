"""Adds seeds, look by look, until the primary claims of a plan are decided: `run --until-decided`.

A look reads the results from the tracking store and judges them at the levels that hold over all looks
(`reports.analysis.claims`). Which studies go on follows from the results alone, and what is measured is not measured
again: the same command goes on after a kill, and repeats the looks that it had.

It imports pandas and more, so `run` imports it only when the first look is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ablations.errors import BudgetError, ReportError
from ablations.planning.plan import Plan
from runners.api.plans import find_plan
from runners.api.selection import Selection
from runners.console.progress import Summary
from runners.console.tables import plan_overview
from runners.console.terminal import print_lines, progress_console
from runners.estimates.forecast import HoursLeft
from runners.importing import without_collection
from runners.state.last_run import remember_run
from runners.state.looks import record_looks

with without_collection():
    from reports.analysis.claims import JudgedClaim, verdicts
    from reports.analysis.protocol import looks_at
    from reports.analysis.summary import summarize
    from reports.collect.results import Results
    from reports.collect.runs import collect
    from reports.content.formatting import interval, number
    from reports.content.plan_words import enumerated
    from reports.tables.claims import level_words


@dataclass(frozen=True)
class SeenResults:
    """The results that a look saw, and the verdicts on the primary claims by them."""

    plan: Plan
    results: Results
    claims: tuple[JudgedClaim, ...]

    @classmethod
    def of(cls, plan: Plan, uri: str) -> SeenResults:
        """Return what the tracking store holds for a plan now.

        Raises:
            TrackingError: If the store cannot be reached.
            ReportError: If it holds no finished run of the plan.
        """
        results = collect(plan, uri)
        # The same code judges the report, so that a look and the report cannot disagree.
        judged = verdicts(plan, summarize(plan, results))
        # Studies without looks keep their seeds: their claims are judged in the report and add none.
        primary = tuple(claim for claim in judged if claim.rank == "primary" and _has_looks(plan, claim))
        return cls(plan, results, primary)

    @property
    def next_seeds(self) -> dict[str, int]:
        """The seeds at the next look of each study with a primary claim that lacks seeds, in the order of the plan."""
        # A study with several inspected networks goes on as long as one of its claims lacks seeds.
        undecided = {claim.study for claim in self.claims if claim.lacks_seeds}
        seeds: dict[str, int] = {}
        for study in self.plan.studies:
            request = self.plan.request
            further = [look for look in request.looks_of(study) if look > request.seeds_of(study)]
            if study.name in undecided and further:
                # The next look and no other: one that was skipped would have spent its error for nothing.
                seeds[study.name] = further[0]
        return seeds

    def lines(self) -> Iterator[str]:
        """Yield a line per primary claim, and a line on the studies that go on, or on why none does."""
        yield "Look at the primary claims, each with an interval that holds over all looks together:"
        for claim in self.claims:
            yield f"  {_claim_words(self.plan, claim)}"
        if self.next_seeds:
            phrases = [f"{study} with {seeds} seeds" for study, seeds in self.next_seeds.items()]
            yield f"Going on: {enumerated(phrases)}."
        else:
            yield from _end_lines(self.claims)


def _has_looks(plan: Plan, claim: JudgedClaim) -> bool:
    study = next(study for study in plan.studies if study.name == claim.study)
    return bool(plan.request.looks_of(study))


def _claim_words(plan: Plan, claim: JudgedClaim) -> str:
    """Return a claim with its verdict, the difference that decides with its interval, and its seeds."""
    study = next(study for study in plan.studies if study.name == claim.study)
    words = f"{claim.study}, “{claim.key}”, {plan.request.seeds_of(study)} seeds: {claim.words}"
    if claim.decisive is None or not claim.decisive.difference.is_known:
        return words
    wording, difference = study.metric_facts, claim.decisive.difference
    words += f"; {number(difference.mean, wording.decimals, signed=True)}{wording.unit}"
    if difference.has_interval:
        ends = interval(difference.low, difference.high, wording.decimals)
        words += f" {ends} at {level_words(claim.decisive.level)}"
    return words


def _end_lines(claims: Sequence[JudgedClaim]) -> Iterator[str]:
    """Yield lines on the end: all are decided, the seeds are used up, or no number of seeds can decide the rest."""
    undecided = [claim for claim in claims if claim.verdict == "undecided"]
    if not undecided:
        yield "All primary claims are decided."
    for claim in undecided:
        if claim.lacks_seeds:
            yield f"Undecided at the last look (--max-seeds): {claim.study}, “{claim.key}”."
        else:
            yield f"No further seeds, as they cannot decide it: {claim.study}, “{claim.key}”: {claim.remark}."


def add_seeds(
    plan: Plan, first: Summary, selection: Selection, launch: Callable[[Plan], Summary], hours: HoursLeft
) -> tuple[Plan, list[Summary]]:
    """Look at a plan that was launched, and launch it with more seeds until its primary claims are decided.

    Args:
        plan: The plan of the first look.
        first: The summary of its launch.
        selection: The request, and the runs folder whose record of the last run follows each step.
        launch: Carries out a plan.
        hours: The time that all launches have together.

    Returns:
        The plan with the seeds that its studies have in the end, and the summaries of the further launches.

    Raises:
        TrackingError: If the store cannot be reached.
    """
    summary = first
    further: list[Summary] = []
    # Missing repeats would make a verdict depend on what failed.
    while _is_whole(summary):
        try:
            seen = SeenResults.of(plan, selection.tracking_uri)
        except ReportError as error:
            # For example runs that were deleted meanwhile: the report, which comes next, says the same.
            print_lines([str(error)])
            break
        if not seen.claims:
            print_lines(["No study has a primary claim that more seeds could decide: no seeds are added."])
            break
        print_lines(seen.lines())
        # The look is recorded after it was printed and before it is acted upon: somebody has seen it by now.
        record_looks(selection.runs_dir, looks_at(plan, seen.results, time.time()))
        if not seen.next_seeds:
            break
        # Decided studies are named with their seeds, too: otherwise they would fall back to those of the first look.
        seeds = {study.name: plan.request.seeds_of(study) for study in plan.studies if not study.trains_nothing}
        selection = replace(selection, seeds_by_study=seeds | seen.next_seeds)
        next_plan = find_plan(selection)
        try:
            # The step is checked as a whole, since a look at a part of its seeds was not planned.
            hours.check(next_plan)
        except BudgetError as error:
            print_lines([f"No further look: {error}"])
            break
        plan = next_plan
        progress_console().print(plan_overview(plan))
        # Before the launch, so that `status`, `retry` and `report` know this look even if it is killed.
        remember_run(selection.runs_dir, selection.studies, selection.as_options())
        summary = launch(plan)
        further.append(summary)
    return plan, further


def _is_whole(summary: Summary) -> bool:
    """Return True if a launch has measured and tracked all that was planned; if not, say why there is no look."""
    if summary.interrupted:
        return False
    if summary.failures or summary.blocked or summary.stopped:
        print_lines(["No look at the claims, as not everything was measured. The same command goes on from here."])
        return False
    if summary.untracked:
        print_lines(["No look at the claims, as not everything is in the tracking store."])
        return False
    return True
