"""This module says by which layer of constant weights each kind of dynamic layer is replaced.

A layer of somebody else's kind is replaced if it computes attention alone, or if it has a method `deployed(form)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.aggregation import Aggregator, is_plain_average
from dyconv.base import DynamicLayer
from dyconv.deployment.attention import (
    ConstantAttention,
    ConstantODAttention,
    ConstantRouting,
    OwnAttention,
    constant_strategy,
)
from dyconv.deployment.layers import (
    ConstantConvolution,
    ConstantDCD,
    ConstantLinear,
    ConstantODConvolution,
    PartlyConstantConvolution,
    RoutedConvolution,
)
from dyconv.deployment.mixing import Branches, Form, MixedKernels
from dyconv.deployment.windows import Padding, Windows, constant_linear
from dyconv.errors import ConversionError
from dyconv.layers import (
    CondConv2d,
    ConvolutionLayer,
    DCDConv2d,
    DynamicConv2d,
    DynamicLinear,
    ODConv2d,
    PartlyDynamicConv2d,
)
from dyconv.layers.adopted import AdoptedCondConv2d


def constant_layer(layer: DynamicLayer, form: Form) -> nn.Module:
    """Return a layer of constant weights that computes what `layer` computes. `layer` may be taken apart for it.

    Raises:
        ConversionError: a kind of layer that does not say how.
        AggregationError: a strategy that draws at random.
    """
    replacement = getattr(layer, "deployed", None)
    if replacement is not None:
        return replacement(form)  # type: ignore[no-any-return]
    build = _BUILDERS.get(type(layer))
    if build is not None:
        return build(layer, form)
    if isinstance(layer, ConvolutionLayer) and _computes_attention_alone(type(layer)):
        kernels, is_average = _kernels_of(layer, form), is_plain_average(layer.aggregator)
        return kernels if is_average else ConstantConvolution(OwnAttention(layer), _strategy(layer), kernels)
    raise ConversionError(
        f"a {type(layer).__name__} computes more than attention, so its form with constant weights is not known: "
        "define deployed(self, form), which returns a module that computes the same by constant weights"
    )


def _computes_attention_alone(kind: type[ConvolutionLayer]) -> bool:
    """Return True if layers of this class mix kernels and convolve as the base class does."""
    if kind.forward is not ConvolutionLayer.forward or kind.convolve is not ConvolutionLayer.convolve:
        return False
    return kind.mixture is DynamicLayer.mixture


def _strategy(layer: DynamicLayer, attention: str | None = None) -> nn.Module | None:
    """Return the strategy of an attention of a layer, by default the main one; None if it changes nothing."""
    aggregator: Aggregator = layer.aggregator if attention is None else layer.aggregators[attention]
    return constant_strategy(aggregator, max(2, layer.num_kernels))


def _mixing(weight: Tensor, bias: Tensor | None, windows: Windows, form: Form) -> Branches | MixedKernels:
    if form == "matmul":
        return MixedKernels(weight, bias, windows)
    return Branches(weight, bias, windows)


def _static(weight: Tensor, bias: Tensor | None, windows: Windows) -> nn.Module:
    """Return an ordinary convolution with the padding of these windows."""
    return nn.Sequential(Padding(windows), windows.constant_convolution(weight, bias))


def _kernels_of(layer: ConvolutionLayer, form: Form) -> Any:
    """Return the convolution by the K kernels of a layer; a static one if their average does."""
    windows = Windows.of(layer)
    # In a file of timm's a kernel is a flat row.
    weight = torch.unflatten(layer.weight.flatten(1), 1, (layer.out_channels, -1, *layer.kernel_size))
    if is_plain_average(layer.aggregator):
        return _static(weight.mean(0), None if layer.bias is None else layer.bias.mean(0), windows)
    return _mixing(weight, layer.bias, windows, form)


def _dynamic(layer: DynamicConv2d, form: Form) -> nn.Module:
    kernels = _kernels_of(layer, form)
    if is_plain_average(layer.aggregator):
        return kernels  # type: ignore[no-any-return]
    attention = ConstantAttention(layer.attention_branch, layer.temperature)
    return ConstantConvolution(attention, _strategy(layer), kernels)


def _condconv(layer: CondConv2d, form: Form) -> nn.Module:
    attention = None
    if layer.routing is not None:
        attention = ConstantRouting(layer.routing)
    shared = layer.block_routing
    if shared is not None and shared.owner is layer:
        # The hook of the block stays; the other layers of the block have the same.
        assert attention is not None
        shared.owner = attention
    return ConstantConvolution(attention, _strategy(layer), _kernels_of(layer, form), shared)


def _adopted(layer: AdoptedCondConv2d, form: Form) -> nn.Module:
    return RoutedConvolution(_strategy(layer), _kernels_of(layer, form))


def _partly_dynamic(layer: PartlyDynamicConv2d, form: Form) -> nn.Module:
    windows = Windows.of(layer)
    static_weight, static_bias = layer.static_weight, layer.static_bias
    if is_plain_average(layer.aggregator):
        weight, bias = layer.weight.mean(0), None if layer.bias is None else layer.bias.mean(0)
        if static_weight is not None:
            weight = torch.cat([static_weight, weight])
            bias = None if bias is None or static_bias is None else torch.cat([static_bias, bias])
        return _static(weight, bias, windows)
    per_group = layer.out_channels // layer.groups
    dynamic_windows = windows.of_groups(layer.dynamic_channels // per_group if layer.groups > 1 else 1)
    attention = ConstantAttention(layer.attention_branch, layer.temperature)
    kernels = _mixing(layer.weight, layer.bias, dynamic_windows, form)
    dynamic = ConstantConvolution(attention, _strategy(layer), kernels)
    if static_weight is None:
        return dynamic
    static_inputs = None
    if layer.groups > 1:
        static_inputs = (layer.groups - dynamic_windows.groups) * static_weight.shape[1]
    static = _static(static_weight, static_bias, windows.of_groups(layer.groups - dynamic_windows.groups or 1))
    return PartlyConstantConvolution(static, dynamic, static_inputs)


def _odconv(layer: ODConv2d, form: Form) -> nn.Module:
    attention = ConstantODAttention(layer.attention_branch, layer.temperature)
    strategies = {name: _strategy(layer, name) for name in layer.attentions}
    kernels: Branches | MixedKernels
    if form == "matmul":
        kernels = MixedKernels(layer.weight, layer.bias, Windows.of(layer))
    else:
        by_position = "spatial" in layer.attentions
        kernels = Branches(layer.weight, layer.bias, Windows.of(layer), by_position=by_position)
    return ConstantODConvolution(attention, strategies, kernels)


def _dcd(layer: DCDConv2d, form: Form) -> nn.Module:
    # Its kernels are never mixed, so that both forms are the same.
    return ConstantDCD(layer, {name: _strategy(layer, name) for name in layer.attentions})


def _linear(layer: DynamicLinear, form: Form) -> nn.Module:
    if is_plain_average(layer.aggregator):
        return constant_linear(layer.weight.mean(0), None if layer.bias is None else layer.bias.mean(0))
    attention = ConstantAttention(layer.attention_branch, layer.temperature)
    return ConstantLinear(attention, _strategy(layer), layer.weight, layer.bias, form)


# Exactly these classes: a subclass may compute something else.
_BUILDERS: dict[type[DynamicLayer], Callable[[Any, Form], nn.Module]] = {
    DynamicConv2d: _dynamic,
    CondConv2d: _condconv,
    AdoptedCondConv2d: _adopted,
    PartlyDynamicConv2d: _partly_dynamic,
    ODConv2d: _odconv,
    DCDConv2d: _dcd,
    DynamicLinear: _linear,
}
