"""Costs by hand, against torch's FLOP counter, and against the published numbers."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dyconv import (
    CondConv2d,
    DynamicConv2d,
    DynamicLinear,
    LayerCost,
    Role,
    ShapeError,
    build_model,
    cost,
    dynamic_layers,
)

BLOCKS = ~Role("stem", "head", "squeeze_excitation")
SIZE = (3, 224, 224)


def torchs_count(model: nn.Module, size: tuple[int, int, int]) -> int:
    """Multiply-adds of one image as torch counts them, of all operations."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.eval()(torch.zeros(1, *size))
    return counter.get_total_flops() // 2


def only(layer: nn.Module, size: tuple[int, int, int]) -> LayerCost:
    return cost(nn.Sequential(layer), size).layers[0]


def test_a_convolution_by_hand() -> None:
    assert only(nn.Conv2d(6, 9, (3, 1), stride=2, padding=(1, 0), groups=3), (6, 8, 10)) == LayerCost(
        "0", "Conv2d", parameters=9 * 2 * 3 + 9, convolution=4 * 5 * 9 * 2 * 3
    )


def test_a_dynamic_convolution_by_hand() -> None:
    layer = DynamicConv2d(8, 6, 3, padding=1, stride=2, groups=2, num_kernels=5, reduction=4)
    kernel = 6 * 4 * 9
    assert only(layer, (8, 10, 12)) == LayerCost(
        "0",
        "DynamicConv2d",
        parameters=5 * (kernel + 6) + (8 * 2 + 2) + (2 * 5 + 5),
        convolution=5 * 6 * kernel,
        pooling=8 * 10 * 12,
        attention=8 * 2 + 2 * 5,
        aggregation=5 * (kernel + 6),
    )
    assert only(DynamicConv2d(8, 6, 3, bias=False), (8, 10, 12)).aggregation == 4 * 6 * 8 * 9
    assert only(DynamicConv2d(3, 6, 3, num_kernels=7), (3, 9, 9)).attention == 3 * 1 + 1 * 7


def test_a_condconv_by_hand() -> None:
    assert only(CondConv2d(8, 6, 1, bias=False, num_kernels=5), (8, 3, 2)) == LayerCost(
        "0",
        "CondConv2d",
        parameters=5 * 48 + 8 * 5 + 5,
        convolution=6 * 48,
        pooling=8 * 6,
        attention=8 * 5,
        aggregation=5 * 48,
    )


def test_linear_layers_by_hand() -> None:
    positions = nn.Sequential(nn.Flatten(2), DynamicLinear(12, 5, reduction=3, num_kernels=2))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(84, 5), DynamicLinear(5, 3, bias=False))
    assert cost(positions, (7, 3, 4)).layers[0] == LayerCost(
        "1",
        "DynamicLinear",
        parameters=2 * 65 + 12 * 4 + 4 + 4 * 2 + 2,
        linear=7 * 12 * 5,
        pooling=7 * 12,
        attention=12 * 4 + 4 * 2,
        aggregation=2 * 65,
    )
    static, dynamic, _ = cost(flat, (7, 3, 4)).layers
    assert static == LayerCost("1", "Linear", parameters=425, linear=420)
    assert (dynamic.linear, dynamic.pooling, dynamic.aggregation) == (15, 0, 60), "one position needs no pooling"


def test_the_rest_and_the_total() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    counted = cost(model, (3, 2, 2))
    assert [layer.name for layer in counted.layers] == ["0", "3", ""]
    assert counted.layers[-1].parameters == 8
    assert counted.parameters == sum(p.numel() for p in model.parameters()) == 54
    assert counted.multiply_adds == 3 * 4 * 4 + 32
    assert counted.total == LayerCost("total", "", 54, convolution=48, linear=32)


def test_a_layer_costs_what_its_purposes_cost() -> None:
    convolution, remainder = cost(nn.Sequential(nn.Conv2d(3, 4, 1)), (3, 2, 2)).layers
    assert convolution == LayerCost("0", "Conv2d", 16, convolution=48)
    assert convolution.multiply_adds == 48
    assert remainder == LayerCost("", "other", 0)
    assert LayerCost("a", "", 0, 1, 2, 4, 8, 16, 32).multiply_adds == 63


