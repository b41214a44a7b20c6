"""This module defines DCD's layer: a static kernel scaled per image, plus a low-rank product with a core per image.

Dimensions: B images, C input and O output channels, h x w kernel size, L x L core, S numbers of the squeezed image,
H' x W' output pixels.
"""

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.errors import ArgumentError
from dyconv.functional import IntOrPair, explicit_padding
from dyconv.kernels.folding import is_channels_last
from dyconv.kernels.pooling import at_least_float32, average_pool
from dyconv.kernels.tracing import is_known
from dyconv.layers.convolution import ConvolutionLayer
from dyconv.layers.kinds import register_layer

_SHARE = 16
"""The channels of the input, or numbers of the core, per number of the squeezed image."""
_LEAST_SQUEEZED = 4


def _gate(z: Tensor) -> Tensor:
    """Return h(z) = relu6(z + 3) / 3, from 0 to 2."""
    # Twice the hard sigmoid: 1 at z = 0, so that a scale begins around one.
    return F.relu6(z + 3) / 3


class DecompositionBranch(nn.Module):
    """Squeezes an image into a few numbers s, and makes the core and the channel scales of a layer from them.

    g = B p of the pooled image p, s = g h(A g), core = F s, scales = h(S s); no biases. `squeeze` is B, `gate` A,
    `core` F and `scale` S.

    Source: PAPER.md, "DCD" (Li et al. 2021).
    """

    def __init__(self, pooled: int, squeezed: int, core_size: int, out_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(pooled, squeezed, bias=False)
        self.gate = nn.Linear(squeezed, squeezed, bias=False)
        self.core = nn.Linear(squeezed, core_size**2, bias=False)
        self.scale = nn.Linear(squeezed, out_channels, bias=False)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, L L) numbers of the core and the (B, O) scales, both in float32 at least."""
        linear = self.squeeze(pooled)
        squeezed = linear * _gate(at_least_float32(self.gate(linear))).to(linear.dtype)
        return at_least_float32(self.core(squeezed)), _gate(at_least_float32(self.scale(squeezed)))

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of the four Linear layers for one image."""
        return sum(parameter.numel() for parameter in self.parameters())


