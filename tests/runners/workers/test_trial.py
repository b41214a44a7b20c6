"""One node of the plan, from its description to its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import runners.workers.measure
from ablations import vocabulary as names
from ablations.spec.parts import Intervention, Placement
from runners.state.nodes import NodeState
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench


def _run(bench: Bench, fingerprint: str, **more: Any) -> NodeState:
    run_node(Task(bench.root, fingerprint, device="cpu", **more))
    return bench.states[fingerprint]


def _metrics(state: NodeState) -> dict[str, float]:
    result = state.result()
    assert result is not None, state.failure()
    found: dict[str, float] = result["metrics"]
    return found


def _without_times(events: list[dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    def is_of_machine(metric: str) -> bool:
        return "per_second" in metric or metric.startswith(names.SYSTEM_PREFIX)

    return [(e["step"], {k: v for k, v in e["metrics"].items() if not is_of_machine(k)}) for e in events]


def test_a_trial_leaves_weights_metrics_and_a_result(bench: Bench) -> None:
    state = _run(bench, bench.trial().fingerprint)
    events = state.events()
    assert [event["step"] for event in events] == [1, 2]
    assert {"train/loss", "train/gradient_norm", "val/top1", "val/top5", "val/loss", "temperature"} <= events[0][
        "metrics"
    ].keys()
    entropies = [value for key, value in events[0]["metrics"].items() if key.startswith("attention/entropy.")]
    assert entropies
    for event in events:
        assert 0 < event["metrics"]["system/cores"] < 100
        assert event["metrics"]["system/memory_mb"] > 50
    assert all(0 <= value <= 1 + 1e-6 for value in entropies)
    assert {"test/top1", "test/top5", "test/loss", "test/top1.class.9"} <= _metrics(state).keys()
    assert state.weights_file.exists()
    assert not list(state.folder.glob("checkpoint*"))


def test_two_runs_of_one_trial_give_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    first, second = (_run(b, b.trial(data__mixup=0.2, model__dropout=0.1).fingerprint) for b in (bench, other))
    one, two = load_file(first.weights_file), load_file(second.weights_file)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert _metrics(first) == _metrics(second)
    assert _without_times(first.events()) == _without_times(second.events())


def test_another_seed_gives_other_weights(bench: Bench) -> None:
    one, two = (load_file(_run(bench, bench.trial(seed=s).fingerprint).weights_file) for s in (0, 1))
    assert not torch.equal(one["features.1.conv.0.0.weight"], two["features.1.conv.0.0.weight"])


DRAWS = {"model__dropout": 0.1, "data__mixup": 0.2, "data__cutmix": 0.2, "data__rand_augment": 1}
"""Settings under which every step draws at random."""


@pytest.mark.parametrize("stop_at", [1, 4, 5, 7])
def test_a_resumed_trial_ends_bit_for_bit_as_if_never_stopped(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    from runners.training.trainer import Trainer

    whole = _run(bench, bench.trial(**DRAWS).fingerprint)
    other = Bench(tmp_path / "other")
    node = other.trial(**DRAWS)
    honest, steps = Trainer._step, iter(range(100))

    def dies(self: Trainer, *args: Any) -> torch.Tensor:
        if next(steps) == stop_at:
            raise KeyboardInterrupt
        return honest(self, *args)

    monkeypatch.setattr(Trainer, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        run_node(Task(other.root, node.fingerprint, device="cpu", checkpoint_seconds=0.0))
    monkeypatch.setattr(Trainer, "_step", honest)
    resumed = _run(other, node.fingerprint)
    one, two = load_file(whole.weights_file), load_file(resumed.weights_file)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert _metrics(whole) == _metrics(resumed)
    assert _without_times(whole.events()) == _without_times(resumed.events())


@pytest.mark.parametrize(("seconds", "expected"), [(60.0, []), (0.0, [1, 2, 3, 4, 4, 5, 6, 7, 8])])
def test_a_short_training_is_not_held_up_by_checkpoints(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: list[int]
) -> None:
    from runners.training.checkpoint import CheckpointStore

    saved = []
    monkeypatch.setattr(CheckpointStore, "save", lambda self, training, position: saved.append(position.step))
    _run(bench, bench.trial().fingerprint, checkpoint_seconds=seconds)
    assert saved == expected, "after each step and each epoch but the last one"


def test_a_data_set_is_read_once_for_all_nodes_of_a_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from runners.data import registry

    honest, read = registry.load_dataset, []

    def load(name: str, **more: Any) -> Any:
        read.append(name)
        return honest(name, **more)

    monkeypatch.setattr(registry, "load_dataset", load)
    registry._load_once.cache_clear()
    trials = [bench.trial(seed=seed) for seed in (0, 1)]
    evaluation = bench.evaluation(trials[0], Intervention(aggregation="average"))
    for node in (*trials, evaluation):
        _metrics(_run(bench, node.fingerprint))
    assert read == ["fashion_mnist_mini"]


def test_a_loss_that_is_not_a_number_ends_the_trial_with_advice(bench: Bench) -> None:
    state = _run(bench, bench.trial(train__learning_rate=1e30).fingerprint)
    failure = state.failure()
    assert failure is not None
    assert failure["kind"] == "TrainingError"
    assert "Lower train.learning_rate" in failure["message"]
    assert not state.is_done


def test_an_error_is_written_down_and_not_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(runners.workers.measure, "run_trial", broken)
    node = bench.trial()
    assert run_node(Task(bench.root, node.fingerprint)) == "failed"
    assert "out of luck" in bench.states[node.fingerprint].log_file.read_text()


def test_a_finished_node_is_not_run_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench.trial()
    bench.states[node.fingerprint].finish({"test/top1": 1.0}, seconds=0.0)
    monkeypatch.setattr(runners.workers.measure, "run_trial", lambda *args: pytest.fail("it ran"))
    assert run_node(Task(bench.root, node.fingerprint)) == "finished"


def test_interventions_measure_the_same_checkpoint_differently(bench: Bench) -> None:
    trial = bench.trial(train__temperature__start=1.0, train__batch_size=4, train__epochs=4)
    plain = _metrics(_run(bench, trial.fingerprint))
    same = _metrics(_run(bench, bench.evaluation(trial, Intervention(aggregation="attention")).fingerprint))
    assert same == {key: value for key, value in plain.items() if key != names.ATTENTION_GAP}
    changed = {
        name: _metrics(_run(bench, bench.evaluation(trial, Intervention(aggregation=name)).fingerprint))["test/loss"]
        for name in ("average", "max", "shuffle_per_image", "shuffle_across_images")
    }
    assert len({plain["test/loss"], *changed.values()}) == 5
    deep = Intervention(aggregation="average", where=Placement(resolution=(1, 2)))
    part = _metrics(_run(bench, bench.evaluation(trial, deep).fingerprint))["test/loss"]
    assert part not in (plain["test/loss"], changed["average"])


def test_an_evaluation_without_its_training_says_so(bench: Bench) -> None:
    state = _run(bench, bench.evaluation(bench.trial(), Intervention(aggregation="max")).fingerprint)
    failure = state.failure()
    assert failure is not None
    assert failure["kind"] == "CheckpointError"


def test_adamw_and_amp_train(bench: Bench) -> None:
    state = _run(bench, bench.trial(train__optimizer="adamw", train__precision="amp").fingerprint)
    assert _metrics(state)["test/loss"] > 0


def test_a_static_network_has_neither_temperature_nor_entropy(bench: Bench) -> None:
    state = _run(bench, bench.trial(model__layer="static").fingerprint)
    assert "temperature" not in state.events()[0]["metrics"]
    assert not any(key.startswith("attention/") for key in state.events()[0]["metrics"])


def test_annealing_shows_in_the_metrics(bench: Bench) -> None:
    node = bench.trial(train__temperature__schedule="linear", train__temperature__epochs=1.0)
    state = _run(bench, node.fingerprint)
    assert [event["metrics"]["temperature"] for event in state.events()] == pytest.approx([30 - 29 * 0.75, 1.0])


def test_a_plugin_that_cannot_be_imported_is_named(bench: Bench) -> None:
    state = _run(bench, bench.trial().fingerprint, plugins=("no_such_module_anywhere",))
    failure = state.failure()
    assert failure is not None
    assert "no_such_module_anywhere" in failure["message"]
