"""This module runs a network on zeros without leaving a trace in it, to measure shapes, cost or time.

Training mode, batch-norm statistics, the global generator and the count of forward passes are as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dyconv.base import dynamic_layers
from dyconv.errors import ShapeError


def run_on_zeros(model: nn.Module, input_size: tuple[int, int, int]) -> None:
    """Run `model` once on a pair of zero images of `input_size` (C, H, W), without a trace in it.

    Two images, because a strategy that shuffles across images needs a second one.

    Raises:
        ShapeError: the network cannot run on an image of this size.
    """
    images = zero_images(model, input_size, 2)
    with undisturbed(model):
        try:
            model(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ShapeError(f"the network does not run on images of input_size={input_size}: {error}") from error


def zero_images(model: nn.Module, input_size: tuple[int, int, int], batch: int) -> torch.Tensor:
    """Return (B, C, H, W) zeros of the dtype and on the device of the parameters of `model`.

    Raises:
        ShapeError: `input_size` is not three positive numbers.
    """
    if len(input_size) != 3 or any(n < 1 for n in input_size):
        raise ShapeError(f"input_size must be (C, H, W) of one image, all positive, got {input_size!r}")
    like = next(model.parameters(), torch.zeros(()))
    return torch.zeros(batch, *input_size, device=like.device, dtype=like.dtype)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode without gradient; restore mode, random state and pass counts at the end."""
    training = [(module, module.training) for module in model.modules()]
    # A set: usually all layers share one count.
    passes = {layer.aggregator.context.forward_pass for _, layer in dynamic_layers(model)}
    counts = [(p, p.step, p.next_step) for p in passes]
    try:
        # In evaluation mode batch norms keep their statistics; a layer of a plug-in may still draw.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()
            yield
    finally:
        for module, mode in training:
            module.training = mode
        for forward_pass, step, next_step in counts:
            forward_pass.step, forward_pass.next_step = step, next_step
