"""This module defines the layers that take the place of timm's CondConv layers in networks of timm's.

They compute what timm's do and keep its names and shapes of parameters, so that timm's files load. Being dynamic layers
of this package, they can be changed by interventions, recorded and counted. `dyconv.networks.adoption` puts them in.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from dyconv.errors import ArgumentError, ShapeError
from dyconv.functional import IntOrPair, dynamic_conv2d
from dyconv.layers.convolution import ConvolutionLayer

ADOPTED = "adopted"
"""The name in place of a layer kind for a network that keeps the dynamic layers which it has, adopted."""


@final
class AdoptedCondConv2d(ConvolutionLayer):
    """A convolution with K kernels whose weights come with each call, as `timm.layers.CondConv2d` has it.

    Arguments are those of `nn.Conv2d`, then `num_kernels` K and `aggregation`. `weight` is (K, O C / groups h w), one
    flat row per kernel, `bias` (K, O) or None. `reads_block_input` says that the input is what the routing of its block
    averages, so that this layer is where the average is counted. There is no attention of its own.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Yang et al. 2019, CondConv, section 3; one routing per block as in its section 4.
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
        aggregation: str = "attention",
        reads_block_input: bool = False,
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
        self.reads_block_input = reads_block_input
        # Drawn before the rows are flat: the fan in is read off the shape of a convolution.
        self.reset_parameters()
        self.kernel_shape = tuple(self.weight.shape[1:])
        self.weight = nn.Parameter(self.weight.detach().flatten(1))

    def kernels(self) -> Iterator[tuple[Tensor, Tensor | None, slice]]:
        for k, row in enumerate(self.weight):
            # A view, so that what an initialiser writes reaches the parameter.
            yield row.view(self.kernel_shape), None if self.bias is None else self.bias[k], slice(None)

    def attention(self, input: Tensor) -> Tensor:
        """Raise ArgumentError: the weights belong to the block around this layer, which passes them to `forward`."""
        raise ArgumentError("an adopted layer has no attention of its own: its block passes the weights to forward")

    def forward(self, input: Tensor, routing_weights: Tensor) -> Tensor:  # type: ignore[override]
        """Return the (B, O, H', W') convolution of (B, C, H, W) images by kernels mixed with (B, K) weights."""
        self._check_images(input)
        if routing_weights.dim() != 2 or routing_weights.shape[1] != self.num_kernels:
            raise ShapeError(
                f"routing weights must be (B, K) = {(input.shape[0], self.num_kernels)}, "
                f"got {tuple(routing_weights.shape)}"
            )
        mixture = self.aggregator(routing_weights)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        # As in a file of timm's, each row holds the numbers of (O, C / groups, h, w) in this order.
        weight = torch.unflatten(self.weight, 1, self.kernel_shape)
        return dynamic_conv2d(input, weight, mixture, self.bias, self.stride, padding, self.dilation, self.groups)

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {
            "convolution": self.convolution_multiply_adds(output),
            # A block averages its input once for all of its layers, so one of them counts that.
            "pooling": input[0].numel() if self.reads_block_input else 0,
            "aggregation": self.mixing_multiply_adds(),
        }


@final
class Routing(nn.Linear):
    """The one routing of a block, from the average of its input (B, C) to the logits of its weights (B, K).

    A linear layer of a class of its own, so that its work counts as attention: C K multiply-adds, once per block.
    """

    def multiply_adds(self) -> dict[str, int]:
        """Return the multiply-adds of one image by purpose, the fields of `dyconv.cost.LayerCost`."""
        return {"attention": self.weight.numel()}
