"""This module computes a dense convolution with one kernel per image as matrix products, a block of kernels at a time.

Each output pixel is the product of its patch, the J = h w C numbers that the kernel sees, with the image's own (J, O)
kernel. Kernels of several megabytes cost more to write to memory and to read again than to multiply with. So a block
of j rows of the kernels of n images is mixed, multiplied while it is in the cache, and overwritten by the next one;
the backward pass mixes the kernels anew. What a training step holds does not grow with the batch's kernels.

On the CPU a patch is cut into its h lines: the lines of one image are rows of one matrix, its *strip*, for every line,
so that w copies of the image are made instead of h w. Used by `algorithms` only.

Dimensions: B images, n of them in a chunk, C input and O output channels, K kernels, h x w kernel size, P output
pixels, J = h w C, q numbers in a line of a patch (w C) or in a whole one (J).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels.derivatives import gradients_by_torch
from dyconv.kernels.geometry import Pair
from dyconv.kernels.kernel_ops import add_gradients, by_output, by_patch, flipped, mix, permuted_by_patch
from dyconv.kernels.tracing import is_ordinary, remembered, without_autocast

_KERNEL_BYTES = 64 * 2**20
"""Bytes for the kernels of a chunk that are not cut: fewer would mean too many passes over the K shared ones."""
_BLOCK_BYTES = 2 * 2**20
"""Bytes for a block of kernels that are cut: it should still be in the cache when it is multiplied."""
_PATCH_BYTES = 2 * 2**20
"""Bytes for the patches of a chunk, for the same reason."""
_READ_BYTES = 8 * 2**20
"""Bytes for pixels and their gradients where both are read twice: the larger cache will do."""
_DEVICE_BYTES = 2**30
"""Bytes for kernels, and for patches, on other devices: they run through everything at once, if there is room."""
_IMAGES = 16
"""The least number of images whose kernels are mixed in one pass over the K shared ones."""
_ROWS = 32
"""The least number of kernel rows in a block: a product over fewer is slow."""
_FEW_COLUMNS = 16
"""Fewer columns than this do not fill the registers of a product."""


class PatchGrid(NamedTuple):
    """The patches of an image: their size, their distances, and the size of the map that they give."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    output_size: Pair

    @property
    def pointwise(self) -> bool:
        """True if each patch is one pixel."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0)

    @property
    def every_pixel(self) -> bool:
        """True if the patches are all pixels of the image, in order."""
        return self.pointwise and self.stride == (1, 1)

    @property
    def flippable(self) -> bool:
        """True if the input's gradient is such a convolution of the output's gradient, with flipped kernels."""
        # The gradient's convolution has a padding of d (k − 1) − p, which must not be negative.
        return self.stride == (1, 1) and all(d * (k - 1) >= p for d, k, p in self._axes)

    @property
    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.dilation, self.kernel_size, self.padding, strict=True))

    def flipped(self, input_size: Pair) -> "PatchGrid":
        """Return the patches of that convolution, which gives the input's size back."""
        top, left = (d * (k - 1) - p for d, k, p in self._axes)
        return self._replace(padding=(top, left), output_size=input_size)


def mixed_product(input: Tensor, weight: Tensor, attention: Tensor, grid: PatchGrid) -> Tensor:
    """Return the channels-last (B, O, H', W') convolution of (B, C, H, W), each with its own mix of (K, O, C, h, w).

    A second derivative is taken through `differentiable_product`.
    """
    return _MixedProduct.apply(input, weight, attention, grid)  # type: ignore[no-any-return]


def differentiable_product(input: Tensor, weight: Tensor, attention: Tensor, grid: PatchGrid) -> Tensor:
    """Return the same convolution by operations that torch can differentiate, compile and export.

    It keeps the kernel of every image.
    """
    (batch, channels), out_channels = input.shape[:2], weight.shape[1]
    if grid.pointwise:
        rows = _rows(input, grid.stride)
    else:
        h, w = grid.kernel_size
        patches = F.unfold(input, grid.kernel_size, grid.dilation, grid.padding, grid.stride)  # (B, C h w, P)
        # `unfold` has the channels before the taps, and the kernels have the taps first.
        rows = torch.unflatten(patches, 1, (channels, h * w)).permute(0, 3, 2, 1).flatten(2)
    kernels = (attention @ permuted_by_patch(weight)).reshape(batch, rows.shape[2], out_channels)
    maps = torch.bmm(rows, kernels).reshape(batch, *grid.output_size, out_channels)
    return maps.permute(0, 3, 1, 2)


