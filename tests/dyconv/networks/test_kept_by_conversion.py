"""What `make_dynamic` keeps of a layer, what it leaves static, and which networks it refuses."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.ops import SqueezeExcitation

from dyconv import (
    ConversionError,
    DynamicConv2d,
    ModelError,
    Name,
    build_model,
    conversion_report,
    cost,
    dynamic_layers,
    make_dynamic,
)


def three() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))


@pytest.mark.parametrize("layer", ["dynamic", "condconv", "odconv"])
@pytest.mark.parametrize("start", ["scratch", "static"])
@pytest.mark.parametrize("frozen", [(), ("1",), ("1.weight",), ("2.bias",), ("0", "1", "2")])
def test_what_was_frozen_stays_frozen(layer: str, start: str, frozen: tuple[str, ...]) -> None:
    model = three()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen) if frozen else True)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    make_dynamic(model, layer=layer, start=start)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        owner, _, rest = name.partition(".")
        expected = before[name] if name in before else before[f"{owner}.weight"]
        assert parameter.requires_grad is expected, f"{name} {rest}"


def test_a_frozen_network_has_nothing_to_train() -> None:
    model = mobilenet_v2(width_mult=0.35).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in make_dynamic(model, num_kernels=2).parameters())


def backward_hook(conv: nn.Conv2d) -> None:
    conv.register_full_backward_hook(lambda *_: None)


def weight_hook(conv: nn.Conv2d) -> None:
    conv.weight.register_hook(lambda grad: grad)


def own_forward(conv: nn.Conv2d) -> None:
    conv.forward = lambda x: x  # type: ignore[method-assign]


def own_state(conv: nn.Conv2d) -> None:
    conv.register_buffer("mask", torch.ones(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (backward_hook, "'1' is a Conv2d with a parametrisation or hooks"),
        (weight_hook, "'1' is a Conv2d with a parametrisation or hooks"),
        (own_forward, "'1' is a Conv2d, whose own forward"),
        (own_state, "'1' is a Conv2d with state of its own .mask"),
    ],
)
def test_what_would_be_lost_is_left_static_and_named(change: Any, message: str) -> None:
    model = three()
    change(model[1])
    with pytest.raises(ConversionError, match=message):
        make_dynamic(copy.deepcopy(model) if change is not weight_hook else model, where=Name("1"))
    make_dynamic(model)
    assert [name for name, _ in dynamic_layers(model)] == ["2"]


def test_two_layers_of_one_weight_are_not_torn_apart() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[3].weight = model[1].weight  # type: ignore[assignment]
    with pytest.raises(ConversionError, match="'1' shares its weight with '3'"):
        make_dynamic(model, where=Name("1"))
    make_dynamic(model)
    assert [name for name, _ in dynamic_layers(model)] == ["2"]
    assert model[3].weight is model[1].weight


class Mixed(nn.Module):
    """A dynamic convolution as public repositories have it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel_size = 3
        self.weight = nn.Parameter(torch.randn(4, 8, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, self.weight.mean(0))


@pytest.mark.parametrize(
    ("foreign", "name"),
    [(Mixed, "Mixed"), (lambda: timm.layers.CondConv2d(3, 8, 3, num_experts=4), "CondConv2d")],
)
def test_dynamic_layers_of_others_are_refused_by_name(foreign: Any, name: str) -> None:
    model = nn.Sequential(foreign(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    with pytest.raises(ConversionError, match=rf"1 dynamic layers of its own, '0' \({name}\)"):
        make_dynamic(model)
    assert not any(isinstance(module, DynamicConv2d) for module in model.modules())


@pytest.mark.parametrize("num_kernels", [None, 4])
def test_a_network_of_such_layers_is_refused_static_too(num_kernels: int | None) -> None:
    with pytest.raises(ModelError, match=r"tf_efficientnet_cc_b0_4e.*dynamic layers of its own, 'blocks.*CondConv2d"):
        build_model("timm/tf_efficientnet_cc_b0_4e", 10, num_kernels=num_kernels)


@pytest.mark.parametrize(
    "ordinary",
    [
        lambda: nn.Conv3d(3, 8, 3),
        lambda: nn.ConvTranspose2d(3, 8, 3),
        lambda: nn.Linear(27, 8),
        lambda: nn.Unfold(3),
        lambda: nn.MaxPool2d(3),
    ],
)
def test_ordinary_layers_are_not_taken_for_such(ordinary: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), ordinary())
    assert isinstance(make_dynamic(model)[1], DynamicConv2d)  # type: ignore[index]


class Own(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_what_was_left_static_is_said_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    gate = SqueezeExcitation(8, 2)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), Own(8, 8, 1), gate, nn.Conv2d(8, 4, 1))
    assert conversion_report(model) is None
    with caplog.at_level("INFO", "dyconv"):
        make_dynamic(model)
    report = conversion_report(copy.deepcopy(model))
    assert report is not None
    assert report.dynamic == ("1", "4")
    assert report.left_static == {
        "0": "is the stem",
        "2": "is a Own, whose own forward would be lost",
        "3.fc1": "is part of a squeeze-and-excitation gate",
        "3.fc2": "is part of a squeeze-and-excitation gate",
    }
    assert str(report) in caplog.text
    assert "2 of 6 convolutions are dynamic." in str(report)
    assert "Left static (2): 3.fc1, 3.fc2: is part of a squeeze-and-excitation gate." in str(report)
    assert str(report) in str(cost(model, (3, 9, 9)))
    assert "conversion_report" not in model.state_dict()
    chosen = make_dynamic(three(), where=Name("1"))
    assert conversion_report(chosen).left_static == {  # type: ignore[union-attr]
        "0": "is not meant by `where` (role stem)",
        "2": "is not meant by `where` (role head)",
    }
