"""Keeps the nodes of a plan that are left to do, and what each waits for: its training, a time, another launch.

It runs nothing itself; `runners.launching.launch` takes nodes from it.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator

from ablations.planning.nodes import EvaluationNode, Node
from ablations.planning.plan import Plan


class Agenda:
    """The nodes of a plan that are neither done nor under way.

    Args:
        plan: The nodes that are needed, and those of them that are done.
        clock: Monotonic, in seconds.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Trainings first, as evaluations wait for them.
        self._ready: deque[Node] = deque((*plan.missing_trials, *plan.missing_costs, *plan.missing_proposed))
        self._untrained: dict[str, list[EvaluationNode]] = {}
        self._later: list[tuple[float, int, Node]] = []
        # Breaks ties in the heap: nodes themselves have no order.
        self._order = itertools.count()
        self.elsewhere: dict[str, Node] = {}
        for node in plan.missing_evaluations:
            if node.trial.fingerprint in plan.done:
                self._ready.append(node)
            else:
                self._untrained.setdefault(node.trial.fingerprint, []).append(node)

    def __bool__(self) -> bool:
        """Return True if a node is left that can still be run. Evaluations of an unfinished training do not count."""
        return bool(self._ready or self._later or self.elsewhere)

    def next(self) -> Node | None:
        """Take the next ready node, or return `None` if there is none yet."""
        while self._later and self._later[0][0] <= self._clock():
            self._ready.append(heapq.heappop(self._later)[2])
        return self._ready.popleft() if self._ready else None

    def put_off(self, node: Node, seconds: float) -> None:
        """Put a node back, to be run again after `seconds`."""
        heapq.heappush(self._later, (self._clock() + seconds, next(self._order), node))

    def leave(self, node: Node) -> None:
        """Record that another launch runs a node."""
        self.elsewhere[node.fingerprint] = node

    def take_back(self, fingerprint: str) -> Node:
        """Remove a node from those that another launch runs, and return it."""
        return self.elsewhere.pop(fingerprint)

    def trained(self, fingerprint: str) -> None:
        """Make the evaluations of a training ready."""
        self._ready.extend(self._untrained.pop(fingerprint, ()))

    def untrained(self, fingerprint: str) -> list[EvaluationNode]:
        """Remove the evaluations of a training that has failed, and return them."""
        return self._untrained.pop(fingerprint, [])

    def put_off_nodes(self) -> Iterator[Node]:
        """Yield the nodes that wait for their next attempt."""
        yield from (node for _, _, node in self._later)
