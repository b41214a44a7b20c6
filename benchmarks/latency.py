"""This module times networks on a single image: static, ours and textbook."""

from __future__ import annotations

from typing import Any

from benchmarks.textbook import as_textbook
from dyconv import build_model, compare_latency

CASES: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("MobileNetV2 ×0.5, 224 px", "mobilenet_v2", 224, {"width": 0.5}),
    ("MobileNetV2 ×1.0, 224 px", "mobilenet_v2", 224, {}),
    ("ResNet-18, 224 px", "resnet18", 224, {}),
    ("MobileNetV2 ×0.35 depth 0.5, 28 px", "mobilenet_v2", 28, {"width": 0.35, "depth": 0.5}),
)


def measure(title: str, name: str, pixels: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return the median seconds for one image by implementation, on one thread."""
    size = (3, pixels, pixels)
    ours = build_model(name, 1000, num_kernels=4, input_size=size, seed=0, **options)
    models = {"static": build_model(name, 1000, seed=0, **options), "ours": ours, "textbook": as_textbook(ours)}
    return {"title": title, "seconds": compare_latency(models, size, repeats=15, warmup=3)}
