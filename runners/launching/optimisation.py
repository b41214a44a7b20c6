"""Carries out a tuning or a search: its trials, then the best again under other seeds. Done nodes are not repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation_plans import OptimisationPlan
from ablations.planning.search import pareto_front
from runners.console.progress import Summary
from runners.estimates.forecast import Forecaster
from runners.launching import session
from runners.launching.settings import LaunchSettings
from runners.state.layout import RunsFolder
from runners.state.nodes import NodeState, StateStore


@dataclass(frozen=True)
class EndedTrial:
    """One trial that has ended: its settings, outcome and metrics."""

    values: Mapping[str, Any]
    outcome: str
    metrics: Mapping[str, float]
    seconds: float

    @classmethod
    def read(cls, state: NodeState) -> EndedTrial | None:
        """Return the ended trial of a state folder, or `None` if it has not ended."""
        result, proposal = state.result(), state.proposal()
        if result is None or proposal is None:
            return None
        return cls(proposal["values"], proposal.get("outcome", "complete"), result["metrics"], result["seconds"])


def carry_out(
    optimisation_plan: OptimisationPlan,
    runs_dir: Path,
    uri: str | None,
    settings: LaunchSettings,
    forecaster: Forecaster,
) -> Summary:
    """Launch the missing trials of a plan and then, when all have ended, the missing repeats.

    Args:
        uri: The tracking store, or `None` to track nothing now.
        settings: Those of each of the two launches.
        forecaster: Estimates each, and learns from it.
    """
    states = StateStore(RunsFolder(runs_dir).state)

    def launch(nodes: tuple[ProposedNode, ...] | None = None) -> Summary:
        plan = optimisation_plan.as_plan(nodes)
        # Looked up at each launch: an earlier search may have left some of the repeats.
        plan = replace(plan, done=states.done(plan.proposed))
        return session.launch(plan, plan, runs_dir, uri, settings, forecaster)

    summary = launch()
    # A launch of its own, as the best are known only when all trials have ended.
    repeats = best_again(optimisation_plan, states)
    # The front of a search that was cut short is not the front that is to be repeated.
    if summary.interrupted or summary.stopped or not repeats:
        return summary
    return _together(summary, launch(repeats))


def best_again(plan: OptimisationPlan, states: StateStore) -> tuple[ProposedNode, ...]:
    """Return the repeats of the trials on the Pareto front of accuracy and multiply-adds so far; none for a tuning."""
    if not plan.repeats:
        return ()
    repeats: list[ProposedNode] = []
    for optimisation in plan.optimisations:
        complete: list[tuple[ProposedNode, EndedTrial]] = []
        points: list[tuple[float, float]] = []
        for node in plan.nodes_of(optimisation):
            trial = EndedTrial.read(states[node.fingerprint])
            # A trial that was pruned or diverged has no comparable accuracy.
            if trial is not None and trial.outcome == "complete":
                complete.append((node, trial))
                points.append((trial.metrics[names.TUNING_TOP1], trial.metrics[names.COST_MULTIPLY_ADDS]))
        for index in pareto_front(points):
            node, trial = complete[index]
            repeats += plan.repeats_of(node, trial.values)
    return tuple(repeats)


def _together(trials: Summary, repeats: Summary) -> Summary:
    return replace(
        repeats,
        finished=trials.finished + repeats.finished,
        failures=(*trials.failures, *repeats.failures),
        blocked=trials.blocked + repeats.blocked,
        seconds=trials.seconds + repeats.seconds,
        # Either is enough: what one launch could not track is missing in the store.
        untracked=trials.untracked or repeats.untracked,
    )
