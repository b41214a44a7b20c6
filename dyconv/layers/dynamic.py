"""This module defines the paper's layer, a convolution whose K kernels are mixed by attention to its input.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from dyconv.aggregation import is_plain_attention
from dyconv.attention import AttentionBranch, is_untouched, sums_to_one
from dyconv.base import DEFAULT_TEMPERATURE, DynamicLayer, checked_temperature
from dyconv.functional import IntOrPair, attended_conv2d
from dyconv.kernels import compiled, native
from dyconv.kernels.compiled import Branch
from dyconv.kernels.pooling import average_pool
from dyconv.layers.convolution import ConvolutionLayer
from dyconv.layers.kinds import register_layer


def _is_watched_globally() -> bool:
    """Return True if torch has global hooks, which it calls for every module."""
    # Such hooks would miss modules that a compiled step leaves out.
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


@final
@register_layer("dynamic", title="DY-")
class DynamicConv2d(ConvolutionLayer):
    """A 2-d convolution that mixes its kernel from K kernels, by attention to its input.

    Arguments are those of `nn.Conv2d`, then `num_kernels` K, `reduction` of the attention branch, softmax `temperature`
    (a buffer: saved and loaded with the weights), `aggregation`, the name of a registered strategy, and `normalization`
    of the attention ("softmax", "sigmoid", "normalized_sigmoid"; only the first reads the temperature, the others keep
    the buffer so that their state has the same entries). `padding` may also be "tf_same": TensorFlow's, ceil(H /
    stride) pixels out, the odd pixel at the bottom right. Takes (B, C, H, W) and gives (B, O, H', W'), channels-last if
    the input is; takes (C, H, W) of one image as well, as `nn.Conv2d` does.

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
        one = ("kernel",) if sums_to_one(normalization) else ()
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, sums_to_one=one)
        self.attention_branch = AttentionBranch(in_channels, num_kernels, reduction, normalization)
        # A buffer, so that a checkpoint holds the temperature that its weights were trained at.
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))
        self.reset_parameters()

    @property
    def reads_temperature(self) -> bool:
        # Of the normalisations only the softmax has a temperature.
        return self.attention_branch.normalization == "softmax"

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel."""
        padding = self.padding
        # Attention and convolution in one compiled call, unless somebody hooks into or replaces what lies between.
        if self.bias is None and not _is_watched_globally() and self._mixes_by_attention():
            branch = self._branch()
            if branch is not None and self.padding_mode == "zeros" and not isinstance(padding, str):
                geometry = self.stride, padding, self.dilation, self.groups
                output = attended_conv2d(input, self.weight, branch, *geometry)
                # None: the compiled step does not know this type, layout or shape.
                if output is not None:
                    return output
        return super().forward(input)

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the kernels, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        if not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or _is_watched_globally()):
            # The compiled branch, which `forward` uses too.
            average, branch = average_pool(input), self._branch()
            if branch is not None and native.can_read(average, *branch) and average.shape[1] == self.in_channels:
                return compiled.attend(average, branch)
        return self.attention_branch(input, self.temperature)  # type: ignore[no-any-return]

    def begin_as_static(self) -> float:
        """Begin at the same weights for every input where they do not sum to one; return the factor on the kernels."""
        if self.aggregator.sums_to_one:
            return 1.0
        return self.attention_branch.begin_constant()

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.attention_branch.multiply_adds,
            "aggregation": self.mixing_multiply_adds(),
        }

    def _mixes_by_attention(self) -> bool:
        """Return True if the weights of the attention branch mix the kernels unchanged, and nobody watches that."""
        aggregator, kind = self.aggregator, type(self)
        if kind.attention is not _ATTENTION or kind.mixture is not _MIXTURE or not is_plain_attention(aggregator):
            return False
        return is_untouched(aggregator) and "attention" not in self.__dict__ and "mixture" not in self.__dict__

    def _branch(self) -> Branch | None:
        """Return the tensors of the attention branch; None if a hook or a replaced method changes or watches it."""
        layers = self.attention_branch.plain_layers()
        if layers is None:
            return None
        return Branch(*layers, self.temperature)


# Kept as they are on import, so that a patch of a class shows.
_ATTENTION, _MIXTURE = DynamicConv2d.attention, DynamicLayer.mixture