@final
@register_layer("dcd", title="DCD-")
class DCDConv2d(ConvolutionLayer):
    """A convolution by dynamic channel fusion: W(x) = scale(x) W_0 + P core(x) Q, with one static kernel W_0.

    Arguments are those of `nn.Conv2d`, then `aggregation`; groups are not supported. There are no K kernels: `weight`
    is (1, O, C, h, w) and `bias` (1, O) or None. Of an image x the output is

        scale(x) * (W_0 x) + P (u + norm(core(x) u)) + bias,    u = norm(Q x),

    where Q (`reduce`) and P (`expand`) are 1 x 1 and the norms are batch norms (`reduced_norm`, `mixed_norm`). Q reads
    the pixel at the centre of the kernel, of the padding too. The attentions are "core", (B, L L) signed
    numbers, and "scale", (B, O) numbers from 0 to 2; `attention(x)` is the first and `scale(x)` the second.

    A 1 x 1 layer squeezes the average over all pixels, and L = floor(sqrt(C)). A larger one squeezes the 4 C averages
    over the quarters of the image (top left, top right, bottom left, bottom right of each channel; a middle row or
    column counts on both sides), and L = floor(sqrt(4 C)). The squeezed image has max(C, L L) / 16 numbers, at least 4.

    Raises:
        ArgumentError: a setting that cannot work, more than one group among them.
        AggregationError: an unknown strategy.

    Source: PAPER.md, "DCD" (Li et al. 2021).
    """

    def __init__(  # noqa: PLR0917 - the order of nn.Conv2d
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        aggregation: str = "attention",
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=1, aggregation=aggregation, attentions=("core", "scale"))
        if groups != 1:
            raise ArgumentError(f"DCD is defined for one group, got groups={groups}: leave such a layer static")
        pooled = in_channels
        if self.kernel_size != (1, 1):
            pooled = 4 * in_channels
        self.core_size = math.isqrt(pooled)
        squeezed = max(_LEAST_SQUEEZED, max(in_channels, self.core_size**2) // _SHARE)
        self.branch = DecompositionBranch(pooled, squeezed, self.core_size, out_channels)
        self.reduce = nn.Parameter(torch.empty(self.core_size, in_channels, 1, 1))
        self.expand = nn.Parameter(torch.empty(out_channels, self.core_size, 1, 1))
        self.reduced_norm = nn.BatchNorm2d(self.core_size)
        self.mixed_norm = nn.BatchNorm2d(self.core_size)
        self.reset_parameters()

    @classmethod
    def obstacle(cls, conv: nn.Conv2d) -> str | None:
        """Return the reason why a convolution with groups stays static: a core mixes all channels."""
        if conv.groups == 1:
            return None
        return "has groups, and DCD is defined for one group"

    def reset_parameters(self) -> None:
        """Draw the kernel, bias, P and Q as `nn.Conv2d` draws its own, from the global generator."""
        super().reset_parameters()
        for matrix in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, L L) numbers of the core, row by row, of (B, C, H, W) images, before any strategy.

        One image (C, H, W) gives (L L,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        core, _ = self.branch(self._pooled(input))
        return core  # type: ignore[no-any-return]

    def scale(self, input: Tensor) -> Tensor:
        """Return the (B, O) scales of the output channels, 0 to 2, of (B, C, H, W) images, before any strategy."""
        if input.dim() == 3:
            return self.scale(input[None])[0]
        _, scale = self.branch(self._pooled(input))
        return scale  # type: ignore[no-any-return]

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel.

        A single image (C, H, W) gives (O, H', W').
        """
        if input.dim() == 3:
            return self.forward(input[None])[0]
        self._check_images(input)
        core_BN, scale_BO = self.branch(self._pooled(input))
        core_BN, scale_BO = self.aggregator(core_BN), self.aggregators["scale"](scale_BO)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        input, pixels = explicit_padding(input, padding, self.kernel_size, self.stride, self.dilation)
        bias = None if self.bias is None else self.bias[0]
        reduced = self.reduced_norm(F.conv2d(self._centres(input, pixels), self.reduce, None, self.stride))
        mixed = reduced + self.mixed_norm(_by_image(core_BN.unflatten(1, (self.core_size, self.core_size)), reduced))
        # The bias goes with this part, as the scales of the other one must not touch it.
        dynamic = F.conv2d(mixed, self.expand, bias)
        if self._reads_single_pixels(pixels) and self._is_large(input):
            # On a large map it is faster to scale an image's kernel than its output: fewer passes over memory.
            kernel_BOC = scale_BO[:, :, None].to(self.weight.dtype) * self.weight[0].flatten(1)
            return _by_image(kernel_BOC, input, dynamic)
        static = F.conv2d(input, self.weight[0], None, self.stride, pixels, self.dilation)
        return torch.addcmul(dynamic, static, scale_BO.to(static.dtype)[:, :, None, None])

    def _reads_single_pixels(self, padding: tuple[int, int]) -> bool:
        """Return True if each output pixel depends on the same pixel of the input alone."""
        return self.kernel_size == self.stride == (1, 1) and padding == (0, 0)

    def _is_large(self, input: Tensor) -> bool:
        """Return True if the images have many pixels for the channels of this layer; False if their size is open."""
        height, width = input.shape[2:]
        return is_known(height, width) and 4 * self.in_channels <= height * width

    def begin_as_static(self) -> float:
        """Begin with every scale at 1 and without the product, by S and P of zeros; they learn from there."""
        # S of zeros gives h(0) = 1. Of the product P alone is zero: with Q and the core as they are drawn, P gets a
        # gradient from the first step on.
        nn.init.zeros_(self.branch.scale.weight)
        nn.init.zeros_(self.expand)
        return 1.0

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        # The image's own kernel in factors: Q, the core and P at each output pixel, and one scale per output number.
        size = self.core_size
        per_pixel = size * self.in_channels + size * size + self.out_channels * size + self.out_channels
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.branch.multiply_adds,
            "aggregation": per_pixel * math.prod(output.shape[2:]),
        }

    def _pooled(self, input: Tensor) -> Tensor:
        """Return the (B, C) averages of (B, C, H, W) images, or the (B, 4 C) averages of their quarters."""
        if self.kernel_size == (1, 1):
            return average_pool(input)
        # Slices rather than an adaptive pooling, whose gradient on a GPU is not deterministic.
        height, width = input.shape[2:]
        averages = []
        for rows in (slice(0, (height + 1) // 2), slice(height // 2, height)):
            for columns in (slice(0, (width + 1) // 2), slice(width // 2, width)):
                averages.append(average_pool(input[:, :, rows, columns]))
        # The four quarters of a channel lie side by side, as in a 2 x 2 pooling that is flattened.
        return torch.stack(averages, 2).flatten(1)

    def _centres(self, input: Tensor, padding: tuple[int, int]) -> Tensor:
        """Return the input moved so that a 1 x 1 kernel with the same stride reads the centres of this layer's kernel.

        It has the size that gives as many output pixels.
        """
        sides: list[int] = []
        # Columns before rows, since `F.pad` takes the sides of the last dimension first.
        for axis in (1, 0):
            before = padding[axis] - self.dilation[axis] * (self.kernel_size[axis] - 1) // 2
            span = self.dilation[axis] * (self.kernel_size[axis] - 1)
            # The last centre that is read depends on the size that the whole kernel needs.
            outputs = (input.shape[2 + axis] + 2 * padding[axis] - span - 1) // self.stride[axis] + 1
            needed = (outputs - 1) * self.stride[axis] + 1
            sides += [before, needed - input.shape[2 + axis] - before]
        # Usually the kernel is padded by half its size, and its centres are the pixels of the image; a few more pixels
        # at the end, which a stride leaves out, change nothing.
        if is_known(*sides) and sides[0] == sides[2] == 0 and min(sides) > -min(self.stride):
            return input
        return F.pad(input, sides)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, core_size={self.core_size}"


def _by_image(matrix_BNM: Tensor, input: Tensor, start: Tensor | None = None) -> Tensor:
    """Return the (B, N, H, W) products of each image's own matrix and its M channels, added to `start` (B, N, H, W)."""
    (batch, channels, height, width), outputs = input.shape, matrix_BNM.shape[1]
    # Autocast may have made the images and the `start` half precision.
    matrix_BNM = matrix_BNM.to(input.dtype)
    # As the numbers lie in memory, so that nothing is copied.
    if is_channels_last(input):
        rows_BPM = input.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        start_BPN = None
        if start is not None:
            start_BPN = start.permute(0, 2, 3, 1).reshape(batch, height * width, outputs)
        product = _product(rows_BPM, matrix_BNM.transpose(1, 2), start_BPN)
        return product.reshape(batch, height, width, outputs).permute(0, 3, 1, 2)
    start_BNP = None
    if start is not None:
        start_BNP = start.reshape(batch, outputs, height * width)
    product = _product(matrix_BNM, input.reshape(batch, channels, height * width), start_BNP)
    return product.reshape(batch, outputs, height, width)


def _product(left: Tensor, right: Tensor, start: Tensor | None) -> Tensor:
    return torch.bmm(left, right) if start is None else torch.baddbmm(start, left, right)
