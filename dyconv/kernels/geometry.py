"""`Geometry` is the shape of a dynamic convolution, on which alone the choice of an algorithm depends.

Dimensions: B images, C input and O output channels, H x W input pixels, K kernels, h x w kernel size.
"""

from math import prod
from typing import NamedTuple

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The shape of one dynamic convolution: everything that the choice of an algorithm may depend on."""

    batch: int
    num_kernels: int
    in_channels: int
    out_channels: int
    input_size: Pair
    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def output_size(self) -> Pair:
        """Height and width of the result in pixels."""
        (height, width), (h, w), (p, q) = self.input_size, self.kernel_size, self.padding
        (s, t), (d, e) = self.stride, self.dilation
        # As in `F.conv2d`: the padded size less the reach of the dilated kernel, in strides, and the first position.
        return (height + 2 * p - d * (h - 1) - 1) // s + 1, (width + 2 * q - e * (w - 1) - 1) // t + 1

    @property
    def per_group(self) -> int:
        """Input channels that one kernel sees."""
        return self.in_channels // self.groups

    @property
    def pointwise(self) -> bool:
        """True if this is a matrix product per pixel: 1 x 1, not grouped, not padded."""
        # Whatever the stride: it leaves out pixels, and each of the others is a product as before.
        return self.kernel_size == (1, 1) and self.groups == 1 and self.padding == (0, 0)

    @property
    def depthwise(self) -> bool:
        """True if each output channel sees one input channel, its own."""
        # With a single channel nothing is grouped: that is a dense convolution.
        return self.groups == self.in_channels == self.out_channels and self.groups > 1

    @property
    def kernel_elements(self) -> int:
        """Numbers in one kernel."""
        return self.out_channels * self.per_group * prod(self.kernel_size)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the convolution of one image with one kernel."""
        return self.kernel_elements * prod(self.output_size)

    @property
    def pixels_moved(self) -> int:
        """Numbers in the input and output of one image."""
        return self.in_channels * prod(self.input_size) + self.out_channels * prod(self.output_size)
