"""This module measures single layers at every shape that the networks of the studies have: ours, static, textbook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.roofline import MachineSpeed, Work, bound, meetings
from benchmarks.textbook import TextbookDynamicConv2d
from benchmarks.timing import Step, interleaved, peak_bytes
from dyconv import DynamicConv2d, build_model
from dyconv.base import dynamic_layers

NETWORKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("MobileNetV2 ×0.5", "mobilenet_v2", {"width": 0.5}),
    ("ResNet-18", "resnet18", {}),
)
PIXELS = {28: 64, 32: 64, 224: 16}
"""Side of the images, and images in a batch."""
_SMALL = 64
_SECONDS, _FEWEST, _MOST = 1.5, 3, 25
"""Seconds that a layer may take, and bounds on its rounds: short ones need more rounds for a median."""


@dataclass(frozen=True)
class Shape:
    """The shape of a layer and of its input.

    `size` is the side of the input in pixels, `kernel` that of the kernel, `batch` the number of images.
    """

    channels: tuple[int, int]
    size: int
    kernel: int
    stride: int
    groups: int
    batch: int

    @property
    def title(self) -> str:
        """The name in a table, such as `96→96 3×3 dw /2 at 56 px`."""
        kind = f"{self.kernel}×{self.kernel}" + (" dw" if self.groups > 1 else "")
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.channels[0]}→{self.channels[1]} {kind}{stride} at {self.size} px"

    def work(self, num_kernels: int) -> Work:
        """Return the work of the layer, for a bound on its time."""
        # "Same" padding: the size over the stride, rounded up.
        pixels = (-(-self.size // self.stride)) ** 2
        kernel = self.channels[0] * self.channels[1] // self.groups * self.kernel**2
        sizes = (self.channels[0] * self.size**2, self.channels[1] * pixels)
        met = meetings(self.size, self.kernel, self.stride, self.kernel // 2)
        return Work(kernel, kernel // self.kernel**2 * met**2, *sizes, self.batch, num_kernels)


def shapes(name: str, pixels: int, batch: int, options: dict[str, Any]) -> list[Shape]:
    """Return the distinct shapes of the dynamic layers of a network, in the order of their first use."""
    stem: dict[str, Any] = {}
    # On small images the studies leave out the stem's reductions of resolution.
    if pixels <= _SMALL:
        stem = {"stem_kernel": 3, "stem_pool": False} if name.startswith("resnet") else {}
        stem["stem_stride"] = 1
    model = build_model(name, 10, num_kernels=4, input_size=(3, pixels, pixels), seed=0, **options, **stem)
    # A dictionary as an ordered set.
    seen: dict[Shape, None] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, DynamicConv2d)
        channels = (layer.in_channels, layer.out_channels)
        size = inputs[0].shape[-1]
        seen[Shape(channels, size, layer.kernel_size[0], layer.stride[0], layer.groups, batch)] = None

    for _, layer in dynamic_layers(model):
        layer.register_forward_pre_hook(note)
    model.eval()(torch.zeros(1, 3, pixels, pixels))
    return list(seen)


def measure(shape: Shape, machine: MachineSpeed) -> dict[str, Any]:
    """Return medians in seconds (forward; forward and backward), peak memory in bytes, and bounds in seconds."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "kernel_size": shape.kernel,
        "stride": shape.stride,
        "padding": shape.kernel // 2,
        "groups": shape.groups,
        "bias": False,
    }
    ours = DynamicConv2d(*shape.channels, num_kernels=4, **settings)
    layers: dict[str, nn.Module] = {
        "static": nn.Conv2d(*shape.channels, **settings).to(memory_format=torch.channels_last),
        "ours": ours,
        "textbook": TextbookDynamicConv2d(ours),
    }
    images = torch.randn(shape.batch, shape.channels[0], shape.size, shape.size)
    # The textbook is timed in NCHW, the format it is written for.
    channels_last = images.contiguous(memory_format=torch.channels_last)
    inputs = {"static": channels_last, "ours": channels_last, "textbook": images}
    forward = {name: _forward(layer, inputs[name]) for name, layer in layers.items()}
    both = {name: _training(layer, inputs[name]) for name, layer in layers.items()}
    return {
        "title": shape.title,
        "batch": shape.batch,
        "forward_seconds": interleaved(forward, rounds=_rounds(forward), warmup=1),
        "seconds": interleaved(both, rounds=_rounds(both), warmup=1),
        "bound_seconds": {name: bound(shape.work(num), machine) for name, num in (("static", 1), ("ours", 4))},
        "peak_bytes": {name: peak_bytes(step) for name, step in both.items()},
    }


def _rounds(steps: dict[str, Step]) -> int:
    once = sum(interleaved(steps, rounds=1, warmup=1).values())
    return round(min(max(_SECONDS / once, _FEWEST), _MOST))


def _forward(layer: nn.Module, images: Tensor) -> Step:
    def step() -> None:
        with torch.no_grad():
            layer(images)

    return step


def _training(layer: nn.Module, images: Tensor) -> Step:
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.no_grad():
        gradient = torch.randn_like(layer(images))

    def step() -> None:
        for tensor in (images, *layer.parameters()):
            tensor.grad = None
        torch.autograd.backward(layer(images), gradient)

    return step
