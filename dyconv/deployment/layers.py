"""This module defines the layers of a network with constant weights, which compute what dynamic layers compute.

Dimensions: B images, C input and O output channels, K kernels, L x L core, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.deployment.attention import ConstantODAttention, averaged
from dyconv.deployment.mixing import Branches, MixedKernels, Mixing, Scales, as_map
from dyconv.deployment.windows import Padding, Windows, constant_conv2d, constant_linear
from dyconv.errors import ConversionError
from dyconv.layers.condconv import BlockRouting
from dyconv.layers.dcd import DCDConv2d


class ConstantLayer(nn.Module):
    """A layer of constant weights in place of a dynamic one. Abstract."""

    def __prepare_scriptable__(self) -> None:
        """Raise ConversionError, when `torch.jit.script` comes to this layer."""
        raise ConversionError(
            "TorchScript cannot compile a network of dynamic layers, deployed or not: give dyconv.deployable(model) to "
            "torch.export.export, or to torch.onnx.export(…, dynamo=True)"
        )


class ConstantConvolution(ConstantLayer):
    """A convolution by K constant kernels, mixed by attention to the average of the image.

    With a `block_routing` the weights are those that a residual block shares, and `attention` is that of its first
    layer or None.
    """

    def __init__(
        self,
        attention: nn.Module | None,
        strategy: nn.Module | None,
        kernels: Branches | MixedKernels,
        block_routing: BlockRouting | None = None,
    ) -> None:
        super().__init__()
        self.attention, self.strategy, self.kernels = attention, strategy, kernels
        # No module: the block holds it as a hook.
        self.block_routing = block_routing

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images; (O, H', W') of one image."""
        if input.dim() == 3:
            return self.forward(input[None])[0]
        return self.kernels(input, self.mixture(input))  # type: ignore[no-any-return]

    def mixture(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that mix the kernels for these images."""
        if self.block_routing is not None:
            weights = self.block_routing.weights()
        else:
            assert self.attention is not None
            weights = self.attention(averaged(input))
        return weights if self.strategy is None else self.strategy(weights)


class RoutedConvolution(ConstantLayer):
    """A convolution by K constant kernels whose weights come with each call."""

    def __init__(self, strategy: nn.Module | None, kernels: Branches | MixedKernels) -> None:
        super().__init__()
        self.strategy, self.kernels = strategy, kernels

    def forward(self, input: Tensor, routing_weights: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images by kernels mixed with (B, K) weights."""
        if self.strategy is not None:
            routing_weights = self.strategy(routing_weights)
        return self.kernels(input, routing_weights)  # type: ignore[no-any-return]


class PartlyConstantConvolution(ConstantLayer):
    """A static convolution of the first output channels beside another of the last ones.

    With groups, both read the channels of their own groups; else both read all.
    """

    def __init__(self, static: nn.Module, dynamic: ConstantConvolution, static_inputs: int | None) -> None:
        super().__init__()
        self.static, self.dynamic = static, dynamic
        self.static_inputs = static_inputs
        """The input channels of the static groups; None where there is one group."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images; (O, H', W') of one image."""
        if input.dim() == 3:
            return self.forward(input[None])[0]
        # Attention reads the whole image.
        mixture = self.dynamic.mixture(input)
        first, last = input, input
        if self.static_inputs is not None:
            first, last = input[:, : self.static_inputs], input[:, self.static_inputs :]
        return torch.cat([self.static(first), self.dynamic.kernels(last, mixture)], 1)


class ConstantODConvolution(ConstantLayer):
    """ODConv with constant weights: scaled images, K kernels, and scaled maps."""

    def __init__(
        self,
        attention: ConstantODAttention,
        strategies: dict[str, nn.Module | None],
        kernels: Branches | MixedKernels,
    ) -> None:
        super().__init__()
        self.attention, self.kernels = attention, kernels
        self.strategies = nn.ModuleDict()
        for name, strategy in strategies.items():
            if strategy is not None:
                self.strategies[name] = strategy

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images; (O, H', W') of one image."""
        if input.dim() == 3:
            return self.forward(input[None])[0]
        weights: dict[str, Tensor] = self.attention(averaged(input))
        for name, strategy in self.strategies.items():
            weights[name] = strategy(weights[name])
        scales = Scales(weights.get("channel"), weights.get("spatial"), weights.get("filter"))
        return self.kernels(input, weights.get("kernel"), scales)  # type: ignore[no-any-return]


class ConstantDCD(ConstantLayer):
    """DCD with constant weights: a static convolution that is scaled, and a product with the core of the image.

    All weights of the layer are constant already; the core multiplies maps of L channels.
    """

    def __init__(self, layer: DCDConv2d, strategies: dict[str, nn.Module | None]) -> None:
        super().__init__()
        windows = Windows.of(layer)
        self.branch, self.core_size = layer.branch, layer.core_size
        self.core_strategy, self.scale_strategy = strategies["core"], strategies["scale"]
        self.reduced_norm, self.mixed_norm = layer.reduced_norm, layer.mixed_norm
        self.quarters = layer.kernel_size != (1, 1)
        self.padding = Padding(windows)
        self.static = windows.constant_convolution(layer.weight[0], None)
        # The convolution adds zeros itself where it can; the pixels at the centres of kernels need these too.
        own_padding = self.static.padding
        assert isinstance(own_padding, tuple)
        self.own_padding = own_padding
        self.reach = windows.reach
        self.reduce = constant_conv2d(layer.reduce, None, layer.stride, (0, 0), (1, 1), 1)
        self.expand = constant_conv2d(
            layer.expand, None if layer.bias is None else layer.bias[0], (1, 1), (0, 0), (1, 1), 1
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images; (O, H', W') of one image."""
        if input.dim() == 3:
            return self.forward(input[None])[0]
        core, scale = self.branch(self._pooled(input))
        if self.core_strategy is not None:
            core = self.core_strategy(core)
        if self.scale_strategy is not None:
            scale = self.scale_strategy(scale)
        padded = self.padding(input)
        reduced = self.reduced_norm(self.reduce(self._centres(padded)))
        matrices = torch.unflatten(core.to(reduced.dtype), 1, (self.core_size, self.core_size))
        product = torch.unflatten(matrices @ reduced.flatten(2), 2, reduced.shape[2:])
        dynamic = self.expand(reduced + self.mixed_norm(product))
        return self.static(padded) * as_map(scale, reduced) + dynamic  # type: ignore[no-any-return]

    def _pooled(self, input: Tensor) -> Tensor:
        """Return the (B, C) averages of the images, or the (B, 4 C) averages of their quarters."""
        if not self.quarters:
            return averaged(input)
        # Products rather than slices, of which an exporter would have to prove that they fit any size.
        by_rows = _halves(input.shape[2], input) @ input
        return (by_rows @ _halves(input.shape[3], input).T).flatten(1)

    def _centres(self, padded: Tensor) -> Tensor:
        """Return the pixels that may be at the centre of a kernel, those in the padding as zeros.

        A 1 x 1 convolution with the stride of the layer reads the centres themselves.
        """
        rows, columns = self.own_padding
        padded = F.pad(padded, (columns, columns, rows, rows))
        slices = []
        for reach in self.reach:
            # Counted from the end, and so for any size.
            beyond = reach // 2 - reach
            slices.append(slice(reach // 2, beyond if beyond else None))
        return padded[:, :, slices[0], slices[1]]


def _halves(size: int, like: Tensor) -> Tensor:
    """Return the (2, size) weights that average each half of a line; a middle number is in both halves."""
    positions = torch.arange(size, device=like.device)
    both = torch.stack([positions < (size + 1) // 2, positions >= size // 2]).to(like.dtype)
    return both / both.sum(1, keepdim=True)


class ConstantLinear(ConstantLayer):
    """A linear layer by K constant matrices, mixed by attention to the average over positions.

    In the form "branches" one product gives the outputs of all matrices; in the form "matmul" the matrices are mixed.
    """

    def __init__(
        self, attention: nn.Module, strategy: nn.Module | None, weight: Tensor, bias: Tensor | None, form: str
    ) -> None:
        super().__init__()
        self.attention, self.strategy = attention, strategy
        num_kernels, self.out_features, self.in_features = weight.shape
        self.is_mixed = form == "matmul"
        if self.is_mixed:
            # A bias is a matrix's column for an input that is always one.
            columns = weight if bias is None else torch.cat([weight, bias[:, :, None]], 2)
            self.matrices = constant_linear(columns.flatten(1).T, None)
        else:
            self.branches = constant_linear(weight.flatten(0, 1), None if bias is None else bias.flatten())
            self.mixing = Mixing(1, num_kernels)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, ..., O) product of (B, ..., I) inputs; (O,) of one input (I,)."""
        if input.dim() == 1:
            return self.forward(input[None])[0]
        rows = input[:, None] if input.dim() == 2 else input.flatten(1, -2)
        mixture = self.attention(rows.mean(1))
        if self.strategy is not None:
            mixture = self.strategy(mixture)
        if self.is_mixed:
            matrices = torch.unflatten(self.matrices(mixture.to(input.dtype)), 1, (self.out_features, -1))
            output = rows @ matrices[:, :, : self.in_features].transpose(1, 2)
            if matrices.shape[2] > self.in_features:
                output = output + matrices[:, None, :, self.in_features]
        else:
            # A position is a pixel.
            maps = self.branches(rows).transpose(1, 2)[:, :, :, None]
            output = self.mixing(maps, mixture)[:, :, :, 0].transpose(1, 2)
        if input.dim() == 2:
            return output[:, 0]
        return torch.unflatten(output, 1, input.shape[1:-1])
