"""This module times networks on few images without gradients: static, ours and textbook, in both memory formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.textbook import as_textbook
from benchmarks.timing import interleaved
from dyconv import build_model

FORMATS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
_PIXELS_PER_ROUND = 2_000_000
"""Small networks and batches get more rounds, so that each case takes about as long."""


@dataclass(frozen=True)
class Case:
    """A network, the side of its square images, and the batch sizes to time."""

    title: str
    name: str
    pixels: int
    batches: tuple[int, ...] = (1,)
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("MobileNetV2 ×0.5, 224 px", "mobilenet_v2", 224, (1, 2, 4, 8, 32), {"width": 0.5}),
    Case("MobileNetV2 ×1.0, 224 px", "mobilenet_v2", 224),
    Case("ResNet-18, 224 px", "resnet18", 224),
    Case("MobileNetV2 ×0.35 depth 0.5, 28 px", "mobilenet_v2", 28, (1, 2, 4, 8, 32), {"width": 0.35, "depth": 0.5}),
)


def measure(case: Case) -> list[dict[str, Any]]:
    """Return the median seconds by implementation, one entry per batch size and memory format, on one thread."""
    size = (3, case.pixels, case.pixels)
    static = build_model(case.name, 1000, seed=0, **case.options)
    ours = build_model(case.name, 1000, num_kernels=4, input_size=size, seed=0, **case.options)
    models = {"static": static, "ours": ours, "textbook": as_textbook(ours)}
    measured = []
    for format_name, memory_format in FORMATS.items():
        for model in models.values():
            model.eval().to(memory_format=memory_format)
        for batch in case.batches:
            images = torch.randn(batch, *size, generator=torch.Generator().manual_seed(0))
            images = images.contiguous(memory_format=memory_format)
            steps: dict[str, Callable[[], object]] = {
                name: partial(_look, model, images) for name, model in models.items()
            }
            rounds = min(31, max(9, _PIXELS_PER_ROUND // images.numel()))
            seconds = interleaved(steps, rounds=rounds, warmup=3)
            measured.append({"title": case.title, "batch": batch, "format": format_name, "seconds": seconds})
    return measured


def _look(model: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        model(images)
