"""A dense convolution with one kernel per image as matrix products, a few images at a time.

Each output pixel is the product of its patch, the J = h w C numbers that the kernel sees, with the image's own (J, O)
kernel. Images are taken in chunks whose kernels and patches fit a buffer that is used again, and the backward pass
mixes the kernels anew instead of keeping them: what a training step holds does not grow with the batch's kernels.
Used by `algorithms` only.

Dimensions: B images, n of them in a chunk, C input and O output channels, K kernels, h x w kernel size, P output
pixels, J = h w C.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.remembering import remembered

Pair = tuple[int, int]

_KERNEL_BYTES = 64 * 2**20
"""What the kernels of a chunk may take: fewer would mean too many passes over the K shared ones."""
_PATCH_BYTES = 4 * 2**20
"""What the patches of a chunk may take: they should still be in the cache when they are multiplied."""


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


def mixed_product(images_BHWC: Tensor, weight_KN: Tensor, attention_BK: Tensor, window: Window) -> Tensor:
    """Return the (B, P, O) convolution of contiguous images, each with its own mixture of the K kernels.

    A row of `weight_KN` is one kernel in the order (h, w, C, O). A second derivative is taken through
    `differentiable_product`.
    """
    output: Tensor = _MixedProduct.apply(images_BHWC, weight_KN, attention_BK, window)
    return output


def differentiable_product(images_BHWC: Tensor, weight_KN: Tensor, attention_BK: Tensor, window: Window) -> Tensor:
    """Return the same from operations that torch can differentiate, compile and export; it keeps every kernel."""
    batch, channels = images_BHWC.shape[0], images_BHWC.shape[3]
    if window.pointwise:
        rows = images_BHWC[:, :: window.stride[0], :: window.stride[1]].flatten(1, 2)
    else:
        h, w = window.kernel_size
        patches = F.unfold(
            images_BHWC.permute(0, 3, 1, 2), window.kernel_size, window.dilation, window.padding, window.stride
        )  # (B, C h w, P)
        rows = torch.unflatten(patches, 1, (channels, h * w)).permute(0, 3, 2, 1).flatten(2)
    kernels = (attention_BK @ weight_KN).reshape(batch, rows.shape[2], weight_KN.shape[1] // rows.shape[2])
    return torch.bmm(rows, kernels)


class _MixedProduct(torch.autograd.Function):
    """`mixed_product` with its first derivative written by hand."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor, attention: Tensor, window: Window) -> Tensor:
        batch, patch, out_channels = _sizes(images, weight, window)
        pixels = window.output_size[0] * window.output_size[1]
        output = images.new_empty(batch, pixels, out_channels)
        chunk = _chunk(batch, weight.shape[1], pixels * patch, images.element_size())
        kernels = images.new_empty(chunk, weight.shape[1])
        for start in range(0, batch, chunk):
            part = slice(start, min(batch, start + chunk))
            used = kernels[: part.stop - start]
            torch.mm(attention[part], weight, out=used)
            rows = _patches(images[part], window)
            torch.bmm(rows, used.view(-1, patch, out_channels), out=output[part])
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        images, weight, attention, ctx.window = inputs
        ctx.save_for_backward(images, weight, attention)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, attention = ctx.saved_tensors
        with torch.autocast(images.device.type, enabled=False):
            if torch.is_grad_enabled():
                return (*_differentiable_gradients((images, weight, attention), grads[0], ctx.window), None)
            grad = grads[0].contiguous()
            return (*_gradients(images, weight, attention, grad, ctx.window, ctx.needs_input_grad), None)


def _differentiable_gradients(saved: tuple[Tensor, ...], grad: Tensor, window: Window) -> list[Tensor | None]:
    """The gradients as functions that can be differentiated again; taken when a graph of them is asked for."""
    wanted = [tensor for tensor in saved if tensor.requires_grad]
    images, weight, attention = saved
    output = differentiable_product(images, weight, attention, window)
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in saved]


