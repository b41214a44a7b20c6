"""Learning rates and parameter groups against hand-computed answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import dyconv
from ablations.spec.parts import TrainSpec
from runners.training.optimizer import learning_rate, make_optimizer, parameter_groups


def test_warm_up_then_cosine() -> None:
    spec = TrainSpec(epochs=10, learning_rate=0.4, warmup_epochs=2.0, schedule="cosine")
    assert learning_rate(spec, 0.0) == 0.0
    assert learning_rate(spec, 1.0) == pytest.approx(0.2)
    assert learning_rate(spec, 2.0) == pytest.approx(0.4)
    assert learning_rate(spec, 6.0) == pytest.approx(0.2)
    assert learning_rate(spec, 4.0) == pytest.approx(0.2 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(spec, 10.0) == pytest.approx(0.0)


def test_steps_divide_by_ten_every_thirty_epochs() -> None:
    spec = TrainSpec(epochs=100, learning_rate=0.1, schedule="step", step_epochs=30, step_factor=0.1)
    assert [learning_rate(spec, epoch) for epoch in (0.0, 29.99, 30.0, 60.0, 90.0)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.001, 0.0001]
    )


def test_a_constant_rate_stays() -> None:
    assert learning_rate(TrainSpec(schedule="constant", learning_rate=0.3), 9.9) == 0.3


def test_decay_spares_norms_and_every_bias() -> None:
    model = nn.Sequential(dyconv.DynamicConv2d(8, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, spared = parameter_groups(model, 0.01)
    dynamic = model[0]
    branch = dynamic.attention_branch
    expected = [dynamic.weight, branch.squeeze.weight, branch.excite.weight, model[3].weight]
    assert {id(p) for p in decayed["params"]} == {id(p) for p in expected}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert {id(p) for p in spared["params"]} == {id(p) for p in model.parameters()} - {id(p) for p in expected}


def test_decay_spares_every_norm_with_running_statistics_that_torch_has() -> None:
    base = nn.modules.batchnorm._NormBase
    kinds = [kind for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, base)]
    kinds = [kind for kind in kinds if not issubclass(kind, nn.modules.lazy.LazyModuleMixin)]
    assert {nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm1d} <= set(kinds)
    for kind in kinds:
        decayed, spared = parameter_groups(kind(4, affine=True), 0.01)
        assert (len(decayed["params"]), len(spared["params"])) == (0, 2), kind  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_the_one_asked_for(name: str, kind: type) -> None:
    spec = TrainSpec(optimizer="adamw") if name == "adamw" else TrainSpec(momentum=0.8, nesterov=True)
    optimizer = make_optimizer(nn.Linear(2, 2), spec)
    assert isinstance(optimizer, kind)
    if name == "sgd":
        assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.8, True)
