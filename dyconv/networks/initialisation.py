"""This module fills the K kernels of a new dynamic layer, given the static convolution that it replaces: a start.

The kernels are drawn anew as the static one was, or are copies of a trained one. `conversion` calls it.

Dimensions: C input and O output channels, K kernels, h x w kernel size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from dyconv.errors import ArgumentError, unknown_name
from dyconv.layers import ConvolutionLayer

Initialiser = Callable[[Tensor, Tensor | None], None]
"""Fills one kernel (O, C / groups, h, w) and its bias (O)."""
InitName = Literal["auto", "default", "kaiming_fan_out", "like_static"]
Start = Callable[[ConvolutionLayer, nn.Conv2d], ConvolutionLayer]
"""Fills a new layer, given the static convolution, and returns it on the device of that."""

DEFAULT_NOISE = 0.01
_KAIMING = ("torchvision.models.mobilenetv2", "torchvision.models.mobilenetv3", "torchvision.models.resnet")


def choose_start(model: nn.Module, start: str, init: InitName | Initialiser, noise: float | None) -> Start:
    """Return the start of a conversion of `model`: "scratch" uses `init`, "static" uses `noise`.

    Raises:
        ArgumentError: an unknown name, a noise that is not a number from 0, or a setting that this start ignores.
    """
    if start == "scratch":
        if noise is not None:
            raise ArgumentError(f"noise is for start='static', which copies trained kernels, got noise={noise!r}")
        return _from_scratch(_initialiser(model, init))
    if start != "static":
        raise ArgumentError(unknown_name("start", start, ("scratch", "static")))
    if init != "auto":
        raise ArgumentError(f"init is for start='scratch': kernels that are copied are not drawn, got init={init!r}")
    if noise is None:
        noise = DEFAULT_NOISE
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise ArgumentError(f"noise must be a number from 0, in standard deviations of a kernel, got {noise!r}")
    return _from_static(noise)


def kaiming_fan_out(weight: Tensor, bias: Tensor | None) -> None:
    """Fill one kernel as torchvision's MobileNets and ResNets do: normal with variance 2 / fan out, bias zero."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    if bias is not None:
        nn.init.zeros_(bias)


def _initialiser(model: nn.Module, init: InitName | Initialiser) -> Initialiser | str:
    """Return the function that fills one kernel, or "default" or "like_static", which need no function."""
    if callable(init):
        return init
    if init == "auto":
        init = _init_of_family(type(model).__module__)
    if init not in ("default", "kaiming_fan_out", "like_static"):
        raise ArgumentError(unknown_name("init", init, ("auto", "default", "kaiming_fan_out", "like_static")))
    return kaiming_fan_out if init == "kaiming_fan_out" else init


def _init_of_family(module_name: str) -> InitName:
    """Return the init that goes with the networks that are defined in a module."""
    if module_name in _KAIMING:
        return "kaiming_fan_out"
    return "like_static" if module_name.startswith("timm.") else "default"


def _from_scratch(initialise: Initialiser | str) -> Start:
    """Return a start that draws each kernel anew; "default" leaves the draws of the new layer."""

    def fill(layer: ConvolutionLayer, conv: nn.Conv2d) -> ConvolutionLayer:
        with torch.no_grad():
            for kernel, bias, channels in layer.kernels():
                if callable(initialise):
                    _fill_part(initialise, kernel, bias, channels, conv.out_channels)
                elif initialise == "like_static":
                    _fill_like(conv, kernel, bias, channels)
        # Moved after the draws, which are made on the CPU in float32 for every device.
        return layer.to(device=conv.weight.device, dtype=conv.weight.dtype)

    return fill


def _fill_part(
    initialise: Initialiser, kernel: Tensor, bias: Tensor | None, channels: slice, out_channels: int
) -> None:
    """Fill a kernel that computes some of `out_channels` as that part of a kernel for all of them."""
    part = len(range(out_channels)[channels])
    if part == out_channels or part != len(kernel):
        initialise(kernel, bias)
        return
    # An initialiser may depend on the number of outputs: the fan out of a part would be too small.
    whole = kernel.new_empty(out_channels, *kernel.shape[1:])
    whole_bias = None
    if bias is not None:
        whole_bias = bias.new_empty(out_channels)
    initialise(whole, whole_bias)
    kernel.copy_(whole[channels])
    if bias is not None and whole_bias is not None:
        bias.copy_(whole_bias[channels])


def _fill_like(conv: nn.Conv2d, kernel: Tensor, bias: Tensor | None, channels: slice) -> None:
    """Draw from a normal distribution as wide as the static kernel, and copy the static bias of some channels."""
    nn.init.normal_(kernel, std=_spread(conv.weight))
    if bias is not None and conv.bias is not None and not conv.bias.is_meta:
        bias.copy_(conv.bias[channels])


def _spread(kernel: Tensor) -> float:
    """Return the standard deviation of the numbers of a kernel, 0 without numbers."""
    if kernel.is_meta:  # there are no numbers, and none will be filled in
        return 0.0
    return float(kernel.detach().float().std(correction=0))


def _from_static(noise: float) -> Start:
    """Return a start that copies the static kernel, with `noise` in units of its standard deviation."""

    def fill(layer: ConvolutionLayer, conv: nn.Conv2d) -> ConvolutionLayer:
        # Moved first, because the copies below are made in the dtype of the static kernel.
        layer = layer.to(device=conv.weight.device, dtype=conv.weight.dtype)
        scale = layer.begin_as_static()
        bias_scale = layer.bias_factor_as_static(scale)
        with torch.no_grad():
            spread = _spread(conv.weight)
            for kernel, bias, channels in layer.kernels():
                # Drawn on the CPU, so that every device gets the same noise.
                perturbation = noise * spread * torch.randn(kernel.shape)
                kernel.copy_(scale * (conv.weight[channels] + perturbation.to(conv.weight)))
                if bias is not None and conv.bias is not None:
                    bias.copy_(bias_scale * conv.bias[channels])
        return layer

    return fill
