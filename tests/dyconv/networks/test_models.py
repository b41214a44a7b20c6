"""Named backbones: torchvision's network, its multipliers, and the static parts of a dynamic one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from dyconv import BackboneSpec, ModelError, available_models, build_model, register_model
from dyconv.networks.backbones import scaled_blocks
from dyconv.networks.models import _BUILDERS


@pytest.fixture
def registry() -> Iterator[None]:
    """Take back what a test registers."""
    before = dict(_BUILDERS)
    yield
    _BUILDERS.clear()
    _BUILDERS.update(before)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_default_is_torchvisions_network() -> None:
    model = build_model("mobilenet_v2", 1000)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in mobilenet_v2().state_dict().items()
    }
    assert parameters(model) == 3_504_872


@pytest.mark.parametrize(("depth", "blocks"), [(1.0, 17), (0.7, 12), (0.5, 11)])
def test_depth_multiplies_the_blocks_per_stage(depth: float, blocks: int) -> None:
    model = build_model("mobilenet_v2", 10, depth=depth, width=0.35)
    assert len(model.get_submodule("features")) - 2 == blocks  # type: ignore[arg-type]


def test_blocks_are_rounded_half_up_and_never_none() -> None:
    assert [scaled_blocks(n, 0.5) for n in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert scaled_blocks(1, 0.1) == 1


@pytest.mark.parametrize(("stride", "pixels"), [(1, 28), (2, 14)])
def test_stem(stride: int, pixels: int) -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, in_channels=1, stem_stride=stride, dropout=0.5)
    stem = model.get_submodule("features.0.0")
    assert stem(torch.randn(2, 1, 28, 28)).shape == (2, 16, pixels, pixels)
    assert stem.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.2)
    assert model.get_submodule("classifier.0").p == 0.5
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_a_seed_makes_the_network_and_leaves_the_global_generator() -> None:
    state = torch.random.get_rng_state()
    settings: dict[str, Any] = {"width": 0.35, "depth": 0.5, "seed": 5}
    static, again = (build_model("mobilenet_v2", 10, **settings) for _ in range(2))
    dynamic = build_model("mobilenet_v2", 10, num_kernels=4, **settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(static.parameters(), again.parameters(), strict=True))
    for name in ("features.0.0.weight", "classifier.1.weight"):
        assert torch.equal(dynamic.get_parameter(name), static.get_parameter(name))
    other = build_model("mobilenet_v2", 10, **(settings | {"seed": 6}))
    assert not torch.equal(other.get_parameter("classifier.1.weight"), static.get_parameter("classifier.1.weight"))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_training_step_of_a_small_network(channels_last: bool) -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.5, in_channels=1, num_kernels=4, seed=0)
    x = torch.randn(8, 1, 28, 28)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    gradients: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, args, y: y.register_hook(gradients.append) and None)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    format_ = torch.channels_last if channels_last else torch.contiguous_format
    assert len(gradients) == 34
    assert all(g.is_contiguous(memory_format=format_) for g in gradients)


def test_a_placement_by_resolution() -> None:
    settings: dict[str, Any] = {"width": 0.35, "in_channels": 1, "num_kernels": 2, "input_size": (1, 28, 28)}
    model = build_model("mobilenet_v2", 10, where={"resolution": [1]}, **settings)
    assert type(model.get_submodule("features.0.0")) is nn.Conv2d
    assert parameters(model) < parameters(build_model("mobilenet_v2", 10, **settings))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"name": "mobilnet_v2"}, "'mobilenet_v2'"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"width": 0}, "width"),
        ({"depth": -1}, "depth"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_bad_settings_are_errors(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(**({"name": "mobilenet_v2", "num_classes": 10} | bad))


def test_a_network_of_ones_own_and_an_option_it_cannot_use(registry: None) -> None:
    @register_model("tiny", options=["dropout"])
    def tiny(spec: BackboneSpec) -> nn.Module:
        return nn.Sequential(nn.Conv2d(spec.in_channels, 8, 3), nn.Conv2d(8, spec.num_classes, 1))

    assert "tiny" in available_models()
    assert build_model("tiny", 3, num_kernels=2, dropout=0.1)(torch.randn(1, 3, 4, 4)).shape == (1, 3, 2, 2)
    with pytest.raises(ModelError, match=r"'tiny' has no width, got width=0.5.*mobilenet_v2"):
        build_model("tiny", 3, width=0.5)
    with pytest.raises(ModelError, match="registered already"):
        register_model("tiny")(tiny)
    with pytest.raises(ModelError, match="'width'"):
        register_model("other", options=["widht"])
