"""Every kind of layer, shape of kernel and memory format, for tests that hold for all of them."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dyconv import CondConv2d, DCDConv2d, DynamicConv2d, DynamicLinear, PartlyDynamicConv2d

SHAPES: dict[str, dict[str, Any]] = {
    "dense_1x1": {"in_channels": 16, "out_channels": 24, "kernel_size": 1},
    "dense_3x3": {"in_channels": 16, "out_channels": 24, "kernel_size": 3, "padding": 1},
    "depthwise": {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "padding": 1, "groups": 16},
    "grouped": {"in_channels": 16, "out_channels": 24, "kernel_size": 3, "padding": 1, "groups": 2},
}
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


class LayerCase(NamedTuple):
    """A layer and images that it takes, by name."""

    name: str
    build: Callable[[], nn.Module]
    images: Callable[..., Tensor]


def _images_in(memory_format: torch.memory_format) -> Callable[..., Tensor]:
    def draw(batch: int = 3, pixels: int = 6) -> Tensor:
        return (torch.randn(batch, 16, pixels, pixels) + 0.3).contiguous(memory_format=memory_format)

    return draw


def _rows(batch: int = 3, pixels: int = 6) -> Tensor:
    return torch.randn(batch, pixels, 16)


def _cases() -> list[LayerCase]:
    cases = []
    for format_name, memory_format in FORMATS.items():
        for shape_name, shape in SHAPES.items():
            name, images = f"{shape_name}-{format_name}", _images_in(memory_format)

            def dynamic(shape: dict[str, Any] = shape, bias: bool = False) -> nn.Module:
                return DynamicConv2d(**shape, bias=bias, num_kernels=3, temperature=1.0)

            def with_bias(shape: dict[str, Any] = shape) -> nn.Module:
                return DynamicConv2d(**shape, num_kernels=3, temperature=1.0)

            def condconv(shape: dict[str, Any] = shape) -> nn.Module:
                return CondConv2d(**shape, num_kernels=3)

            def partly(shape: dict[str, Any] = shape) -> nn.Module:
                return PartlyDynamicConv2d(**shape, num_kernels=3, temperature=1.0)

            def dcd(shape: dict[str, Any] = shape) -> nn.Module:
                # Batch norms of a training would make one image depend on the others.
                return DCDConv2d(**shape).eval()

            cases.append(LayerCase(f"partly-{name}", partly, images))
            if "groups" not in shape:
                cases.append(LayerCase(f"dcd-{name}", dcd, images))
            cases.append(LayerCase(f"dynamic-{name}", dynamic, images))
            cases.append(LayerCase(f"dynamic_bias-{name}", with_bias, images))
            cases.append(LayerCase(f"condconv-{name}", condconv, images))
    cases.append(LayerCase("linear", lambda: DynamicLinear(16, 24, num_kernels=3, temperature=1.0), _rows))
    return cases


CASES = _cases()
NAMES = [case.name for case in CASES]


def with_all_gradients(layer: nn.Module, images: Tensor, run: Callable[..., Tensor] | None = None) -> list[Tensor]:
    """Return the output of `run(images)` and the gradients of the images and of every parameter of `layer`."""
    images = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = (run or layer)(images)
    seed = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, [images, *layer.parameters()], seed)]


def in_double(layer: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the same as `with_all_gradients` in double precision, which no compiled kernel computes."""
    return with_all_gradients(copy.deepcopy(layer).double(), images.double())


def assert_alike(results: list[Tensor], expected: list[Tensor], rtol: float = 1e-3, atol: float = 1e-3) -> None:
    """Compare pairs, each within `atol` of the largest number of what is expected."""
    for result, reference in zip(results, expected, strict=True):
        scale = max(1.0, float(reference.abs().max())) if reference.numel() else 1.0
        torch.testing.assert_close(result.double(), reference.double(), rtol=rtol, atol=atol * scale)
