"""A dense convolution with one kernel per image as matrix products, some images and some kernel rows at a time.

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
from dyconv.kernels.kernel_ops import add_gradients, by_output, by_patch, flipped, mix, permuted_by_patch
from dyconv.kernels.tracing import is_ordinary, remembered, without_autocast

Pair = tuple[int, int]

_KERNEL_BYTES = 64 * 2**20
"""What the kernels of a chunk may take where they are not cut: fewer would mean too many passes over the K shared."""
_BLOCK_BYTES = 2 * 2**20
"""What a block of them may take where they are: it should still be in the cache when it is multiplied."""
_PATCH_BYTES = 2 * 2**20
"""What the patches of a chunk may take, for the same reason."""
_READ_BYTES = 8 * 2**20
"""What pixels and their gradients may take where both are read twice: the larger cache will do."""
_IMAGES = 16
"""Images whose kernels are mixed in one pass over the K shared ones, at least."""
_ROWS = 32
"""Kernel rows in a block, at least: a product over fewer is slow."""
_FEW_COLUMNS = 16
"""Fewer columns than this do not fill the registers of a product."""


class Window(NamedTuple):
    """Where the patches of an image lie."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    output_size: Pair

    @property
    def pointwise(self) -> bool:
        """Whether each patch is one pixel."""
        return self.kernel_size == (1, 1) and self.padding == (0, 0)

    @property
    def every_pixel(self) -> bool:
        """Whether the patches are all pixels of the image, in order."""
        return self.pointwise and self.stride == (1, 1)

    @property
    def flippable(self) -> bool:
        """Whether the input's gradient is itself such a convolution, with flipped kernels, of the output's gradient."""
        return self.stride == (1, 1) and all(d * (k - 1) >= p for d, k, p in self._axes)

    @property
    def _axes(self) -> list[tuple[int, int, int]]:
        return list(zip(self.dilation, self.kernel_size, self.padding, strict=True))

    def flipped(self, input_size: Pair) -> "Window":
        """Return the window of that convolution, which gives the input's size back."""
        top, left = (d * (k - 1) - p for d, k, p in self._axes)
        return self._replace(padding=(top, left), output_size=input_size)


def mixed_product(input: Tensor, weight: Tensor, attention: Tensor, window: Window) -> Tensor:
    """Return the channels-last (B, O, H', W') convolution of (B, C, H, W), each with its own mix of (K, O, C, h, w).

    A second derivative is taken through `differentiable_product`.
    """
    return _MixedProduct.apply(input, weight, attention, window)  # type: ignore[no-any-return]


def differentiable_product(input: Tensor, weight: Tensor, attention: Tensor, window: Window) -> Tensor:
    """Return the same from operations that torch can differentiate, compile and export; it keeps every kernel."""
    (batch, channels), out_channels = input.shape[:2], weight.shape[1]
    if window.pointwise:
        rows = _rows(input, window.stride)
    else:
        h, w = window.kernel_size
        patches = F.unfold(input, window.kernel_size, window.dilation, window.padding, window.stride)  # (B, C h w, P)
        rows = torch.unflatten(patches, 1, (channels, h * w)).permute(0, 3, 2, 1).flatten(2)
    kernels = (attention @ permuted_by_patch(weight)).reshape(batch, rows.shape[2], out_channels)
    maps = torch.bmm(rows, kernels).reshape(batch, *window.output_size, out_channels)
    return maps.permute(0, 3, 1, 2)


def _rows(input: Tensor, stride: Pair) -> Tensor:
    """(B, C, H, W) to (B, P, C); a view for channels-last where each pixel counts."""
    if stride != (1, 1):
        input = input[:, :, :: stride[0], :: stride[1]]
    return input.permute(0, 2, 3, 1).flatten(1, 2)


