"""This module makes the optimiser of a spec, and computes its learning rate as a function of the epoch."""

from __future__ import annotations

import math

import torch
from torch import nn

from ablations.spec.parts import TrainSpec

_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
)


def make_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return the optimiser of a spec; weight decay spares biases and normalisation layers."""
    groups = parameter_groups(model, spec.weight_decay)
    # Fused: one kernel for all parameters. Its rounding differs from the other ones, so it is a part of the results.
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)
    return torch.optim.SGD(
        groups, lr=spec.learning_rate, momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov), fused=True
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return two groups: parameters that decay, and biases and parameters of normalisation layers, which do not."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    # By module rather than by name: only the module tells a norm's weight from a convolution's.
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            spare = isinstance(module, _NORMS) or name.endswith("bias")
            (spared if spare else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def learning_rate(spec: TrainSpec, epoch: float) -> float:
    """Return the learning rate at a point of the training.

    Args:
        spec: Peak learning rate, warm-up and schedule.
        epoch: Passes over the data since the start, with fractions.
    """
    # Linear from zero; the schedule begins at the peak after it.
    if epoch < spec.warmup_epochs:
        return spec.learning_rate * epoch / spec.warmup_epochs
    if spec.schedule == "cosine":
        progress = (epoch - spec.warmup_epochs) / (spec.epochs - spec.warmup_epochs)
        return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if spec.schedule == "step" and spec.step_epochs and spec.step_factor:
        return spec.learning_rate * float(spec.step_factor ** (int(epoch) // spec.step_epochs))
    return spec.learning_rate
