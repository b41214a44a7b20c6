"""Describing a network measures it and leaves no trace in it."""

import copy

import pytest
import torch
from torch import nn

from dyconv import ConvolutionLayer, ShapeError, average_pool, build_model, describe_layers, intervene
from dyconv.base import dynamic_layers
from dyconv.networks.roles import find_roles


@pytest.mark.parametrize("num_kernels", [None, 4])
def test_resolutions_of_mobilenet_v2_at_224(num_kernels: int | None) -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, num_kernels=num_kernels)
    layers = {layer.name: layer for layer in describe_layers(model, (3, 224, 224))}
    assert len(layers) == 52
    assert layers["features.0.0"].resolution == 224
    assert layers["features.2.conv.1.0"].resolution == 112, "the input of the strided convolution"
    assert layers["features.2.conv.2"].input_size == (56, 56)
    assert layers["features.18.0"].resolution == 7
    assert sorted({layer.resolution for layer in layers.values()}) == [7, 14, 28, 56, 112, 224]
    assert [layer.dynamic for layer in layers.values()].count(True) == (0 if num_kernels is None else 51)


def test_depth_and_order() -> None:
    layers = describe_layers(nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(5))))
    assert [layer.depth for layer in layers] == [0, 0.25, 0.5, 0.75, 1]
    assert [layer.name for layer in layers] == list("01234")
    assert all(layer.resolution is None for layer in layers)
    assert describe_layers(nn.Conv2d(2, 2, 1))[0].depth == 0


def test_a_network_is_as_before() -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.5, num_kernels=2).train()
    model.get_submodule("features.3").eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    describe_layers(model, (3, 64, 48))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(not m._forward_pre_hooks for m in model.modules() if isinstance(m, nn.Conv2d))
    assert torch.equal(torch.random.get_rng_state(), state)
    passes = {layer.aggregator.context.forward_pass for _, layer in dynamic_layers(model)}
    assert [p.next_step for p in passes] == [0]


def test_height_counts_where_images_are_not_square() -> None:
    (layer,) = describe_layers(nn.Conv2d(3, 4, 3), (3, 20, 30))
    assert (layer.resolution, layer.input_size) == (20, (20, 30))
    assert str(layer) == ": stem, 3->4 3x3, input 20x30, depth 0.00"


def test_layers_that_are_not_reached_have_no_resolution() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    assert [layer.resolution for layer in describe_layers(Half(), (3, 8, 8))] == [8, None]


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 0, 28), (3, 28)])
def test_an_input_that_does_not_fit_is_an_error(size: tuple[int, int, int]) -> None:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.5).train()
    with pytest.raises(ShapeError, match="input_size"):
        describe_layers(model, size)
    assert model.training


class BranchOfConvolutions(ConvolutionLayer):
    """A kind whose attention branch is made of 1 x 1 convolutions, as those of ODConv and DCD are."""

    def __init__(self, channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups)
        self.branch = nn.Sequential(nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, self.num_kernels, 1))
        self.reset_parameters()

    def attention(self, input: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.branch(average_pool(input)[:, :, None, None]).flatten(1)
        return weights


def test_convolutions_inside_a_dynamic_layer_are_parts_of_that() -> None:
    block = nn.Sequential(
        BranchOfConvolutions(8, 1), nn.ReLU(), BranchOfConvolutions(8, 3, 8), nn.ReLU(), BranchOfConvolutions(8, 1)
    )
    model = nn.Sequential(nn.Conv2d(3, 8, 3), block)
    layers = describe_layers(model, (3, 12, 12))
    assert [(layer.name, layer.role, layer.resolution) for layer in layers] == [
        ("0", "stem", 12),
        ("1.0", "expansion", 10),
        ("1.2", "depthwise", 10),
        ("1.4", "projection", 10),
    ]
    assert [layer.depth for layer in layers] == [0, 1 / 3, 2 / 3, 1]
    assert list(find_roles(model)) == [layer.name for layer in layers]
    with intervene(model, "average", {"role": "projection"}) as selected:
        assert [layer.name for layer in selected] == ["1.4"]
