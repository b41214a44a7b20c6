"""This module computes a lower bound on the time of a training step, layer by layer, from the speed of the processor.

A layer takes at least the time of its multiply-adds at the speed of a large product or convolution, and at least the
time of reading its input once and writing its output once, at the speed at which memory of that size is copied. The
larger of the two is its bound. Nothing else (a second pass, a copy, a call, a product with padding) is allowed for.

Dimensions: B images, C input and O output channels, P and Q input and output pixels, K kernels, W numbers in a kernel.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import interleaved
from dyconv import DynamicConv2d

_FLOAT = 4
_SIDE = 1024
_CHANNELS, _PIXELS, _BATCH = 128, 28, 8
_SIZES = tuple(2**n for n in range(16, 29, 2))
"""Bytes that are copied to measure memory: from a size that fits the first cache to one that fits none."""


@dataclass(frozen=True)
class MachineSpeed:
    """Multiply-adds per second, and bytes read or written per second by the size of the copy."""

    multiply_adds: float
    bytes_per_second: dict[int, float]

    def seconds(self, multiply_adds: float, numbers: float) -> float:
        """Return the least seconds for these multiply-adds and these numbers, each read or written once."""
        moved = numbers * _FLOAT
        # The speed of the next larger size that was measured.
        index = min(bisect.bisect_left(_SIZES, moved), len(_SIZES) - 1)
        return max(multiply_adds / self.multiply_adds, moved / self.bytes_per_second[_SIZES[index]])


@dataclass(frozen=True)
class Work:
    """A convolution: kernel size W and multiply-adds per image, input and output numbers per image, batch, K or 1."""

    kernel: int
    multiply_adds: int
    input: int
    output: int
    batch: int
    num_kernels: int


def measure_machine() -> MachineSpeed:
    """Measure one thread of this processor: a large product or convolution, and copies of several sizes."""
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    images, kernel = torch.randn(_BATCH, _CHANNELS, _PIXELS, _PIXELS), torch.randn(_CHANNELS, _CHANNELS, 3, 3)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    candidates = {
        "product": (lambda: torch.mm(a, b), _SIDE**3),
        "convolution": (lambda: F.conv2d(channels_last, kernel), _BATCH * kernel.numel() * (_PIXELS - 2) ** 2),
    }
    seconds = interleaved({name: step for name, (step, _) in candidates.items()}, rounds=9)
    fastest = max(count / seconds[name] for name, (_, count) in candidates.items())
    speeds = {}
    for size in _SIZES:
        # Source and target together have the size, since both pass through the caches.
        source = torch.randn(size // _FLOAT // 2)
        target = torch.empty_like(source)
        repeats = max(1, 2**24 // size)

        def copies(source: Tensor = source, target: Tensor = target, repeats: int = repeats) -> None:
            for _ in range(repeats):
                target.copy_(source)

        speeds[size] = size * repeats / interleaved({"": copies}, rounds=9)[""]
    return MachineSpeed(fastest, speeds)


def meetings(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Return the number of meetings of a weight and a pixel along one side of a map; padding does not count.

    A convolution does as many multiply-adds per channel of input and output as the product of both sides.
    """
    positions = range(-padding, size + padding - dilation * (kernel - 1), stride)
    return sum(0 <= first + dilation * tap < size for first in positions for tap in range(kernel))


def bound(work: Work, machine: MachineSpeed) -> float:
    """Return the least seconds of a forward and backward pass of a convolution, dynamic if K > 1.

    Static: three products (output, gradients of input and of kernel), each of two operands and a result. Dynamic
    besides: the pass over the input for the average, and mixing the kernels forward, for the gradient of the input,
    of attention and of the K kernels, without ever writing a mixed kernel to memory.
    """
    kernels = work.num_kernels * work.kernel
    maps = work.batch * (work.input + work.output)
    # Output, gradient of the input and gradient of the kernels each pass over maps and kernels.
    products = 3 * machine.seconds(work.batch * work.multiply_adds, maps + kernels)
    if work.num_kernels == 1:
        return products
    # Four times the K kernels pass through: forward, and for three gradients.
    mixing = 4 * machine.seconds(work.batch * kernels, kernels)
    return products + mixing + machine.seconds(0, work.batch * work.input)


def bound_of_step(model: nn.Module, images: Tensor, machine: MachineSpeed) -> float:
    """Return the least seconds of a training step: its convolutions, norms and activations.

    A batch norm reads its input twice forward (statistics, result) and input and gradient twice backward; an
    activation in place moves two maps forward and three backward.
    """
    seconds: list[float] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, (nn.Conv2d, DynamicConv2d)):
            seconds.append(bound(_work(module, inputs[0], output), machine))
        elif isinstance(module, nn.BatchNorm2d):
            seconds.append(machine.seconds(0, 3 * output.numel()) + machine.seconds(0, 5 * output.numel()))
        else:
            seconds.append(machine.seconds(0, 2 * output.numel()) + machine.seconds(0, 3 * output.numel()))

    kinds = (nn.Conv2d, DynamicConv2d, nn.BatchNorm2d, nn.ReLU, nn.ReLU6)
    hooks = [module.register_forward_hook(note) for module in _own(model) if isinstance(module, kinds)]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(seconds)


def _own(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of a network, but none inside a dynamic layer."""
    for child in model.children():
        yield child
        if not isinstance(child, DynamicConv2d):
            yield from _own(child)


def _work(layer: nn.Conv2d | DynamicConv2d, input: Tensor, output: Tensor) -> Work:
    num_kernels = layer.num_kernels if isinstance(layer, DynamicConv2d) else 1
    kernel = layer.weight.numel() // num_kernels
    sizes = (prod(input.shape[1:]), prod(output.shape[1:]))
    padding: Any = layer.padding
    met = prod(map(meetings, input.shape[2:], layer.kernel_size, layer.stride, padding, layer.dilation))
    return Work(kernel, kernel // prod(layer.kernel_size) * met, *sizes, len(input), num_kernels)