@pytest.mark.parametrize(
    ("name", "options", "pixels"),
    [
        ("mobilenet_v2", {"squeeze_excitation": True}, 224),
        ("mobilenet_v3_small", {"width": 0.5}, 64),
        ("resnet10", {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False}, 28),
        ("timm/tf_mobilenetv3_small_minimal_100", {}, 65),
        ("timm/nf_regnet_b0", {}, 64),
    ],
)
def test_a_static_network_is_what_torch_counts(name: str, options: dict[str, Any], pixels: int) -> None:
    model = build_model(name, 10, **options)
    counted = cost(model, (3, pixels, pixels))
    assert counted.multiply_adds == torchs_count(model, (3, pixels, pixels))
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    assert counted.total.other == 0


def test_products_outside_of_layers_are_counted_too() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=1)
    counted = cost(model, SIZE)
    assert counted.total.other == 2 * 197 * 197 * 192, "queries times keys, and weights times values"
    assert counted.multiply_adds == torchs_count(model, SIZE)


def test_the_convolutions_of_a_dynamic_network_are_those_of_the_static_one() -> None:
    static, dynamic, cond = (
        cost(build_model("mobilenet_v3_small", 10, **kind), SIZE).total
        for kind in ({}, {"num_kernels": 4}, {"num_kernels": 4, "layer": "condconv"})
    )
    assert (dynamic.convolution, dynamic.linear) == (static.convolution, static.linear)
    assert (cond.convolution, cond.pooling, cond.aggregation) == (
        dynamic.convolution,
        dynamic.pooling,
        dynamic.aggregation,
    )
    assert cond.attention < dynamic.attention
    assert dynamic.other == 0, "how a layer is computed does not leak into its cost"


def test_layers_used_twice_and_layers_never_used() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.never = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)
            self.alias = self.twice

        def forward(self, x: Tensor) -> Tensor:
            return self.alias(self.twice(x))  # type: ignore[no-any-return]

    twice, never, _ = cost(Odd(), (4, 3, 3)).layers
    assert (twice.parameters, twice.convolution) == (16, 2 * 16 * 9)
    assert (never.parameters, never.convolution) == (16, 0)


def test_strategies_that_need_two_images_do_not_mind() -> None:
    model = build_model("resnet10", 10, num_kernels=2, aggregation="shuffle_across_images")
    assert cost(model, (3, 32, 32)).total == cost(build_model("resnet10", 10, num_kernels=2), (3, 32, 32)).total


def test_a_network_is_as_before() -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.5, num_kernels=2).train()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    cost(model, (3, 32, 32))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == 1, "the counter of forward passes"
    passes = {layer.aggregator.context.forward_pass for _, layer in dynamic_layers(model)}
    assert [p.next_step for p in passes] == [0]
    with pytest.raises(ShapeError, match="input_size"):
        cost(model, (1, 32, 32))
    assert all(m.training and not m._forward_hooks for m in model.modules())


PUBLISHED: list[tuple[str, dict[str, Any], float, float | None]] = [
    ("mobilenet_v2", {}, 3.50, 300.8),
    ("mobilenet_v2", {"num_kernels": 4, "where": BLOCKS}, 11.15, None),
    ("mobilenet_v2", {"width": 0.5, "num_kernels": 4, "where": BLOCKS}, 3.95, None),
    ("mobilenet_v2", {"num_kernels": 4}, 12.40, None),
    ("mobilenet_v3_small", {}, 2.54, 56.5),
    ("resnet18", {}, 11.69, 1814.1),
    ("resnet18", {"num_kernels": 4}, 45.47, None),
]


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), PUBLISHED, ids=str)
def test_known_totals(name: str, options: dict[str, Any], parameters: float, multiply_adds: float | None) -> None:
    counted = cost(build_model(name, 1000, **options), SIZE)
    assert counted.parameters / 1e6 == pytest.approx(parameters, abs=0.005)
    if multiply_adds is not None:
        assert counted.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=0.05)


def test_what_dynamic_layers_add_to_mobilenet_v2() -> None:
    """The paper has 12.9 M more than 300 M; its formula, for the blocks of our network, gives 16.0 M."""
    static = cost(build_model("mobilenet_v2", 1000), SIZE).total
    dynamic = cost(build_model("mobilenet_v2", 1000, num_kernels=4, where=BLOCKS), SIZE).total
    assert static.multiply_adds / 1e6 == pytest.approx(300.8, abs=0.05)
    parts = [n / 1e6 for n in (dynamic.pooling, dynamic.attention, dynamic.aggregation)]
    assert parts == pytest.approx([6.60, 2.30, 7.12], abs=0.005)
    assert dynamic.multiply_adds - static.multiply_adds == sum(
        (dynamic.pooling, dynamic.attention, dynamic.aggregation)
    )
