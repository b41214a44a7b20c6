"""This module computes attention: one weight per kernel from the input of a layer, by a small branch.

`aggregation` decides what becomes of the weights. The temperature belongs to the layer, which passes it in; the single
layer of CondConv is in `layers`.

Dimensions: B images, C channels, H x W pixels, P = H W, K kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.errors import ArgumentError, unknown_name
from dyconv.kernels.pooling import at_least_float32, average_pool


def _softmax(logits_BK: Tensor) -> Tensor:
    return torch.softmax(logits_BK, dim=1)


def _normalized_sigmoid(logits_BK: Tensor) -> Tensor:
    """Return the sigmoids divided by their sum."""
    # As a softmax of their logarithms, because sigmoids that are all zero would be divided by zero.
    return torch.softmax(F.logsigmoid(logits_BK), dim=1)


def _signed(logits_BK: Tensor) -> Tensor:
    """Return the logits divided by the sum of their magnitudes, so that weights may be negative."""
    # The least positive number keeps logits that are all zero from being divided by zero: their weights are zero.
    magnitude_B1 = logits_BK.abs().sum(1, keepdim=True).clamp_min(torch.finfo(logits_BK.dtype).tiny)
    return logits_BK / magnitude_B1


_NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax,
    "sigmoid": torch.sigmoid,
    "tempered_sigmoid": torch.sigmoid,
    "normalized_sigmoid": _normalized_sigmoid,
    "signed": _signed,
}
_SUM_TO_ONE = frozenset({"softmax", "normalized_sigmoid"})
_TEMPERED = frozenset({"softmax", "tempered_sigmoid"})
_SIGMOIDS = frozenset({"sigmoid", "tempered_sigmoid"})


def available_normalizations() -> list[str]:
    """Return the names of the normalisations of logits; the first is the paper's."""
    return list(_NORMALIZATIONS)


def checked_normalization(name: str) -> str:
    """Return `name`, or raise ArgumentError that names the nearest if there is no such normalisation."""
    if name not in _NORMALIZATIONS:
        raise ArgumentError(unknown_name("normalization", name, _NORMALIZATIONS))
    return name


def normalized(normalization: str, logits: Tensor) -> Tensor:
    """Return the (B, K) weights of logits, which a temperature has divided where the normalisation reads one."""
    return _NORMALIZATIONS[normalization](logits)


def sums_to_one(normalization: str) -> bool:
    """Return True if the weights of a normalisation always sum to one."""
    return normalization in _SUM_TO_ONE


def reads_temperature(normalization: str) -> bool:
    """Return True if the weights of a normalisation depend on the temperature."""
    return normalization in _TEMPERED


def is_sigmoid(normalization: str) -> bool:
    """Return True if each weight is a sigmoid on its own: 1/2 where its logit is zero, whatever the others are."""
    return normalization in _SIGMOIDS


class AttentionBranch(nn.Module):
    """Global average pool, Linear (C to C / reduction), ReLU, Linear (to K), then a normalisation of the logits z.

    `normalization` "softmax" is the paper's softmax(z / temperature); "sigmoid" is each sigmoid(z_k) on its own,
    0 <= pi_k <= 1 without a sum of one, as in CondConv; "tempered_sigmoid" is each sigmoid(z_k / temperature), as in
    ODConv; "normalized_sigmoid" divides plain sigmoids by their sum; "signed" is z_k / sum_j |z_j|, which may be
    negative, as in KernelWarehouse. Only the softmax and the tempered sigmoid read the temperature.

    Both Linear layers keep torch's default initialisation. In a new DY-MobileNetV2 x0.35 it gives a mean entropy of
    0.986 log K at temperature 1 (the largest weight up to 0.39 instead of 0.25) and 0.99998 log K at 30: uniform at
    the start where the paper wants it, visibly not uniform where it warns of it. The normal(0, 0.01) that
    torchvision gives a classifier would be uniform at any temperature.

    Raises:
        ArgumentError: a channel count, number of kernels or reduction below one, or an unknown normalisation.

    Source: Chen et al. 2020, sections 3.1 (sum to one) and 3.2, figure 3.
    """

    def __init__(self, in_channels: int, num_kernels: int, reduction: int = 4, normalization: str = "softmax") -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("num_kernels", num_kernels), ("reduction", reduction)):
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        self.normalization = checked_normalization(normalization)
        # At least one unit where the layer has fewer channels than the reduction.
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Linear(in_channels, hidden)
        self.excite = nn.Linear(hidden, num_kernels)

    def logits(self, input: Tensor) -> Tensor:
        """Return the (B, K) logits z of a (B, C, H, W) input or of its (B, C) average over pixels."""
        return self.excite(torch.relu(self.squeeze(average_pool(input))))  # type: ignore[no-any-return]

    def forward(self, input: Tensor, temperature: Tensor) -> Tensor:
        """Return the (B, K) attention of a (B, C, H, W) input or of its (B, C) average, in float32 at least."""
        logits = at_least_float32(self.logits(input))
        if reads_temperature(self.normalization):
            logits = logits / temperature.to(logits.dtype)
        return normalized(self.normalization, logits)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of both Linear layers for one image: C R + R K."""
        return self.squeeze.weight.numel() + self.excite.weight.numel()

    def begin_constant(self) -> float:
        """Make the weights the same for every input; return the number by which their sum is to be multiplied for one.

        The last Linear is set to a constant and learns from there.
        """
        num_kernels = self.excite.out_features
        nn.init.zeros_(self.excite.weight)
        if is_sigmoid(self.normalization):
            nn.init.zeros_(self.excite.bias)
            return 2.0 / num_kernels
        # Equal logits give 1 / K each by the other normalisations; for signed weights they must not be zero.
        nn.init.ones_(self.excite.bias)
        return 1.0

    def plain_layers(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Return weight and bias of the two layers; None if this is not the paper's branch, or something was changed.

        A caller that gets them may compute attention without calling this module.
        """
        if type(self) is not AttentionBranch or self.normalization != "softmax" or not is_untouched(self, "logits"):
            return None
        if AttentionBranch.forward is not _FORWARD or AttentionBranch.logits is not _LOGITS:
            return None
        # From the dictionaries, because `nn.Module` looks up each attribute by a call: this is asked in every layer.
        squeeze, excite = self._modules["squeeze"], self._modules["excite"]
        if type(squeeze) is not nn.Linear or type(excite) is not nn.Linear or nn.Linear.forward is not _LINEAR_FORWARD:
            return None
        if not (is_untouched(squeeze) and is_untouched(excite)):
            return None
        first, second = squeeze._parameters, excite._parameters
        # A weight may have been replaced by an attribute that is no parameter, and a bias may be None.
        squeeze_weight, squeeze_bias = first.get("weight"), first.get("bias")
        excite_weight, excite_bias = second.get("weight"), second.get("bias")
        if squeeze_weight is None or squeeze_bias is None or excite_weight is None or excite_bias is None:
            return None
        return squeeze_weight, squeeze_bias, excite_weight, excite_bias

    def extra_repr(self) -> str:
        return f"normalization={self.normalization!r}"


# Kept as they are on import, so that a patch of a class shows.
_LINEAR_FORWARD = nn.Linear.forward
_FORWARD, _LOGITS = AttentionBranch.forward, AttentionBranch.logits


def is_untouched(module: nn.Module, *methods: str) -> bool:
    """Return True if `module` has no hooks, and neither its `forward` nor one of `methods` was replaced on it."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    attributes = module.__dict__
    # A loop, because a generator costs more: this is asked four times at every call of a layer.
    for method in methods:
        if method in attributes:
            return False
    return "forward" not in attributes
