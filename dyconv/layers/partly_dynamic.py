"""This module defines a convolution of which only a share of the output channels is dynamic.

Dimensions: B images, C input and O output channels, of which D are dynamic, G groups, K kernels, h x w kernel size.
"""

import math
from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.attention import AttentionBranch, sums_to_one
from dyconv.base import DEFAULT_TEMPERATURE, checked_temperature
from dyconv.errors import ArgumentError, ConversionError
from dyconv.functional import IntOrPair, dynamic_conv2d, explicit_padding
from dyconv.kernels.folding import format_of, is_channels_last
from dyconv.kernels.pooling import with_average
from dyconv.layers.convolution import ConvolutionLayer, reset_kernels
from dyconv.layers.kinds import LayerOption, register_layer

_LEAST_SHARE = 0.001


@final
@register_layer("partly_dynamic", options=(LayerOption("share", 0.5, low=_LEAST_SHARE, high=1.0),), title="Part-DY-")
class PartlyDynamicConv2d(ConvolutionLayer):
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
        whole = ("kernel",) if sums_to_one(normalization) else ()
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, sums_to_one=whole)
        if not _LEAST_SHARE <= share <= 1:
            raise ArgumentError(f"share must be between {_LEAST_SHARE:g} and 1, got {share!r}")
        self.share = share
        parts = groups
        if groups == 1:
            parts = out_channels
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
        self.attention_branch = AttentionBranch(in_channels, num_kernels, reduction, normalization)
        # A buffer, so that a checkpoint holds the temperature that its weights were trained at.
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))
        self.reset_parameters()

    @property
    def reads_temperature(self) -> bool:
        # Of the normalisations only the softmax has a temperature.
        return self.attention_branch.normalization == "softmax"

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

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the kernels, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        return self.attention_branch(input, self.temperature)  # type: ignore[no-any-return]

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, the static channels first.

        A single image (C, H, W) gives (O, H', W').
        """
        if input.dim() == 3:
            return self.forward(input[None])[0]
        self._check_images(input)
        # Averaged before padding: attention reads the image itself.
        input, average = with_average(input)
        mixture = self.mixture(average)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        if self.static_weight is None:
            geometry = (self.stride, padding, self.dilation, self.groups)
            return dynamic_conv2d(input, self.weight, mixture, self.bias, *geometry)
        if self.groups > 1:
            return self._with_one_more_kernel(input, mixture, padding)
        input, pixels = explicit_padding(input, padding, self.kernel_size, self.stride, self.dilation)
        geometry = (self.stride, pixels, self.dilation)
        # Two convolutions read what `with_average` gave; autograd sums their gradients into a tensor of its own.
        static = F.conv2d(input, self.static_weight, self.static_bias, *geometry)
        dynamic = dynamic_conv2d(input, self.weight, mixture, self.bias, *geometry)
        # The format of a single channel is either, so that the joint tensor may have lost it.
        return torch.cat([static, dynamic], 1).contiguous(memory_format=format_of(is_channels_last(input)))

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
        if self.attention_branch.normalization == "sigmoid":
            if self.num_kernels == 1:
                raise ConversionError(
                    "a single sigmoid is never one, so a partly dynamic layer with num_kernels=1 does not begin as a "
                    "static one: use two kernels, another normalization, or start='scratch'"
                )
            # Each sigmoid at 1 / K.
            nn.init.constant_(self.attention_branch.excite.bias, -math.log(self.num_kernels - 1))
        return 1.0

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.attention_branch.multiply_adds,
            "aggregation": self.mixing_multiply_adds(),
        }

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dynamic_channels={self.dynamic_channels}"


def _beside(static: Tensor, dynamic: Tensor) -> Tensor:
    """Return (K + 1, O, ...): `static` (O - D, ...) and zeros, then zeros and each of `dynamic` (K, D, ...)."""
    rest = [0] * (2 * (static.dim() - 1))
    first = F.pad(static, (*rest, 0, dynamic.shape[1]))
    others = F.pad(dynamic, (*rest, static.shape[0], 0))
    return torch.cat([first[None], others])
