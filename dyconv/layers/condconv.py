"""This module defines CondConv's layer, whose K kernels are mixed by one Linear layer and a sigmoid.

The layers of a residual block may share the routing of the block's input, as in CondConv's own networks.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from dyconv.errors import ArgumentError
from dyconv.functional import IntOrPair
from dyconv.kernels.pooling import at_least_float32, average_pool
from dyconv.layers.convolution import BlockHook, ConvolutionLayer
from dyconv.layers.kinds import LayerOption, register_layer


class Router(Protocol):
    """Gives (B, K) weights for (B, C, H, W) images."""

    def route(self, input: Tensor) -> Tensor: ...


class BlockRouting(BlockHook):
    """Gives the layers of one residual block the same routing weights, computed once in each pass of the block.

    The object is a hook of the block, before its forward and after it, and each of its layers refers to it. Between
    passes it holds no tensor.
    """

    def __init__(self, owner: Router) -> None:
        self.owner = owner
        """The layer whose `routing` it is, or what stands in for that."""
        self._input: Tensor | None = None
        self._weights: Tensor | None = None

    def __call__(self, block: nn.Module, args: tuple[Any, ...], *output: Any) -> None:
        """Take the input of the block when its forward begins, and let it go when that ends, which has an output."""
        self._input = self._weights = None
        if not output:
            self._input = args[0]

    @property
    def input(self) -> Tensor:
        """The (B, C, H, W) input of the block, in a pass of it.

        Raises:
            ArgumentError: a layer was called without its block.
        """
        if self._input is None:
            raise ArgumentError(
                "this layer shares the routing of its residual block and was called outside of a pass of that: call "
                "the whole block (for gradient checkpointing too), or use share_routing=False"
            )
        return self._input if self._input.dim() == 4 else self._input[None]

    def weights(self) -> Tensor:
        """Return the (B, K) routing weights of the input of the block, before any strategy."""
        if self._weights is None:
            self._weights = self.owner.route(self.input)
        return self._weights


@final
@register_layer("condconv", options=(LayerOption("share_routing", False),), title="CondConv-")
class CondConv2d(ConvolutionLayer):
    """A conditionally parameterised convolution: K kernels ("experts") mixed by sigmoid(Linear(average pool)).

    Arguments are those of `nn.Conv2d`, then `num_kernels` K, `aggregation` and `share_routing`. `routing` is the one
    Linear layer (C to K). The weights lie in 0 to 1 without a sum of one; there is no temperature. Input and output
    are those of `DynamicConv2d`.

    With `share_routing`, `make_dynamic` gives the layers of one residual block the same weights, those of the block's
    input: the first layer in the order of definition has the `routing`, and that of the others is None. Layers outside
    of any block, and layers that are used in several places, keep a routing of their own. A strategy is still applied
    layer by layer. A layer of a block runs in passes of its block alone.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Yang et al. 2019, CondConv, section 3: W(x) = sum_k r_k(x) W_k, r(x) = sigmoid(R average_pool(x)); shared
    routing: PAPER.md, "CondConv's own networks".
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
        share_routing: bool = False,
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation)
        self.share_routing = share_routing
        # A routing of its own at first: a layer learns only in `connect_block` that it shares one.
        self.routing: nn.Linear | None = nn.Linear(in_channels, num_kernels)
        self.block_routing: BlockRouting | None = None
        self.reset_parameters()

    @classmethod
    def connect_block(cls, block: nn.Module, in_channels: int, layers: Mapping[str, CondConv2d]) -> None:
        """Let the layers of a block share the routing of its input, if they have the option."""
        first, *others = layers.values()
        if not first.share_routing:
            return
        own = first.routing
        assert own is not None
        routing = own
        # A layer that is not the first convolution of its block has other channels than the block's input.
        if own.in_features != in_channels:
            routing = nn.Linear(in_channels, first.num_kernels).to(own.weight)
            if not own.weight.is_meta and not own.weight.any():
                # The layer begins as a static one.
                nn.init.zeros_(routing.weight)
                nn.init.zeros_(routing.bias)
        # Trained if any of the kernels is.
        routing.requires_grad_(any(layer.weight.requires_grad for layer in layers.values()))
        first.routing = routing
        for layer in others:
            layer.routing = None
        shared = BlockRouting(first)
        for layer in layers.values():
            layer.block_routing = shared
        block.register_forward_pre_hook(shared)
        # Called after an exception too, so that no tensor of a failed pass is kept.
        block.register_forward_hook(shared, always_call=True)

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) routing weights, in float32 at least, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,). Where a block shares its
        routing, the weights are those of the block's input.

        Raises:
            ArgumentError: a layer that shares the routing of its block was called without that.
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        if self.block_routing is not None:
            return self.block_routing.weights()
        return self.route(input)

    def route(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the `routing` of this layer gives (B, C, H, W) images or their average."""
        assert self.routing is not None
        return torch.sigmoid(at_least_float32(self.routing(average_pool(input))))

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel."""
        # A single image comes back to this method as a batch of one.
        if self.block_routing is None or input.dim() == 3:
            return super().forward(input)
        self._check_images(input)
        # The block's input was averaged, and this layer's own need not be.
        return self.convolve(input, self.mixture(input))

    def begin_as_static(self) -> float:
        """Begin with every weight at one half, from where the routing learns; return the factor on the kernels."""
        if self.routing is not None:
            nn.init.zeros_(self.routing.weight)
            nn.init.zeros_(self.routing.bias)
        # K copies at one half each are K / 2 times the static kernel.
        return 2.0 / self.num_kernels

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        pooling = attention = 0
        # A block pays once, at the layer that has the routing.
        if self.routing is not None:
            attention = self.routing.weight.numel()
            pooled = input
            if self.block_routing is not None:
                pooled = self.block_routing.input
            pooling = pooled[0].numel()
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": pooling,
            "attention": attention,
            "aggregation": self.mixing_multiply_adds(),
        }
