"""This module defines CondConv's layer, whose K kernels are mixed by one Linear layer and a sigmoid.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from typing import final

import torch
from torch import Tensor, nn

from dyconv.functional import IntOrPair
from dyconv.kernels.pooling import at_least_float32, average_pool
from dyconv.layers.convolution import ConvolutionLayer
from dyconv.layers.kinds import register_layer


@final
@register_layer("condconv", title="CondConv-")
class CondConv2d(ConvolutionLayer):
    """A conditionally parameterised convolution: K kernels ("experts") mixed by sigmoid(Linear(average pool)).

    Arguments are those of `nn.Conv2d`, then `num_kernels` K and `aggregation`. `routing` is the one Linear layer (C to
    K), of this layer alone. The weights lie in 0 to 1 without a sum of one; there is no temperature. Input and output
    are those of `DynamicConv2d`.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Yang et al. 2019, CondConv, section 3: W(x) = sum_k r_k(x) W_k, r(x) = sigmoid(R average_pool(x)).
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
        num_kernels: int = 8,
        aggregation: str = "attention",
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
        self.routing = nn.Linear(in_channels, num_kernels)
        self.reset_parameters()

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) routing weights, in float32 at least, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        return torch.sigmoid(at_least_float32(self.routing(average_pool(input))))

    def begin_as_static(self) -> float:
        """Begin with every weight at one half, from where the routing learns; return the factor on the kernels."""
        nn.init.zeros_(self.routing.weight)
        nn.init.zeros_(self.routing.bias)
        return 2.0 / self.num_kernels

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.routing.weight.numel(),
            "aggregation": self.mixing_multiply_adds(),
        }
