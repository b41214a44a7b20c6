"""Carries out a search: its trials, then the best of them again under other seeds. Done nodes are not repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.planning.nodes import ProposedNode
from ablations.planning.optimisation_plans import SearchPlan
from ablations.planning.search import pareto_front
from runners.console.progress import Summary
from runners.launching import session
from runners.launching.tuning_results import Ended
from runners.state.nodes import StateStore


def carry_out(search: SearchPlan, runs_dir: Path, uri: str | None, how: Mapping[str, Any]) -> Summary:
    """Launch the missing trials of a search and then, when all have ended, the missing repeats.

    Args:
        search: The search.
        runs_dir: Folder for states and the local tracking store.
        uri: The tracking store, or `None` to track nothing now.
        how: The keyword arguments of `session.launch`.
    """
    states = StateStore(runs_dir / "state")
    trials_summary = _launch(search, search.nodes, states, runs_dir, uri, how)
    repeats = best_again(search, states)
    if trials_summary.interrupted or trials_summary.stopped or not repeats:
        return trials_summary
    return _together(trials_summary, _launch(search, repeats, states, runs_dir, uri, how))


def _launch(
    search: SearchPlan,
    nodes: tuple[ProposedNode, ...],
    states: StateStore,
    runs_dir: Path,
    uri: str | None,
    how: Mapping[str, Any],
) -> Summary:
    plan = search.as_plan(nodes)
    plan = replace(plan, done=states.done(plan.proposed))
    return session.launch(plan, plan, runs_dir, uri, **how)


def best_again(search: SearchPlan, states: StateStore) -> tuple[ProposedNode, ...]:
    """Return the repeats of the trials on the Pareto front of accuracy and multiply-adds so far."""
    ended = [(node.slot, Ended.read(states[node.fingerprint])) for node in search.nodes]
    # A trial that was pruned or diverged has no comparable accuracy.
    complete = [(slot, trial) for slot, trial in ended if trial is not None and trial.outcome == "complete"]
    points = [(trial.metrics[names.TUNING_TOP1], trial.metrics[names.COST_MULTIPLY_ADDS]) for _, trial in complete]
    best = [complete[index] for index in pareto_front(points)]
    return tuple(node for slot, trial in best for node in search.repeats_of(slot, trial.values))


def _together(one: Summary, other: Summary) -> Summary:
    return replace(
        other,
        finished=one.finished + other.finished,
        failures=(*one.failures, *other.failures),
        blocked=one.blocked + other.blocked,
        seconds=one.seconds + other.seconds,
        untracked=one.untracked or other.untracked,
    )