def _rows(input: Tensor, stride: Pair) -> Tensor:
    """Return (B, C, H, W) as (B, P, C); a view for channels-last if every pixel is used."""
    if stride != (1, 1):
        input = input[:, :, :: stride[0], :: stride[1]]
    return input.permute(0, 2, 3, 1).flatten(1, 2)


class _MixedProduct(torch.autograd.Function):
    """`mixed_product` with its first derivative written by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, attention: Tensor, grid: PatchGrid) -> Tensor:
        # Pixels by rows, (B, H, W, C): no copy for channels-last images.
        images, shared = input.permute(0, 2, 3, 1).contiguous(), by_patch(weight)
        ctx.grid = grid
        ctx.save_for_backward(input, weight, attention, shared)
        plan = _plan(images, shared, grid)
        # One product: nothing is cut, so that neither patches nor a buffer are needed.
        if grid.every_pixel and plan.is_whole(images):
            maps = torch.bmm(images.flatten(1, 2), mix(attention, shared).view(len(images), -1, plan.columns))
            return maps.view(-1, *grid.output_size, plan.columns).permute(0, 3, 1, 2)
        output = images.new_empty(images.shape[0], *grid.output_size, plan.columns)
        rows = output.flatten(1, 2)
        for chunk, block in _chunks(images, plan):
            _multiply(rows[chunk], _parts(images[chunk], grid, plan.cut), block, attention[chunk], shared)
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Read once: hooks that pack saved tensors, as checkpointing does, unpack them at each reading.
        input, weight, attention, shared = ctx.saved_tensors
        # With `create_graph`, and under transforms of torch, the gradient itself must be differentiable.
        if torch.is_grad_enabled() or not is_ordinary(input, weight, attention, shared, grads[0]):
            compute = partial(differentiable_product, grid=ctx.grid)
            with without_autocast(input.device.type):
                saved = input, weight, attention
                return (*gradients_by_torch(compute, saved, grads[0], ctx.needs_input_grad), None)
        images, grad = input.permute(0, 2, 3, 1).contiguous(), grads[0].permute(0, 2, 3, 1).contiguous()
        with without_autocast(input.device.type):
            gradients = _gradients(images, shared, attention, grad.flatten(1, 2), ctx.grid, ctx.needs_input_grad)
        to_images, to_shared, to_attention = gradients
        to_input = to_weight = None
        if to_images is not None:
            to_input = to_images.permute(0, 3, 1, 2)
        if to_shared is not None:
            to_weight = by_output(to_shared, weight)
        return to_input, to_weight, to_attention, None


def _gradients(
    images: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, grid: PatchGrid, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of images, K kernels and attention; None for those that are not needed."""
    if grid.pointwise and needed[0]:
        return _pointwise_gradients(images, shared, attention, grad, grid)
    to_images = _image_gradient(images, shared, attention, grad, grid) if needed[0] else None
    if not any(needed[1:3]):
        return to_images, None, None
    return to_images, *_kernel_gradients(images, shared, attention, grad, grid)


class _Work(NamedTuple):
    """The work to cut: images, the most of them at a time, numbers in a patch and in a line, output channels.

    `kernel_bytes` are for the kernels of a chunk that are not cut.
    """

    images: int
    most: int
    patch: int
    line: int
    columns: int
    element_size: int
    kernel_bytes: int = _KERNEL_BYTES


class _Plan(NamedTuple):
    """The cut: whether patches are cut into lines, images and kernel rows at a time, output channels."""

    cut: bool
    images: int
    rows: int
    columns: int

    def is_whole(self, images_BHWC: Tensor) -> bool:
        """Return True if one step computes everything, where patches are pixels."""
        return self.images >= images_BHWC.shape[0] and self.rows >= images_BHWC.shape[3]


