"""This module starts the Triton programs: the tiles by shape, the number of programs, and the device they run on.

The lists of tiles are short, so that a network compiles a few programs only. `tile_of` and its like choose by shape
without measuring; `benchmarks.gpu` times all of a list by `forced` and says where another tile would be faster.

Dimensions: B images, P pixels of one, K kernels, T taps, C inner and O outer channels.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dyconv.kernels.geometry import Pair


class Tile(NamedTuple):
    """The tile of one program, in pixels, inner and outer channels, its warps, and the loads ahead of the product."""

    pixels: int
    inner: int
    outer: int
    warps: int
    stages: int

    def shared_bytes(self, num_kernels: int, element_size: int) -> int:
        """Return the bytes of shared memory that `mixed_product` takes with this tile."""
        pixels, kernel = self.pixels * self.inner, self.inner * self.outer
        # All but one stage hold loads ahead: pixels and K kernels. The last is what is multiplied: pixels, a mixture.
        return ((self.stages - 1) * (pixels + num_kernels * kernel) + pixels + kernel) * element_size


PRODUCT_TILES = (
    Tile(128, 32, 128, 8, 3),
    Tile(128, 32, 64, 4, 3),
    Tile(64, 32, 128, 4, 3),
    Tile(64, 32, 64, 4, 3),
    Tile(32, 32, 64, 4, 3),
    Tile(16, 64, 64, 4, 3),
)
"""Tiles of `mixed_product`, the largest first. Mixing is shared by the pixels of a tile, so these count first."""
GRADIENT_TILES = (Tile(64, 64, 64, 8, 2), Tile(32, 64, 32, 4, 2), Tile(32, 32, 32, 4, 2), Tile(32, 16, 16, 4, 2))
"""Tiles of `kernel_gradient`: K sums of inner times outer channels must fit the registers of a program."""
DEPTHWISE_TILES = (Tile(32, 64, 0, 4, 2), Tile(16, 128, 0, 4, 2), Tile(16, 32, 0, 4, 2))
"""Tiles of both depthwise programs; their inner channels are their outer ones."""

_SHARED_BYTES = 99 * 2**10
"""Shared memory of a program: all that an Ada gives one, and less than half of what a processor of an H200 has."""
_SUMS = 64
"""The most numbers of the K sums of a gradient tile in a thread: a quarter of its registers, as others hold kernels."""
_PROGRAMS = 528
"""Programs that fill a device: four for each of the 132 processors of an H200, as they hide each other's waiting."""
_forced: dict[str, Tile] = {}


@contextmanager
def forced(**tiles: Tile) -> Iterator[None]:
    """Take these tiles (`product`, `gradient`, `depthwise`) whatever the shape, while the block runs: to time them."""
    before = dict(_forced)
    _forced.update(tiles)
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def product_tile(images: int, pixels: int, outer: int, num_kernels: int, element_size: int) -> Tile:
    """Return the largest tile that is not mostly padding and still gives each processor work."""
    if "product" in _forced:
        return _forced["product"]
    largest = _largest_product_tile(images, pixels, outer)
    for tile in PRODUCT_TILES[PRODUCT_TILES.index(largest) :]:
        # Fewer loads ahead are better than a smaller tile, whose pixels share less of the mixing; none is worse.
        for stages in range(tile.stages, 1, -1):
            fewer = tile._replace(stages=stages)
            if fewer.shared_bytes(num_kernels, element_size) <= _SHARED_BYTES:
                return fewer
    return largest._replace(stages=1)


