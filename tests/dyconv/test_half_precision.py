"""Sums over pixels in half precision: neither too large for it, nor lost in it."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import CondConv2d, DynamicConv2d, DynamicLinear
from dyconv.kernels.pooling import average_pool, with_average

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


def textbook(layer: Any, images: Tensor) -> Tensor:
    """The same layer made of torch's own operations: pool, attention, one kernel per image, a grouped convolution."""
    is_linear = isinstance(layer, DynamicLinear)
    pooled = images.mean(1) if is_linear else F.adaptive_avg_pool2d(images, 1).flatten(1)
    if isinstance(layer, CondConv2d):
        attention = torch.sigmoid(layer.routing(pooled))
    else:
        branch = layer.attention_branch
        attention = torch.softmax(branch.excite(torch.relu(branch.squeeze(pooled))), dim=1)
    kernels = torch.einsum("bk,k...->b...", attention, layer.weight)
    bias = None if layer.bias is None else attention @ layer.bias
    if is_linear:
        assert bias is not None
        return images @ kernels.transpose(1, 2) + bias[:, None]
    batch, height, width = len(images), *images.shape[2:]
    together = images.reshape(1, -1, height, width)
    flat_bias = None if bias is None else bias.flatten()
    groups = batch * layer.groups
    output = F.conv2d(together, kernels.flatten(0, 1), flat_bias, padding=layer.padding, groups=groups)
    return output.view(batch, -1, height, width)


def cotangent(loss: str, output: Tensor) -> Tensor:
    """The gradient of a loss by the outputs."""
    ones = torch.ones(output.shape, dtype=output.dtype)
    if loss == "signs":
        # Neighbouring pixels cancel: a sum over them is small, and that of half of them is not.
        pixels = ones if output.dim() == 4 else ones.transpose(1, 2)
        pixels[..., ::2] = -1
    return {"sum": ones, "mean": ones / output.numel(), "signs": ones}[loss]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("loss", ["sum", "mean", "signs"])
@pytest.mark.parametrize("pixels", [112, 28])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_finite_in_torchs_own_operations_is_finite_here(
    kind: str, pixels: int, loss: str, memory_format: torch.memory_format
) -> None:
    """Where these overflow too, such as in the gradient of one image's kernel, a number is too large for float16."""
    torch.manual_seed(0)
    layer = KINDS[kind]().half()
    images = torch.full((2, 8, pixels, pixels), 6.0, dtype=torch.float16).contiguous(memory_format=memory_format)
    if kind == "linear":
        images = images.flatten(2).transpose(1, 2)

    def gradients(run: Any, dtype: torch.dtype) -> list[Tensor]:
        own = copy.deepcopy(layer).to(dtype)
        leaf = images.to(dtype).requires_grad_()
        output = run(own, leaf)
        return [output.detach(), *torch.autograd.grad(output, [leaf, *own.parameters()], cotangent(loss, output))]

    exact = gradients(textbook, torch.float64)
    theirs = gradients(textbook, torch.float16)
    ours = gradients(lambda own, leaf: own(leaf), torch.float16)
    assert all(tensor.isfinite().all() for tensor in theirs) == ((loss, pixels) != ("sum", 112))
    for expected, reference, result in zip(exact, theirs, ours, strict=True):
        if reference.isfinite().all():
            rounding = (reference.double() - expected).abs().max()
            allowed = float(4 * rounding + 0.01 * expected.abs().max())
            torch.testing.assert_close(result.double(), expected, rtol=0, atol=allowed)
