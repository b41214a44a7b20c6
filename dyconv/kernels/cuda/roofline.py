"""This module estimates how long an algorithm takes on a CUDA device, from its work and the device's data sheet.

`choices` takes it for shapes that are not in its table. An estimate is the longer of two times, that of the
multiply-adds and that of the bytes, and the time of starting each program. What an algorithm reaches of the peak is a
share; before a device is measured, shares are assumptions (`SHARES`), afterwards they come from its table. Estimates
are for a whole batch, forward and backward, in seconds. Only their order matters.

Dimensions: B images, P output pixels, K kernels, T kernel taps, N numbers in a kernel, J = N / O numbers in a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod, sqrt
from typing import NamedTuple

from dyconv.kernels.geometry import Geometry


class Device(NamedTuple):
    """The data sheet of a device: operations per second by dtype, bytes per second, and seconds to start a program.

    An operation is a multiplication or an addition. `vector` is the rate outside the tensor cores, in float32.
    """

    tensor: Mapping[str, float]
    vector: float
    bytes_per_second: float
    start_seconds: float


DEVICES: dict[str, Device] = {
    "NVIDIA H200": Device({"bfloat16": 989e12, "float16": 989e12, "float32": 494e12}, 67e12, 4.8e12, 4e-6),
    "NVIDIA A100": Device({"bfloat16": 312e12, "float16": 312e12, "float32": 156e12}, 19.5e12, 2.0e12, 4e-6),
}
"""Dense rates of the SXM modules by NVIDIA's data sheets; float32 is TF32, as convolutions take it."""

SHARES: dict[str, float] = {
    "product": 0.6,
    "tiled": 0.45,
    "grouped": 0.06,
    "depthwise": 0.25,
    "direct": 0.7,
    "taps": 0.7,
    "mix_input": 0.6,
    "mix_output": 0.6,
}
"""Assumed shares of the peak. Grouped convolutions are known to leave tensor cores idle; the rest are round numbers."""

_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
_CACHE_SPEED = 2.5
"""Times as many bytes per second from the second cache as from memory."""
_TILE_PIXELS, _LEAST_PIXELS = 128, 16
"""Pixels of the largest and of the smallest tile of the fused program."""


class Work(NamedTuple):
    """The work of an algorithm on a batch, forward and backward.

    `tensor` and `vector` operations, `bytes` from memory, and `starts` of programs. `is_exact` says that float32 is
    multiplied as such, as torch does in matrix products.
    """

    tensor: float
    vector: float
    bytes: float
    starts: int
    is_exact: bool = False


def seconds(name: str, g: Geometry, device: Device, dtype: str, shares: Mapping[str, float]) -> float:
    """Return the estimate for an algorithm; zero for "plain", which is always best where it applies."""
    if name == "plain":
        return 0.0
    work, share = _WORK[name](g, _SIZES[dtype]), shares[name]
    # A convolution that is grouped because its layer is reaches no more than one that folds images into groups.
    if g.groups > 1 and name.startswith("mix"):
        share = shares["grouped"]
    rate = device.vector if work.is_exact and dtype == "float32" else device.tensor[dtype]
    computing = (work.tensor / rate + work.vector / device.vector) / share
    # What leaves the tensor cores idle moves bytes at a fair speed: a sixteenth of the one is half of the other.
    moving = work.bytes / device.bytes_per_second / sqrt(sqrt(share))
    return max(computing, moving) + work.starts * device.start_seconds


def _maps(g: Geometry, size: int) -> tuple[float, float]:
    """Return the bytes of the inputs and of the outputs of a batch."""
    inputs = g.batch * g.in_channels * prod(g.input_size) * size
    return float(inputs), float(g.batch * g.out_channels * prod(g.output_size) * size)


def _products(g: Geometry) -> float:
    """Return the operations of output, gradient of the images and gradients of the kernels."""
    return 3.0 * 2.0 * g.batch * g.multiply_adds


def _mixing(g: Geometry) -> float:
    """Return the operations of mixing forward and backward, and of two gradients, where each image is mixed once."""
    return 4.0 * 2.0 * g.batch * g.num_kernels * g.kernel_elements


def _mixtures(g: Geometry, size: int) -> float:
    """Return the bytes of mixed kernels that are kept in memory: written and read twice, gradients read twice."""
    return 7.0 * g.batch * g.kernel_elements * size


def _of_product(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    moved = 3 * (inputs + outputs) + _mixtures(g, size)
    if not g.pointwise:
        # Patches of inputs, twice, and of the output's gradient: each written and read.
        patches = g.batch * prod(g.output_size) * g.kernel_elements / g.out_channels * size
        moved += 2 * (2 * patches + outputs * prod(g.kernel_size))
    return Work(_products(g) + _mixing(g), 0, moved, 9 if g.pointwise else 16, is_exact=True)


def _of_tiled(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    pixels = prod(g.output_size)
    tiles = -(-pixels // _TILE_PIXELS)
    # Less than the smallest tile is padded; the larger ones follow the map.
    padded = _products(g) * max(1.0, _LEAST_PIXELS / pixels)
    # Each tile of pixels mixes anew, forward and backward, from K kernels in the cache.
    kernels = g.batch * g.num_kernels * g.kernel_elements
    mixing = 2.0 * kernels * (2 * tiles + 2)
    moved = 3 * (inputs + outputs) + kernels * size * (2 * tiles + 1) / _CACHE_SPEED
    return Work(padded, mixing, moved, 6 if g.pointwise else 9)


def _of_grouped(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    # Narrow groups fill the tensor cores even less.
    operations = _products(g) * max(1.0, 64 / g.per_group)
    # Into NCHW and back, forward and backward.
    moved = 7 * (inputs + outputs) + _mixtures(g, size)
    return Work(operations + _mixing(g), 0, moved, 14)


def _of_depthwise(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    moved = 7 * (inputs + outputs) + _mixtures(g, size)
    return Work(0, _products(g) + _mixing(g), moved, 14)


def _of_direct(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    # Kernels are mixed once more for each tile of pixels, which is little: they are small.
    return Work(0, _products(g) + _mixing(g), 3 * (inputs + outputs) + 3 * g.batch * g.kernel_elements * 4, 9)


def _of_taps(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    taps = prod(g.kernel_size)
    # Each tap reads a map and writes another, in float32; two such passes backward.
    return Work(0, _products(g) + _mixing(g), 3.0 * taps * (inputs + 2 * outputs) * 4 / size, 4 * taps + 8)


def _of_mixing_input(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    # The stack of K inputs: written and read forward, read for the kernels, its gradient written and read twice.
    return _of_stack(g, 6 * g.num_kernels * inputs + 3 * outputs)


def _of_mixing_output(g: Geometry, size: int) -> Work:
    inputs, outputs = _maps(g, size)
    return _of_stack(g, 6 * g.num_kernels * outputs + 3 * inputs)


def _of_stack(g: Geometry, moved: float) -> Work:
    return Work(g.num_kernels * _products(g), 0, moved, 8)


_WORK: dict[str, Callable[[Geometry, int], Work]] = {
    "product": _of_product,
    "tiled": _of_tiled,
    "grouped": _of_grouped,
    "depthwise": _of_depthwise,
    "direct": _of_direct,
    "taps": _of_taps,
    "mix_input": _of_mixing_input,
    "mix_output": _of_mixing_output,
}
