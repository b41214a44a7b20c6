"""This module defines the base of convolutions with the paper's attention branch, which compiled code may compute.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from dyconv.aggregation import is_plain_attention
from dyconv.attention import AttentionBranch, is_untouched, reads_temperature, sums_to_one
from dyconv.base import DynamicLayer, checked_temperature
from dyconv.functional import attended_conv2d
from dyconv.kernels import compiled, native
from dyconv.kernels.compiled import Branch
from dyconv.kernels.pooling import average_pool
from dyconv.layers.convolution import ConvolutionLayer


def _is_watched_globally() -> bool:
    """Return True if torch has global hooks, which it calls for every module."""
    # Such hooks would miss modules that a compiled step leaves out.
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


class AttendedConvolution(ConvolutionLayer):
    """A convolution whose kernels are mixed by the attention branch of the paper.

    Abstract: a subclass has the arguments of `nn.Conv2d`, and calls `_add_attention` once.

    Source: Chen et al. 2020, section 3.
    """

    attention_branch: AttentionBranch

    def __init__(self, *geometry: Any, num_kernels: int, aggregation: str, normalization: str) -> None:
        # A static start reads this: weights that sum to one leave kernels that are copies as they are.
        whole = ("kernel",) if sums_to_one(normalization) else ()
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, sums_to_one=whole)

    def _add_attention(self, reduction: int, temperature: float, normalization: str) -> None:
        """Add the attention branch and the temperature; draws of the branch come where a subclass calls this."""
        self.attention_branch = AttentionBranch(self.in_channels, self.num_kernels, reduction, normalization)
        # A buffer, so that a checkpoint holds the temperature that its weights were trained at.
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))

    @property
    def reads_temperature(self) -> bool:
        return reads_temperature(self.attention_branch.normalization)

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the kernels, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        # The compiled step has no derivative, knows nothing of autocast and calls no module.
        if not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or _is_watched_globally()):
            # The compiled branch, which `forward` uses too.
            average, branch = average_pool(input), self._branch()
            channels = average.shape[1]
            if branch is not None and branch.fits(channels, self.num_kernels) and native.can_read(average, *branch):
                return compiled.attend(average, branch)
        return self.attention_branch(input, self.temperature)  # type: ignore[no-any-return]

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.attention_branch.multiply_adds,
            "aggregation": self.mixing_multiply_adds(),
        }

    def attended(self, input: Tensor, weight: Tensor) -> Tensor | None:
        """Return the convolution with (K, O, C / groups, h, w) kernels in one compiled call; None where that cannot be.

        The mixture has no bias, its attention is that of the branch, and nobody hooks into what lies between.
        """
        if _is_watched_globally() or not self._mixes_by_attention():
            return None
        padding, branch = self.padding, self._branch()
        if branch is None or self.padding_mode != "zeros" or isinstance(padding, str):
            return None
        # None as well if the compiled step does not know this type, layout or shape.
        return attended_conv2d(input, weight, branch, self.stride, padding, self.dilation, self.groups)

    def _mixes_by_attention(self) -> bool:
        """Return True if the weights of the attention branch mix the kernels unchanged, and nobody watches that."""
        aggregator, kind = self._modules["aggregator"], type(self)
        if kind.attention is not _ATTENTION or kind.mixture is not _MIXTURE:
            return False
        if aggregator is None or not is_plain_attention(aggregator):
            return False
        return is_untouched(aggregator) and "attention" not in self.__dict__ and "mixture" not in self.__dict__

    def _branch(self) -> Branch | None:
        """Return the tensors of the attention branch; None if a hook or a replaced method changes or watches it."""
        # From the dictionary, because `nn.Module` looks up an attribute by a call.
        attention_branch = self._modules["attention_branch"]
        if not isinstance(attention_branch, AttentionBranch):
            return None
        layers = attention_branch.plain_layers()
        if layers is None:
            return None
        return Branch(*layers, self.temperature)


# Kept as they are on import, so that a patch of a class shows.
_ATTENTION, _MIXTURE = AttendedConvolution.attention, DynamicLayer.mixture
