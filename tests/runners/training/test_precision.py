"""Deployed networks are measured in bfloat16 and int8, with ranges of training images, and stay as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import dyconv
from ablations import vocabulary as names
from ablations.errors import DatasetError
from ablations.spec.parts import Intervention
from ablations.spec.trial import resolve
from runners.data import BatchSource
from runners.training.network import build_network, calibration_images, in_precision, intervened, open_source
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import TINY, Bench

PRECISIONS = (None, "bfloat16", "int8")


def loss(bench: Bench, fingerprint: str) -> float:
    run_node(Task(bench.root, fingerprint, device="cpu"))
    result = bench.states[fingerprint].result()
    assert result is not None, bench.states[fingerprint].failure()
    assert (bench.states[fingerprint].folder / names.CORRECTNESS_FILE).exists()
    metrics: dict[str, float] = result["metrics"]
    return metrics["test/loss"]


@pytest.mark.parametrize("layer", ["static", "dynamic"])
def test_each_precision_measures_the_same_checkpoint_a_little_differently(bench: Bench, layer: str) -> None:
    changes: dict[str, Any] = {"model.layer": layer}
    if layer == "static":
        changes["model.num_kernels"] = None
    trial = bench.trial(**changes)
    losses = [loss(bench, trial.fingerprint)]
    for precision in ("bfloat16", "int8"):
        losses.append(loss(bench, bench.evaluation(trial, Intervention(precision=precision)).fingerprint))
    assert len(set(losses)) == 3
    assert max(losses) - min(losses) < 0.1


def opened() -> tuple[BatchSource, torch.nn.Module]:
    spec = resolve([TINY], {}, 0)
    source = open_source(spec, torch.device("cpu"), torch.contiguous_format)
    return source, build_network(spec.model, source.facts, 0).eval()


def test_bfloat16_is_a_network_that_is_bfloat16_throughout() -> None:
    source, model = opened()
    lowered = in_precision(model, "bfloat16", ())
    dtypes = set()
    for module in lowered.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, args, output: dtypes.add((args[0].dtype, output.dtype)))
    images, _ = next(iter(source.evaluation("test")))
    with torch.no_grad():
        output = lowered(images)
    assert output.dtype == torch.bfloat16
    assert dtypes == {(torch.bfloat16, torch.bfloat16)}
    assert {parameter.dtype for parameter in lowered.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_int8_is_calibrated_on_training_images_that_are_not_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    source, model = opened()
    asked: list[str] = []
    evaluation = source.evaluation

    def record(split: Any) -> Any:
        asked.append(split)
        return evaluation(split)

    monkeypatch.setattr(source, "evaluation", record)
    seen: list[Tensor] = []
    monkeypatch.setattr("runners.training.network.simulated_int8", lambda model, batches: seen.extend(batches))
    in_precision(model, "int8", calibration_images(source))
    assert asked == ["train"]
    assert torch.equal(torch.cat(seen), torch.cat([images for images, _ in evaluation("train")])), "40 are one batch"


def test_two_batches_calibrate() -> None:
    batch = torch.zeros(1, 1, 2, 2), torch.zeros(1)

    class Endless:
        def num_images(self, split: str) -> int:
            return 1

        def evaluation(self, split: str) -> Any:
            while True:
                yield batch

    assert len(list(calibration_images(Endless()))) == 2  # type: ignore[arg-type]


def test_a_data_set_of_test_images_alone_is_an_error() -> None:
    class TestOnly:
        def num_images(self, split: str) -> int:
            return int(split == "test")

    with pytest.raises(DatasetError, match="test images alone: add the training images, or leave the rows in int8 out"):
        list(calibration_images(TestOnly()))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_network_is_as_it_was_afterwards(precision: Any) -> None:
    source, model = opened()
    change = Intervention(precision=precision, aggregation=None if precision else "average")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with intervened(model, change, source.facts, 0, calibration_images(source)) as network:
        assert (network is model) == (precision is None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(layer.aggregation == "attention" for _, layer in dyconv.dynamic_layers(model))
