"""CondConv layers that share the routing of their block: formula, state, copies, recomputation, interventions, cost."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from dyconv import (
    ArgumentError,
    CondConv2d,
    build_model,
    conversion_report,
    cost,
    describe_layers,
    intervene,
    make_dynamic,
    record_attention,
)
from dyconv.networks.roles import RoleName, find_roles, residual_blocks

SHARED: dict[str, Any] = {"layer": "condconv", "num_kernels": 3, "options": {"share_routing": True}, "seed": 0}


class Network(nn.Module):
    """A stem, an inverted residual block with and one without expansion, a ResNet's block, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.first = InvertedResidual(8, 8, 1, 1)
        self.second = InvertedResidual(8, 8, 1, 6)
        self.third = BasicBlock(8, 16, 2, nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16)))
        self.head = nn.Conv2d(16, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.third(self.second(self.first(self.stem(x))))).mean((2, 3))  # type: ignore[no-any-return]


def network(where: Mapping[str, Any] | None = None, **settings: Any) -> Network:
    model = make_dynamic(Network(), where=where, **(SHARED | settings))
    assert isinstance(model, Network)
    for module in model.modules():
        if isinstance(module, CondConv2d) and module.routing is not None:
            nn.init.normal_(module.routing.weight, std=2)
    for batch in (images(8), images(8)):
        model(batch)
    return model.eval()


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 16, 16) + torch.randn(batch, 3, 1, 1)


def by_hand(image: Tensor, routing: nn.Linear, layer: nn.Module, *inputs: Tensor) -> Tensor:
    """A layer's output for one image, with the weights that the routing gives the block's input."""
    assert isinstance(layer, CondConv2d)
    weights = torch.sigmoid(routing.weight @ image.mean((1, 2)) + routing.bias)
    kernel = sum(weights[k] * layer.weight[k] for k in range(layer.num_kernels))
    bias = None
    if layer.bias is not None:
        bias = sum(weights[k] * layer.bias[k] for k in range(layer.num_kernels))
    return F.conv2d(inputs[0][None], kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def test_the_layers_of_a_block_take_the_routing_of_its_input() -> None:
    model, x = network(), images()
    outputs = []
    for image in x:
        current = model.stem(image[None])
        for block in (model.first, model.second):
            start = current
            convolutions = [module for module in block.modules() if isinstance(module, CondConv2d)]
            routing = convolutions[0].routing
            assert routing is not None
            for module in block.conv.modules():
                if isinstance(module, CondConv2d):
                    current = by_hand(start[0], routing, module, current[0])
                elif isinstance(module, (nn.BatchNorm2d, nn.ReLU6)):
                    current = module(current)
            current = current + start
        start, block = current, model.third
        routing = block.conv1.routing
        current = F.relu(block.bn1(by_hand(start[0], routing, block.conv1, start[0])))
        current = block.bn2(by_hand(start[0], routing, block.conv2, current[0]))
        assert block.downsample is not None
        short = block.downsample[1](by_hand(start[0], routing, block.downsample[0], start[0]))
        current = F.relu(current + short)
        outputs.append(by_hand(current[0], model.head.routing, model.head, current[0]).mean((2, 3)))
    torch.testing.assert_close(model(x), torch.cat(outputs))


def test_a_block_takes_a_single_image() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4)))
    make_dynamic(block, **SHARED)
    layer = block.get_submodule("1.1")
    assert isinstance(layer, CondConv2d)
    assert layer.routing is None
    x = images()
    torch.testing.assert_close(block(x[1]), block(x)[1])


@pytest.mark.parametrize(
    ("name", "routings"),
    [("mobilenet_v2", 17), ("mobilenet_v3_small", 11), ("resnet10", 4), ("resnet50", 16), ("timm/efficientnet_b0", 16)],
)
def test_a_state_has_one_routing_for_each_block(name: str, routings: int) -> None:
    where = {"not": {"role": ["stem", "head", "squeeze_excitation"]}}
    with torch.device("meta"):
        model = build_model(name, 10, where=where, **SHARED)
    state = model.state_dict()
    names = [key.removesuffix(".routing.weight") for key in state if key.endswith("routing.weight")]
    assert len(names) == routings
    blocks = residual_blocks(find_roles(model))
    assert names == [members[0] for members in blocks.values()]
    report = conversion_report(model)
    assert report is not None
    assert sorted(report.dynamic) == sorted(member for members in blocks.values() for member in members)


