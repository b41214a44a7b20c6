"""Warm start: copies of trained kernels with noise, after which a network computes what it did."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyconv import ArgumentError, DynamicConv2d, build_model, dynamic_layers, make_dynamic

KINDS: list[dict[str, Any]] = [
    {},
    {"normalization": "sigmoid"},
    {"normalization": "tempered_sigmoid"},
    {"normalization": "normalized_sigmoid"},
    {"layer": "condconv", "num_kernels": 8},
    {"layer": "odconv"},
    {"layer": "odconv", "num_kernels": 1},
    {"num_kernels": 1},
    {"aggregation": "average"},
]


def trained(name: str = "mobilenet_v2", **options: Any) -> nn.Module:
    """A static network whose batch norms have seen images, with a bias on one convolution."""
    model = build_model(name, 10, in_channels=1, seed=0, **options)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(16, 1, 28, 28))
    return model.eval()


def images() -> Tensor:
    return 3 * torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [*KINDS, {"name": "resnet10"}], ids=str)
def test_without_noise_a_network_computes_what_it_did(kind: dict[str, Any]) -> None:
    settings = dict(kind)
    model = trained(settings.pop("name")) if "name" in kind else trained(width=0.35, depth=0.5)
    x = images()
    with torch.no_grad():
        before = model(x)
        after = make_dynamic(model, start="static", noise=0, **settings)(x)
    assert any(True for _ in dynamic_layers(model))
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_from_scratch_it_does_not() -> None:
    model, x = trained("resnet10"), images()
    with torch.no_grad():
        assert not torch.allclose(model(x), make_dynamic(model, seed=0)(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("noise", [None, 0.5])
def test_noise_is_relative_to_the_spread_of_the_kernel(noise: float | None) -> None:
    static = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3))
    static[1].weight.data = 5 + 0.3 * torch.randn(64, 64, 3, 3)
    kernel, bias = copy.deepcopy(static[1].weight), copy.deepcopy(static[1].bias)
    layer = make_dynamic(static, start="static", noise=noise, seed=0)[1]  # type: ignore[index]
    assert isinstance(layer, DynamicConv2d)
    assert layer.bias is not None
    assert torch.equal(layer.bias, torch.stack([bias] * 4))
    for k in range(4):
        difference = layer.weight[k] - kernel
        assert difference.std().item() == pytest.approx(0.3 * (0.01 if noise is None else noise), rel=0.05)
        assert abs(difference.mean().item()) < 0.01
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_kernels_part_when_trained() -> None:
    model = make_dynamic(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)), start="static", temperature=1.0, seed=0)
    model(torch.randn(8, 3, 9, 9)).square().sum().backward()
    gradient = model.get_parameter("1.attention_branch.excite.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("kind", [{"normalization": "sigmoid"}, {"layer": "condconv"}], ids=str)
def test_gates_that_begin_half_open_learn(kind: dict[str, Any]) -> None:
    model = make_dynamic(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)), start="static", seed=0, **kind)
    x = torch.randn(8, 3, 9, 9)
    layer = model.get_submodule("1")
    assert torch.equal(layer.attention(model[0](x)), torch.full((8, 4), 0.5))  # type: ignore[operator, index]
    model(x).square().sum().backward()
    last = layer.routing if "layer" in kind else layer.attention_branch.excite
    assert last.weight.grad.abs().max() > 0  # type: ignore[union-attr, operator, call-overload]


def test_a_seed_makes_the_noise_and_leaves_the_global_generator() -> None:
    base = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    state = torch.random.get_rng_state()
    first, second, other = (make_dynamic(copy.deepcopy(base), start="static", seed=s)[1] for s in (3, 3, 4))  # type: ignore[index]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, other.weight)


def test_copies_keep_the_precision_of_the_static_weights() -> None:
    static = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)).double()
    static[1].weight.data += 1e-12 * torch.randn(8, 8, 3, 3, dtype=torch.float64)
    kernel = static[1].weight.detach().clone()
    layer = make_dynamic(static, start="static", noise=0).get_submodule("1")
    assert torch.equal(layer.weight[2], kernel)  # type: ignore[index]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "warm"}, "unknown start 'warm'"),
        ({"start": "static", "noise": -1}, "noise must be"),
        ({"start": "static", "noise": float("nan")}, "noise must be"),
        ({"start": "static", "noise": True}, "noise must be"),
        ({"noise": 0.1}, "noise is for start='static'"),
        ({"start": "static", "init": "default"}, "init is for start='scratch'"),
    ],
    ids=str,
)
def test_bad_settings_are_errors_and_change_nothing(settings: dict[str, Any], message: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    with pytest.raises(ArgumentError, match=message):
        make_dynamic(model, **settings)
    assert type(model[1]) is nn.Conv2d


def test_kernels_are_drawn_as_wide_as_timm_drew_the_static_one() -> None:
    static, dynamic = (build_model("timm/mobilenetv2_050", 5, seed=0, num_kernels=k) for k in (None, 4))
    assert len(list(dynamic_layers(dynamic))) == 51
    for name, layer in dynamic_layers(dynamic):
        expected = static.get_parameter(f"{name}.weight").std().item()
        for kernel in layer.get_parameter("weight"):
            assert kernel.std().item() == pytest.approx(expected, rel=0.25)
    assert abs(nn.Conv2d(96, 576, 1).weight.std().item() - expected) > 0.3 * expected, "not nn.Conv2d's own"
