"""Roles in torchvision's networks and in networks nobody has seen before."""

from collections import Counter

from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18, resnet50

from dyconv.networks.roles import find_roles


def conv_bn(c: int, o: int, k: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, o, k, groups=groups), nn.BatchNorm2d(o))


def test_mobilenet_v2() -> None:
    roles = find_roles(mobilenet_v2())
    assert Counter(roles.values()) == {"stem": 1, "head": 1, "expansion": 16, "depthwise": 17, "projection": 17}
    assert roles["features.0.0"] == "stem"
    assert roles["features.18.0"] == "head"
    assert [roles[f"features.2.conv.{i}"] for i in ("0.0", "1.0", "2")] == ["expansion", "depthwise", "projection"]
    assert [roles[f"features.1.conv.{i}"] for i in ("0.0", "1")] == ["depthwise", "projection"]


def test_mobilenet_v3() -> None:
    counts = Counter(find_roles(mobilenet_v3_small()).values())
    assert counts == {
        "stem": 1,
        "head": 1,
        "expansion": 10,
        "depthwise": 11,
        "projection": 11,
        "squeeze_excitation": 18,
    }


def test_residual_networks() -> None:
    assert Counter(find_roles(resnet18()).values()) == {"stem": 1, "conv1": 8, "conv2": 8, "downsample": 3}
    counts = Counter(find_roles(resnet50()).values())
    assert counts == {"stem": 1, "conv1": 16, "conv2": 16, "conv3": 16, "downsample": 4}


def test_an_unknown_network_is_read_by_its_shapes() -> None:
    block = nn.Sequential(conv_bn(8, 32, 1), conv_bn(32, 32, 3, groups=32), conv_bn(32, 8, 1))
    model = nn.Sequential(conv_bn(3, 8, 3), block, conv_bn(8, 8, 3), conv_bn(8, 64, 1))
    expected = ["stem", "expansion", "depthwise", "projection", "other", "head"]
    assert list(find_roles(model).values()) == expected


def test_pointwise_layers_between_two_depthwise_ones_are_not_guessed() -> None:
    model = nn.Sequential(*(nn.Conv2d(8, 8, k, groups=g) for k, g in ((3, 1), (3, 8), (1, 1), (3, 8), (3, 1))))
    assert list(find_roles(model).values()) == ["stem", "depthwise", "other", "depthwise", "other"]


def test_no_convolution_and_one() -> None:
    assert find_roles(nn.Linear(2, 2)) == {}
    assert find_roles(nn.Conv2d(3, 3, 1)) == {"": "stem"}
