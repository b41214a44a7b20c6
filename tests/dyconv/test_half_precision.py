"""Sums over pixels in half precision: neither too large for it, nor lost in it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from dyconv import CondConv2d, DynamicConv2d, DynamicLinear
from dyconv.attention import average_pool, with_average

KINDS: dict[str, Any] = {
    "dense": lambda **more: DynamicConv2d(8, 8, 3, padding=1, temperature=1.0, **more),
    "pointwise": lambda **more: DynamicConv2d(8, 8, 1, bias=False, temperature=1.0, **more),
    "depthwise": lambda **more: DynamicConv2d(8, 8, 3, padding=1, groups=8, temperature=1.0, **more),
    "condconv": lambda **more: CondConv2d(8, 8, 3, padding=1, **more),
    "linear": lambda **more: DynamicLinear(8, 8, temperature=1.0, **more),
}


def constant(kind: str, dtype: torch.dtype) -> torch.Tensor:
    """An image of sixes, whose sum over pixels is 75,264: more than float16 holds."""
    return torch.full((2, 112 * 112, 8) if kind == "linear" else (2, 8, 112, 112), 6.0, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aggregation", ["attention", "max", "shuffle_across_images"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_large_image_is_finite_and_right(kind: str, dtype: torch.dtype, aggregation: str, autocast: bool) -> None:
    layer: nn.Module = KINDS[kind](aggregation=aggregation)
    images = constant(kind, torch.float32)
    expected = layer(images)
    low = copy.deepcopy(layer)
    if autocast:
        inputs = images.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype):
            output = low(inputs)
    else:
        low, inputs = low.to(dtype), images.to(dtype).requires_grad_()
        output = low(inputs)
    output.float().mean().backward()
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.1)
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in low.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_average_is_rounded_once(dtype: torch.dtype) -> None:
    images = (torch.randn(3, 16, 63, 65) + 5).to(dtype)
    assert torch.equal(average_pool(images), images.double().mean((2, 3)).to(dtype))


def test_a_small_gradient_of_the_average_is_not_lost() -> None:
    """A gradient that is too small for half precision once it is divided counts where it is added to another."""
    images = torch.zeros(1, 1, 200, 200, dtype=torch.float16, requires_grad=True)
    same, average = with_average(images)
    (gradient,) = torch.autograd.grad(
        [same, average], images, [torch.full_like(same, 2.0), torch.full_like(average, 40.0)]
    )
    assert torch.equal(gradient, torch.full_like(gradient, 2.0 + 40 / 40000))
