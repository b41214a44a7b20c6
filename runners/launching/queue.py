"""Keeps the stage of each missing node of a plan in a launch; each move of a node is a line of the table `_NEXT`.

A node passes these stages from "planned" to "tracked". What the launch reads is on disk, so a launch that is killed at
any stage loses nothing: the next one begins with the table again and finds what is there.

| stage     | the node                                        | what ends the stage                         |
|-----------|-------------------------------------------------|---------------------------------------------|
| UNTRAINED | is an evaluation whose network is not there yet | the launch, when its training has ended, or |
|           |                                                 | its file is loaded                          |
| READY     | may be run                                      | the launch, when a worker is free           |
| RESERVING | is being reserved in a shared tracking store,   | the tracking worker: it reserves the node,  |
|           | or another machine has reserved it              | or takes over the other machine's result    |
| RUNNING   | was given to the dispatcher                     | its worker: it writes a result or a failure |
| ELSEWHERE | is run by another launch on the same folder     | that launch, or its lease that stands still |
| PUT_OFF   | waits for its next attempt                      | the clock                                   |
| FINISHED  | has a result                                    | the tracking worker: it completes the run   |
| FAILED    | was given up                                    | the tracking worker: it ends the run        |
| BLOCKED   | is an evaluation whose training has failed      | nothing: it has no run                      |

The tracking worker has a goal of its own for the run of each node (`runners.sync.run_writer.Goal`), as it may be
behind: RESERVED, FOLLOWED, then FINISHED or STOPPED. A node is tracked when its run is FINISHED; `tracking.json` in its
folder says so.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto

from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan


class Stage(Enum):
    """The stage of a node in a launch, see the head of this module."""

    UNTRAINED = auto()
    READY = auto()
    RESERVING = auto()
    RUNNING = auto()
    ELSEWHERE = auto()
    PUT_OFF = auto()
    FINISHED = auto()
    FAILED = auto()
    BLOCKED = auto()


_NEXT: dict[Stage, frozenset[Stage]] = {
    Stage.UNTRAINED: frozenset({Stage.READY, Stage.BLOCKED}),
    # All that a look at the node's folder can show; PUT_OFF if the launch itself cannot write now.
    Stage.READY: frozenset(
        {Stage.RESERVING, Stage.RUNNING, Stage.ELSEWHERE, Stage.PUT_OFF, Stage.FINISHED, Stage.FAILED}
    ),
    Stage.RESERVING: frozenset({Stage.RUNNING, Stage.ELSEWHERE, Stage.PUT_OFF, Stage.FINISHED, Stage.FAILED}),
    Stage.RUNNING: frozenset({Stage.ELSEWHERE, Stage.PUT_OFF, Stage.FINISHED, Stage.FAILED}),
    Stage.ELSEWHERE: frozenset({Stage.PUT_OFF, Stage.FINISHED, Stage.FAILED}),
    Stage.PUT_OFF: frozenset({Stage.READY}),
    Stage.FINISHED: frozenset(),
    Stage.FAILED: frozenset(),
    Stage.BLOCKED: frozenset(),
}
_OPEN = (Stage.READY, Stage.RESERVING, Stage.RUNNING, Stage.ELSEWHERE, Stage.PUT_OFF)
"""The stages in which a launch has something to wait for. An UNTRAINED node waits for one of these."""


class Queue:
    """The missing nodes of a plan, each in one stage.

    Args:
        plan: The nodes that are needed, and those of them that are done.
        clock: Monotonic, in seconds.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stages: dict[str, Stage] = {}
        # Each in the order in which the nodes came to the stage.
        self._nodes: dict[Stage, OrderedDict[str, Node]] = {stage: OrderedDict() for stage in Stage}
        self._put_off: list[tuple[float, int, Node]] = []
        # Breaks ties in the heap: nodes themselves have no order.
        self._order = itertools.count()
        self._evaluations: dict[str, list[EvaluationNode]] = {}
        # Trainings and other networks first, as evaluations wait for them.
        waiting_for_nothing: tuple[Node, ...] = (
            *plan.missing_trials,
            *plan.missing_networks,
            *plan.missing_costs,
            *plan.missing_proposed,
        )
        for node in waiting_for_nothing:
            self._add(node, Stage.READY)
        for evaluation in plan.missing_evaluations:
            if evaluation.checkpoint in plan.done:
                self._add(evaluation, Stage.READY)
            else:
                self._add(evaluation, Stage.UNTRAINED)
                self._evaluations.setdefault(evaluation.checkpoint, []).append(evaluation)

    def _add(self, node: Node, stage: Stage) -> None:
        self._stages[node.fingerprint] = stage
        self._nodes[stage][node.fingerprint] = node

    def __bool__(self) -> bool:
        """Return True if a node is left that can still be run."""
        return any(self._nodes[stage] for stage in _OPEN)

    def nodes(self, stage: Stage) -> list[Node]:
        """Return the nodes in a stage, those first that came first."""
        return list(self._nodes[stage].values())

    def count(self, stage: Stage) -> int:
        """Return the number of nodes in a stage."""
        return len(self._nodes[stage])

    def find(self, fingerprint: str, stage: Stage) -> Node | None:
        """Return a node if it is in a stage, else `None`."""
        return self._nodes[stage].get(fingerprint)

    def next(self) -> Node | None:
        """Return the READY node that came first, or `None` if there is none yet. The caller moves it on."""
        while self._put_off and self._put_off[0][0] <= self._clock():
            self.move(heapq.heappop(self._put_off)[2], Stage.READY)
        return next(iter(self._nodes[Stage.READY].values()), None)

    def move(self, node: Node, stage: Stage) -> None:
        """Move a node to another stage; do nothing if it is there."""
        before = self._stages[node.fingerprint]
        if stage is before:
            return
        assert stage in _NEXT[before], f"{node.title}: from {before.name} to {stage.name}"
        # In this order: a signal in between must not leave the node in no stage.
        self._add(node, stage)
        del self._nodes[before][node.fingerprint]

    def put_off(self, node: Node, seconds: float) -> None:
        """Move a node to PUT_OFF, to be READY again after `seconds`."""
        self.move(node, Stage.PUT_OFF)
        heapq.heappush(self._put_off, (self._clock() + seconds, next(self._order), node))

    def finish(self, node: Node) -> None:
        """Move a node to FINISHED; the evaluations of a training are READY then."""
        self.move(node, Stage.FINISHED)
        for evaluation in self._evaluations.pop(node.fingerprint, ()):
            self.move(evaluation, Stage.READY)

    def fail(self, node: Node) -> list[EvaluationNode]:
        """Move a node to FAILED and the evaluations of a training to BLOCKED; return these."""
        self.move(node, Stage.FAILED)
        blocked = self._evaluations.pop(node.fingerprint, [])
        for evaluation in blocked:
            self.move(evaluation, Stage.BLOCKED)
        return blocked
