"""This module defines a convolution of which only a share of the output channels is dynamic.

Dimensions: B images, C input and O output channels, of which D are dynamic, G groups, K kernels, h x w kernel size.
"""

import math
from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.attention import is_sigmoid
from dyconv.base import DEFAULT_TEMPERATURE
from dyconv.errors import ArgumentError, ConversionError
from dyconv.functional import IntOrPair, dynamic_conv2d, explicit_padding
from dyconv.kernels.folding import format_of, is_channels_last
from dyconv.kernels.pooling import with_average
from dyconv.layers.attended import AttendedConvolution
from dyconv.layers.convolution import reset_kernels
from dyconv.layers.kinds import LayerOption, register_layer

_LEAST_SHARE = 0.001


@final
@register_layer("partly_dynamic", options=(LayerOption("share", 0.5, low=_LEAST_SHARE, high=1.0),), title="Part-DY-")
class PartlyDynamicConv2d(AttendedConvolution):
    """A convolution whose first output channels have one kernel, and whose last ones mix theirs from K kernels.

    Arguments are those of `DynamicConv2d`, then `share`, the share of the output channels that is dynamic, above 0 and
    at most 1: rounded half up to D channels, at least one. With G groups whole groups are dynamic, at least one. The
    attention reads the whole input. K kernels are stored for the dynamic channels alone.

    `weight` is (K, D, C / G, h, w) and `bias` (K, D) or None; `static_weight` is (O - D, C / G, h, w) and `static_bias`
    (O - D,) or None, both None where every channel is dynamic. Input and output are those of `DynamicConv2d`.

    Raises:
        ArgumentError: a setting that cannot work, or a temperature that nothing would read.
        AggregationError: an unknown strategy.

    Source: the dynamic part is Chen et al. 2020, section 3; the division is this project's.
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
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = DEFAULT_TEMPERATURE,
        aggregation: str = "attention",
        normalization: str = "softmax",
        share: float = 0.5,
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, normalization=normalization)
        if not _LEAST_SHARE <= share <= 1:
            raise ArgumentError(f"share must be between {_LEAST_SHARE:g} and 1, got {share!r}")
        self.share = share
        # A group is static or dynamic as a whole, so that both parts are grouped convolutions; without groups a channel
        # is such a part.
        parts = groups
        if groups == 1:
            parts = out_channels
        # Half up by hand, because `round` takes halves to the even number.
        dynamic_parts = max(1, math.floor(share * parts + 0.5))
        self.dynamic_channels = dynamic_parts * out_channels // parts
        static_channels = out_channels - self.dynamic_channels
        shape = self.weight.shape[2:]
        self.weight = nn.Parameter(torch.empty(num_kernels, self.dynamic_channels, *shape))
        self.static_weight = self.static_bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(num_kernels, self.dynamic_channels))
        if static_channels:
            self.static_weight = nn.Parameter(torch.empty(static_channels, *shape))
            if bias:
                self.static_bias = nn.Parameter(torch.empty(static_channels))
        self._add_attention(reduction, temperature, normalization)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each kernel and bias as `nn.Conv2d` draws its own, from the global generator."""
        super().reset_parameters()
        if self.static_weight is not None:
            static_bias = None
            if self.static_bias is not None:
                static_bias = self.static_bias[None]
            reset_kernels(self.static_weight[None], static_bias)

    def kernels(self) -> Iterator[tuple[Tensor, Tensor | None, slice]]:
        """Yield the static kernel, then the K kernels of the dynamic channels."""
        static_channels = self.out_channels - self.dynamic_channels
        if self.static_weight is not None:
            yield self.static_weight, self.static_bias, slice(0, static_channels)
        for kernel, bias, _ in super().kernels():
            yield kernel, bias, slice(static_channels, self.out_channels)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, the static channels first.

        A single image (C, H, W) gives (O, H', W').
        """
        if input.dim() == 3:
            return self.forward(input[None])[0]
        self._check_images(input)
        output = self._in_one_call(input)
        if output is not None:
            return output
        # Averaged before padding: attention reads the image itself.
        input, average = with_average(input)
        mixture = self.mixture(average)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        if self.static_weight is None:
            weight, bias, groups = self.weight, self.bias, self.groups
            return dynamic_conv2d(input, weight, mixture, bias, self.stride, padding, self.dilation, groups)
        if self.groups > 1:
            return self._with_one_more_kernel(input, mixture, padding)
        input, pixels = explicit_padding(input, padding, self.kernel_size, self.stride, self.dilation)
        geometry = (self.stride, pixels, self.dilation)
        # Two convolutions read what `with_average` gave; autograd sums their gradients into a tensor of its own.
        static = F.conv2d(input, self.static_weight, self.static_bias, *geometry)
        dynamic = dynamic_conv2d(input, self.weight, mixture, self.bias, *geometry)
        # The format of a single channel is either, so that the joint tensor may have lost it.
        return torch.cat([static, dynamic], 1).contiguous(memory_format=format_of(is_channels_last(input)))

    def _in_one_call(self, input: Tensor) -> Tensor | None:
        """Return the convolution by K whole kernels in a compiled call; None where that cannot be or does not pay.

        Attention that sums to one leaves a static part that all of these kernels have as it is.
        """
        if self.bias is not None or not self.aggregator.sums_to_one or not is_channels_last(input):
            return None
        # Copying a large kernel takes longer than a convolution of few pixels.
        if self.groups == 1 and input.shape[2:].numel() == 1:
            return None
        weight: Tensor = self.weight
        if self.static_weight is not None:
            weight = torch.cat([self.static_weight.expand(self.num_kernels, -1, -1, -1, -1), weight], 1)
        return self.attended(input, weight)

    def _with_one_more_kernel(self, input: Tensor, mixture: Tensor, padding: tuple[int, int] | str) -> Tensor:
        """Convolve with K + 1 kernels: the static one, whose weight is always 1, and the K others.

        Each has zeros in the channels of the others. So the groups of an image are not torn apart in memory, and
        kernels of grouped layers are small.
        """
        assert self.static_weight is not None
        weight = _beside(self.static_weight, self.weight)
        bias = None
        if self.bias is not None and self.static_bias is not None:
            bias = _beside(self.static_bias, self.bias)
        mixture = F.pad(mixture, (1, 0), value=1.0)
        return dynamic_conv2d(input, weight, mixture, bias, self.stride, padding, self.dilation, self.groups)

    def begin_as_static(self) -> float:
        """Begin at weights that sum to one and are the same for every input, unless their sum is always one.

        The static kernel is a copy without a factor, so the others have none either.

        Raises:
            ConversionError: a single sigmoid, which is never one.
        """
        if self.aggregator.sums_to_one:
            return 1.0
        self.attention_branch.begin_constant()
        if is_sigmoid(self.attention_branch.normalization):
            if self.num_kernels == 1:
                raise ConversionError(
                    "a single sigmoid is never one, so a partly dynamic layer with num_kernels=1 does not begin as a "
                    "static one: use two kernels, another normalization, or start='scratch'"
                )
            # Each sigmoid at 1 / K, of a logit that a tempered one divides by the temperature first.
            scale = float(self.temperature) if self.reads_temperature else 1.0
            nn.init.constant_(self.attention_branch.excite.bias, -scale * math.log(self.num_kernels - 1))
        return 1.0

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dynamic_channels={self.dynamic_channels}"


def _beside(static: Tensor, dynamic: Tensor) -> Tensor:
    """Return (K + 1, O, ...): `static` (O - D, ...) and zeros, then zeros and each of `dynamic` (K, D, ...)."""
    # `F.pad` counts from the last dimension, two numbers each; the output channels are the first dimension.
    rest = [0] * (2 * (static.dim() - 1))
    first = F.pad(static, (*rest, 0, dynamic.shape[1]))
    others = F.pad(dynamic, (*rest, static.shape[0], 0))
    return torch.cat([first[None], others])
