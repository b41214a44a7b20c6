"""These checks look at the numbers that a layer computes: shape, definition, images by themselves, and gradients.

Each is a generator of sentences, one per fault.

Dimensions: B images, C input and O output channels, K kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dyconv.testing.subject import InapplicableError, Subject, layer_of, run, unlike

ROUNDING = 1e-4
"""The difference that rounding may make in float32, whatever the order of a sum; a share of the largest number."""

_OUTPUT = "the output"
_STEP = 1e-6
"""The step of a difference in float64: the error of the difference and that of rounding are about as small."""


def check_output(subject: Subject) -> Iterator[str]:
    """Check shape, type and numbers of an output: those of `nn.Conv2d`, all finite."""
    output, expected = run(subject.network(), subject.images), subject.geometry.static()(subject.images)
    if output.shape != expected.shape:
        yield f"the output has shape {tuple(output.shape)}, expected {tuple(expected.shape)} as nn.Conv2d gives"
    if output.dtype != expected.dtype:
        yield f"the output is {output.dtype}, expected {expected.dtype} as nn.Conv2d gives"
    if not bool(output.isfinite().all()):
        yield "the output has numbers that are not finite"


def check_repeatable(subject: Subject) -> Iterator[str]:
    """Check that evaluation is a function of the input: two passes give the same bits."""
    network, images = subject.network(), subject.images
    before = run(network, images)
    # Other images between, which a layer might remember.
    run(network, images.flip(0))
    if not torch.equal(run(network, images), before):
        yield (
            "two evaluations of the same images differ, expected the same bits: draw random numbers in training only, "
            "and keep nothing of an earlier pass"
        )


def check_batch(subject: Subject) -> Iterator[str]:
    """Check that an image gives the same whatever images are beside it, and by itself as (C, H, W)."""
    network, images = subject.network(), subject.images
    together = run(network, images)
    for image in range(len(images)):
        deviation = unlike(run(network, images[image : image + 1])[0], together[image], ROUNDING)
        # One image is enough: the others would say the same.
        if deviation:
            yield f"image {image} alone {deviation}: in evaluation, an image must not depend on others of its batch"
            break


def check_single_image(subject: Subject) -> Iterator[str]:
    """Check that one image (C, H, W) gives (O, H', W'), as with `nn.Conv2d`."""
    network, images = subject.network(), subject.images
    deviation = unlike(run(network, images[0]), run(network, images[:1])[0], ROUNDING)
    if deviation:
        yield f"the output of one image (C, H, W) {deviation}: give forward(input[None])[0]"


def check_definition(subject: Subject) -> Iterator[str]:
    """Check the layer against its definition sum_k pi_k conv(x, W_k), computed by K static layers in float64.

    Source: Chen et al. 2020, section 3.1.
    """
    if not subject.mixes:
        raise InapplicableError("the class has a forward of its own, which nothing here knows a definition of")
    network, images = subject.network(), subject.images
    layer = layer_of(network)
    with torch.no_grad():
        weights_BK = layer.attention(images).double()
    static, expected = subject.geometry.static().double(), torch.zeros(())
    for k in range(layer.num_kernels):
        with torch.no_grad():
            static.weight.copy_(layer.weight[k])
            if static.bias is not None and layer.bias is not None:
                static.bias.copy_(layer.bias[k])
        expected = expected + weights_BK[:, k, None, None, None] * run(static, images.double())
    deviation = unlike(run(network, images), expected, ROUNDING)
    if deviation:
        yield f"the output {deviation}: it is not sum_k attention_k conv(x, W_k)"


def check_double(subject: Subject) -> Iterator[str]:
    """Check output and gradients in float32 against float64."""
    network, exact = subject.network(), subject.network().double()
    results = _with_gradients(network, subject.images)
    references = _with_gradients(exact, subject.images.double())
    for name, reference in references.items():
        result = results.get(name)
        if result is None:
            yield f"{name} is there in float64 and not in float32"
            continue
        # Gradients are longer sums than outputs, and more of their terms cancel.
        tolerance = ROUNDING if name == _OUTPUT else 10 * ROUNDING
        deviation = unlike(result, reference, tolerance)
        if deviation:
            yield f"{name} in float32 {deviation} from float64"


def check_gradients(subject: Subject) -> Iterator[str]:
    """Check the gradients of images and parameters against differences of the outputs, in float64.

    In a random direction v of each leaf: <gradient, v> = (f(leaf + step v) - f(leaf - step v)) / (2 step), where f is a
    weighted sum of the outputs.
    """
    network, images = subject.network().double(), subject.images.double()
    gradients = _with_gradients(network, images)
    for name, leaf in _leaves(network, images):
        if f"the gradient of {name}" not in gradients:
            # A parameter without a gradient is the business of `check_training`.
            continue
        # One direction for all numbers of a leaf, as a step along each would take a pass for each.
        direction = torch.randn(leaf.shape, dtype=torch.float64)
        values = []
        for step in (_STEP, -_STEP):
            with torch.no_grad():
                leaf.add_(direction, alpha=step)
                values.append(float(_weighted_sum(network(images))))
                leaf.sub_(direction, alpha=step)
        numerical = (values[0] - values[1]) / (2 * _STEP)
        analytical = float((gradients[f"the gradient of {name}"] * direction).sum())
        # The floor is for derivatives near zero, of which only rounding is left to compare.
        scale = max(abs(numerical), abs(analytical), 1e-3)
        # Not `>`, because a NaN is within no tolerance.
        if not abs(numerical - analytical) <= 1e-4 * scale:
            yield (
                f"the gradient of {name} is {analytical:.6g} where outputs differ by {numerical:.6g} (in float64): it "
                "is no derivative, or a step of the layer rounds to float32"
            )


def check_training(subject: Subject) -> Iterator[str]:
    """Check that in training every parameter that is not frozen gets a finite gradient, and the images one too."""
    network, images = subject.network().train(), subject.images.clone().requires_grad_()
    network(images).square().sum().backward()
    for name, parameter in layer_of(network).named_parameters():
        if parameter.grad is None and parameter.requires_grad:
            yield f"parameter {name!r} gets no gradient in training: freeze it, remove it or use it"
        elif parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            yield f"parameter {name!r} gets a gradient that is not finite"
    if images.grad is None or not bool(images.grad.isfinite().all()):
        yield "the images get no finite gradient, so that nothing in front of the layer learns"


def _with_gradients(network: nn.Sequential, images: Tensor) -> dict[str, Tensor]:
    """Return the output of a network, and the gradients of images and parameters, by name."""
    images = images.clone().requires_grad_()
    output = network(images)
    torch.autograd.backward(_weighted_sum(output))
    results = {_OUTPUT: output.detach()}
    for name, leaf in _leaves(network, images):
        if leaf.grad is not None:
            results[f"the gradient of {name}"] = leaf.grad
    return results


def _leaves(network: nn.Sequential, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the images and the parameters of a layer, each with its name."""
    yield "the images", images
    for name, parameter in layer_of(network).named_parameters():
        yield f"parameter {name!r}", parameter


def _weighted_sum(output: Tensor) -> Tensor:
    # Weights without a pattern, by which mistakes could cancel.
    weights = torch.arange(output.numel(), dtype=torch.float64).square().cos().reshape(output.shape)
    return (output * weights.to(output)).sum()
