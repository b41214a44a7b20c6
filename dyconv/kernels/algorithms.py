"""This module holds the algorithms for a dynamic convolution, and the cost model that picks one by shape.

`functional` calls it. Each algorithm is a function of (input, weight, attention, geometry) without bias. All
give the same result within rounding, in any memory format. The choice depends on the geometry alone, so that two runs
of one configuration compute alike. Aggregating K kernels per image costs in proportion to the kernel, mixing in input
or output space in proportion to the pixels: where pixels are few, mixing wins.

Dimensions: B images, C input and O output channels, G groups, I = C / G, H W pixels, P = H W, K kernels,
T kernel taps (h x w), J = K I channels side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.errors import ArgumentError, unknown_name
from dyconv.kernels import native, operators, products, tiling
from dyconv.kernels.cuda.choices import Target, fastest
from dyconv.kernels.folding import Folding, folded_convolution, is_channels_last
from dyconv.kernels.geometry import Geometry, Pair
from dyconv.kernels.taps import TapRegion, convolve_open_taps, convolve_taps, used_regions
from dyconv.kernels.tracing import is_exported, is_known, is_ordinary, is_traced, remembered


@dataclass(frozen=True)
class Algorithm:
    """One algorithm: the shapes that it applies to, its cost, and its computation.

    Costs are per image, for forward and backward, in units of one multiply-add of a dense product. They were fitted to
    medians on one AVX-512 core in fp32 (a unit is 0.07 ns there), B = 64 and 128, K = 4. Only their order matters.
    `keeps_format` says that the gradient of a channels-last input is channels-last by itself, `sequential` that it goes
    through the images one by one: never chosen on an accelerator, unless its operator is a Triton program there.
    `is_operator` says that it is one operator of `operators`, which a compiler takes as it is, and `folds` that it
    makes groups of images, so that an open number of images would be fixed.
    """

    applies: Callable[[Geometry], bool]
    cost: Callable[[Geometry], float]
    run: Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]
    keeps_format: bool = False
    sequential: bool = False
    is_operator: bool = False
    folds: bool = False


def _plain(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve one image, or many with one row of attention or one kernel, by an ordinary convolution."""
    # The weight of a single kernel is a factor of the output.
    if g.num_kernels == 1:
        return _static(input, weight[0], g) * attention[:, :, None, None]
    return _static(input, _aggregate(weight, attention)[0], g)


