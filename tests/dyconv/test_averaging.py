"""Averages of a network over its training: weights are averaged, a temperature is not."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from dyconv import CondConv2d, DynamicConv2d, DynamicLinear, dynamic_layers, intervene, set_temperature

Averaged = tuple[nn.Module, Callable[[nn.Module], Any]]


def network() -> nn.Module:
    return nn.Sequential(
        DynamicConv2d(3, 4, 3), CondConv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), DynamicLinear(4, 2)
    )


def swa(**how: Any) -> Callable[[nn.Module], Averaged]:
    def make(model: nn.Module) -> Averaged:
        averaged = AveragedModel(model, **how)
        return averaged.module, averaged.update_parameters

    return make


def timm_ema(kind: Any, attribute: str = "module", **how: Any) -> Callable[[nn.Module], Averaged]:
    def make(model: nn.Module) -> Averaged:
        averaged = kind(model, decay=0.9, **how)
        return getattr(averaged, attribute), averaged.update

    return make


AVERAGES = {
    "swa": swa(),
    "swa_buffers": swa(use_buffers=True),
    "ema_buffers": swa(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "ema_one_by_one": swa(use_buffers=True, avg_fn=get_ema_avg_fn(0.9)),
    "timm": timm_ema(ModelEma, "ema"),
    "timm_v2": timm_ema(ModelEmaV2),
    "timm_v3": timm_ema(ModelEmaV3),
    "timm_v3_one_by_one": timm_ema(ModelEmaV3, foreach=False),
}


def temperatures(model: nn.Module) -> list[float]:
    return [float(layer.temperature) for _, layer in dynamic_layers(model) if layer.reads_temperature]


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES.keys())
@pytest.mark.parametrize("schedule", [(30.0, 20.0, 10.0, 1.0), (30.0, 1.0, 30.0, 7.0), (1.0, 1.0, 1.0)], ids=str)
@pytest.mark.parametrize("looked_at", [False, True])
def test_the_temperature_is_that_of_the_current_model(
    average: Callable[[nn.Module], Averaged], schedule: tuple[float, ...], looked_at: bool
) -> None:
    model = network()
    averaged, update = average(model)
    for temperature in schedule:
        set_temperature(model, temperature)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        update(model)
        if looked_at:
            assert temperatures(averaged) == [temperature] * 2
    state = averaged.state_dict()
    assert [float(value) for name, value in state.items() if name.endswith("temperature")] == [schedule[-1]] * 2
    assert temperatures(averaged) == temperatures(model) == [schedule[-1]] * 2
    assert not torch.equal(averaged.get_parameter("0.weight"), model.get_parameter("0.weight"))
    own = {name: value.clone() for name, value in state.items()}
    fresh = network()
    fresh.load_state_dict(own)
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(fresh.eval()(images), averaged.eval()(images))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_a_temperature_of_its_own(clone: Any) -> None:
    model = network()
    set_temperature(model, 20.0)
    other = clone(model)
    set_temperature(model, 1.0)
    assert temperatures(other) == [20.0] * 2
    set_temperature(other, 5.0)
    assert (temperatures(model), temperatures(other)) == ([1.0] * 2, [5.0] * 2)
    other.load_state_dict(dict(network().state_dict()))
    assert temperatures(other) == [30.0] * 2
    with intervene(other, temperature=3.0):
        assert temperatures(other) == [3.0] * 2
    assert temperatures(other.half().float()) == [30.0] * 2
    with torch.no_grad():
        dict(other.named_buffers())["0.temperature"].fill_(99.0)  # no mean of what the original had
    assert temperatures(other)[0] == 99.0
