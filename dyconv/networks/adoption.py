"""`adopt` replaces the dynamic layers of timm's own CondConv networks by layers of this package.

The network computes what it did and keeps the names of its parameters; interventions, recordings and costs then work on
it. `conversion` is for networks that are static.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dyconv.aggregation import BeginForwardPass, ForwardPass
from dyconv.base import dynamic_layers
from dyconv.errors import ConversionError
from dyconv.layers.adopted import AdoptedCondConv2d, Routing
from dyconv.networks.conversion import ConversionReport
from dyconv.networks.obstacles import adoptable_layers, refuse_foreign_layers
from dyconv.networks.roles import convolutions

_logger = logging.getLogger(__name__)


def adopt(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Replace each `timm.layers.CondConv2d` of `model` by an `AdoptedCondConv2d`, in place; return `model`.

    Parameters stay the same objects under the same names. The one routing of each block (`routing_fn`) stays shared by
    the block's layers. Random aggregation strategies draw from `seed`. `conversion_report(model)` lists the layers.

    Raises:
        ConversionError: the network has no such layer, has dynamic layers of this package already, or has foreign ones
            of another class. It is unchanged then.
    """
    if any(dynamic_layers(model)):
        raise ConversionError("this network has dynamic layers of this package already: there is nothing to adopt")
    foreign = adoptable_layers(model)
    if not foreign:
        # Refused by its own message if the network has foreign layers that cannot be adopted.
        refuse_foreign_layers(model)
        raise ConversionError(
            "this network has no dynamic layer to adopt (timm.layers.CondConv2d inside a network): convert it with "
            "make_dynamic, or choose one of timm's *_cc_* networks"
        )
    # With others left beside the adopted ones, interventions and costs would miss a part of the network.
    refuse_foreign_layers(model, except_adoptable=True)
    routed = _routed_blocks(model, foreign)
    # The average of a block's input is counted once, at its first layer, which reads that input.
    first_layers = {id(layers[0]) for layers in routed.values()}
    adopted: dict[nn.Module, nn.Module] = {}
    # All parameters are taken over: on this device the new ones cost neither memory nor random numbers.
    with torch.device("meta"):
        for layer in foreign.values():
            adopted[layer] = _adopted_like(layer, reads_block_input=id(layer) in first_layers)
        for block in routed:
            adopted[block.routing_fn] = _routing_like(block.routing_fn)  # type: ignore[index, arg-type]
    forward_pass = ForwardPass(seed)
    for name, layer in foreign.items():
        adopted[layer].draw_from(forward_pass, name)  # type: ignore[operator]
    _swap(model, adopted)
    model.register_forward_pre_hook(BeginForwardPass(forward_pass))
    left_static = {name: "is static in timm's network" for name in convolutions(model) if name not in foreign}
    report = ConversionReport(tuple(foreign), left_static)
    model.conversion_report = report  # type: ignore[assignment]
    _logger.info("%s", report)
    return model


def _routed_blocks(model: nn.Module, foreign: Mapping[str, nn.Module]) -> dict[nn.Module, list[nn.Module]]:
    """Return the layers of each block that has one routing for all of them, in the order of definition."""
    blocks: dict[nn.Module, list[nn.Module]] = {}
    for name, layer in foreign.items():
        block = model.get_submodule(name.rpartition(".")[0])
        # Exactly this class: what a subclass does of its own would be lost.
        if type(getattr(block, "routing_fn", None)) is nn.Linear:
            blocks.setdefault(block, []).append(layer)
    return blocks


def _adopted_like(layer: Any, *, reads_block_input: bool) -> AdoptedCondConv2d:
    """Return a layer of ours that holds the parameters of timm's."""
    # This padding depends on the size of the image, and timm computes it in each pass.
    padding = "tf_same" if layer.dynamic_padding else layer.padding
    geometry = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, padding)
    adopted = AdoptedCondConv2d(
        *geometry,
        layer.dilation,
        bias=layer.bias is not None,
        groups=layer.groups,
        num_kernels=layer.num_experts,
        reads_block_input=reads_block_input,
    )
    # The same objects, so that an optimizer made before goes on with them.
    adopted.weight, adopted.bias = layer.weight, layer.bias
    return adopted.train(layer.training)


def _routing_like(linear: nn.Linear) -> Routing:
    routing = Routing(linear.in_features, linear.out_features, bias=linear.bias is not None)
    routing.weight, routing.bias = linear.weight, linear.bias
    return routing.train(linear.training)


def _swap(model: nn.Module, adopted: Mapping[nn.Module, nn.Module]) -> None:
    """Replace each layer everywhere it is used; a layer used in two places stays one layer."""
    # `_modules` rather than `named_children`, which names a shared layer only once.
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if child is not None and child in adopted:
                setattr(parent, attribute, adopted[child])
