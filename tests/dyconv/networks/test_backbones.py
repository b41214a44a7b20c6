"""The backbones against torchvision's networks: parameters, names, stems, roles, gates."""

from collections import Counter
from typing import Any

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torchvision.ops import SqueezeExcitation

from dyconv import ModelError, Role, available_models, build_model, describe_layers, dynamic_layers, model_options
from dyconv.networks.roles import find_roles

SHAPES = {
    "mobilenet_v3_small": tv.mobilenet_v3_small,
    "mobilenet_v3_large": tv.mobilenet_v3_large,
    "resnet18": tv.resnet18,
    "resnet50": tv.resnet50,
}
RESNETS = ["resnet10", "resnet18", "resnet50"]


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def distinct_sizes(model: nn.Module, pixels: int, channels: int = 3) -> list[int]:
    infos = describe_layers(model, (channels, pixels, pixels))
    return sorted({info.resolution or 0 for info in infos if info.role != "squeeze_excitation"}, reverse=True)


@pytest.mark.parametrize("name", SHAPES)
def test_the_default_is_torchvisions_network(name: str) -> None:
    assert shapes(build_model(name, 1000)) == shapes(SHAPES[name]())


def test_resnet10_has_one_block_per_stage() -> None:
    model = build_model("resnet10", 1000)
    assert [len(model.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [1, 1, 1, 1]  # type: ignore[arg-type]
    roles = Counter(find_roles(model).values())
    assert roles == {"stem": 1, "conv1": 4, "conv2": 4, "downsample": 3}
    assert parameters(model) == 5_418_792


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_width_is_torchvisions_own(name: str) -> None:
    assert shapes(build_model(name, 7, width=0.5)) == shapes(SHAPES[name](num_classes=7, width_mult=0.5))
    dropout = build_model(name, 7, dropout=0.4).get_submodule("classifier.2")
    assert (type(dropout), dropout.p) == (nn.Dropout, 0.4)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mobilenet_v3_small", [224, 112, 56, 28, 14, 7]),
        ("mobilenet_v3_large", [224, 112, 56, 28, 14, 7]),
        ("resnet10", [224, 56, 28, 14, 7]),
    ],
)
def test_resolutions_at_224(name: str, sizes: list[int]) -> None:
    assert distinct_sizes(build_model(name, 10), 224) == sizes


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet10"])
def test_small_images(name: str) -> None:
    model = build_model(name, 10, in_channels=1, stem_stride=1, num_kernels=2).eval()
    stem = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert stem(torch.randn(1, 1, 28, 28)).shape[2:] == (28, 28)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert stem.weight.std().item() == pytest.approx((2 / stem.weight[:, 0].numel()) ** 0.5, rel=0.2)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [32, 8, 4, 2, 1]),
        ({"stem_pool": False}, [32, 16, 8, 4, 2]),
        ({"stem_stride": 1}, [32, 16, 8, 4, 2]),
        ({"stem_stride": 1, "stem_pool": False}, [32, 16, 8, 4]),
        ({"stem_stride": 1, "stem_pool": True, "stem_kernel": 3}, [32, 16, 8, 4, 2]),
    ],
    ids=str,
)
def test_the_stem_of_a_resnet(options: dict[str, Any], sizes: list[int]) -> None:
    model = build_model("resnet10", 10, **options)
    assert model.get_submodule("conv1").kernel_size == (options.get("stem_kernel", 7),) * 2
    assert distinct_sizes(model, 32) == sizes


