"""This module defines attention with constant weights: the branches of all layer kinds in torch's own operators.

What never changes after training is multiplied in: the temperature into the last linear layer, batch norms into the
linear layer before them.

Dimensions: B images, C channels, H x W pixels, K kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dyconv.aggregation import AggregationContext, Aggregator, is_plain_attention
from dyconv.attention import AttentionBranch, normalized, reads_temperature
from dyconv.base import DynamicLayer
from dyconv.deployment.windows import constant_linear
from dyconv.errors import AggregationError, ConversionError
from dyconv.kernels.pooling import at_least_float32
from dyconv.layers.odconv import ODConvAttention


def averaged(input: Tensor) -> Tensor:
    """Return the (B, C) mean over pixels of (B, C, H, W) images."""
    return input.mean((2, 3))


class ConstantAttention(nn.Module):
    """The attention of the paper's branch at the temperature that it was trained to: (B, C) averages to (B, K)."""

    def __init__(self, branch: AttentionBranch, temperature: Tensor) -> None:
        super().__init__()
        self.normalization = branch.normalization
        scale = 1.0
        if reads_temperature(branch.normalization):
            scale = 1.0 / float(temperature)
        squeeze, excite = branch.squeeze, branch.excite
        self.squeeze = constant_linear(squeeze.weight, squeeze.bias)
        self.excite = constant_linear(excite.weight * scale, None if excite.bias is None else excite.bias * scale)

    def forward(self, average: Tensor) -> Tensor:
        """Return the (B, K) weights of images with (B, C) averages, in float32 at least."""
        logits = self.excite(torch.relu(self.squeeze(average)))
        return normalized(self.normalization, at_least_float32(logits))


class ConstantRouting(nn.Module):
    """CondConv's routing, a sigmoid of one linear layer: (B, C) averages to (B, K)."""

    def __init__(self, routing: nn.Linear) -> None:
        super().__init__()
        self.routing = constant_linear(routing.weight, routing.bias)

    def forward(self, average: Tensor) -> Tensor:
        """Return the (B, K) weights of images with (B, C) averages, in float32 at least."""
        return torch.sigmoid(at_least_float32(self.routing(average)))

    def route(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights of (B, C, H, W) images, for a block whose layers share them."""
        return self(averaged(input))  # type: ignore[no-any-return]


class OwnAttention(nn.Module):
    """The method `attention` of a layer of somebody else's kind, without the kernels of the layer."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        # They are held once, by the module that convolves.
        without_kernels: Any = layer
        without_kernels.weight = without_kernels.bias = None
        self.layer = layer

    def forward(self, average: Tensor) -> Tensor:
        """Return the (B, K) weights of images with (B, C) averages."""
        return self.layer.attention(average)


class ConstantODAttention(nn.Module):
    """The four attentions of ODConv from one hidden layer, whose batch norm is multiplied in."""

    def __init__(self, branch: ODConvAttention, temperature: Tensor) -> None:
        super().__init__()
        self.names = branch.names
        heads = branch.heads()
        self.widths = [head.out_channels for head in heads]
        self.hidden = _with_norm(branch.fc.weight.flatten(1), branch.bn)
        weight = torch.cat([head.weight.flatten(1) for head in heads])
        bias = torch.cat([head.bias for head in heads if head.bias is not None])
        self.heads = constant_linear(weight / float(temperature), bias / float(temperature))

    def forward(self, average: Tensor) -> dict[str, Tensor]:
        """Return each attention by name, (B, its width), of images with (B, C) averages."""
        logits = at_least_float32(self.heads(torch.relu(self.hidden(average))))
        weights = {}
        for name, part in zip(self.names, torch.split(logits, self.widths, 1), strict=True):
            weights[name] = torch.softmax(part, 1) if name == "kernel" else torch.sigmoid(part)
        return weights


def _with_norm(weight: Tensor, norm: nn.BatchNorm2d) -> nn.Linear:
    """Return the linear layer of a weight (A, C) followed by a batch norm over A units, as used in evaluation."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ConversionError(
            "a batch norm without running statistics depends on the batch and has no constant weights: train with "
            "track_running_stats=True"
        )
    scale = (variance + norm.eps).rsqrt()
    shift = -mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    return constant_linear(weight * scale[:, None], shift)


class _WithoutDraws(AggregationContext):
    """The context of a strategy in a copy of constant weights, which cannot draw."""

    def generator(self, *labels: str) -> torch.Generator:
        """Raise AggregationError."""
        raise AggregationError(
            "a random aggregation cannot be exported, since its draws are no constant weights: deploy the network with "
            "'attention'"
        )


def constant_strategy(aggregator: Aggregator, width: int) -> nn.Module | None:
    """Return the strategy of a layer for attentions of this width; None if it leaves the attention as it is.

    Raises:
        AggregationError: the strategy draws at random.
    """
    if is_plain_attention(aggregator):
        return None
    copied = Aggregator(aggregator.name, sums_to_one=aggregator.sums_to_one)
    copied.context = _WithoutDraws(layer=aggregator.context.layer, sums_to_one=aggregator.sums_to_one)
    # Tried here, since an error of the copied network would come much later. Two images, for strategies that look at
    # another one.
    copied(torch.full((2, width), 1.0 / width))
    return copied
