"""This module computes the attention profile of a trained network: the flatness of attention by layer and class.

"Flat at low levels, sparse at high levels" (PAPER.md, Observation). Legend: N images, K kernels, L layers, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dyconv.inspection import normalized_entropy

MOST_MEANS = 64
"""The widest attention whose mean weights are part of a profile: a DCD core may have a thousand numbers."""


def attention_profile(
    attention: Mapping[str, Tensor], labels: Tensor, layers: Mapping[str, tuple[int, float]], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return the profile as plain data, of the layers that saw each image exactly once.

    A layer that works on parts of images, or only on some images, has a different number of rows than labels and is
    left out.

    Args:
        attention: (N, K) per layer.
        labels: (N,) classes of the images.
        layers: Per layer its input resolution in px and its depth in the network from 0 to 1.
    """
    rows = []
    for name, weights_NK in attention.items():
        # Such rows could not be assigned to classes.
        if len(weights_NK) != len(labels):
            continue
        entropy_N = normalized_entropy(weights_NK.cpu())
        masks = [labels == index for index in range(len(class_names))]
        resolution, depth = layers[name]
        rows.append(
            {
                "name": name,
                "resolution": resolution,
                "depth": depth,
                "entropy": entropy_N.mean().item(),
                "entropy_sd": entropy_N.std(unbiased=False).item(),
                "per_class": [_mean(entropy_N[mask]) for mask in masks],
                "mean_attention": _means_per_class(weights_NK.cpu(), masks),
            }
        )
    # From shallow to deep, the order in which `attention_gap` halves the layers.
    return {"layers": sorted(rows, key=lambda row: float(row["depth"])), "classes": list(class_names)}


def attention_gap(profile: Mapping[str, Any]) -> float:
    """Return the mean entropy of the shallow half of the layers minus that of the deep half.

    With an odd number of layers the middle one counts for neither half.
    """
    entropies = [float(layer["entropy"]) for layer in profile["layers"]]
    half = len(entropies) // 2
    if not half:
        return 0.0
    return sum(entropies[:half]) / half - sum(entropies[-half:]) / half


def _mean(values_N: Tensor) -> float | None:
    return values_N.mean().item() if len(values_N) else None


def _means_per_class(weights_NK: Tensor, masks: Sequence[Tensor]) -> list[list[float] | None] | None:
    """Return the mean weights of each class, None where it has no images; None for a wide attention."""
    if weights_NK.shape[1] > MOST_MEANS:
        return None
    return [_means(weights_NK[mask]) for mask in masks]


def _means(weights_NK: Tensor) -> list[float] | None:
    if not len(weights_NK):
        return None
    means: list[float] = weights_NK.double().mean(0).tolist()
    return means
