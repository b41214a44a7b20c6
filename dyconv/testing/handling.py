"""These checks do to a layer what others do: copy it, save and load it, export it, and change its format or precision.

Each is a generator of sentences, one per fault.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import torch
from torch import nn

from dyconv.testing.computation import ROUNDING
from dyconv.testing.subject import InapplicableError, Subject, run, unlike

HALF_ROUNDING = 0.1
"""The difference that bfloat16 may make, whose numbers have eight bits; a share of the largest number."""


def check_channels_last(subject: Subject) -> Iterator[str]:
    """Check that a channels-last image gives a channels-last output with the same numbers."""
    network = subject.network()
    expected = run(network, subject.images)
    network = network.to(memory_format=torch.channels_last)
    output = run(network, subject.images.contiguous(memory_format=torch.channels_last))
    if not output.is_contiguous(memory_format=torch.channels_last):
        yield "the output of a channels-last image is stored otherwise, expected channels-last: the next layer is slow"
    deviation = unlike(output, expected, ROUNDING)
    if deviation:
        yield f"the output of a channels-last image {deviation} from that of the same image"


def check_bfloat16(subject: Subject) -> Iterator[str]:
    """Check a layer in bfloat16 against float32."""
    expected = run(subject.network(), subject.images)
    output = run(subject.network().bfloat16(), subject.images.bfloat16())
    if output.dtype != torch.bfloat16:
        yield f"the output of a bfloat16 layer is {output.dtype}: the next layer, in bfloat16, cannot read it"
    deviation = unlike(output, expected, HALF_ROUNDING)
    if deviation:
        yield f"the output in bfloat16 {deviation} from float32"


def check_autocast(subject: Subject) -> Iterator[str]:
    """Check a layer under autocast, forward and backward, against float32."""
    network = subject.network()
    expected = run(network, subject.images)
    images = subject.images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images)
    output.float().square().sum().backward()
    deviation = unlike(output.detach(), expected, HALF_ROUNDING)
    if deviation:
        yield f"the output under autocast {deviation} from float32"
    for name, parameter in network[0].named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            yield f"parameter {name!r} gets a gradient under autocast that is not finite"


def check_state(subject: Subject) -> Iterator[str]:
    """Check that a new layer with the saved state of another one computes the same bits."""
    # Other draws, so that equal outputs can come from the loaded state alone.
    network, other = subject.network(), subject.network(seed=1)
    try:
        other.load_state_dict(network.state_dict(), strict=True)
    except RuntimeError as error:
        yield f"the state of a layer cannot be loaded into a new one: {' '.join(str(error).split())}"
        return
    if not torch.equal(run(other, subject.images), run(network, subject.images)):
        yield (
            "a new layer with the state of another one computes something else: register every tensor that the output "
            "depends on, as a parameter or with register_buffer"
        )


def check_copy(subject: Subject) -> Iterator[str]:
    """Check that a deep copy computes the same, and that neither copy nor original changes with the other."""
    network = subject.network()
    # A copy after a training step, as trainers make it, when a layer may hold tensors of that step.
    network(subject.images).sum().backward()
    yield from _is_independent(subject, network, copy.deepcopy(network), "a deep copy")


def check_pickle(subject: Subject) -> Iterator[str]:
    """Check that a layer that is pickled and loaded again computes the same, by itself."""
    if "<locals>" in subject.layer.__qualname__:
        raise InapplicableError("the class is defined inside a function, where pickle cannot find it")
    network = subject.network()
    yield from _is_independent(subject, network, pickle.loads(pickle.dumps(network)), "a pickled layer")


def _is_independent(subject: Subject, network: nn.Sequential, other: nn.Sequential, name: str) -> Iterator[str]:
    before = run(network, subject.images)
    if not torch.equal(run(other, subject.images), before):
        yield f"{name} computes something else than its original"
        return
    with torch.no_grad():
        for parameter in other.parameters():
            # The shift is for parameters of zeros, which no factor changes.
            parameter.mul_(-0.5).add_(0.1)
    if torch.equal(run(other, subject.images), before):
        yield f"{name} does not read its own parameters: do not keep bound methods or tensors of a layer on it"
    if not torch.equal(run(network, subject.images), before):
        yield f"the original changes with {name}: they share tensors"


def check_export(subject: Subject) -> Iterator[str]:
    """Check that a layer in evaluation mode that `torch.export` has traced gives the same, on other images too."""
    network, images = subject.network(), subject.images
    try:
        exported = torch.export.export(network, (images,)).module()
    except Exception as error:  # torch raises errors of many types here
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise InapplicableError(f"torch.export cannot trace it: {type(error).__name__}: {first_line}") from error
    # Other images, as a trace may have kept what the first ones gave.
    for inputs in (images, images.flip(0)):
        deviation = unlike(run(exported, inputs), run(network, inputs), ROUNDING)
        if deviation:
            yield f"the output of the exported layer {deviation}"
            return
