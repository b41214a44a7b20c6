"""The stages of nodes: each node is in one, and moves along the table alone."""

from __future__ import annotations

from collections import Counter

import pytest

from ablations.planning.nodes import Node
from runners.launching.queue import _NEXT, Queue, Stage
from tests.runners.launching.test_launch import _plan


def _stages(queue: Queue) -> Counter[str]:
    return Counter(node.fingerprint for stage in Stage for node in queue.nodes(stage))


def _first(queue: Queue) -> Node:
    node = queue.next()
    assert node is not None
    return node


def test_each_missing_node_is_in_one_stage_and_evaluations_wait_for_their_training() -> None:
    plan = _plan()
    queue = Queue(plan)
    assert _stages(queue) == Counter(node.fingerprint for node in plan.missing)
    assert queue.nodes(Stage.UNTRAINED) == list(plan.missing_evaluations)
    trained = next(iter(plan.evaluations.values())).network
    queue.finish(trained)
    ready = [node for node in queue.nodes(Stage.READY) if node.fingerprint in plan.evaluations]
    assert ready == [node for node in plan.evaluations.values() if node.depends_on == trained.fingerprint]
    assert _stages(queue) == Counter(node.fingerprint for node in plan.missing)


def test_evaluations_of_a_failed_training_are_blocked_and_keep_no_launch_waiting() -> None:
    plan = _plan()
    queue = Queue(plan)
    while queue:
        queue.fail(_first(queue))
    assert queue.count(Stage.BLOCKED) == len(plan.missing_evaluations)
    assert queue.count(Stage.FAILED) == len(plan.missing) - len(plan.missing_evaluations)


def test_a_node_that_is_put_off_is_ready_again_after_its_time_behind_the_others() -> None:
    clock_time = [0.0]
    queue = Queue(_plan(), lambda: clock_time[0])
    one = _first(queue)
    queue.put_off(one, 5.0)
    two = _first(queue)
    queue.put_off(two, 1.0)
    assert _first(queue) not in (one, two)
    clock_time[0] = 5.0
    assert _first(queue) not in (one, two)
    assert queue.nodes(Stage.READY)[-2:] == [two, one]


@pytest.mark.parametrize("before", list(Stage))
def test_a_move_that_is_not_in_the_table_is_refused(before: Stage) -> None:
    for after in set(Stage) - _NEXT[before] - {before}:
        queue = Queue(_plan())
        node = _first(queue)
        queue._add(node, before)
        with pytest.raises(AssertionError):
            queue.move(node, after)


def test_each_stage_is_reached_and_leads_to_an_end() -> None:
    ends = {Stage.FINISHED, Stage.FAILED, Stage.BLOCKED}
    assert {stage for stage, following in _NEXT.items() if not following} == ends
    reached = {Stage.UNTRAINED, Stage.READY}
    for _ in Stage:
        reached |= {after for before in reached for after in _NEXT[before]}
    assert reached == set(Stage)
