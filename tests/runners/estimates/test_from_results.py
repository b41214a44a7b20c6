"""What finished nodes tell: by hand from made-up state folders, and from a real training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations import vocabulary as names
from ablations.planning.lint import network_of
from ablations.planning.nodes import CostNode, Node, TrialNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.spec.fingerprint import cost_fingerprint
from ablations.spec.parts import Intervention
from ablations.study import Study, Variant
from runners import hardware
from runners.estimates.estimate import Speed, measured_images, seconds_of, speed_key, training_steps
from runners.estimates.from_results import learn, own_nodes
from runners.estimates.measurements import Load
from runners.hardware import Machine
from runners.state.attempts import Lease
from runners.state.nodes import NodeState, StateStore
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import TINY, Bench

HERE = Machine("host", "a CPU", 4, (), "1")
LOAD = Load("cpu", 2, 1)


def finish(
    bench: Bench, node: Node, seconds: float, epochs: tuple[tuple[float, float], ...] = (), **more: object
) -> NodeState:
    """Writes what a node leaves; an epoch is images per second and the second at whose end it was measured."""
    state = bench.states[node.fingerprint]
    state.folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"step": n, "time": int(end * 1000), "metrics": {names.TRAIN_IMAGES_PER_SECOND: speed}})
        for n, (speed, end) in enumerate(epochs, start=1)
    ]
    (state.folder / "events.jsonl").write_text("".join(line + "\n" for line in lines))
    state.finish({"test/top1": 1.0}, seconds, **{"micro_batch": node.spec.train.batch_size, **more})
    return state


def one(bench: Bench, node: Node) -> Speed:
    ((found,),) = learn([(node, bench.states[node.fingerprint])], HERE, LOAD).values()
    assert (found.source, found.version, found.load, found.host) == ("learned", "1", LOAD, "host")
    return found.speed


def test_a_training_by_hand(bench: Bench) -> None:
    # Four steps of ten images an epoch, 20 validation images after each and 30 test images at the end.
    node = bench.trial()
    finish(bench, node, 20.0, ((10.0, 105.0), (8.0, 112.0)), peak_memory=123, peak_gpu_memory=45)
    # 4 s and 5 s of steps; between the ends of the epochs lie 7 s, so measuring 20 images took 2 s.
    speed = one(bench, node)
    assert speed.step == pytest.approx(9 / 8)
    assert speed.image == pytest.approx(0.1)
    assert speed.setup == pytest.approx(20 - 9 - 70 * 0.1)
    assert (speed.memory, speed.gpu_memory) == (123, 45)
    assert seconds_of(node, speed) == pytest.approx(20.0)


def test_one_epoch_says_nothing_of_the_beginning(bench: Bench) -> None:
    node = bench.trial(train__epochs=1, train__temperature__epochs=1.0)
    finish(bench, node, 9.0, ((10.0, 105.0),))
    speed = one(bench, node)
    assert (speed.step, speed.image, speed.setup) == (1.0, 5 / 50, 0.0)


@pytest.mark.parametrize("seconds", [9.0, 9.4, 30.0])
def test_the_parts_add_up_to_what_it_took(bench: Bench, seconds: float) -> None:
    node = bench.trial()
    finish(bench, node, seconds, ((10.0, 105.0), (8.0, 112.0)))
    speed = one(bench, node)
    assert seconds_of(node, speed) == pytest.approx(seconds)
    assert min(speed.step, speed.image, speed.setup) >= -1e-9


@pytest.mark.parametrize(
    ("epochs", "more"),
    [(((10.0, 1.0),), {}), ((), {}), (((10.0, 1.0), (10.0, 2.0)), {"micro_batch": 5}), (((0.0, 1.0), (10.0, 2.0)), {})],
)
def test_what_was_cut_short_or_halved_tells_nothing(
    bench: Bench, epochs: tuple[tuple[float, float], ...], more: dict[str, int]
) -> None:
    node = bench.trial()
    finish(bench, node, 20.0, epochs, **more)
    assert learn([(node, bench.states[node.fingerprint])], HERE, LOAD) == {}


def test_an_evaluation_tells_its_time_per_image(bench: Bench) -> None:
    trial = bench.trial()
    node = bench.evaluation(trial, Intervention(aggregation="average"))
    finish(bench, node, 6.0, peak_memory=9)
    assert one(bench, node) == Speed(evaluation_image=0.2, memory=9)
    assert speed_key(node) == speed_key(trial)


def test_a_count_tells_all_of_its_time_and_its_parameters(bench: Bench) -> None:
    spec = bench.trial().spec
    node = CostNode(cost_fingerprint(spec), spec)
    state = bench.states[node.fingerprint]
    state.describe(node)
    state.finish({names.COST_PARAMETERS: 1234.0}, 3.0)
    ((found,),) = learn([(node, state)], HERE, Load("an H100", 2, 1)).values()
    assert found.speed.setup == 3.0
    assert (found.parameters, found.network, found.load) == (1234, network_of(node.spec), LOAD)


def test_of_many_alike_three_are_enough(bench: Bench) -> None:
    own = []
    for seed in range(5):
        node = bench.trial(seed)
        own.append((node, finish(bench, node, 20.0, ((10.0, 105.0), (8.0, 112.0)))))
    ((key, found),) = learn(own, HERE, LOAD).items()
    assert key == speed_key(own[0][0])
    assert len(found) == 3


def _plan() -> Plan:
    variants = (Variant(name="a"), Variant(name="b", changes={"train.learning_rate": 0.02}))
    study = Study(name="s", title="S", question="?", reference="a", variants=variants, seeds=2)
    return make_plan([study], Request(get_preset("smoke"), TINY))


@pytest.fixture
def attempts(tmp_path: Path) -> tuple[Plan, StateStore]:
    """Four trainings: done by this launch, by another one, at the second attempt, and not at all."""
    plan, states = _plan(), StateStore(tmp_path)
    first, second, third, fourth = (states[fingerprint] for fingerprint in plan.trials)
    for state, launches in ((first, ["own"]), (second, ["other"]), (third, ["own", "own"]), (fourth, ["own"])):
        for launch in launches:
            lease = Lease.take(state.folder, launch)
            assert lease is not None
    for state in (first, second, third):
        state.finish({"test/top1": 1.0}, 1.0)
    return plan, states


def test_only_what_a_launch_did_itself_and_at_once_counts(attempts: tuple[Plan, StateStore]) -> None:
    plan, states = attempts
    assert [node.fingerprint for node, _ in own_nodes(plan, states, "own")] == [next(iter(plan.trials))]


def test_a_real_training_is_told_in_parts_that_add_up(bench: Bench) -> None:
    node = bench.trial()
    assert run_node(Task(bench.root, node.fingerprint, device="cpu", launch="l")) == "finished"
    state = bench.states[node.fingerprint]
    result = state.result()
    assert result is not None
    assert 50e6 < result["peak_memory"] < hardware.memory_bytes()  # type: ignore[operator]
    speed = one(bench, node)
    took = seconds_of(TrialNode(node.fingerprint, node.spec), speed)
    assert took == pytest.approx(result["seconds"], rel=0.01)
    assert 0 < training_steps(node.spec) * speed.step < result["seconds"]
    assert 0 < measured_images(node.spec) * speed.image < result["seconds"]
    assert speed.weights == state.weights_file.stat().st_size
