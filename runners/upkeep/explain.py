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

from ablations.planning.nodes import Node, plugins_of
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import SHORT, spec_version_of, what_counts
from ablations.spec.identities import changes
from ablations.spec.settings import leaves
from runners.provenance import Commit
from runners.state.launches import History, LaunchRecord, PlanRecord
from runners.state.nodes import NodeState, StateStore, about
from runners.tracking.sync_notes import read_origin
from runners.upkeep.node_status import NodeStatus, survey

CellStatus = Literal["reused", "running", "orphaned", "waiting", "failed", "missing", "stale"]

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
        sentence: The difference as a sentence, in place of the values.
    """

    key: str
    before: Any
    present: Any
    sentence: str = ""


@dataclass(frozen=True)
class EarlierResult:
    """An earlier result of a cell.

    Attributes:
        plan: The plan for which it was measured, or `None` if that is not recorded.
        is_certain: True if it was measured for this cell, and is not merely similar.
        differences: Its differences to the present node.
        others: The number of further earlier results.
    """

    state: NodeState
    plan: PlanRecord | None
    is_certain: bool
    differences: tuple[Difference, ...]
    others: int = 0


@dataclass(frozen=True)
class Explanation:
    """The reasons why a cell is reused, missing or anything between.

    Attributes:
        node: The node that measures it.
        cell_status: reused: measured, and taken as it is; running, orphaned, waiting for its turn in a launch, failed;
            stale: not measured, but an earlier result of it is there that was asked for in the same way; missing:
            not measured.
        training: The status of the training, for an evaluation.
        serves: Every `study/variant` that the node was ever asked for.
        earlier: The earlier result that is nearest.
    """

    cell: Cell
    node: Node
    status: NodeStatus
    cell_status: CellStatus
    training: NodeStatus | None
    serves: tuple[str, ...]
    earlier: EarlierResult | None


class Explainer:
    """Explains the cells of a plan."""

    def __init__(self, plan: Plan, states: StateStore, history: History) -> None:
        self._plan, self._states, self._history = plan, states, history
        self._record = PlanRecord.of(plan)
        statuses = survey(states, self._record.nodes, history.launches)
        self._statuses = {status.fingerprint: status for status in statuses}

    def explain(self, cell: Cell) -> Explanation:
        """Return the explanation of a cell of the plan."""
        node, status = self._plan.node(cell.fingerprint), self._statuses[cell.fingerprint]
        # Only an evaluation has a training.
        training = self._statuses.get(status.planned.trial)
        earlier = self._earlier(cell, node) if status.status != "done" else None
        serves = [*self._record.serves(cell.fingerprint), *self._history.serves(cell.fingerprint)]
        cell_status = self._cell_status(status, earlier)
        return Explanation(cell, node, status, cell_status, training, tuple(dict.fromkeys(serves)), earlier)

    def launch_of(self, state: NodeState) -> LaunchRecord | None:
        """Return the launch that measured a node, if it is recorded."""
        lease = state.lease()
        if lease is None:
            return None
        return self._history.launch(lease.launch)

    def _cell_status(self, status: NodeStatus, earlier: EarlierResult | None) -> CellStatus:
        if status.status == "done":
            return "reused"
        if status.status != "waiting" or status.attempt is not None or status.fingerprint in self._queued:
            return status.status
        # It waits without an attempt and in no queue: only the next run will measure it.
        if earlier is not None and (earlier.plan is None or earlier.plan.scale == self._record.scale):
            return "stale"
        return "missing"

    @cached_property
    def _queued(self) -> frozenset[str]:
        """The fingerprints of all nodes of the launches that go on."""
        queued: set[str] = set()
        for record in self._history.launches:
            if record.is_alive and (plan := self._history.plan(record)) is not None:
                queued |= plan.nodes.keys()
        return frozenset(queued)

    def _earlier(self, cell: Cell, node: Node) -> EarlierResult | None:
        results = list(self._recorded(cell, node)) or list(self._unrecorded(cell, node))
        if not results:
            return None
        best = min(results, key=self._rank)
        return replace(best, others=len(results) - 1)

    def _rank(self, earlier: EarlierResult) -> tuple[int, float, float]:
        """Return a sort key: results asked for at the same scale first, newest leading; then the least different."""
        is_same_scale = earlier.plan is not None and earlier.plan.scale == self._record.scale
        record, result = self.launch_of(earlier.state), earlier.state.result() or {}
        number = 0.0
        if record is not None:
            turn = self._history.turn(record)
            # Clocks decide only between results whose order is not recorded.
            if turn.is_exact:
                number = turn.number
        distance = 0 if is_same_scale else len(earlier.differences)
        return (distance, -number, -result.get("time", 0.0))

    def _recorded(self, cell: Cell, node: Node) -> Iterator[EarlierResult]:
        # Several plans may have asked for one node: the newest is named with it.
        visited = {cell.fingerprint}
        for fingerprint, plan in self._earlier_nodes.get((cell.study, cell.key, cell.seed), ()):
            state = self._states[fingerprint]
            # The cost of a row's network has the name of the row too.
            is_cost = state.kind == "cost"
            if fingerprint not in visited and state.is_done and is_cost == (node.kind == "cost"):
                visited.add(fingerprint)
                yield EarlierResult(state, plan, True, differences(state, node))

    @cached_property
    def _earlier_nodes(self) -> dict[tuple[str, str, int], list[tuple[str, PlanRecord]]]:
        """The nodes that measured each cell in earlier plans, by study, variant and seed, the newest first."""
        nodes: dict[tuple[str, str, int], list[tuple[str, PlanRecord]]] = {}
        for _, plan in self._history.plans():
            for cell in plan.cells:
                nodes.setdefault((cell.study, cell.key, cell.seed), []).append((cell.fingerprint, plan))
        return nodes

    def _unrecorded(self, cell: Cell, node: Node) -> Iterator[EarlierResult]:
        """Yield the results of this cell that the history does not know, and the most similar of unknown purpose."""
        similar: list[EarlierResult] = []
        for state in self._unknown_nodes.get((node.kind, node.spec.seed), ()):
            serves = _serves(state)
            result = EarlierResult(state, None, f"{cell.study}/{cell.key}" in serves, differences(state, node))
            if result.is_certain:
                yield result
            elif not serves and _distance(result) <= _MOST_DIFFERENCES:
                similar.append(result)
        yield from sorted(similar, key=_distance)[:1]

    @cached_property
    def _unknown_nodes(self) -> dict[tuple[Any, Any], list[NodeState]]:
        """The measured nodes that neither the plan nor the history knows, by kind and seed."""
        planned = set(self._record.nodes)
        for _, plan in self._history.plans():
            planned |= plan.nodes.keys()
        unknown: dict[tuple[Any, Any], list[NodeState]] = {}
        for fingerprint in self._states.fingerprints():
            state = self._states[fingerprint]
            if fingerprint not in planned and state.is_done and self.launch_of(state) is None:
                described = state.about() or {}
                key = described.get("kind"), described.get("spec", {}).get("seed")
                unknown.setdefault(key, []).append(state)
        return unknown


def commit_of(state: NodeState, record: LaunchRecord | None) -> Commit | None:
    """Return the commit of the code that measured a node, if it is recorded."""
    origin = read_origin(state)
    source = origin or record
    return source.commit if source is not None else None


def _serves(state: NodeState) -> set[str]:
    """Return every `study/variant` for which a node was measured, as its folder tells."""
    origin = read_origin(state)
    if origin is None:
        return set()
    rows: set[str] = set()
    for experiment in origin.experiments:
        for study, keys in origin.studies(experiment).items():
            rows.update(f"{study}/{key}" for key in keys)
    return rows


def _distance(earlier: EarlierResult) -> int:
    """Return the number of settings that differ; settings that did not exist at the time do not count."""
    count = 0
    for item in earlier.differences:
        if item.key != SPEC_VERSION_KEY and not isinstance(item.before, Absent):
            count += 1
    return count


def differences(state: NodeState, node: Node) -> tuple[Difference, ...]:
    """Return the differences between the node of a folder and `node`, in everything that is part of a fingerprint."""
    before, present = state.about(), about(node)
    if before is None:
        return ()
    settings_before, settings = _settings(before), _settings(present)
    items: list[Difference] = []
    # Present settings in their order, then those that are gone.
    for key in dict.fromkeys([*settings, *settings_before]):
        values = (settings_before.get(key, Absent()), settings.get(key, Absent()))
        if values[0] != values[1]:
            items.append(Difference(key, *values))
    for change in changes(before.get("plugins"), present.get("plugins")):
        items.append(Difference(change.label, change.before, change.now, str(change)))
    if node.kind != "cost" and before.get("data_digest") != present["data_digest"]:
        digests = (before.get("data_digest"), present["data_digest"])
        items.append(Difference(DATA_KEY, *digests, _plugin_data_sentence(node, *digests)))
    version = before.get("spec_version") or spec_version_of(state.fingerprint, before)
    if version is None and not items:
        # An unknown version counts only if nothing else explains why the fingerprints differ.
        items.append(Difference(SPEC_VERSION_KEY, Absent(), present["spec_version"]))
    elif version is not None and version != present["spec_version"]:
        items.append(Difference(SPEC_VERSION_KEY, version, present["spec_version"]))
    return tuple(items)


def _plugin_data_sentence(node: Node, before: str | None, present: str | None) -> str:
    """Return a sentence on the plug-in whose data set has changed; empty for data sets of the project."""
    identity = plugins_of(node).get(f"data set {node.spec.data.name}")
    if identity is None:
        return ""
    change = f"{_content(before)} → {_content(present)}"
    return f"{identity.label} (plug-in {identity.plugin}) has changed since: {change}"


def _content(digest: str | None) -> str:
    return f"content {digest[:SHORT]}" if digest is not None else "unknown content"


def _settings(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a described node that are part of its fingerprint, by dotted name."""
    spec = what_counts(described.get("spec", {}))
    if described.get("kind") == "cost":
        # A cost depends on the network alone.
        spec = {"model": spec.get("model", {})}
    return dict(leaves({**spec, "intervention": described.get("intervention") or {}}, _is_group))


def _is_group(key: str) -> bool:
    # A placement is one setting, however it is nested. The names may be those of an earlier version of the project.
    return key.rpartition(".")[2] != "where"