def test_stacks_of_convolutions_are_no_blocks() -> None:
    features = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)))
    model = nn.Sequential(features, nn.Conv2d(4, 4, 1))
    make_dynamic(model, **SHARED)
    assert sum(isinstance(module, CondConv2d) and module.routing is not None for module in model.modules()) == 4
    model(torch.randn(2, 4, 8, 8))


@pytest.mark.parametrize("start", ["scratch", "static"])
def test_a_block_is_routed_by_its_input_whatever_its_first_dynamic_layer(start: str) -> None:
    static = Network().eval()
    x = images()
    expected = static(x)
    settings: dict[str, Any] = {"start": start, "noise": 0.0} if start == "static" else {}
    model = make_dynamic(static, where={"role": ["projection", "conv2"]}, **(SHARED | settings))
    layers = {name: module for name, module in model.named_modules() if isinstance(module, CondConv2d)}
    # The inputs of these layers have 8, 48 and 16 channels, and those of their blocks 8.
    assert [layer.in_channels for layer in layers.values()] == [8, 48, 16]
    assert [layer.routing.in_features for layer in layers.values() if layer.routing is not None] == [8, 8, 8]
    assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-5) == (start == "static")


def test_draws_are_those_of_layers_with_their_own_routing() -> None:
    shared = build_model("resnet10", 10, **SHARED).state_dict()
    own = build_model("resnet10", 10, **(SHARED | {"options": {}})).state_dict()
    assert shared.keys() < own.keys()
    assert all(torch.equal(value, own[name]) for name, value in shared.items())
    state = torch.random.get_rng_state()
    where = {"role": ["conv2"]}
    once, again = (build_model("resnet18", 10, where=where, **SHARED).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_states_and_copies_compute_the_same() -> None:
    model, fresh, x = network(), network(), images()
    assert not torch.equal(fresh(x), model(x))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, CondConv2d) and module.routing is not None:
                module.routing.weight.zero_()
                module.routing.bias.zero_()
    assert torch.equal(copied(x), fresh(x))
    assert not torch.equal(model(x), fresh(x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recomputed_block_has_the_same_gradients(reentrant: bool) -> None:
    model, x = network(), images()
    model(x).square().sum().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    current = model.stem(x)
    for block in (model.first, model.second, model.third):
        current = checkpoint(block, current, use_reentrant=reentrant)
    # Another pass in between: nothing of it may be read when the blocks run again.
    model(images(5))
    model.head(current).mean((2, 3)).square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_layer_without_its_block_is_an_error() -> None:
    model, x = network(), images()
    projection = model.get_submodule("second.conv.2")
    assert isinstance(projection, CondConv2d)
    model(x)
    with pytest.raises(ArgumentError, match="whole block"):
        projection(torch.randn(2, 48, 4, 4))
    model.second.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(x)
    # A pass that was broken off left nothing behind.
    with pytest.raises(ArgumentError, match="whole block"):
        projection.attention(torch.randn(2, 48, 4, 4))


def test_an_error_inside_a_block_leaves_nothing_behind() -> None:
    model = network()
    expansion, projection = model.get_submodule("second.conv.0.0"), model.get_submodule("second.conv.2")
    handle = projection.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images())
    handle.remove()
    assert isinstance(expansion, CondConv2d)
    with pytest.raises(ArgumentError, match="whole block"):
        expansion.attention(images())


def test_interventions_change_one_layer_alone() -> None:
    model, x = network(), images()
    with record_attention(model) as before:
        expected = model(x)
    with intervene(model, "average", {"name": "second.conv.1.0"}), record_attention(model) as recorder:
        assert not torch.equal(model(x), expected)
    changed = [name for name in recorder.used if not torch.equal(recorder.used[name], recorder.branch[name])]
    assert changed == ["second.conv.1.0"]
    assert torch.equal(recorder.branch["second.conv.1.0"], before.branch["second.conv.0.0"])
    assert torch.equal(recorder.branch["second.conv.2"], recorder.branch["second.conv.0.0"])
    assert torch.equal(model(x), expected)


def test_cost_counts_a_routing_once() -> None:
    block = {"role": ["expansion", "depthwise", "projection"]}
    shared = {layer.name: layer for layer in cost(network(block), (3, 16, 16)).layers}
    own = {layer.name: layer for layer in cost(network(block, options={}), (3, 16, 16)).layers}
    first, *others = ("second.conv.0.0", "second.conv.1.0", "second.conv.2")
    assert shared[first] == own[first]
    assert (shared[first].pooling, shared[first].attention) == (8 * 64, 8 * 3)
    for name in others:
        assert (shared[name].pooling, shared[name].attention) == (0, 0)
        assert shared[name].aggregation == own[name].aggregation
        assert shared[name].parameters == own[name].parameters - (48 + 1) * 3
    assert shared[""] == own[""]
    # Where the first convolution is static, the map of the block's input is what is averaged.
    projections = {layer.name: layer for layer in cost(network({"role": ["projection"]}), (3, 16, 16)).layers}
    assert projections["second.conv.2"].pooling == 8 * 64


def test_gates_are_seen_in_a_converted_network() -> None:
    settings: dict[str, Any] = {"width": 0.5, "squeeze_excitation": True}
    static = build_model("mobilenet_v2", 10, **settings)
    for name in ("mobilenet_v2", "mobilenet_v3_small"):
        options = settings if name == "mobilenet_v2" else {}
        static, shared = build_model(name, 10, **options), build_model(name, 10, **options, **SHARED)
        roles = [(info.name, info.role) for info in describe_layers(shared)]
        assert roles == [(info.name, info.role) for info in describe_layers(static)]
        assert sum(role == "squeeze_excitation" for _, role in roles) > 10


class InlineGate(nn.Module):
    """A block that scales its own channels: the gate is seen only if the block runs."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depth = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.down, self.up, self.project = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        scale = torch.sigmoid(self.up(self.down(y.mean((2, 3), keepdim=True))))
        return x + self.project(y * scale)  # type: ignore[no-any-return]


def test_a_gate_inside_a_converted_block_is_seen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), InlineGate(), nn.Conv2d(8, 8, 3))
    before = find_roles(model)
    assert before["1.up"] == "squeeze_excitation"
    make_dynamic(model, **SHARED)
    assert isinstance(model.get_submodule("1.project"), CondConv2d)
    assert find_roles(model) == before


def test_a_stage_is_no_block() -> None:
    roles: dict[str, RoleName] = {
        "stem": "stem",
        "stage.downsample": "downsample",
        "stage.0.conv1": "conv1",
        "stage.0.conv2": "conv2",
        "stage.0.gate.fc": "squeeze_excitation",
    }
    assert residual_blocks(roles) == {"stage.0": ("stage.0.conv1", "stage.0.conv2")}


def test_a_pass_computes_the_routing_of_a_block_once() -> None:
    model, calls = network(), []
    routing = model.get_submodule("second.conv.0.0.routing")
    routing.register_forward_hook(lambda *_: calls.append(1))
    model(images())
    assert len(calls) == 1


def test_frozen_kernels_have_a_frozen_routing_unless_one_of_the_block_is_trained() -> None:
    model = Network()
    model.first.requires_grad_(False)
    model.second.conv[0][0].requires_grad_(False)
    make_dynamic(model, **SHARED)
    trained = {name: p.requires_grad for name, p in model.named_parameters() if name.endswith("routing.weight")}
    assert list(trained.values()) == [False, True, True, True]
    assert not model.get_parameter("second.conv.0.0.weight").requires_grad


def test_a_layer_that_is_used_twice_has_its_own_routing() -> None:
    block = Bottleneck(16, 4)
    both = nn.Sequential(nn.Conv2d(3, 16, 1), block, Bottleneck(16, 4))
    both[2].conv2 = block.conv2
    make_dynamic(both, **SHARED)
    layer = block.conv2
    assert isinstance(layer, CondConv2d)
    assert layer.block_routing is None
    assert layer.routing is not None
    both(torch.randn(2, 3, 8, 8))


def test_channels_last_and_autocast() -> None:
    model, x = network(), images()
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16), record_attention(model) as recorder:
        y = model(x)
    assert (y.float() - expected).norm() < 0.1 * expected.norm()
    assert all(weights.dtype == torch.float32 for weights in recorder.branch.values())
