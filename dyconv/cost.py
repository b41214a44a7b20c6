"""This module counts the cost of a network: parameters and multiply-adds per layer, split as the paper splits them.

It reads the shapes of one forward pass and uses the paper's formula for dynamic layers: the work of a phone on one
image, however this package computes a batch.

Dimensions: C input and O output channels, G groups, H x W input pixels, P output pixels, K kernels of h x w,
R = max(1, C / reduction) the hidden width of an attention branch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dyconv.base import DynamicLayer, outermost
from dyconv.layers import Convolution, ConvolutionLayer
from dyconv.layers.adopted import Routing
from dyconv.networks.conversion import ConversionReport, conversion_report
from dyconv.networks.dry_run import run_on_zeros

_BATCH = 2
"""The images of a dry run."""
PURPOSES = ("convolution", "pooling", "attention", "aggregation", "linear", "other")


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer: its parameters, and the multiply-adds of one image by their purpose.

    `convolution` is O P C / G h w, as in a static layer; `pooling` C H W, the average in front of attention;
    `attention` C R + R K, or C K for CondConv (once per block where a block has one routing); `aggregation` K times the
    elements of a kernel and its bias; `linear` the product of a linear layer; `other` products outside any of these, as
    in a self-attention block. Biases, batch norms, activations and the poolings of a static network are not counted.
    """

    name: str
    kind: str
    parameters: int
    convolution: int = 0
    pooling: int = 0
    attention: int = 0
    aggregation: int = 0
    linear: int = 0
    other: int = 0

    @property
    def multiply_adds(self) -> int:
        return sum(getattr(self, purpose) for purpose in PURPOSES)


@dataclass(frozen=True)
class Cost:
    """The cost of a network: its layers in the order of definition, and their sum.

    The last layer, named "", holds all that belongs to no convolution or linear layer, such as the parameters of batch
    norms. `conversion` says which layers became dynamic and why others did not; it is None for a static network.
    """

    layers: tuple[LayerCost, ...]
    conversion: ConversionReport | None = None

    def __str__(self) -> str:
        text = f"{self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds for an image."
        if self.conversion is not None:
            text += f"\n{self.conversion}"
        return text

    @property
    def total(self) -> LayerCost:
        sums = dict.fromkeys(("parameters", *PURPOSES), 0)
        for layer in self.layers:
            for name in sums:
                sums[name] += getattr(layer, name)
        return LayerCost(name="total", kind="", **sums)

    @property
    def parameters(self) -> int:
        return self.total.parameters

    @property
    def multiply_adds(self) -> int:
        return self.total.multiply_adds


def cost(model: nn.Module, input_size: tuple[int, int, int]) -> Cost:
    """Return the cost of `model` for one image of `input_size` (C, H, W).

    The network runs once on zeros, in evaluation mode and without gradient, and stays as it was. Convolutions and
    linear layers of any network are counted, subclasses included; a layer that is used twice costs its multiply-adds
    twice and its parameters once.

    Raises:
        ShapeError: the network cannot run on an image of this size.

    Source: Chen et al. 2020, section 3.1; see `LayerCost` for the formulas.
    """
    layers: dict[str, nn.Module] = dict(outermost(model, (nn.Conv2d, nn.Linear, DynamicLayer), "", set()))
    costs = {name: LayerCost(name, type(layer).__name__, _parameters(layer)) for name, layer in layers.items()}
    counter = FlopCounterMode(display=False)
    inside = _OperationsInside(counter)

    def adder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            traced = inside.leave() // 2 // _BATCH
            # Added up, because a layer may be called several times in one pass.
            for purpose, count in _multiply_adds(module, args[0], output, traced).items():
                costs[name] = replace(costs[name], **{purpose: getattr(costs[name], purpose) + count})
            # Attention that was traced for its cost is no operation of the network.
            inside.leave_out()

        return add

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(inside.enter).remove)
            stack.callback(layer.register_forward_hook(adder(name)).remove)
        # Torch's counter knows attention on a CPU only as the plain products that it is made of.
        with counter, sdpa_kernel(SDPBackend.MATH):
            run_on_zeros(model, input_size)
    unassigned = _parameters(model) - sum(layer_cost.parameters for layer_cost in costs.values())
    # Torch counts a multiply-add as two operations, and the network ran on a batch of two.
    outside = (counter.get_total_flops() - inside.flops) // 2 // _BATCH
    all_layers = (*costs.values(), LayerCost("", "other", unassigned, other=outside))
    return Cost(all_layers, conversion_report(model))


class _OperationsInside:
    """Sums the operations that torch counts inside layers with a formula, to be subtracted from the total."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter = counter
        self.flops = 0
        self._before = 0

    def enter(self, module: nn.Module, args: Any) -> None:
        """Record where the counter stands when a layer begins (a forward pre-hook)."""
        self._before = self.counter.get_total_flops()

    def leave(self) -> int:
        """Add the operations since the layer began; return their number."""
        flops = self.counter.get_total_flops() - self._before
        self.flops += flops
        self._before = self.counter.get_total_flops()
        return flops

    def leave_out(self) -> None:
        """Add the operations since the layer ended, which belong to no part of the network."""
        self.flops += self.counter.get_total_flops() - self._before


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _multiply_adds(layer: nn.Module, input: Tensor, output: Tensor, traced: int) -> dict[str, int]:
    """Return the multiply-adds of one image by purpose, as the fields of `LayerCost`.

    `traced` is the number that torch counted while the layer ran, of one image.
    """
    if isinstance(layer, DynamicLayer):
        counts = layer.multiply_adds(input, output)
        return _by_tracing(layer, input, output, traced) if counts is None else counts
    if isinstance(layer, Convolution):
        # Each output number is a sum over the input channels of its group and the kernel's pixels.
        per_pixel = layer.out_channels * layer.in_channels // layer.groups * prod(layer.kernel_size)
        return {"convolution": per_pixel * prod(output.shape[2:])}
    if isinstance(layer, Routing):
        return layer.multiply_adds()
    if isinstance(layer, nn.Linear):
        return {"linear": input[0].numel() * layer.out_features}
    return {}


def _by_tracing(layer: DynamicLayer, input: Tensor, output: Tensor, traced: int) -> dict[str, int]:
    """Return the multiply-adds of a layer of a user's kind that does not count them itself."""
    if not isinstance(layer, ConvolutionLayer) or type(layer).forward is not ConvolutionLayer.forward:
        # Its forward is its own: all that torch saw there.
        return {"convolution": traced}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer.attention(input)
    return {
        "convolution": layer.convolution_multiply_adds(output),
        "pooling": input[0].numel(),
        "attention": counter.get_total_flops() // 2 // _BATCH,
        "aggregation": layer.mixing_multiply_adds(),
    }
