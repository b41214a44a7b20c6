"""This module measures a training step: ours against static and textbook, on networks of the studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.anatomy import anatomy
from benchmarks.roofline import MachineSpeed, bound_of_step
from benchmarks.textbook import as_textbook
from benchmarks.timing import interleaved, peak_bytes, training_step
from dyconv import build_model


@dataclass(frozen=True)
class Case:
    """A network, its images, and the number of rounds for a median."""

    title: str
    name: str
    pixels: int
    batch: int
    rounds: int
    options: dict[str, Any]


CASES = (
    Case("MobileNetV2 ×0.5, 32 px", "mobilenet_v2", 32, 64, 7, {"width": 0.5, "stem_stride": 1}),
    Case("MobileNetV2 ×0.5, 224 px", "mobilenet_v2", 224, 16, 5, {"width": 0.5}),
    Case("MobileNetV2 ×0.35 depth 0.5, 28 px", "mobilenet_v2", 28, 128, 7, {"width": 0.35, "depth": 0.5}),
    Case("MobileNetV2 ×1.0, 64 px", "mobilenet_v2", 64, 32, 5, {"stem_stride": 1}),
    Case("ResNet-18, 32 px", "resnet18", 32, 64, 3, {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False}),
)


def build(case: Case) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Return the networks of a case by implementation, each with its batch in its own memory format."""
    size = (3, case.pixels, case.pixels)
    shared: dict[str, Any] = {"num_classes": 10, "seed": 0, "input_size": size, **case.options}
    if case.name == "mobilenet_v2":
        # The implementations must compute the same numbers.
        shared["dropout"] = 0.0
    static = build_model(case.name, **shared)
    ours = build_model(case.name, num_kernels=4, **shared)
    textbook = as_textbook(build_model(case.name, num_kernels=4, **shared))
    images = torch.randn(case.batch, *size, generator=torch.Generator().manual_seed(0))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    return {
        "static": (static.to(memory_format=torch.channels_last), channels_last),
        "static NCHW": (build_model(case.name, **shared), images),
        "ours": (ours.to(memory_format=torch.channels_last), channels_last),
        "textbook": (textbook, images),
    }


def measure(case: Case, machine: MachineSpeed) -> dict[str, Any]:
    """Return medians in seconds, peak memory in bytes, the ratios that the project promises, and bounds in seconds."""
    built = build(case)
    steps = {name: training_step(model, images) for name, (model, images) in built.items()}
    seconds = interleaved(steps, rounds=case.rounds, warmup=1)
    memory = {name: peak_bytes(step) for name, step in steps.items()}
    # Each against the static network in its own memory format.
    added = memory["textbook"] - memory["static NCHW"]
    return {
        "title": case.title,
        "batch": case.batch,
        "seconds": seconds,
        "bound_seconds": {name: bound_of_step(*built[name], machine) for name in ("static", "ours")},
        "anatomy": {name: anatomy(steps[name]) for name in ("static", "ours")},
        "peak_bytes": memory,
        "times_as_fast_as_textbook": seconds["textbook"] / seconds["ours"],
        "times_the_static_step": seconds["ours"] / min(seconds["static"], seconds["static NCHW"]),
        "share_of_the_memory_that_textbook_adds": (memory["ours"] - memory["static"]) / added,
    }
