"""This module tells a launch which nodes it may run, where other machines share the tracking store and no folder.

The launch asks here before it submits a node; `runners.sync.follower` has the answers.
"""

from __future__ import annotations

from ablations.planning.nodes import Node
from ablations.planning.plan import Plan
from runners.state.nodes import StateStore
from runners.sync.follower import Follower
from runners.sync.reservations import Verdict


class Grants:
    """The nodes for which a launch has asked, and those for which it waits.

    Args:
        follower: Asks in the store; where none is shared it answers at once.
        plan: Says which studies a node serves.
        states: The state folders.
    """

    def __init__(self, follower: Follower, plan: Plan, states: StateStore) -> None:
        self._follower, self._plan, self._states = follower, plan, states
        self._asked: set[str] = set()
        self._waiting: dict[str, Node] = {}

    def __bool__(self) -> bool:
        """Return True if any node is waited for."""
        return bool(self._waiting)

    def ask(self, node: Node) -> bool:
        """Return True if a node may be run now; if not, wait for it from now on."""
        # A node is claimed once; while it waits, only the verdict is read.
        if node.fingerprint not in self._asked:
            state = self._states[node.fingerprint]
            state.describe(node)
            self._asked.add(node.fingerprint)
            self._follower.claim(node, state, self._plan.studies_of(node.fingerprint))
        if self._follower.verdict(node.fingerprint).is_grant:
            return True
        self._waiting[node.fingerprint] = node
        return False

    @property
    def undecided(self) -> int:
        """The number of nodes that may be decided on within a moment."""
        return sum(self._follower.verdict(fingerprint) is Verdict.PENDING for fingerprint in self._waiting)

    @property
    def elsewhere(self) -> int:
        """The number of nodes that are under way on other machines."""
        return sum(self._follower.verdict(fingerprint) is Verdict.ELSEWHERE for fingerprint in self._waiting)

    @property
    def coming(self) -> int:
        """The number of nodes that will soon need a worker, as far as is known."""
        return len(self._waiting) - self.elsewhere

    def take(self, room: int) -> list[Node]:
        """Return the nodes that need no more waiting: finished elsewhere, or granted, the latter at most `room`."""
        taken = []
        for fingerprint in list(self._waiting):
            verdict = self._follower.verdict(fingerprint)
            if verdict is Verdict.DONE or (verdict.is_grant and room > 0):
                # Only a granted node takes room; one that was finished elsewhere needs no worker.
                room -= verdict.is_grant
                taken.append(self._waiting.pop(fingerprint))
        return taken

    def forget(self, node: Node) -> None:
        """Leave a node to another launch in the same folder of states, which follows it."""
        self._asked.discard(node.fingerprint)
        self._follower.leave(self._states[node.fingerprint])

    def give_up(self, reason: str) -> None:
        """Give up the nodes that are waited for."""
        for fingerprint in self._waiting:
            if self._follower.verdict(fingerprint).is_grant:
                self._follower.stop(self._states[fingerprint], "KILLED", reason)
            else:
                self._follower.leave(self._states[fingerprint])
