"""The simulation of int8 computes what integer arithmetic computes, for every part of a dynamic layer."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import ArgumentError, DynamicConv2d, DynamicLayer, deployable
from dyconv.deployment.quantisation import Rounded, rounded_weight, simulated_int8
from tests.dyconv.deployment.deployed_networks import accuracy, batches, stripes, trained_network


def integers(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int8 numbers of a weight by output channel, and its steps (O,), written out one by one."""
    rows, steps = [], []
    for channel in weight.double():
        step = channel.abs().max() / 127
        steps.append(step)
        rows.append(torch.round(channel / step))
    return torch.stack(rows), torch.stack(steps)


def test_a_convolution_is_that_of_integers() -> None:
    torch.manual_seed(0)
    layer, seen = nn.Conv2d(3, 5, 3, padding=1), torch.randn(4, 3, 6, 6)
    quantised = simulated_int8(nn.Sequential(layer), [seen[:2], seen[2:]])
    # The range of both batches in 256 levels; numbers beyond it are clipped.
    low, high = float(seen.min()), float(seen.max())
    step = (high - low) / 255
    zero = round(-low / step)
    images = 3 * torch.randn(2, 3, 6, 6)
    levels = torch.clamp(torch.round(images.double() / step) + zero, 0, 255)
    weights, steps = integers(layer.weight.detach())
    products = F.conv2d(levels - zero, weights, padding=1)
    assert torch.equal(products, products.round()), "integers"
    assert layer.bias is not None
    expected = products * step * steps[:, None, None] + layer.bias.double()[:, None, None]
    assert (levels == 0).any()
    assert (levels == 255).any()
    with torch.no_grad():
        torch.testing.assert_close(quantised(images).double(), expected, rtol=1e-4, atol=1e-5)


def test_weights_have_255_levels_per_output_channel() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3) * torch.logspace(-3, 3, 6)[:, None, None, None]
    weight[2] = 0
    rounded = rounded_weight(weight)
    for before, after in zip(weight, rounded, strict=True):
        step = float(before.abs().max()) / 127
        assert len(after.unique()) <= 255
        assert float((after - before).abs().max()) <= step / 2 * 1.001
    assert torch.equal(rounded[2], weight[2])


def test_every_part_of_a_dynamic_layer_is_rounded() -> None:
    torch.manual_seed(0)
    layer = DynamicConv2d(4, 6, 3, num_kernels=3, reduction=1, temperature=1.0)
    quantised = simulated_int8(layer, [torch.randn(8, 4, 5, 5)])
    parts = {name: module for name, module in quantised.named_modules() if isinstance(module, Rounded)}
    assert set(parts) == {"attention.squeeze", "attention.excite", "kernels.branches", "kernels.mixing"}
    images = torch.randn(3, 4, 5, 5)
    # Each part alone makes a difference to the deployed layer.
    exact = deployable(layer)
    for name, part in parts.items():
        one = deployable(layer)
        parent, _, attribute = name.rpartition(".")
        setattr(one.get_submodule(parent), attribute, part)
        with torch.no_grad():
            assert not torch.allclose(one(images), exact(images), rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize(
    "options", [{}, {"layer": "odconv"}, {"layer": "condconv"}, {"normalization": "signed"}], ids=str
)
def test_a_trained_network_keeps_its_accuracy(options: dict[str, Any]) -> None:
    model = trained_network(**options)
    quantised, (images, labels) = simulated_int8(model, batches(6)), stripes(500, seed=999)
    with torch.no_grad():
        before, after = model(images), quantised(images)
    assert accuracy(before, labels) > 85
    assert accuracy(after, labels) > accuracy(before, labels) - 3
    assert not torch.allclose(after, before, rtol=1e-3, atol=1e-3)
    assert any(isinstance(module, DynamicLayer) for module in model.modules()), "the network itself stays"


def test_each_image_is_computed_by_itself() -> None:
    torch.manual_seed(0)
    quantised = simulated_int8(DynamicConv2d(4, 6, 3, temperature=1.0), [torch.randn(8, 4, 5, 5)])
    images = torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(quantised(images)[1:2], quantised(images[1:2]))


class Twice(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        return self.layer(self.layer(input))  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [Twice, lambda layer: nn.Sequential(layer, layer)], ids=["one place", "two places"])
def test_a_layer_that_is_used_twice_has_room_for_both_uses(build: Callable[[nn.Module], nn.Module]) -> None:
    layer = nn.Conv2d(1, 1, 1)
    nn.init.constant_(layer.weight, 10.0)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    quantised = simulated_int8(build(layer), [torch.ones(1, 1, 1, 1)])
    with torch.no_grad():
        # In the range of the first use alone, from 0 to 1, the second would be clipped.
        assert quantised(torch.ones(1, 1, 1, 1)).item() == pytest.approx(100, rel=0.05)


def test_without_calibration_there_is_no_int8() -> None:
    def nothing() -> Iterator[Tensor]:
        yield from ()

    with pytest.raises(ArgumentError, match="at least one batch of calibration images"):
        simulated_int8(DynamicConv2d(1, 1, 1), nothing())
