"""A batch in parts: its gradients are those of the whole, it resumes to the same bits, lack of memory makes it so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ablations.datasets.facts import DatasetFacts
from ablations.errors import SpecError
from ablations.spec.parts import TrainSpec
from ablations.spec.trial import resolve
from dyconv import DynamicConv2d
from runners.data import BatchSource
from runners.state.attempts import Attempt
from runners.state.nodes import NodeState
from runners.training.checkpoint import CheckpointStore, Position
from runners.training.trainer import Hooks, Trainer
from runners.workers.memory import choose_micro_batch
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench

CLASSES, BATCH = 10, 12


class Batches:
    """Two fixed batches in double precision."""

    steps_per_epoch = 2

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(3)
        self.facts = cast(DatasetFacts, type("Facts", (), {"num_classes": CLASSES}))
        self.batches = [
            (
                torch.randn(BATCH, 1, 8, 8, generator=draw, dtype=torch.float64),
                torch.randint(CLASSES, (BATCH,), generator=draw),
            )
            for _ in range(self.steps_per_epoch)
        ]

    def training(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches[first:])

    def evaluation(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def _network() -> nn.Module:
    """Dynamic, and without batch normalisation."""
    torch.manual_seed(1)
    layers = (DynamicConv2d(1, 6, 3, num_kernels=3, temperature=1.0), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(24, CLASSES)).double()


def _train(folder: Path, micro_batch: int | None, *, given: bool = False, **changes: Any) -> tuple[nn.Module, Any]:
    """Trains for an epoch with the micro-batch in the spec, or given to the trainer as after lack of memory."""
    settings = {
        "train.epochs": 1,
        "train.batch_size": BATCH,
        "train.temperature.start": 1.0,
        "train.label_smoothing": 0.1,
        **changes,
    }
    spec = resolve([], {**settings, **({} if given else {"train.micro_batch": micro_batch})}, seed=0)
    model, told = _network(), []
    trainer = Trainer(
        spec,
        model,
        cast(BatchSource, Batches()),
        CheckpointStore(folder),
        micro_batch=micro_batch if given else None,
    )
    trainer.run(Hooks(lambda epoch, metrics: told.append(metrics)))
    return model, told[0]


@pytest.mark.parametrize("micro_batch", [6, 4, 2])
@pytest.mark.parametrize("given", [False, True])
def test_without_batch_norm_the_parts_of_a_batch_train_like_the_whole(
    tmp_path: Path, micro_batch: int, given: bool
) -> None:
    whole, expected = _train(tmp_path, None)
    parts, found = _train(tmp_path, micro_batch, given=given)
    for (name, one), (_, two) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-12, msg=name)
    for name in ("train/loss", "train/gradient_norm", "val/loss"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_the_accuracy_of_a_training_is_that_of_its_images(tmp_path: Path, micro_batch: int | None) -> None:
    # So small a rate that the network stays what it was.
    trained, found = _train(tmp_path, micro_batch, **{"train.learning_rate": 1e-12})
    right = sum(int((trained(images).argmax(1) == labels).sum()) for images, labels in Batches().batches)
    assert 0 < right < 2 * BATCH
    assert found["train/top1"] == pytest.approx(100 * right / (2 * BATCH), rel=1e-6)


def test_mixed_images_have_no_accuracy(tmp_path: Path) -> None:
    assert "train/top1" not in _train(tmp_path, None, **{"data.mixup": 0.2})[1]


def test_an_epoch_that_an_earlier_version_began_has_no_accuracy(tmp_path: Path) -> None:
    spec = resolve([], {"train.epochs": 2, "train.batch_size": BATCH, "train.temperature.start": 1.0}, seed=0)
    told: list[dict[str, float]] = []
    trainer = Trainer(spec, _network(), cast(BatchSource, Batches()), CheckpointStore(tmp_path))
    trainer.position = Position(1, {"loss": 2.3, "gradient_norm": 1.0})
    trainer.run(Hooks(lambda epoch, metrics: told.append(metrics)))
    assert ["train/top1" in metrics for metrics in told] == [False, True]


def test_the_gradient_of_a_batch_in_parts_is_that_of_its_mean_loss(tmp_path: Path) -> None:
    learning_rate = 0.1
    changes = {
        "train.momentum": 0.0,
        "train.nesterov": False,
        "train.weight_decay": 0.0,
        "train.schedule": "constant",
        "train.learning_rate": learning_rate,
    }
    trained, _ = _train(tmp_path, 4, **changes)
    by_hand = _network()
    for images, labels in Batches().batches:
        by_hand.zero_grad()
        # One image at a time: the oracle knows no batches.
        for image, label in zip(images, labels, strict=True):
            loss = F.cross_entropy(by_hand(image[None]), label[None], label_smoothing=0.1) / BATCH
            loss.backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                assert parameter.grad is not None
                parameter -= learning_rate * parameter.grad
    for (name, one), (_, two) in zip(by_hand.named_parameters(), trained.named_parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-10, atol=1e-12, msg=name)


def test_each_part_has_a_pass_of_its_own_to_draw_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, numbers = DynamicConv2d.forward, []

    def noted(self: DynamicConv2d, input: Tensor) -> Tensor:
        if self.training:
            numbers.append(self.aggregator.context.forward_pass.next_step)
        return honest(self, input)

    monkeypatch.setattr(DynamicConv2d, "forward", noted)
    _train(tmp_path, 4)
    assert numbers == [0, 1, 2, 3, 4, 5]


def _metrics(state: NodeState) -> dict[str, float]:
    result = state.result()
    assert result is not None, state.failure()
    found: dict[str, float] = result["metrics"]
    return found


PARTS = {
    "train__micro_batch": 5,
    "model__dropout": 0.1,
    "model__aggregation": "shuffle_across_images",
    "data__mixup": 0.2,
}
"""Batches of ten in two parts, with draws in each."""


@pytest.mark.torture
@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_training_in_parts_that_was_stopped_ends_bit_for_bit_the_same(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole = bench.states[bench.trial(**PARTS).fingerprint]
    run_node(Task(bench.root, whole.fingerprint, device="cpu"))
    other = Bench(tmp_path / "other")
    node = other.trial(**PARTS)
    honest, parts = F.cross_entropy, iter(range(1000))

    def dies(*args: Any, **more: Any) -> Tensor:
        # In the middle of a step, when the gradient of its first part is there.
        if "label_smoothing" in more and next(parts) == 2 * stop_at + 1:
            raise KeyboardInterrupt
        return honest(*args, **more)

    monkeypatch.setattr(F, "cross_entropy", dies)
    with pytest.raises(KeyboardInterrupt):
        run_node(Task(other.root, node.fingerprint, device="cpu", checkpoint_seconds=0.0))
    monkeypatch.setattr(F, "cross_entropy", honest)
    assert run_node(Task(other.root, node.fingerprint, device="cpu")) == "finished"
    state = other.states[node.fingerprint]
    one, two = load_file(whole.weights_file), load_file(state.weights_file)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert _metrics(whole) == _metrics(state)


@pytest.mark.parametrize("allowed", [False, True])
def test_lack_of_memory_leads_to_fewer_images_at_once_where_the_spec_allows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    node = bench.trial(train__on_out_of_memory="halve_micro_batch" if allowed else "fail", train__batch_size=40)
    state, task = bench.states[node.fingerprint], Task(bench.root, node.fingerprint, device="cpu")
    honest = F.cross_entropy

    def greedy(logits: Tensor, *args: Any, **more: Any) -> Tensor:
        if "label_smoothing" in more and len(logits) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return honest(logits, *args, **more)

    monkeypatch.setattr(F, "cross_entropy", greedy)
    assert [run_node(task) for _ in range(2)] == ["failed", "failed"]
    assert (state.failure() or {})["cause"] == "memory"
    assert run_node(task) == ("finished" if allowed else "failed"), state.failure()
    assert [attempt.micro_batch for attempt in state.attempts()] == ([40, 20, 10] if allowed else [40, 40, 40])
    assert (state.result() or {}).get("micro_batch") == (10 if allowed else None)


@pytest.mark.parametrize(
    ("settings", "failures", "expected"),
    [
        ({}, 0, 64),
        ({"micro_batch": 16}, 0, 16),
        ({"on_out_of_memory": "fail"}, 1, 64),
        ({"on_out_of_memory": "halve_micro_batch"}, 0, 64),
        ({"on_out_of_memory": "halve_micro_batch"}, 1, 32),
        ({"on_out_of_memory": "halve_micro_batch"}, 9, 8),
        ({"on_out_of_memory": "halve_micro_batch", "micro_batch": 16}, 1, 8),
        ({"on_out_of_memory": "halve_micro_batch", "batch_size": 60}, 2, 15),
        ({"on_out_of_memory": "halve_micro_batch", "batch_size": 23}, 2, 23),
        ({"on_out_of_memory": "halve_micro_batch", "devices": 4}, 9, 32),
    ],
)
def test_the_next_size_is_about_half_and_divides_the_batch(
    settings: dict[str, Any], failures: int, expected: int
) -> None:
    train = TrainSpec(**settings)
    attempts: list[Attempt] = []
    for number in range(1, failures + 1):
        size = choose_micro_batch(train, attempts)
        attempts.append(Attempt(number, micro_batch=size, outcome="failed", failure={"cause": "memory"}))
    assert choose_micro_batch(train, attempts) == expected
    assert train.batch_size % expected == 0
    attempts.append(Attempt(failures + 1, micro_batch=expected, outcome="killed", failure={"cause": "killed"}))
    assert choose_micro_batch(train, attempts) == expected, "it stays, and nothing else lowers it"


def test_weights_that_are_there_already_were_trained_as_the_attempt_before_says() -> None:
    train = TrainSpec(on_out_of_memory="halve_micro_batch")
    attempt = Attempt(1, micro_batch=64, outcome="failed", failure={"cause": "memory"})
    assert choose_micro_batch(train, [attempt], is_trained=True) == 64


@pytest.mark.parametrize("changes", [{"micro_batch": 7}, {"micro_batch": 20}, {"micro_batch": 1}])
def test_a_part_that_does_not_fit_is_refused(bench: Bench, changes: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"train\.micro_batch"):
        bench.trial(**{f"train__{key}": value for key, value in changes.items()})


def test_every_process_gets_its_share_of_a_part(bench: Bench) -> None:
    with pytest.raises(SpecError, match=r"multiple of train\.devices"):
        bench.trial(train__micro_batch=5, train__devices=2)
