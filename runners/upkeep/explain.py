"""Explains as data why a cell of a table is reused or not: its node's status, and differences to earlier results.

Earlier results of a cell are those of the same study, variant and repeat under another fingerprint, as the history of
the runs folder tells, or else the folder itself. A result without a record of its purpose is matched by the nearest
spec, and marked as uncertain. `runners.cli.explain` puts all this into sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ablations.planning.nodes import EvaluationNode, Node, plugins_of
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import SHORT, spec_version_of, what_counts
from ablations.spec.identities import changes
from runners.provenance import Commit
from runners.state.launches import AskedPlan, History, LaunchRecord, Turn
from runners.state.nodes import NodeState, StateStore, about
from runners.tracking.sync_notes import read_origin
from runners.upkeep.node_status import Standing, survey

Verdict = Literal["reused", "running", "orphaned", "waiting", "failed", "missing", "stale"]

SPEC_VERSION_KEY, DATA_KEY = "spec version", "data digest"

_MOST_DIFFERENCES = 5
"""A result of unknown origin that differs in more settings is not taken for an earlier result of a cell."""


@dataclass(frozen=True)
class Absent:
    """Stands for the value of a setting that did not or does not exist."""


@dataclass(frozen=True)
class Difference:
    """One way in which an earlier node differs: a dotted setting, a plug-in, the data's digest or the spec version.

    Attributes:
        key: The setting, or another label; empty if `sentence` is complete.
        before: The earlier value.
        now: The present value.
        sentence: The difference as a sentence, in place of the values.
    """

    key: str
    before: Any
    now: Any
    sentence: str = ""


@dataclass(frozen=True)
class Earlier:
    """An earlier result of a cell.

    Attributes:
        state: Its folder.
        asked: The plan for which it was measured, or `None` if that is not recorded.
        is_certain: Whether it was measured for this cell, and is not merely similar.
        differences: Its differences to the node of now.
        others: The number of further earlier results.
    """

    state: NodeState
    asked: AskedPlan | None
    is_certain: bool
    differences: tuple[Difference, ...]
    others: int = 0


@dataclass(frozen=True)
class Story:
    """The reasons why a cell is reused, missing or anything between.

    Attributes:
        cell: The cell.
        node: The node that measures it.
        standing: The status of that node.
        verdict: reused: measured, and taken as it is; running, orphaned, waiting for its turn in a launch, failed;
            stale: not measured, but an earlier result of it is there that was asked for in the same way; missing:
            not measured.
        training: The status of the training, for an evaluation.
        serves: Every `study/variant` that the node was ever asked for.
        earlier: The earlier result that is nearest.
    """

    cell: Cell
    node: Node
    standing: Standing
    verdict: Verdict
    training: Standing | None
    serves: tuple[str, ...]
    earlier: Earlier | None


class Explainer:
    """Tells the stories of cells.

    Args:
        plan: The plan of now.
        states: The state folders.
        history: The launches before.
    """

    def __init__(self, plan: Plan, states: StateStore, history: History) -> None:
        self._plan, self._states, self._history = plan, states, history
        self._asked = AskedPlan.of(plan)
        standings = survey(states, self._asked.nodes, history.launches)
        self._standings = {standing.fingerprint: standing for standing in standings}

    def story(self, cell: Cell) -> Story:
        """Return the story of a cell of the plan."""
        node, standing = self._plan.node(cell.fingerprint), self._standings[cell.fingerprint]
        training = self._standings[node.trial.fingerprint] if isinstance(node, EvaluationNode) else None
        earlier = None if standing.status == "done" else self._earlier(cell, node)
        asked_now = self._asked.serves(cell.fingerprint)
        serves = tuple(dict.fromkeys([*asked_now, *self._history.serves(cell.fingerprint)]))
        return Story(cell, node, standing, self._verdict(standing, earlier), training, serves, earlier)

    def launch_of(self, state: NodeState) -> LaunchRecord | None:
        """Return the launch that measured a node, if it is recorded."""
        lease = state.lease()
        return self._history.launch(lease.launch) if lease is not None else None

    def _verdict(self, standing: Standing, earlier: Earlier | None) -> Verdict:
        if standing.status == "done":
            return "reused"
        if standing.status != "waiting" or standing.attempt is not None or standing.fingerprint in self._queued:
            return standing.status
        # It waits without an attempt and in no queue: only the next run will measure it.
        is_stale = earlier is not None and (earlier.asked is None or earlier.asked.scale == self._asked.scale)
        return "stale" if is_stale else "missing"

    @cached_property
    def _queued(self) -> frozenset[str]:
        """The fingerprints of all nodes of the launches that go on."""
        plans = (self._history.plan(record) for record in self._history.launches if record.is_alive)
        return frozenset(key for plan in plans if plan is not None for key in plan.nodes)

    def _earlier(self, cell: Cell, node: Node) -> Earlier | None:
        results = list(self._recorded(cell, node)) or list(self._unrecorded(cell, node))
        if not results:
            return None
        best = min(results, key=self._rank)
        return replace(best, others=len(results) - 1)

    def _rank(self, earlier: Earlier) -> tuple[int, float, float]:
        """Return a sort key: results asked for at the same scale first, newest leading; then the least different."""
        is_same_scale = earlier.asked is not None and earlier.asked.scale == self._asked.scale
        record, result = self.launch_of(earlier.state), earlier.state.result() or {}
        turn = self._history.turn(record) if record is not None else Turn()
        # Clocks decide only between results whose order is not recorded.
        number = turn.number if turn.is_exact else 0.0
        return (0 if is_same_scale else len(earlier.differences), -number, -result.get("time", 0.0))

    def _recorded(self, cell: Cell, node: Node) -> Iterator[Earlier]:
        # Several plans may have asked for one node: the newest is named with it.
        visited = {cell.fingerprint}
        for fingerprint, plan in self._asked_before.get((cell.study, cell.key, cell.seed), ()):
            if fingerprint not in visited and self._states[fingerprint].is_done:
                visited.add(fingerprint)
                state = self._states[fingerprint]
                yield Earlier(state, plan, True, differences(state, node))

    @cached_property
    def _asked_before(self) -> dict[tuple[str, str, int], list[tuple[str, AskedPlan]]]:
        """The nodes that measured each cell in earlier plans, by study, variant and seed, the newest first."""
        nodes: dict[tuple[str, str, int], list[tuple[str, AskedPlan]]] = {}
        for _, plan in self._history.plans():
            for cell in plan.cells:
                nodes.setdefault((cell.study, cell.key, cell.seed), []).append((cell.fingerprint, plan))
        return nodes

    def _unrecorded(self, cell: Cell, node: Node) -> Iterator[Earlier]:
        """Yield the results of this cell that the history does not know, else the most similar of unknown purpose."""
        similar: list[Earlier] = []
        for state in self._strangers.get((node.kind, node.spec.seed), ()):
            serves = _serves(state)
            result = Earlier(state, None, f"{cell.study}/{cell.key}" in serves, differences(state, node))
            if result.is_certain:
                yield result
            elif not serves and _distance(result) <= _MOST_DIFFERENCES:
                similar.append(result)
        yield from sorted(similar, key=_distance)[:1]

    @cached_property
    def _strangers(self) -> dict[tuple[Any, Any], list[NodeState]]:
        """The measured nodes that neither the plan nor the history knows, by kind and seed."""
        planned = self._asked.nodes.keys() | {key for _, plan in self._history.plans() for key in plan.nodes}
        unplanned = (self._states[key] for key in self._states.fingerprints() if key not in planned)
        strangers: dict[tuple[Any, Any], list[NodeState]] = {}
        for state in unplanned:
            if state.is_done and self.launch_of(state) is None:
                described = state.about() or {}
                key = described.get("kind"), described.get("spec", {}).get("seed")
                strangers.setdefault(key, []).append(state)
        return strangers


def commit_of(state: NodeState, record: LaunchRecord | None) -> Commit | None:
    """Return the commit of the code that measured a node, if it is recorded."""
    origin = read_origin(state)
    return origin.commit if origin is not None else record.commit if record is not None else None


def _serves(state: NodeState) -> set[str]:
    """Return every `study/variant` for which a node was measured, as its folder tells."""
    origin = read_origin(state)
    if origin is None:
        return set()
    by_experiment = (origin.studies(experiment) for experiment in origin.experiments)
    return {f"{study}/{key}" for studies in by_experiment for study, keys in studies.items() for key in keys}


def _distance(earlier: Earlier) -> int:
    """Return the number of settings that differ; settings that did not exist at the time do not count."""
    return sum(not isinstance(item.before, Absent) and item.key != SPEC_VERSION_KEY for item in earlier.differences)


def differences(state: NodeState, node: Node) -> tuple[Difference, ...]:
    """Return the differences between the node of a folder and `node`, in everything that is part of a fingerprint."""
    before, present = state.about(), about(node)
    if before is None:
        return ()
    old, new = _flat(before), _flat(present)
    items = [
        Difference(key, old.get(key, Absent()), new.get(key, Absent()))
        for key in dict.fromkeys([*new, *old])
        if old.get(key, Absent()) != new.get(key, Absent())
    ]
    plugins = changes(before.get("plugins"), present.get("plugins"))
    items += [Difference(change.label, change.before, change.now, str(change)) for change in plugins]
    if node.kind != "cost" and before.get("data_digest") != present["data_digest"]:
        digests = (before.get("data_digest"), present["data_digest"])
        items.append(Difference(DATA_KEY, *digests, _of_plugin_data(node, *digests)))
    version = before.get("spec_version") or spec_version_of(state.fingerprint, before)
    # An unknown version counts only if nothing else explains why the fingerprints differ.
    if version != present["spec_version"] and (version is not None or not items):
        items.append(
            Difference(SPEC_VERSION_KEY, version if version is not None else Absent(), present["spec_version"])
        )
    return tuple(items)


def _of_plugin_data(node: Node, before: str | None, now: str | None) -> str:
    """Return a sentence on the plug-in whose data set has changed; empty for data sets of the project."""
    identity = plugins_of(node).get(f"data set {node.spec.data.name}")
    if identity is None:
        return ""
    contents = [f"content {digest[:SHORT]}" if digest is not None else "unknown content" for digest in (before, now)]
    return f"{identity.label} (plug-in {identity.plugin}) has changed since: {' → '.join(contents)}"


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a described node that are part of its fingerprint, by dotted name."""
    spec = what_counts(told.get("spec", {}))
    # A cost depends on the network alone.
    if told.get("kind") == "cost":
        spec = {"model": spec.get("model", {})}
    return dict(_leaves(spec, "")) | dict(_leaves({"intervention": told.get("intervention") or {}}, ""))


def _leaves(nested: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        # A placement is one setting, however it is nested.
        if isinstance(value, Mapping) and name != "where":
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
