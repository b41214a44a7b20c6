"""This module defines the dynamic perceptron, whose K matrices are mixed by attention to its input.

Dimensions: B inputs, K matrices, P positions.
"""

from typing import final

import torch
from torch import Tensor, nn

from dyconv.attention import AttentionBranch, reads_temperature, sums_to_one
from dyconv.base import DEFAULT_TEMPERATURE, DynamicLayer, checked_temperature
from dyconv.errors import ArgumentError
from dyconv.functional import as_image, dynamic_linear
from dyconv.layers.convolution import reset_kernels


@final
class DynamicLinear(DynamicLayer):
    """The dynamic perceptron: a linear layer that mixes its matrix from K matrices, by attention to its input.

    Arguments are those of `nn.Linear`, then those of `DynamicConv2d`. Takes (in,), (B, in) or (B, ..., in) and gives
    (..., out): one mixture per first index, from attention to the mean over all P positions between the first and the
    last dimension, as a dynamic convolution has one per image. `weight` is (K, out, in), `bias` (K, out) or None, each
    initialised as `nn.Linear` would.

    Raises:
        ArgumentError: a setting that cannot work, or a temperature that nothing would read.
        AggregationError: an unknown strategy.

    Source: Chen et al. 2020, section 3.1: y = g(W(x)^T x + b(x)).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = DEFAULT_TEMPERATURE,
        aggregation: str = "attention",
        normalization: str = "softmax",
    ) -> None:
        one = ("kernel",) if sums_to_one(normalization) else ()
        super().__init__(num_kernels, aggregation, sums_to_one=one)
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(num_kernels, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_features)) if bias else None
        self.attention_branch = AttentionBranch(in_features, num_kernels, reduction, normalization)
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each matrix and bias as `nn.Linear` draws its own, from the global generator."""
        reset_kernels(self.weight, self.bias)

    @property
    def reads_temperature(self) -> bool:
        return reads_temperature(self.attention_branch.normalization)

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the matrices, before any strategy.

        One input (in,) gives (K,).
        """
        if input.dim() == 1:
            return self.attention(input[None])[0]
        return self.attention_branch(as_image(input), self.temperature)  # type: ignore[no-any-return]

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, ..., out) product of (B, ..., in), each index of B with its own matrix; (out,) of (in,)."""
        if input.dim() == 1:
            return self.forward(input[None])[0]
        return dynamic_linear(input, self.weight, self.mixture(input), self.bias)

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        """Return the multiply-adds of one input by purpose, the fields of `dyconv.cost.LayerCost`."""
        numbers = input[0].numel()
        aggregation = self.weight.numel() + (0 if self.bias is None else self.bias.numel())
        return {
            "linear": numbers * self.out_features,
            # One position has nothing to average in front of attention.
            "pooling": numbers if numbers > self.in_features else 0,
            "attention": self.attention_branch.multiply_adds,
            "aggregation": aggregation,
        }

    def extra_repr(self) -> str:
        settings = f"{self.in_features}, {self.out_features}, num_kernels={self.num_kernels}"
        if self.bias is None:
            settings += ", bias=False"
        return settings
