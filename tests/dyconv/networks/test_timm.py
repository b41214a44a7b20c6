"""Networks of timm's and convolutions with a forward of their own: what is converted, and what is left or refused."""

from collections import Counter
from typing import Any

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from timm.layers.std_conv import StdConv2d
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dyconv import (
    ConversionError,
    DyconvError,
    DynamicConv2d,
    ModelError,
    Name,
    PlacementError,
    Resolution,
    build_model,
    cost,
    dynamic_layers,
    make_dynamic,
)
from dyconv.networks.roles import find_roles


@pytest.mark.parametrize("size", [(9, 9), (8, 11), (5, 6)])
@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (2, 1), (3, 2), ((4, 3), 1)])
def test_tensorflows_padding_is_timms(size: tuple[int, int], stride: Any, kernel: Any, dilation: int) -> None:
    static = Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2).double()
    layer = DynamicConv2d(4, 6, kernel, stride, "tf_same", dilation, 2, num_kernels=1).double()
    static.weight.data = layer.weight[0].detach()
    static.bias.data = layer.bias[0].detach()  # type: ignore[index, union-attr]
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), static(x))


def test_a_network_with_that_padding_computes_what_it_did() -> None:
    model = timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=5).eval()
    x = torch.randn(2, 3, 61, 64)
    with torch.no_grad():
        before = model(x)
        make_dynamic(model, start="static", noise=0)
        torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-4)
    assert sum(layer.padding == "tf_same" for _, layer in dynamic_layers(model)) == 4
    roles = Counter(find_roles(model).values())
    assert (roles["stem"], roles["depthwise"], roles["expansion"], roles["projection"]) == (1, 11, 10, 11)


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class OwnSums(nn.Conv2d):
    def _conv_forward(self, *args: Any) -> Tensor:
        return 3 * super()._conv_forward(*args)


class Renamed(nn.Conv2d):
    """Computes what its parent does."""


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        Renamed(4, 4, 1),
        Doubled(4, 4, 1),
        OwnSums(4, 4, 1),
        StdConv2d(4, 4, 1),
        parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        nn.Conv2d(4, 4, 1),
    )


def test_what_has_a_forward_of_its_own_is_left_static_by_default() -> None:
    model = make_dynamic(mixed(), start="static", noise=0)
    assert [name for name, _ in dynamic_layers(model)] == ["1", "6"]
    torch.manual_seed(0)
    static, x = mixed(), torch.randn(2, 3, 6, 6)
    before = static(x)
    torch.testing.assert_close(make_dynamic(static, start="static", noise=0)(x), before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2", "Doubled, whose own forward"),
        ("3", "OwnSums, whose own forward"),
        ("4", "StdConv2d, whose own forward"),
        ("5", "with a parametrisation or hooks"),
    ],
)
def test_asking_for_it_is_an_error_and_changes_nothing(name: str, message: str) -> None:
    model = mixed()
    with pytest.raises(ConversionError, match=message):
        make_dynamic(model, where=Name(name, "6"))
    assert not any(True for _ in dynamic_layers(model))


def test_hooks_and_lazy_layers_are_not_lost() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.LazyConv2d(3, 1))
    model[1].register_forward_hook(lambda m, args, y: 2 * y)
    with pytest.raises(ConversionError, match="'1' is a Conv2d with a parametrisation or hooks"):
        make_dynamic(model, where=Name("1"))
    with pytest.raises(ConversionError, match="'2' is a LazyConv2d that has seen no input"):
        make_dynamic(model, where=Name("2"))


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(ConversionError, match="'1' is a Doubled"):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), Doubled(3, 3, 1), StdConv2d(3, 3, 1)))


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet10t", "convnext_atto", "regnetx_002"])
def test_any_network_of_timms(name: str) -> None:
    model = build_model(f"timm/{name}", 7, in_channels=1, num_kernels=2, seed=0).eval()
    static = build_model(f"timm/{name}", 7, in_channels=1, seed=0)
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 7)
    assert cost(model, (1, 64, 64)).parameters > 1.5 * cost(static, (1, 64, 64)).parameters
    stem = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    assert torch.equal(model.get_parameter(f"{stem}.weight"), static.get_parameter(f"{stem}.weight"))


def test_the_stem_of_a_timm_network() -> None:
    settings: dict[str, Any] = {"in_channels": 1, "num_kernels": 2, "input_size": (1, 28, 28)}
    where = Resolution(28) & ~Name("conv_stem")
    assert build_model("timm/mobilenetv2_050", 5, stem_stride=1, where=where, **settings)
    with pytest.raises(PlacementError):
        build_model("timm/mobilenetv2_050", 5, where=where, **settings)
    with pytest.raises(ModelError, match=r"'timm/convnext_atto' has a first convolution of stride \(4, 4\)"):
        build_model("timm/convnext_atto", 5, stem_stride=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm/resnet19", {}, "'resnet18'.*list_models"),
        ("timm/", {}, "list_models"),
        ("timm/resnet18", {"width": 0.5}, "has no width"),
        ("timm/resnet18", {"depth": 0.5}, "has no depth"),
        ("timm/resnet18", {"dropout": 0.5}, "has no dropout"),
        ("timm/resnet18", {"stem_kernel": 3}, "has no stem_kernel"),
        ("timm/resnet18", {"stem_pool": False}, "has no stem_pool"),
        ("timm/resnet18", {"squeeze_excitation": True}, "has no squeeze_excitation"),
        ("timm/vit_tiny_patch16_224", {"num_kernels": 4}, "(?s)selects none.*patch_embed"),
    ],
    ids=str,
)
def test_what_a_timm_network_cannot_do_is_an_error(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DyconvError, match=message):
        build_model(name, 10, **options)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match=r"dyconv-ablations\[timm\]"):
        build_model("timm/resnet18", 10)