def _product(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Multiply patches with aggregated kernels, a few images at a time; for one group."""
    if g.batch > 0 and is_ordinary(input, weight, attention):
        return products.mixed_product(input, weight, attention, _patches(g))
    return products.differentiable_product(input, weight, attention, _patches(g))


def _tiled(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve in one group by compiled kernels in channels-last; by products where these cannot read the tensors."""
    if not operators.is_computed(input, weight, attention):
        return _product(input, weight, attention, g)
    return operators.convolve(input, weight, attention, g)


def _patches(g: Geometry) -> products.PatchGrid:
    return products.PatchGrid(g.kernel_size, g.stride, g.padding, g.dilation, g.output_size)


def _each(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve each image by an ordinary convolution; for any shape."""
    return folded_convolution(input, weight, attention, _folding(g, 1))


def _grouped(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Fold images into the groups of one convolution with their aggregated kernels, in NCHW; for any shape."""
    return folded_convolution(input.contiguous(), weight, attention, _folding(g, _folded_at_a_time(g, input)))


def _depthwise(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Fold images into the channels of one depthwise convolution, in the memory format of the input."""
    return folded_convolution(input, weight, attention, _folding(g, _folded_at_a_time(g, input)))


def _direct(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve depthwise by compiled kernels in channels-last; by folding where these cannot read the tensors."""
    if not operators.is_computed(input, weight, attention):
        return _depthwise(input, weight, attention, g)
    return operators.convolve(input, weight, attention, g)


def _folding(g: Geometry, at_a_time: int) -> Folding:
    return Folding(g.stride, g.padding, g.dilation, g.groups, at_a_time)


_FOLDED_BYTES = 2**20
"""Bytes for the larger of input and output of folded images: the copy should still be in the cache."""
_SMALL_BATCH_BYTES = 5 * 2**20
"""Bytes below which the whole batch is folded, because each call has a set-up of its own."""


def _folded_at_a_time(g: Geometry, input: Tensor) -> int:
    """Return the number of images to fold at a time: on a CPU as many as the cache takes, else all."""
    largest = max(g.in_channels * prod(g.input_size), g.out_channels * prod(g.output_size)) * input.element_size()
    if input.device.type != "cpu" or g.batch * largest <= _SMALL_BATCH_BYTES:
        return g.batch
    return max(1, min(g.batch, _FOLDED_BYTES // largest))


def _taps(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve depthwise on a tiny map by one product per kernel tap, without taps that meet padding only."""
    if not is_known(g.batch, *g.input_size):
        kernels_BTC = _aggregate(weight.flatten(2).transpose(1, 2), attention)
        return convolve_open_taps(input, kernels_BTC, g.kernel_size, g.stride, g.padding, g.dilation)
    if not (torch.compiler.is_compiling() or is_ordinary(input, weight, attention)):
        return _depthwise(input, weight, attention, g)
    regions = _tap_regions(g)
    taps = [region.tap for region in regions]
    weight_KCT = weight.flatten(2)
    if len(taps) < weight_KCT.shape[2]:
        weight_KCT = weight_KCT[:, :, taps]
    kernels_BTC = _aggregate(weight_KCT.transpose(1, 2), attention)
    return convolve_taps(input, kernels_BTC, regions, g.output_size)


def _mix_input(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Stack attention_k x input over k along the channels, then convolve once with all kernels side by side."""
    # Convolution is linear: sum_k conv(a_k x, W_k) is one convolution with K times the input channels.
    kernels = weight.transpose(0, 1).flatten(1, 2)  # (O, K I, h, w)
    if g.groups == 1 and is_channels_last(input):
        rows_BPKC = _to_rows(input)[:, :, None] * attention[:, None, :, None]
        return _static(_from_rows(rows_BPKC.flatten(2), g.input_size), kernels, g)
    stacked = input.reshape(g.batch, g.groups, 1, g.per_group, *g.input_size) * attention[:, None, :, None, None, None]
    return _static(stacked.flatten(1, 3), kernels, g)


def _mix_output(input: Tensor, weight: Tensor, attention: Tensor, g: Geometry) -> Tensor:
    """Convolve once with all K kernels, then sum the K results weighted by attention."""
    per_group = g.out_channels // g.groups
    kernels = weight.reshape(g.num_kernels, g.groups, per_group, g.per_group, *g.kernel_size)
    kernels = kernels.transpose(0, 1).flatten(0, 2)  # (G K O/G, I, h, w)
    output = _static(input, kernels, g)
    if g.groups == 1 and is_channels_last(output):
        pixels = prod(g.output_size)
        rows = _to_rows(output).reshape(g.batch * pixels, g.num_kernels, g.out_channels)
        weights = attention[:, None, None].expand(-1, pixels, -1, -1).flatten(0, 1)
        return _from_rows(torch.bmm(weights, rows).reshape(g.batch, pixels, g.out_channels), g.output_size)
    results = output.reshape(g.batch, g.groups, g.num_kernels, per_group, *g.output_size)
    return (results * attention[:, None, :, None, None, None]).sum(2).flatten(1, 2)


def _aggregate(weight: Tensor, attention: Tensor) -> Tensor:
    """Return (B, ...) mixtures of (K, ...) kernels by one matrix product."""
    return (attention @ weight.flatten(1)).reshape(attention.shape[0], *weight.shape[1:])


def _static(input: Tensor, kernel: Tensor, g: Geometry) -> Tensor:
    """Convolve all images with one kernel; a pointwise one as a dense product if that needs no copy."""
    # A product has less set-up than a convolution.
    if not (g.pointwise and is_channels_last(input)):
        return F.conv2d(input, kernel, None, g.stride, g.padding, g.dilation, g.groups)
    rows = _to_rows(input[:, :, :: g.stride[0], :: g.stride[1]])
    return _from_rows(F.linear(rows, kernel.flatten(1)), g.output_size)


def _to_rows(input: Tensor) -> Tensor:
    """Return (B, C, H, W) as (B, P, C): free for channels-last, one copy otherwise."""
    return input.permute(0, 2, 3, 1).flatten(1, 2)


def _from_rows(rows_BPO: Tensor, size: Pair) -> Tensor:
    """Return (B, P, O) as a channels-last (B, O, H, W)."""
    return rows_BPO.reshape(rows_BPO.shape[0], *size, rows_BPO.shape[2]).permute(0, 3, 1, 2)


def _tap_regions(g: Geometry) -> tuple[TapRegion, ...]:
    return used_regions(g.input_size, g.output_size, g.kernel_size, g.stride, g.padding, g.dilation)


# Fitted constants of the cost model: numbers written and read again, per element.
_AGGREGATED_DENSE = 25.0  # one element of an aggregated kernel that a batched product reads from the cache
_AGGREGATED_EACH = 55.0  # the same when the convolution of one image re-orders it first
_AGGREGATED_FOLDED = 200.0  # the same when a grouped convolution does
_STACKED = 85.0  # one element of the stack that mixing makes
_MOVED = 60.0  # one element of input or output moved for folding
_PATCH = 30.0  # one element of the lines of patches that are copied to be multiplied
_LINES = 1.1  # one multiply-add of a product that is summed up over lines of patches
_CALL = 1.4e6  # the set-up of one convolution, forward and backward
_SHARED = 800.0  # one element of the K kernels, once per batch
_OPEN_BATCH = 64  # stands for a batch size that is not known yet
_OPEN_SIZE = 14  # stands for a height or width in pixels that is not known yet
_TILED_MIXING = 12.0  # one element of a kernel that is multiplied as soon as it is mixed
_TILED_PRODUCT = 0.95  # one multiply-add of that
_DIRECT = 4.0  # one multiply-add of a compiled depthwise kernel
_PER_TAP = 40.0  # one multiply-add done element by element


def _small_groups(g: Geometry) -> float:
    """Return the factor by which a multiply-add is slower in a grouped convolution of narrow groups."""
    return 1.0 + 50.0 / g.per_group


def _groups(g: Geometry) -> float:
    """Return that factor of a convolution that is grouped only if its layer is."""
    if g.groups == 1:
        return 1.0
    return _small_groups(g)


def _cost_of_mixing(g: Geometry, side: int) -> float:
    """Return the cost of mixing in input or output space, which has `side` numbers per image."""
    cost = g.num_kernels * g.multiply_adds * _groups(g) + _STACKED * g.num_kernels * side
    if not g.pointwise:
        # Costs are per image: what is done once for the K kernels is shared by the batch.
        cost += _SHARED * g.num_kernels * g.kernel_elements / max(1, g.batch)
    return cost


def _cost_of_product(g: Geometry) -> float:
    """Return the cost of products of patches with aggregated kernels."""
    mixing = _AGGREGATED_DENSE * g.kernel_elements
    if g.pointwise:
        return mixing + g.multiply_adds
    lines = prod(g.output_size) * g.kernel_size[1] * g.in_channels
    # With a vertical stride of one, neighbouring patches share the copies of their lines.
    if g.stride[0] != 1:
        lines *= g.kernel_size[0]
    return mixing + _LINES * g.multiply_adds + _PATCH * lines


def _cost_of_tiled(g: Geometry) -> float:
    """Return the cost of tiles, which are faster than products wherever they were compiled."""
    # Without the compiled kernels, tiles are products.
    if not native.available():
        return _cost_of_product(g)
    return _TILED_MIXING * g.kernel_elements + _TILED_PRODUCT * g.multiply_adds


def _cost_of_each(g: Geometry) -> float:
    """Return the cost of one convolution per image: its set-up counts for each."""
    cost = _CALL + _AGGREGATED_EACH * g.kernel_elements + _groups(g) * g.multiply_adds
    if g.depthwise:
        cost += _MOVED / 2 * g.pixels_moved
    return cost


def _cost_of_grouped(g: Geometry) -> float:
    """Return the cost of one grouped convolution of all images."""
    cost = _AGGREGATED_FOLDED * g.kernel_elements + _small_groups(g) * g.multiply_adds
    if g.depthwise:
        cost += _MOVED * g.pixels_moved
    return cost


def _cost_of_depthwise(g: Geometry) -> float:
    """Return the cost of folding, fast only where oneDNN has kernels for both passes: 3 x 3, maps that are not tiny."""
    cost = _MOVED * (g.kernel_elements + g.pixels_moved)
    if g.kernel_size == (3, 3) and g.dilation == (1, 1) and min(g.input_size) >= 4:
        return cost
    return 30.0 * cost


def _cost_of_taps(g: Geometry) -> float:
    """Return the cost of sums over taps, which grows with the taps and pixels in use only."""
    regions = _tap_regions(g)
    multiply_adds = sum(region.pixels for region in regions) * g.in_channels
    return _AGGREGATED_DENSE * g.in_channels * len(regions) + _PER_TAP * multiply_adds


def _cost_of_direct(g: Geometry) -> float:
    """Return the cost of direct kernels, by far the fastest depthwise algorithm where they were compiled."""
    return _DIRECT * g.multiply_adds if native.available() else _cost_of_depthwise(g)


def _side(size: Pair, channels: int) -> int:
    return prod(size) * channels


def _foldable(g: Geometry) -> bool:
    return g.batch > 0


def _tileable(g: Geometry) -> bool:
    return g.groups == 1 and g.batch > 0 and tiling.fits(g.in_channels, g.out_channels, g.num_kernels)


def _depthwise_foldable(g: Geometry) -> bool:
    return g.depthwise and g.batch > 0


def _direct_foldable(g: Geometry) -> bool:
    return _depthwise_foldable(g) and g.kernel_size[0] <= native.MOST_ROWS


# "plain" is free wherever it applies: one kernel for all images is always cheapest.
_ALGORITHMS: dict[str, Algorithm] = {
    "plain": Algorithm(lambda g: g.batch == 1 or g.num_kernels == 1, lambda g: 0.0, _plain),
    "product": Algorithm(lambda g: g.groups == 1, _cost_of_product, _product, keeps_format=True),
    "tiled": Algorithm(_tileable, _cost_of_tiled, _tiled, keeps_format=True, sequential=True, is_operator=True),
    "each": Algorithm(_foldable, _cost_of_each, _each, keeps_format=True, sequential=True, folds=True),
    "grouped": Algorithm(_foldable, _cost_of_grouped, _grouped, folds=True),
    "depthwise": Algorithm(_depthwise_foldable, _cost_of_depthwise, _depthwise, folds=True),
    "direct": Algorithm(
        _direct_foldable, _cost_of_direct, _direct, keeps_format=True, sequential=True, is_operator=True
    ),
    "taps": Algorithm(lambda g: g.depthwise, _cost_of_taps, _taps),
    "mix_input": Algorithm(
        lambda g: True, lambda g: _cost_of_mixing(g, _side(g.input_size, g.in_channels)), _mix_input
    ),
    "mix_output": Algorithm(
        lambda g: True, lambda g: _cost_of_mixing(g, _side(g.output_size, g.out_channels)), _mix_output
    ),
}


def available_algorithms(geometry: Geometry | None = None) -> list[str]:
    """Return the names of all algorithms, or of those that can compute `geometry`."""
    return [name for name, a in _ALGORITHMS.items() if geometry is None or a.applies(geometry)]


def choose(
    geometry: Geometry, algorithm: str | None = None, on_cpu: bool = True, target: Target | None = None
) -> Algorithm:
    """Return the algorithm called `algorithm`, or the cheapest one for `geometry`.

    Costs are those of the model above; for a `target`, a CUDA device, they are the times of its table. "shared" is for
    one row of attention, (1, K), that all images share.

    Raises:
        ArgumentError: `algorithm` is unknown or cannot compute this shape.
    """
    if algorithm == "shared":
        return _ALGORITHMS["plain"]
    if algorithm is None:
        usable, known = _usable(geometry, on_cpu), _for_choosing(geometry)
        if target is not None:
            usable_names = _names_on_device(known, usable.folding, target)
            return _ALGORITHMS[fastest(tuple(known), usable_names, target.name, target.dtype)]
        return _ALGORITHMS[_cheapest(known, usable)]
    if algorithm not in _ALGORITHMS:
        raise ArgumentError(unknown_name("algorithm", algorithm, _ALGORITHMS))
    if not _ALGORITHMS[algorithm].applies(geometry):
        names = ", ".join(available_algorithms(geometry))
        raise ArgumentError(f"algorithm {algorithm!r} cannot compute {geometry}: use one of {names}, or None")
    return _ALGORITHMS[algorithm]


class _Usable(NamedTuple):
    """What the surroundings of a call allow: operators of compiled kernels, a loop over images, and folding them."""

    operators: bool
    loops: bool
    folding: bool


def _usable(geometry: Geometry, on_cpu: bool) -> _Usable:
    return _Usable(
        operators=on_cpu and not is_exported(), loops=on_cpu and not is_traced(), folding=is_known(geometry.batch)
    )


def _for_choosing(geometry: Geometry) -> Geometry:
    """Return the geometry with numbers in place of sizes that a compiler or `torch.export` leaves open.

    Comparing an open size would fix it.
    """
    if is_known(geometry.batch, *geometry.input_size):
        return geometry
    if not is_known(geometry.batch):
        geometry = geometry._replace(batch=_OPEN_BATCH)
    height, width = geometry.input_size
    # Maps that are large enough for the kernel, whatever they will be.
    open_size = (
        height if is_known(height) else max(_OPEN_SIZE, geometry.dilation[0] * geometry.kernel_size[0]),
        width if is_known(width) else max(_OPEN_SIZE, geometry.dilation[1] * geometry.kernel_size[1]),
    )
    return geometry._replace(input_size=open_size)


@remembered
def _names_on_device(geometry: Geometry, folding: bool, target: Target) -> tuple[str, ...]:
    """Return the algorithms that a CUDA device can be given: none that goes through the images one by one."""
    programs = target.programs(geometry)
    names = []
    for name in available_algorithms(geometry):
        algorithm = _ALGORITHMS[name]
        if (name in programs or not algorithm.sequential) and (folding or not algorithm.folds):
            names.append(name)
    return tuple(names)


@remembered
def _cheapest(geometry: Geometry, usable: _Usable) -> str:
    cheapest, least = "", inf
    for name in available_algorithms(geometry):
        algorithm = _ALGORITHMS[name]
        if algorithm.sequential and not (usable.operators if algorithm.is_operator else usable.loops):
            continue
        if algorithm.folds and not usable.folding:
            continue
        cost = algorithm.cost(geometry)
        # Equal costs go to the first in the table.
        if cost < least:
            cheapest, least = name, cost
    return cheapest