def _plan(images: Tensor, weight: Tensor, grid: PatchGrid) -> _Plan:
    """Return the cut of a convolution into blocks that fit the caches of a CPU.

    On other devices, and in half precision, patches stay whole: a half-precision sum would be rounded at each piece.
    """
    h, w = grid.kernel_size
    batch, line, element_size = images.shape[0], w * images.shape[3], images.element_size()
    columns = weight.shape[1] // (h * line)
    cut = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64)
    max_images = batch
    # Pointwise patches are views of the images; all others are copied, and take memory.
    if not grid.pointwise:
        pixels = grid.output_size[0] * grid.output_size[1]
        max_images = _bytes_on(images, _PATCH_BYTES) // (pixels * (line if cut else h * line) * element_size)
    kernel_bytes = _bytes_on(images, _KERNEL_BYTES)
    return _cut(_Work(batch, max_images, h * line, line, columns, element_size, kernel_bytes), cut)


def _bytes_on(images: Tensor, on_cpu: int) -> int:
    """Return the bytes for something on the device of the images: where there are no caches to fit, more."""
    return on_cpu if images.device.type == "cpu" else _DEVICE_BYTES


@remembered
def _cut(work: _Work, cut: bool) -> _Plan:
    """Return the sizes of the pieces of the work; without `cut`, patches stay whole."""
    # Kernel rows that fit the budget, shared between images and rows of each: images first, rows get what is left.
    row_bytes = work.columns * work.element_size
    if not cut:
        whole_patches = max(work.kernel_bytes // row_bytes // work.patch, 1)
        return _Plan(cut, _shared_out(work.images, min(whole_patches, work.most)), work.patch, work.columns)
    budget = _BLOCK_BYTES // row_bytes
    images = _shared_out(work.images, min(max(budget // work.patch, _IMAGES), work.most))
    rows = _shared_out(work.line, max(_ROWS, budget // images))
    return _Plan(cut, images, rows, work.columns)


def _shared_out(total: int, most: int) -> int:
    """Return the size of a piece, at most `most` and at least one, when `total` is divided evenly."""
    # -(-a // b) is a / b rounded up: the number of pieces, then their size.
    return -(-total // -(-total // max(1, min(most, total))))


def _chunks(images: Tensor, plan: _Plan) -> Iterator[tuple[slice, Tensor]]:
    """Yield the next images as a slice, and a buffer for a block of their kernels, the same one for all."""
    batch = images.shape[0]
    buffer = images.new_empty(plan.images, plan.rows, plan.columns)
    for start in range(0, batch, plan.images):
        chunk = slice(start, min(batch, start + plan.images))
        yield chunk, buffer[: chunk.stop - start]


def _blocks(parts: Sequence[Tensor], block: Tensor) -> Iterator[tuple[Tensor, slice, Tensor]]:
    """Yield (n, P, j) columns of the parts, the range of the K kernels that meets them, and a buffer for mixtures."""
    rows, columns = block.shape[1:]
    buffer = block.flatten()
    first = 0  # kernel rows of the parts before
    for patches in parts:
        length = patches.shape[2]
        for start in range(0, length, rows):
            piece = patches if length <= rows else patches[:, :, start : start + rows]
            n, _, j = piece.shape
            reach = slice((first + start) * columns, (first + start + j) * columns)
            yield piece, reach, buffer[: n * j * columns].view(n, j, columns)
        first += length


def _multiply(result: Tensor, parts: Sequence[Tensor], block: Tensor, attention: Tensor, weight: Tensor) -> None:
    """Write the (n, P, O) products of the patches of some images with their kernels."""
    # The first block writes, the others add: `result` need not be zero before.
    for index, (patches, reach, kernels) in enumerate(_blocks(parts, block)):
        mix(attention, weight[:, reach], kernels.flatten(1))
        if index:
            result.baddbmm_(patches, kernels)
        else:
            torch.bmm(patches, kernels, out=result)


def _pointwise_gradients(
    images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, grid: PatchGrid
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of images, kernels and attention where a patch is a pixel, in one pass over the pixels."""
    (batch, channels), (s, t) = (images.shape[0], images.shape[3]), grid.stride
    # Sums over the batch are kept in single precision at least.
    exact = torch.promote_types(weight.dtype, torch.float32)
    sums = torch.zeros_like(weight, dtype=exact), torch.zeros_like(attention, dtype=exact)
    out_channels, size = grad.shape[2], grad.element_size()
    max_images = _bytes_on(images, _READ_BYTES) // (grad.shape[1] * (channels + out_channels) * size)
    work = _Work(batch, max_images, channels, channels, out_channels, size, _bytes_on(images, _KERNEL_BYTES))
    # Half precision is not cut, as in `_plan`: its sums would be rounded at each piece.
    plan = _cut(work, images.device.type == "cpu" and exact == images.dtype)
    strided = not grid.every_pixel
    if not strided and plan.is_whole(images):
        kernels = mix(attention, weight).view(batch, channels, out_channels)
        to_images = torch.bmm(grad, kernels.transpose(1, 2)).view_as(images)
        # The mixed kernels are no longer needed: their gradients overwrite them.
        _kernels_gradient(images.flatten(1, 2), grad, kernels)
        add_gradients(attention, weight, kernels.flatten(1), sums[1], sums[0])
        return to_images, sums[0].to(weight.dtype), sums[1].to(attention.dtype)
    # With a stride, the pixels in between meet no kernel and keep a gradient of zero.
    to_images = torch.zeros_like(images) if strided else torch.empty_like(images)
    for chunk, block in _chunks(images, plan):
        rows = images[chunk, ::s, ::t].flatten(1, 2)
        for pixels, reach, kernels in _blocks([rows], block):
            mix(attention[chunk], weight[:, reach], kernels.flatten(1))
            if not strided and pixels is rows:
                torch.bmm(grad[chunk], kernels.transpose(1, 2), out=to_images[chunk].flatten(1, 2))
            else:
                first = reach.start // plan.columns
                pixels_grad = torch.bmm(grad[chunk], kernels.transpose(1, 2)).view(
                    -1, *grid.output_size, kernels.shape[1]
                )
                to_images[chunk, ::s, ::t, first : first + kernels.shape[1]] = pixels_grad
            _kernels_gradient(pixels, grad[chunk], kernels)
            _add_up(sums, weight, attention, kernels.flatten(1), chunk, reach)
    return to_images, sums[0].to(weight.dtype), sums[1].to(attention.dtype)


def _kernels_gradient(patches: Tensor, grad: Tensor, kernels: Tensor) -> None:
    """Write the (n, j, O) gradients of mixed kernels, from (n, P, j) patches and the (n, P, O) gradient of the output.

    Where there are few outputs, the product is faster the other way round.
    """
    if grad.shape[2] < min(_FEW_COLUMNS, patches.shape[2]):
        kernels.copy_(torch.bmm(grad.transpose(1, 2), patches).transpose(1, 2))
    else:
        torch.bmm(patches.transpose(1, 2), grad, out=kernels)


def _add_up(
    sums: tuple[Tensor, Tensor], weight: Tensor, attention: Tensor, to_kernels: Tensor, chunk: slice, reach: slice
) -> None:
    """Add the gradients of some mixed kernels to those of the K kernels and of attention."""
    to_weight, to_attention = sums
    add_gradients(attention[chunk], weight[:, reach], to_kernels, to_attention[chunk], to_weight[:, reach])


def _kernel_gradients(
    images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, grid: PatchGrid
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the K kernels and of attention; sums over images in single precision at least."""
    plan = _plan(images, weight, grid)
    exact = torch.promote_types(weight.dtype, torch.float32)
    sums = torch.zeros_like(weight, dtype=exact), torch.zeros_like(attention, dtype=exact)
    for chunk, block in _chunks(images, plan):
        for patches, reach, kernels in _blocks(_parts(images[chunk], grid, plan.cut), block):
            _kernels_gradient(patches, grad[chunk], kernels)
            _add_up(sums, weight, attention, kernels.flatten(1), chunk, reach)
    return sums[0].to(weight.dtype), sums[1].to(attention.dtype)


def _image_gradient(images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, grid: PatchGrid) -> Tensor:
    """Return the gradient of the images: a convolution with flipped kernels where the patches allow it."""
    batch, height, width, channels = images.shape
    out_channels = grad.shape[2]
    maps = grad.view(batch, *grid.output_size, out_channels)
    if not grid.flippable:
        return _scattered(images, weight, attention, maps, grid)
    flipped_grid, kernels = grid.flipped((height, width)), flipped(weight, channels, grid.kernel_size)
    result = torch.empty_like(images)
    plan = _plan(maps, kernels, flipped_grid)
    for chunk, block in _chunks(maps, plan):
        pixels = result[chunk].view(-1, height * width, channels)
        _multiply(pixels, _parts(maps[chunk], flipped_grid, plan.cut), block, attention[chunk], kernels)
    return result


def _scattered(images: Tensor, weight: Tensor, attention: Tensor, maps: Tensor, grid: PatchGrid) -> Tensor:
    """Return the gradient of the images by adding that of each kernel tap's pixels at the pixels they came from."""
    _, height, width, channels = images.shape
    (h, w), (s, t), (p, q), (d, e) = grid.kernel_size, grid.stride, grid.padding, grid.dilation
    rows, columns = grid.output_size
    # With the padding around it, so that no tap needs a test at the border; it is cut off at the end.
    padded = images.new_zeros(images.shape[0], height + 2 * p, width + 2 * q, channels)
    out_channels = maps.shape[3]
    taps = weight.view(weight.shape[0], h, w, channels * out_channels)
    size = images.element_size()
    max_images = _bytes_on(images, _PATCH_BYTES) // (rows * columns * channels * size)
    work = _Work(images.shape[0], max_images, channels, channels, out_channels, size, _bytes_on(images, _KERNEL_BYTES))
    # Not cut any further: a tap of the kernels is a block already.
    for chunk, block in _chunks(maps, _cut(work, False)):
        grad = maps[chunk].flatten(1, 2)
        for i in range(h):
            for j in range(w):
                mix(attention[chunk], taps[:, i, j], block.flatten(1))
                below, right = i * d + s * (rows - 1) + 1, j * e + t * (columns - 1) + 1
                gradient = torch.bmm(grad, block.transpose(1, 2)).view(-1, rows, columns, channels)
                padded[chunk, i * d : below : s, j * e : right : t] += gradient
    return padded[:, p : p + height, q : q + width].contiguous()


def _parts(images_nHWC: Tensor, grid: PatchGrid, cut: bool) -> list[Tensor]:
    """Return the patches of contiguous images as (n, P, q) parts, one for each of their lines or, uncut, one for all.

    They are views where patches are pixels next to each other, and where lines lie below each other.
    """
    n, channels = images_nHWC.shape[0], images_nHWC.shape[3]
    (h, w), (s, t), (p, q), (d, e) = grid.kernel_size, grid.stride, grid.padding, grid.dilation
    if grid.pointwise:
        return [images_nHWC[:, ::s, ::t].flatten(1, 2)]
    if p or q:
        images_nHWC = F.pad(images_nHWC, (0, 0, q, q, p, p))
    image, row, column, _ = images_nHWC.stride()
    rows, columns = grid.output_size
    start = images_nHWC.storage_offset()
    if not cut:
        shape = (n, rows, columns, h, w, channels)
        strides = (image, row * s, column * t, row * d, column * e, 1)
        return [images_nHWC.as_strided(shape, strides, start).reshape(n, -1, h * w * channels)]
    # Lines overlap in the images: each product that reads a view of them would copy it.
    lines = (n, images_nHWC.shape[1], columns, w, channels)
    strip = images_nHWC.as_strided(lines, (image, row, column * t, column * e, 1), start).contiguous().flatten(3)
    return [strip[:, i * d : i * d + s * (rows - 1) + 1 : s].flatten(1, 2) for i in range(h)]
