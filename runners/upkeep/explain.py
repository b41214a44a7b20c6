"""Why a cell of a table is reused or not, as data: how its node stands, and in what earlier results differ from it.

Earlier results of a cell are those of the same study, variant and repeat under another fingerprint, as the history of
the runs folder tells, or else the folder itself. Results of which nobody has written down for what they were measured
are matched by the nearest spec, and said to be.
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
"""A result of unknown origin that differs in more settings is not taken for an earlier one of a cell."""


@dataclass(frozen=True)
class Absent:
    """Stands where a setting did not or does not exist."""


@dataclass(frozen=True)
class Difference:
    """One way in which an earlier node differs: a dotted setting, a plug-in, the data's digest or the spec version.

    Attributes:
        key: The setting, or what else it is; empty where `sentence` says it all.
        before: What it was.
        now: What it is.
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
        is_certain: Whether it was measured for this cell, and is not just like it.
        differences: In what it differs.
        others: How many earlier results there are beside it.
    """

    state: NodeState
    asked: AskedPlan | None
    is_certain: bool
    differences: tuple[Difference, ...]
    others: int = 0


@dataclass(frozen=True)
class Story:
    """Why a cell is as it is.

    Attributes:
        cell: The cell.
        node: What measures it.
        standing: How that stands.
        verdict: reused: measured, and taken as it is; running, orphaned, waiting for its turn in a launch, failed;
            stale: not measured, but an earlier result of it is there that was asked for in the same way; missing:
            not measured.
        training: How the training of an evaluation stands.
        serves: All that the node was ever asked for, as `study/variant`.
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
        plan: What is asked for now.
        states: The state folders.
        history: What was asked for before.
    """

    def __init__(self, plan: Plan, states: StateStore, history: History) -> None:
        self._plan, self._states, self._history = plan, states, history
        self._asked = AskedPlan.of(plan)
        standings = survey(states, self._asked.nodes, history.launches)
        self._standings = {standing.fingerprint: standing for standing in standings}

    def story(self, cell: Cell) -> Story:
        """Returns why a cell of the plan is as it is."""
        node, standing = self._plan.node(cell.fingerprint), self._standings[cell.fingerprint]
        training = self._standings[node.trial.fingerprint] if isinstance(node, EvaluationNode) else None
        earlier = None if standing.status == "done" else self._earlier(cell, node)
        own = self._asked.serves(cell.fingerprint)
        serves = tuple(dict.fromkeys([*own, *self._history.serves(cell.fingerprint)]))
        return Story(cell, node, standing, self._verdict(standing, earlier), training, serves, earlier)

    def launch_of(self, state: NodeState) -> LaunchRecord | None:
        """Returns the launch whose attempt has measured a node, if it is recorded."""
        last = state.lease()
        return self._history.launch(last.launch) if last is not None else None

    def _verdict(self, standing: Standing, earlier: Earlier | None) -> Verdict:
        if standing.status == "done":
            return "reused"
        if standing.status != "waiting" or standing.attempt is not None or standing.fingerprint in self._queued:
            return standing.status
        is_stale = earlier is not None and (earlier.asked is None or earlier.asked.scale == self._asked.scale)
        return "stale" if is_stale else "missing"

    @cached_property
    def _queued(self) -> frozenset[str]:
        """The nodes that launches which go on have before them."""
        plans = (self._history.plan(record) for record in self._history.launches if record.is_alive)
        return frozenset(key for plan in plans if plan is not None for key in plan.nodes)

    def _earlier(self, cell: Cell, node: Node) -> Earlier | None:
        found = list(self._recorded(cell, node)) or list(self._unrecorded(cell, node))
        if not found:
            return None
        best = min(found, key=self._rank)
        return replace(best, others=len(found) - 1)

    def _rank(self, earlier: Earlier) -> tuple[int, float, float]:
        """The newest of those asked for in the same way, which a table showed before; else the least different."""
        is_same_scale = earlier.asked is not None and earlier.asked.scale == self._asked.scale
        record, result = self.launch_of(earlier.state), earlier.state.result() or {}
        turn = self._history.turn(record) if record is not None else Turn()
        # Clocks decide only between results of which nobody knows which was first.
        number = turn.number if turn.is_exact else 0.0
        return (0 if is_same_scale else len(earlier.differences), -number, -result.get("time", 0.0))

    def _recorded(self, cell: Cell, node: Node) -> Iterator[Earlier]:
        seen = {cell.fingerprint}
        for fingerprint, asked in self._asked_before.get((cell.study, cell.key, cell.seed), ()):
            if fingerprint not in seen and self._states[fingerprint].is_done:
                seen.add(fingerprint)
                state = self._states[fingerprint]
                yield Earlier(state, asked, True, differences(state, node))

    @cached_property
    def _asked_before(self) -> dict[tuple[str, str, int], list[tuple[str, AskedPlan]]]:
        """The nodes that measured each cell in the plans of the history, by study, variant and seed, newest first."""
        nodes: dict[tuple[str, str, int], list[tuple[str, AskedPlan]]] = {}
        for _, asked in self._history.plans():
            for cell in asked.cells:
                nodes.setdefault((cell.study, cell.key, cell.seed), []).append((cell.fingerprint, asked))
        return nodes

    def _unrecorded(self, cell: Cell, node: Node) -> Iterator[Earlier]:
        """Yields the results for this cell that the history does not know, or the one that is most like it."""
        alike: list[Earlier] = []
        for state in self._strangers.get((node.kind, node.spec.seed), ()):
            serves = _serves(state)
            found = Earlier(state, None, f"{cell.study}/{cell.key}" in serves, differences(state, node))
            if found.is_certain:
                yield found
            elif not serves and _distance(found) <= _MOST_DIFFERENCES:
                alike.append(found)
        yield from sorted(alike, key=_distance)[:1]

    @cached_property
    def _strangers(self) -> dict[tuple[Any, Any], list[NodeState]]:
        """The nodes that are measured and that neither the plan nor the history knows, by kind and seed."""
        known = self._asked.nodes.keys() | {key for _, asked in self._history.plans() for key in asked.nodes}
        others = (self._states[key] for key in self._states.fingerprints() if key not in known)
        strangers: dict[tuple[Any, Any], list[NodeState]] = {}
        for state in others:
            if state.is_done and self.launch_of(state) is None:
                described = state.about() or {}
                key = described.get("kind"), described.get("spec", {}).get("seed")
                strangers.setdefault(key, []).append(state)
        return strangers


def commit_of(state: NodeState, record: LaunchRecord | None) -> Commit | None:
    """Returns the commit of the code that measured a node, if anybody has written it down."""
    origin = read_origin(state)
    return origin.commit if origin is not None else record.commit if record is not None else None


def _serves(state: NodeState) -> set[str]:
    """Returns `study/variant` of all for which a node was measured, as its folder says."""
    origin = read_origin(state)
    if origin is None:
        return set()
    told = (origin.studies(experiment) for experiment in origin.experiments)
    return {f"{study}/{key}" for studies in told for study, keys in studies.items() for key in keys}


def _distance(earlier: Earlier) -> int:
    """Returns the number of settings in which it differs; those that there were not then cannot tell it apart."""
    return sum(not isinstance(item.before, Absent) and item.key != SPEC_VERSION_KEY for item in earlier.differences)


def differences(state: NodeState, node: Node) -> tuple[Difference, ...]:
    """Returns in what the node of a folder differs from `node`, of all that makes a fingerprint."""
    before, now = state.about(), about(node)
    if before is None:
        return ()
    old, new = _flat(before), _flat(now)
    found = [
        Difference(key, old.get(key, Absent()), new.get(key, Absent()))
        for key in dict.fromkeys([*new, *old])
        if old.get(key, Absent()) != new.get(key, Absent())
    ]
    plugins = changes(before.get("plugins"), now.get("plugins"))
    found += [Difference(change.label, change.before, change.now, str(change)) for change in plugins]
    if node.kind != "cost" and before.get("data_digest") != now["data_digest"]:
        digests = (before.get("data_digest"), now["data_digest"])
        found.append(Difference(DATA_KEY, *digests, _of_plugin_data(node, *digests)))
    version = before.get("spec_version") or spec_version_of(state.fingerprint, before)
    if version != now["spec_version"] and (version is not None or not found):
        found.append(Difference(SPEC_VERSION_KEY, version if version is not None else Absent(), now["spec_version"]))
    return tuple(found)


def _of_plugin_data(node: Node, before: str | None, now: str | None) -> str:
    """Returns the sentence that says which plug-in's data set has changed; nothing for data of the project's own."""
    identity = plugins_of(node).get(f"data set {node.spec.data.name}")
    if identity is None:
        return ""
    shown = [f"content {digest[:SHORT]}" if digest is not None else "unknown content" for digest in (before, now)]
    return f"{identity.label} (plug-in {identity.plugin}) has changed since: {' → '.join(shown)}"


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a described node that count, dotted."""
    spec = what_counts(told.get("spec", {}))
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