def test_gates_of_a_mobilenet_follow_the_depthwise_layer_and_change_no_name() -> None:
    plain, gated = (build_model("mobilenet_v2", 10, width=0.35, squeeze_excitation=se, seed=0) for se in (False, True))
    kept = set(shapes(plain))
    assert kept < set(shapes(gated))
    assert all(torch.equal(gated.state_dict()[name], plain.state_dict()[name]) for name in kept)
    block = gated.get_submodule("features.2.conv")
    assert [type(m).__name__ for m in block[1]] == ["Conv2d", "BatchNorm2d", "ReLU6", "SqueezeExcitation"]  # type: ignore[index, union-attr]
    assert block[1][3].fc1.out_channels == 48 // 4  # type: ignore[index, union-attr]
    counts = Counter(find_roles(gated).values())
    expected = {"stem": 1, "head": 1, "expansion": 16, "depthwise": 17, "projection": 17, "squeeze_excitation": 34}
    assert counts == expected
    assert gated.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(("name", "last", "count"), [("resnet10", "bn2", 4), ("resnet50", "bn3", 16)])
def test_gates_of_a_resnet_stand_before_the_sum(name: str, last: str, count: int) -> None:
    model = build_model(name, 10, squeeze_excitation=True).eval()
    assert sum(isinstance(m, SqueezeExcitation) for m in model.modules()) == count
    block = model.get_submodule("layer1.0")
    norm = block.get_submodule(last)
    assert [type(m).__name__ for m in norm.children()] == ["BatchNorm2d", "SqueezeExcitation"]
    gate = norm.get_submodule("1")
    for name_ in ("fc1", "fc2"):
        nn.init.zeros_(gate.get_submodule(name_).weight)
        nn.init.constant_(gate.get_submodule(name_).bias, -1000.0 if name_ == "fc2" else 0.0)  # a closed gate
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    shortcut = block.downsample(x) if block.downsample is not None else x  # type: ignore[operator]
    torch.testing.assert_close(block(x), torch.relu(shortcut))


def test_se_resnet18_has_the_known_parameter_count() -> None:
    assert parameters(build_model("resnet18", 1000, squeeze_excitation=True)) / 1e6 == pytest.approx(11.78, abs=0.005)


def test_gates_stay_static_in_a_dynamic_network() -> None:
    for name in ("mobilenet_v2", "resnet10"):
        gated = build_model(name, 10, squeeze_excitation=True, num_kernels=2)
        plain = build_model(name, 10, num_kernels=2)
        assert [n for n, _ in dynamic_layers(gated)] == [n for n, _ in dynamic_layers(plain)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v2", {"width", "depth", "dropout", "squeeze_excitation"}),
        ("mobilenet_v3_small", {"width", "dropout"}),
        ("mobilenet_v3_large", {"width", "dropout"}),
        *((name, {"squeeze_excitation", "stem_kernel", "stem_pool"}) for name in RESNETS),
        ("timm/resnet18", set()),
    ],
)
def test_every_option_is_heeded_or_refused(name: str, options: set[str]) -> None:
    assert model_options(name) == options
    values = {"width": 0.5, "depth": 0.5, "dropout": 0.1, "squeeze_excitation": True}
    values |= {"stem_kernel": 3, "stem_pool": False}
    for option, value in values.items():
        if option not in options:
            with pytest.raises(ModelError, match=f"'{name}' has no {option}"):
                build_model(name, 10, **{option: value})


def test_a_network_with_gates_of_its_own_says_so() -> None:
    with pytest.raises(ModelError, match="squeeze-and-excitation of their own"):
        build_model("mobilenet_v3_small", 10, squeeze_excitation=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("layer", "condconv"),
        ("normalization", "sigmoid"),
        ("where", {"role": ["conv1"]}),
        ("where", Role("conv1")),
        ("aggregation", "average"),
        ("reduction", 8),
        ("temperature", 1.0),
    ],
)
def test_a_static_network_has_no_setting_of_dynamic_layers(option: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"a static network has no {option}, got .*: give num_kernels"):
        build_model("resnet10", 10, **{option: value})


def test_bad_stems_are_errors() -> None:
    with pytest.raises(ModelError, match="stem_kernel must be 3 or 7, got 5"):
        build_model("resnet10", 10, stem_kernel=5)
    with pytest.raises(ModelError, match="'resnet18'"):
        build_model("resnet81", 10)
    assert set(RESNETS) < set(available_models())
