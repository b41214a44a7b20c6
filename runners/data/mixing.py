"""This module mixes the images of a training batch by mixup and CutMix, through torchvision's transforms v2.

Sources: Zhang and others, 2017, arXiv:1710.09412; Yun and others, 2019, arXiv:1905.04899. Legend: B images in a batch,
C channels, H height, W width, L classes.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms import v2

from ablations.spec.parts import DataSpec


def mix(images: Tensor, labels: Tensor, data: DataSpec, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix each image with its neighbour as the spec says; draw from torch's global generator.

    If the spec has both kinds, each batch gets one of them, with equal chances.

    Args:
        images: (B, C, H, W).
        labels: (B,) classes.
        num_classes: L.

    Returns:
        Images (B, C, H, W) and targets (B, L) that sum to one; or the arguments, if the spec mixes nothing.
    """
    kinds: list[v2.Transform] = []
    if data.mixup:
        kinds.append(v2.MixUp(alpha=data.mixup, num_classes=num_classes))
    if data.cutmix:
        kinds.append(v2.CutMix(alpha=data.cutmix, num_classes=num_classes))
    if not kinds:
        return images, labels
    transform = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)
    mixed: tuple[Tensor, Tensor] = transform(images, labels)
    return mixed