class _MixedProduct(torch.autograd.Function):
    """`mixed_product` with its first derivative written by hand."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, attention: Tensor, window: Window) -> Tensor:
        images, shared = input.permute(0, 2, 3, 1).contiguous(), by_patch(weight)
        ctx.window = window
        ctx.save_for_backward(input, weight, attention, shared)
        plan = _plan(images, shared, window)
        if window.every_pixel and plan.is_whole(images):
            maps = torch.bmm(images.flatten(1, 2), mix(attention, shared).view(len(images), -1, plan.columns))
            return maps.view(-1, *window.output_size, plan.columns).permute(0, 3, 1, 2)
        output = images.new_empty(images.shape[0], *window.output_size, plan.columns)
        rows = output.flatten(1, 2)
        for part, block in _chunks(images, plan):
            _multiply(rows[part], _parts(images[part], window, plan.cut), block, attention[part], shared)
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Read once: who packs what is saved, as checkpointing does, unpacks it once.
        input, weight, attention, shared = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_ordinary(input, weight, attention, shared, grads[0]):
            compute = partial(differentiable_product, window=ctx.window)
            with without_autocast(input.device.type):
                saved = input, weight, attention
                return (*gradients_by_torch(compute, saved, grads[0], ctx.needs_input_grad), None)
        images, grad = input.permute(0, 2, 3, 1).contiguous(), grads[0].permute(0, 2, 3, 1).contiguous()
        with without_autocast(input.device.type):
            found = _gradients(images, shared, attention, grad.flatten(1, 2), ctx.window, ctx.needs_input_grad)
        to_images, to_shared, to_attention = found
        to_input = None if to_images is None else to_images.permute(0, 3, 1, 2)
        return to_input, None if to_shared is None else by_output(to_shared, weight), to_attention, None


def _gradients(
    images: Tensor, shared: Tensor, attention: Tensor, grad: Tensor, window: Window, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    if window.pointwise and needed[0]:
        return _pointwise_gradients(images, shared, attention, grad, window)
    to_images = _image_gradient(images, shared, attention, grad, window) if needed[0] else None
    if not any(needed[1:3]):
        return to_images, None, None
    return to_images, *_kernel_gradients(images, shared, attention, grad, window)


class _Work(NamedTuple):
    """What there is to cut: images, how many of them at most, numbers in a patch and in a line, output channels."""

    images: int
    most: int
    patch: int
    line: int
    columns: int
    element_size: int


class _Plan(NamedTuple):
    """How it is cut: whether patches are cut into lines, images and kernel rows at a time, output channels."""

    cut: bool
    images: int
    rows: int
    columns: int

    def is_whole(self, images_BHWC: Tensor) -> bool:
        """Whether everything is done at once, where patches are pixels."""
        return self.images >= images_BHWC.shape[0] and self.rows >= images_BHWC.shape[3]


def _plan(images: Tensor, weight: Tensor, window: Window) -> _Plan:
    """Cut on a CPU, where caches are what counts; sums of lower precision are left in one piece, to be exact."""
    h, w = window.kernel_size
    batch, line, element_size = images.shape[0], w * images.shape[3], images.element_size()
    columns = weight.shape[1] // (h * line)
    cut = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64)
    most = batch
    if not window.pointwise:
        pixels = window.output_size[0] * window.output_size[1]
        most = _PATCH_BYTES // (pixels * (line if cut else h * line) * element_size)
    return _cut(_Work(batch, most, h * line, line, columns, element_size), cut)


@remembered
def _cut(work: _Work, cut: bool) -> _Plan:
    budget = (_BLOCK_BYTES if cut else _KERNEL_BYTES) // (work.columns * work.element_size)
    images = _shared_out(work.images, min(max(budget // work.patch, _IMAGES if cut else 1), work.most))
    rows = _shared_out(work.line, max(_ROWS, budget // images)) if cut else work.patch
    return _Plan(cut, images, rows, work.columns)


def _shared_out(total: int, most: int) -> int:
    """The largest piece of at most `most` (but one at least) when `total` is shared out evenly."""
    return -(-total // -(-total // max(1, min(most, total))))


def _chunks(images: Tensor, plan: _Plan) -> Iterator[tuple[slice, Tensor]]:
    """Yield which images come next, and a buffer for a block of their kernels, the same one for all."""
    batch = images.shape[0]
    buffer = images.new_empty(plan.images, plan.rows, plan.columns)
    for start in range(0, batch, plan.images):
        part = slice(start, min(batch, start + plan.images))
        yield part, buffer[: part.stop - start]


def _blocks(parts: Sequence[Tensor], block: Tensor) -> Iterator[tuple[Tensor, slice, Tensor]]:
    """Yield (n, P, j) columns of the parts, the columns of the K kernels that meet them, and a buffer for these."""
    rows, columns = block.shape[1:]
    buffer = block.flatten()
    first = 0
    for part in parts:
        length = part.shape[2]
        for start in range(0, length, rows):
            some = part if length <= rows else part[:, :, start : start + rows]
            n, _, j = some.shape
            reach = slice((first + start) * columns, (first + start + j) * columns)
            yield some, reach, buffer[: n * j * columns].view(n, j, columns)
        first += length


def _multiply(result: Tensor, parts: Sequence[Tensor], block: Tensor, attention: Tensor, weight: Tensor) -> None:
    """Write the (n, P, O) products of the patches of some images with their kernels."""
    for index, (patches, reach, kernels) in enumerate(_blocks(parts, block)):
        mix(attention, weight[:, reach], kernels.flatten(1))
        if index:
            result.baddbmm_(patches, kernels)
        else:
            torch.bmm(patches, kernels, out=result)


def _pointwise_gradients(
    images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, window: Window
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of images, kernels and attention where a patch is a pixel, so that each is read once."""
    (batch, channels), (s, t) = (images.shape[0], images.shape[3]), window.stride
    exact = torch.promote_types(weight.dtype, torch.float32)
    sums = torch.zeros_like(weight, dtype=exact), torch.zeros_like(attention, dtype=exact)
    out_channels, size = grad.shape[2], grad.element_size()
    most = _READ_BYTES // (grad.shape[1] * (channels + out_channels) * size)
    work = _Work(batch, most, channels, channels, out_channels, size)
    plan = _cut(work, images.device.type == "cpu" and exact == images.dtype)
    strided = not window.every_pixel
    if not strided and plan.is_whole(images):
        kernels = mix(attention, weight).view(batch, channels, out_channels)
        to_images = torch.bmm(grad, kernels.transpose(1, 2)).view_as(images)
        _kernels_gradient(images.flatten(1, 2), grad, kernels)
        add_gradients(attention, weight, kernels.flatten(1), sums[1], sums[0])
        return to_images, sums[0].to(weight.dtype), sums[1].to(attention.dtype)
    to_images = torch.zeros_like(images) if strided else torch.empty_like(images)
    for part, block in _chunks(images, plan):
        rows = images[part, ::s, ::t].flatten(1, 2)
        for pixels, reach, kernels in _blocks([rows], block):
            mix(attention[part], weight[:, reach], kernels.flatten(1))
            if not strided and pixels is rows:
                torch.bmm(grad[part], kernels.transpose(1, 2), out=to_images[part].flatten(1, 2))
            else:
                first = reach.start // plan.columns
                found = torch.bmm(grad[part], kernels.transpose(1, 2)).view(-1, *window.output_size, kernels.shape[1])
                to_images[part, ::s, ::t, first : first + kernels.shape[1]] = found
            _kernels_gradient(pixels, grad[part], kernels)
            _add_up(sums, weight, attention, kernels.flatten(1), part, reach)
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
    sums: tuple[Tensor, Tensor], weight: Tensor, attention: Tensor, to_kernels: Tensor, part: slice, reach: slice
) -> None:
    """Add to the gradients of the K kernels and of attention what those of some mixed kernels bring."""
    to_weight, to_attention = sums
    add_gradients(attention[part], weight[:, reach], to_kernels, to_attention[part], to_weight[:, reach])


