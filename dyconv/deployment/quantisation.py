"""This module computes what a deployed network does in int8, in float32 arithmetic on rounded numbers.

Runtimes with real int8 differ among themselves in which operators they quantise. Here it is every convolution, linear
layer and mixing of maps: what they read is rounded to 256 levels per tensor, between the least and the largest number
that was seen in calibration (zero included, and exact), and their weights to 255 levels per output channel,
symmetrically. Sums, biases, norms, activation functions and additions stay in float32.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2, for the scheme; Krishnamoorthi 2018, section 3, for weights by output channel.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dyconv.deployment.mixing import Mixing
from dyconv.deployment.replacement import deployable
from dyconv.errors import ArgumentError

_LEVELS = 255
_LARGEST_WEIGHT = 127


class Rounded(nn.Module):
    """A convolution, linear layer or mixing whose weights and inputs are rounded to int8.

    Until `finish` is called it records the range of each input, and rounds nothing.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._ranges: list[tuple[float, float]] = []
        self._steps: list[tuple[float, int]] | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the module makes of its rounded inputs."""
        if self._steps is None:
            self._record(inputs)
            return self.module(*inputs)  # type: ignore[no-any-return]
        rounded = []
        for input, (step, zero) in zip(inputs, self._steps, strict=True):
            rounded.append(torch.fake_quantize_per_tensor_affine(input, step, zero, 0, _LEVELS))
        return self.module(*rounded)  # type: ignore[no-any-return]

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Widen the ranges to these inputs. Zero is always within, as padding and activations are full of zeros."""
        ranges = self._ranges or [(0.0, 0.0)] * len(inputs)
        widened = []
        for input, (low, high) in zip(inputs, ranges, strict=True):
            least, largest = torch.aminmax(input)
            widened.append((min(low, float(least)), max(high, float(largest))))
        self._ranges = widened

    def finish(self) -> None:
        """Round the weights, and the inputs from now on."""
        self._steps = []
        for low, high in self._ranges:
            # A tensor that is always zero has no range, and any step will do.
            step = (high - low) / _LEVELS or 1.0
            self._steps.append((step, round(-low / step)))
        weight = getattr(self.module, "weight", None)
        if isinstance(weight, nn.Parameter):
            weight.copy_(rounded_weight(weight))


def rounded_weight(weight: Tensor) -> Tensor:
    """Return an (O, ...) weight rounded to multiples of a step for each output channel, from -127 to 127."""
    steps = weight.flatten(1).abs().amax(1) / _LARGEST_WEIGHT
    # A channel of zeros stays one.
    steps = torch.where(steps > 0, steps, 1.0).reshape(-1, *[1] * (weight.dim() - 1))
    return torch.round(weight / steps) * steps


@torch.no_grad()
def simulated_int8(model: nn.Module, calibration: Iterable[Tensor]) -> nn.Module:
    """Return a copy of `model` that computes as its deployed form, "branches", does in int8.

    `calibration` are batches of images (B, C, H, W), as the network sees them in use; the ranges of activations are
    those of these images. A static network is quantised likewise.

    Raises:
        ArgumentError: no calibration images.
        ConversionError, AggregationError: the network cannot be deployed.
    """
    copied = deployable(model, "branches")
    rounded: list[Rounded] = []
    for parent in list(copied.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d | nn.Linear | Mixing):
                # A module in two places has two ranges, as it is two nodes of a runtime's graph.
                module = Rounded(child)
                parent._modules[name] = module
                rounded.append(module)
    is_calibrated = False
    for images in calibration:
        copied(images)
        is_calibrated = True
    if not is_calibrated:
        raise ArgumentError("int8 needs the ranges of activations: give at least one batch of calibration images")
    for module in rounded:
        module.finish()
    return copied
