"""This module makes the copy of a network that is deployed: each dynamic layer is replaced by one of constant weights.

Dimensions: C channels, H x W pixels, K kernels, T positions of a kernel.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from math import prod

import torch
from torch import Tensor, nn

from dyconv.aggregation import BeginForwardPass
from dyconv.base import DynamicLayer, dynamic_layers
from dyconv.deployment.kinds import constant_layer
from dyconv.deployment.mixing import Form
from dyconv.errors import ArgumentError, unknown_name
from dyconv.layers import ConvolutionLayer, DynamicLinear
from dyconv.networks.dry_run import run_on_zeros

FORMS = ("branches", "matmul", "auto")


def deployable(model: nn.Module, form: str = "branches", input_size: tuple[int, int, int] | None = None) -> nn.Module:
    """Return a copy of `model` that computes the same with constant weights and operators of torch's alone.

    The copy is for inference: it is in evaluation mode, takes images of any number and size that `model` takes, and can
    be given to `torch.export`, `torch.onnx.export` and quantisers. Its dynamic layers hold K constant kernels. In the
    form "branches" they convolve with all of them, as one convolution with K times the output channels, and sum the
    maps with the attention: K times the work, every weight a constant that can be stored as int8. In the form "matmul"
    they mix the kernels and multiply patches of the image: the work of about one convolution, by kernels that are
    activations. "auto" takes, layer by layer, the form with fewer multiply-adds for images of `input_size` (C, H, W),
    which it needs. The temperature and norms in attention branches are multiplied in, and `average` becomes a static
    layer. `model` stays as it is; a static network is copied.

    Hooks on dynamic layers are not taken over.

    Raises:
        ArgumentError: an unknown form, or "auto" without an input size.
        ConversionError: a layer of somebody else's kind that does not say how (`docs/deploy.md`).
        AggregationError: a strategy that draws at random.
        ShapeError: the network does not run on images of `input_size`.

    Source: Chen et al. 2020, section 3.1: K convolutions and their sum are the convolution by the sum of K kernels.
    """
    if form not in FORMS:
        raise ArgumentError(unknown_name("form", form, FORMS))
    forms = dict.fromkeys((name for name, _ in dynamic_layers(model)), form)
    if form == "auto":
        if input_size is None:
            raise ArgumentError(
                "form='auto' compares the cost of both forms, which depends on the size of the images: give "
                "input_size=(C, H, W)"
            )
        forms = _cheaper_forms(model, input_size)
    copied = copy.deepcopy(model).eval()
    with torch.no_grad():
        replaced = {layer: constant_layer(layer, _form(forms[name])) for name, layer in dynamic_layers(copied)}
    copied = _swap(copied, replaced)
    # These describe and count for layers that are gone.
    copied.__dict__.pop("conversion_report", None)
    for module in copied.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, BeginForwardPass):
                del module._forward_pre_hooks[key]
    return copied.eval().requires_grad_(False)


def _form(name: str) -> Form:
    return "matmul" if name == "matmul" else "branches"


def _swap(model: nn.Module, replaced: dict[DynamicLayer, nn.Module]) -> nn.Module:
    """Replace each layer everywhere it is used; a layer used in two places stays one layer."""
    if isinstance(model, DynamicLayer):
        return replaced[model]
    # `_modules` rather than `named_children`, which names a shared layer only once.
    for parent in list(model.modules()):
        for attribute, child in list(parent._modules.items()):
            if isinstance(child, DynamicLayer) and child in replaced:
                parent._modules[attribute] = replaced[child]
    return model


def _cheaper_forms(model: nn.Module, input_size: tuple[int, int, int]) -> dict[str, str]:
    """Return the cheaper form of each dynamic layer by name."""
    layers = dict(dynamic_layers(model))
    pixels = dict.fromkeys(layers, 1)

    def record(name: str, output: Tensor) -> None:
        pixels[name] = prod(output.shape[1:-1] if isinstance(layers[name], DynamicLinear) else output.shape[2:])

    with ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_hook(lambda layer, args, output, name=name: record(name, output))
            stack.callback(hook.remove)
        run_on_zeros(model, input_size)
    return {name: cheaper_form(layer, pixels[name]) for name, layer in layers.items()}


def cheaper_form(layer: DynamicLayer, pixels: int) -> Form:
    """Return the form that takes fewer multiply-adds for one image with this many output pixels.

    "branches" convolves with K kernels and mixes K maps. "matmul" mixes the kernels, multiplies by one, and gathers
    patches where a kernel reads more than one pixel: T multiply-adds for each of T numbers per channel and pixel.
    """
    if isinstance(layer, DynamicLinear):
        kernel, outputs, gathering = layer.weight[0].numel(), layer.out_features, 0
    elif isinstance(layer, ConvolutionLayer):
        kernel, outputs, positions = layer.weight[0].numel(), layer.out_channels, prod(layer.kernel_size)
        gathering = layer.in_channels * positions**2 if positions > 1 else 0
    else:
        return "branches"
    branches = layer.num_kernels * (kernel + outputs) * pixels
    # Where positions are scaled, patches are gathered in either form.
    if "spatial" in layer.attentions:
        branches += gathering * pixels
    matmul = layer.num_kernels * kernel + (kernel + gathering) * pixels
    return "branches" if branches <= matmul else "matmul"