def _kernel_gradients(
    images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, window: Window
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the K kernels and of attention; sums over images in single precision at least."""
    plan = _plan(images, weight, window)
    exact = torch.promote_types(weight.dtype, torch.float32)
    sums = torch.zeros_like(weight, dtype=exact), torch.zeros_like(attention, dtype=exact)
    for part, block in _chunks(images, plan):
        for patches, reach, kernels in _blocks(_parts(images[part], window, plan.cut), block):
            _kernels_gradient(patches, grad[part], kernels)
            _add_up(sums, weight, attention, kernels.flatten(1), part, reach)
    return sums[0].to(weight.dtype), sums[1].to(attention.dtype)


def _image_gradient(images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, window: Window) -> Tensor:
    """Return the gradient of the images: a convolution with flipped kernels where the window allows it."""
    batch, height, width, channels = images.shape
    out_channels = grad.shape[2]
    maps = grad.view(batch, *window.output_size, out_channels)
    if not window.flippable:
        return _scattered(images, weight, attention, maps, window)
    turned, kernels = window.flipped((height, width)), flipped(weight, channels, window.kernel_size)
    result = torch.empty_like(images)
    plan = _plan(maps, kernels, turned)
    for part, block in _chunks(maps, plan):
        pixels = result[part].view(-1, height * width, channels)
        _multiply(pixels, _parts(maps[part], turned, plan.cut), block, attention[part], kernels)
    return result


def _scattered(images: Tensor, weight: Tensor, attention: Tensor, maps: Tensor, window: Window) -> Tensor:
    """Return it by adding the gradient of each kernel tap's pixels to where they came from."""
    _, height, width, channels = images.shape
    (h, w), (s, t), (p, q), (d, e) = window.kernel_size, window.stride, window.padding, window.dilation
    rows, columns = window.output_size
    padded = images.new_zeros(images.shape[0], height + 2 * p, width + 2 * q, channels)
    out_channels = maps.shape[3]
    taps = weight.view(weight.shape[0], h, w, channels * out_channels)
    size = images.element_size()
    most = _PATCH_BYTES // (rows * columns * channels * size)
    work = _Work(images.shape[0], most, channels, channels, out_channels, size)
    for part, block in _chunks(maps, _cut(work, False)):
        grad = maps[part].flatten(1, 2)
        for i in range(h):
            for j in range(w):
                mix(attention[part], taps[:, i, j], block.flatten(1))
                below, right = i * d + s * (rows - 1) + 1, j * e + t * (columns - 1) + 1
                found = torch.bmm(grad, block.transpose(1, 2)).view(-1, rows, columns, channels)
                padded[part, i * d : below : s, j * e : right : t] += found
    return padded[:, p : p + height, q : q + width].contiguous()


def _parts(images_nHWC: Tensor, window: Window, cut: bool) -> list[Tensor]:
    """The patches of contiguous images as (n, P, q) parts, one for each of their lines or, uncut, one for all.

    They are views where patches are pixels next to each other, and where lines lie below each other.
    """
    n, channels = images_nHWC.shape[0], images_nHWC.shape[3]
    (h, w), (s, t), (p, q), (d, e) = window.kernel_size, window.stride, window.padding, window.dilation
    if window.pointwise:
        return [images_nHWC[:, ::s, ::t].flatten(1, 2)]
    if p or q:
        images_nHWC = F.pad(images_nHWC, (0, 0, q, q, p, p))
    image, row, column, _ = images_nHWC.stride()
    rows, columns = window.output_size
    start = images_nHWC.storage_offset()
    if not cut:
        whole = (n, rows, columns, h, w, channels)
        strides = (image, row * s, column * t, row * d, column * e, 1)
        return [images_nHWC.as_strided(whole, strides, start).reshape(n, -1, h * w * channels)]
    # Lines overlap in the images: as a view they would be copied by each product that reads them.
    lines = (n, images_nHWC.shape[1], columns, w, channels)
    strip = images_nHWC.as_strided(lines, (image, row, column * t, column * e, 1), start).contiguous().flatten(3)
    return [strip[:, i * d : i * d + s * (rows - 1) + 1 : s].flatten(1, 2) for i in range(h)]