def _largest_product_tile(images: int, pixels: int, outer: int) -> Tile:
    for tile in PRODUCT_TILES:
        is_filled = _filled(pixels, tile.pixels) and _filled(outer, tile.outer)
        if is_filled and images * -(-pixels // tile.pixels) * -(-outer // tile.outer) >= _PROGRAMS // 2:
            return tile
    # A small layer: the more programs, the better.
    return PRODUCT_TILES[-1] if pixels <= PRODUCT_TILES[-1].pixels else PRODUCT_TILES[-2]


def _filled(size: int, tile: int) -> bool:
    """Return True if tiles of this size waste at most a third of their numbers."""
    return -(-size // tile) * tile <= 1.5 * size


def gradient_tile(num_kernels: int, inner: int, outer: int) -> Tile:
    """Return the largest tile whose K sums fit the registers and whose channels are there."""
    if "gradient" in _forced:
        return _forced["gradient"]
    for tile in GRADIENT_TILES:
        is_filled = _filled(inner, tile.inner) and _filled(outer, tile.outer)
        if is_filled and _sums_of(num_kernels, tile) <= _SUMS:
            return tile
    return GRADIENT_TILES[-1]


def _sums_of(num_kernels: int, tile: Tile) -> int:
    """Return the numbers that a thread sums for the gradients of the K kernels."""
    return lanes_of(num_kernels) * tile.inner * tile.outer // (32 * tile.warps)


def depthwise_tile(pixels: int, channels: int) -> Tile:
    """Return a tile of wide rows for many channels, of narrow ones for few, of few pixels for tiny maps."""
    if "depthwise" in _forced:
        return _forced["depthwise"]
    if channels <= DEPTHWISE_TILES[2].inner:
        return DEPTHWISE_TILES[2]
    return DEPTHWISE_TILES[1] if pixels <= DEPTHWISE_TILES[1].pixels else DEPTHWISE_TILES[0]


def lanes_of(num_kernels: int) -> int:
    """Return K rounded up to a power of two, as Triton's ranges are."""
    return 1 << (num_kernels - 1).bit_length()


def splits_of(images: int, tiles: int) -> int:
    """Return the parts of a batch whose gradients are summed apart, so that all processors have work."""
    return max(1, min(images, _PROGRAMS // max(1, tiles)))


class Meeting(NamedTuple):
    """The kernel, stride, padding and dilation by which source and result meet; `transposed` swaps the two."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    transposed: bool = False

    def constants(self, transposed: bool | None = None) -> dict[str, Any]:
        """Return the numbers that a program is compiled for."""
        (taps_y, taps_x), (stride_y, stride_x) = self.kernel_size, self.stride
        constants: dict[str, Any] = {
            "taps_y": taps_y,
            "taps_x": taps_x,
            "stride_y": stride_y,
            "stride_x": stride_x,
            "padding_y": self.padding[0],
            "padding_x": self.padding[1],
            "dilation_y": self.dilation[0],
            "dilation_x": self.dilation[1],
        }
        if transposed is not None:
            constants["transposed"] = transposed
        return constants

    def phases(self) -> int:
        """Return the number of phases of the result, see `programs`."""
        return prod(self.stride) if self.transposed else 1

    def pixels_in_phase(self, size: Pair) -> int:
        """Return the pixels of the largest phase of a result of this size."""
        if not self.transposed:
            return prod(size)
        return -(-size[0] // self.stride[0]) * -(-size[1] // self.stride[1])


class Strides(NamedTuple):
    """The distances in memory between two kernels, taps, inner and outer channels."""

    kernel: int
    tap: int
    inner: int
    outer: int

    def swapped(self) -> Strides:
        """Return those of the transposed convolution, which sums over the outer channels."""
        return self._replace(inner=self.outer, outer=self.inner)


def start_product(
    source: Tensor, kernels: Tensor, attention: Tensor, result: Tensor, strides: Strides, meeting: Meeting
) -> None:
    """Write to `result` (B, O, H', W') the convolution of `source` (B, C, H, W) by mixtures of (K, T, C, O) kernels."""
    (images, inner), size, outer = source.shape[:2], _size(result), result.shape[1]
    pixels = meeting.pixels_in_phase(size)
    num_kernels, element_size = attention.shape[1], source.element_size()
    tile = product_tile(images * meeting.phases(), pixels, outer, num_kernels, element_size)
    programs = images * meeting.phases() * -(-pixels // tile.pixels) * -(-outer // tile.outer)
    _start(
        "mixed_product",
        programs,
        tile,
        (source, kernels, attention, result, *_size(source), *size, inner, outer, *strides),
        num_kernels=num_kernels,
        block_pixels=tile.pixels,
        block_inner=tile.inner,
        block_outer=tile.outer,
        precision=precision_of(source.dtype),
        **meeting.constants(meeting.transposed),
    )


def start_kernel_gradient(
    source: Tensor, grad: Tensor, kernels: Tensor, attention: Tensor, strides: Strides, meeting: Meeting
) -> tuple[Tensor, Tensor]:
    """Return the float32 gradients of the K kernels, (K, T, C, O), and of attention (B, K)."""
    (images, inner), outer, num_kernels = source.shape[:2], grad.shape[1], attention.shape[1]
    tile, taps = gradient_tile(num_kernels, inner, outer), prod(meeting.kernel_size)
    tiles = taps * -(-inner // tile.inner) * -(-outer // tile.outer)
    per_split = -(-images // splits_of(images, tiles))
    splits = -(-images // per_split)
    to_kernels = source.new_empty(splits, num_kernels, taps, inner, outer, dtype=torch.float32)
    to_attention = source.new_empty(tiles, images, num_kernels, dtype=torch.float32)
    sizes = images, per_split, *_size(source), *_size(grad), inner, outer
    _start(
        "kernel_gradient",
        tiles * splits,
        tile,
        (source, grad, kernels, attention, to_kernels, to_attention, *sizes, *strides),
        num_kernels=num_kernels,
        lanes_kernels=lanes_of(num_kernels),
        block_pixels=tile.pixels,
        block_inner=tile.inner,
        block_outer=tile.outer,
        precision=precision_of(source.dtype),
        **meeting.constants(),
    )
    return (to_kernels[0] if splits == 1 else to_kernels.sum(0)), to_attention.sum(0)


def start_depthwise(
    source: Tensor, kernels: Tensor, attention: Tensor | None, result: Tensor, meeting: Meeting
) -> None:
    """Write to `result` (B, C, H', W') the depthwise convolution of `source` by mixtures of (K, T, C) kernels.

    Without attention, `kernels` are (B, T, C), those of each image.
    """
    (images, channels), size = source.shape[:2], _size(result)
    pixels = meeting.pixels_in_phase(size)
    tile = depthwise_tile(pixels, channels)
    programs = images * meeting.phases() * -(-pixels // tile.pixels) * -(-channels // tile.inner)
    _start(
        "depthwise",
        programs,
        tile,
        # A program has a fixed number of arguments: `kernels` stand for the attention that is not read.
        (source, kernels, kernels if attention is None else attention, result, *_size(source), *size, channels),
        mixed=attention is not None,
        num_kernels=1 if attention is None else attention.shape[1],
        block_pixels=tile.pixels,
        block_channels=tile.inner,
        **meeting.constants(meeting.transposed),
    )


def start_depthwise_kernel_gradient(source: Tensor, grad: Tensor, meeting: Meeting) -> Tensor:
    """Return the float32 gradient (B, T, C) of the kernels of each image."""
    (images, channels), taps = source.shape[:2], prod(meeting.kernel_size)
    tile = depthwise_tile(prod(_size(grad)), channels)
    to_kernels = source.new_empty(images, taps, channels, dtype=torch.float32)
    _start(
        "depthwise_kernel_gradient",
        images * taps * -(-channels // tile.inner),
        tile,
        (source, grad, to_kernels, *_size(source), *_size(grad), channels),
        block_pixels=tile.pixels,
        block_channels=tile.inner,
        **meeting.constants(),
    )
    return to_kernels


def _start(name: str, programs: int, tile: Tile, arguments: tuple[Any, ...], **constants: Any) -> None:
    """Start one program of `programs` so many times on the device of the first argument."""
    program = getattr(_programs(), name)
    with _on_device(arguments[0]):
        program[(programs,)](*arguments, **constants, num_warps=tile.warps, num_stages=tile.stages)


def _on_device(tensor: Tensor) -> AbstractContextManager[object]:
    # Triton starts programs on the current device, which need not be that of the tensors.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@cache
def _programs() -> Any:
    # Imported for the first tensor on a device: it takes long, and where nobody needs it it may not be there.
    return importlib.import_module("dyconv.kernels.cuda.programs")


def precision_of(dtype: torch.dtype) -> str:
    """Return the precision of products of this dtype: of float32 the one that torch takes for convolutions."""
    if dtype is torch.float32 and _takes_tf32():
        return "tf32"
    return "ieee"


def _takes_tf32() -> bool:
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):  # torch before 2.9
        return bool(cudnn.allow_tf32)
    # The most particular one that is set. `allow_tf32` cannot be asked where one of these was.
    for settings in (cudnn.conv, cudnn, torch.backends):
        if settings.fp32_precision != "none":
            return bool(settings.fp32_precision == "tf32")
    return False


def _size(images: Tensor) -> Pair:
    return images.shape[2], images.shape[3]
