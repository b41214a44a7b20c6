"""This module defines the paper's layer, a convolution whose K kernels are mixed by attention to its input.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from typing import final

from torch import Tensor

from dyconv.base import DEFAULT_TEMPERATURE
from dyconv.functional import IntOrPair
from dyconv.layers.attended import AttendedConvolution
from dyconv.layers.kinds import register_layer


@final
@register_layer("dynamic", title="DY-")
class DynamicConv2d(AttendedConvolution):
    """A 2-d convolution that mixes its kernel from K kernels, by attention to its input.

    Arguments are those of `nn.Conv2d`, then `num_kernels` K, `reduction` of the attention branch, softmax `temperature`
    (a buffer: saved and loaded with the weights), `aggregation`, the name of a registered strategy, and `normalization`
    of the attention ("softmax", "sigmoid", "tempered_sigmoid", "normalized_sigmoid", "signed"; those that read no
    temperature keep the buffer so that their state has the same entries). `padding` may also be "tf_same":
    TensorFlow's, ceil(H / stride) pixels out, the odd pixel at the bottom right. Takes (B, C, H, W) and gives
    (B, O, H', W'), channels-last if the input is; takes (C, H, W) of one image as well, as `nn.Conv2d` does.

    `weight` is (K, O, C / groups, h, w), `bias` (K, O) or None. Each kernel is initialised as `nn.Conv2d` would.

    Raises:
        ArgumentError: a setting that cannot work, or a temperature that nothing would read.
        AggregationError: an unknown strategy.

    Source: Chen et al. 2020, section 3.
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
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, normalization=normalization)
        self._add_attention(reduction, temperature, normalization)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel."""
        # Attention and convolution in one compiled call where that can be.
        if self.bias is None:
            output = self.attended(input, self.weight)
            if output is not None:
                return output
        return super().forward(input)

    def begin_as_static(self) -> float:
        """Begin at the same weights for every input where they do not sum to one; return the factor on the kernels."""
        if self.aggregator.sums_to_one:
            return 1.0
        return self.attention_branch.begin_constant()