def _gradients(
    images: Tensor, weight: Tensor, attention: Tensor, grad: Tensor, window: Window, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    batch, patch, out_channels = _sizes(images, weight, window)
    chunk = _chunk(batch, weight.shape[1], grad.shape[1] * patch, images.element_size())
    kernels = images.new_empty(chunk, weight.shape[1])
    to_images = torch.empty_like(images) if needed[0] else None
    # Sums over chunks are kept in single precision at least.
    exact = torch.promote_types(weight.dtype, torch.float32)
    to_weight, to_attention = torch.zeros_like(weight, dtype=exact), torch.empty_like(attention)
    turned = _flipped(weight, images.shape[3], window) if needed[0] and window.flippable else None
    for start in range(0, batch, chunk):
        part = slice(start, min(batch, start + chunk))
        used = kernels[: part.stop - start]
        if to_images is not None:
            torch.mm(attention[part], weight if turned is None else turned, out=used)
            _image_gradient(to_images[part], used, grad[part], window)
        if needed[1] or needed[2]:
            rows = _patches(images[part], window)
            torch.bmm(rows.transpose(1, 2), grad[part], out=used.view(-1, patch, out_channels))
            to_attention[part] = used @ weight.t()
            if exact == weight.dtype:
                to_weight.addmm_(attention[part].t(), used)
            else:
                to_weight += attention[part].t() @ used
    return to_images, to_weight.to(weight.dtype) if needed[1] else None, to_attention if needed[2] else None


def _image_gradient(result: Tensor, kernels: Tensor, grad_nPO: Tensor, window: Window) -> None:
    """Write the gradient of the images of a chunk; `kernels` are flipped where the window can be."""
    n, height, width, channels = result.shape
    if window.flippable:
        turned = window.flipped((height, width))
        patches = _patches(grad_nPO.view(n, *window.output_size, -1), turned)
        torch.bmm(patches, kernels.view(n, -1, channels), out=result.view(n, height * width, channels))
        return
    (h, w), (s, t), (p, q), (d, e) = window.kernel_size, window.stride, window.padding, window.dilation
    rows, columns = window.output_size
    patches = torch.bmm(grad_nPO, kernels.view(n, -1, grad_nPO.shape[2]).transpose(1, 2))
    patches = patches.view(n, rows, columns, h, w, channels)
    padded = result.new_zeros(n, height + 2 * p, width + 2 * q, channels)
    for i in range(h):
        for j in range(w):
            below, right = i * d + s * (rows - 1) + 1, j * e + t * (columns - 1) + 1
            padded[:, i * d : below : s, j * e : right : t] += patches[:, :, :, i, j]
    result.copy_(padded[:, p : p + height, q : q + width])


def _flipped(weight: Tensor, channels: int, window: Window) -> Tensor:
    """The K kernels from outputs to inputs: turned by half a circle, in the order (h, w, O, C)."""
    h, w = window.kernel_size
    kernels = weight.view(weight.shape[0], h, w, channels, -1)
    return kernels.flip(1, 2).transpose(3, 4).reshape(weight.shape[0], -1)


def _patches(images_nHWC: Tensor, window: Window) -> Tensor:
    """The (n, P, J) patches of contiguous images: a view where they are pixels next to each other."""
    n, channels = images_nHWC.shape[0], images_nHWC.shape[3]
    (h, w), (s, t), (p, q), (d, e) = window.kernel_size, window.stride, window.padding, window.dilation
    if window.pointwise:
        return images_nHWC[:, ::s, ::t].flatten(1, 2)
    if p or q:
        images_nHWC = F.pad(images_nHWC, (0, 0, q, q, p, p))
    image, row, column, _ = images_nHWC.stride()
    shape = (n, *window.output_size, h, w, channels)
    strides = (image, row * s, column * t, row * d, column * e, 1)
    return images_nHWC.as_strided(shape, strides, images_nHWC.storage_offset()).reshape(n, -1, h * w * channels)


def _sizes(images: Tensor, weight: Tensor, window: Window) -> tuple[int, int, int]:
    """Batch, numbers in a patch, output channels."""
    patch = window.kernel_size[0] * window.kernel_size[1] * images.shape[3]
    return images.shape[0], patch, weight.shape[1] // patch


@remembered
def _chunk(batch: int, kernel: int, patches: int, element_size: int) -> int:
    """How many images are taken at a time, as evenly as they can be shared out."""
    most = min(_KERNEL_BYTES // (kernel * element_size), _PATCH_BYTES // (patches * element_size), batch)
    chunks = -(-batch // max(1, most))
    return -(-batch // chunks) if chunks else 1
