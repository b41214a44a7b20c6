"""A network with a layer of every kind and many geometries, and a small one that is trained in a second."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from dyconv import (
    CondConv2d,
    DCDConv2d,
    DynamicConv2d,
    DynamicLinear,
    ODConv2d,
    PartlyDynamicConv2d,
    make_dynamic,
    set_temperature,
)

CLASSES = 4


def network_of_all_kinds() -> nn.Module:
    """Return a network of every layer kind, with strides, TensorFlow's padding, other padding modes and groups."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), InvertedResidual(8, 8, 1, 2))
    make_dynamic(block, layer="condconv", options={"share_routing": True}, num_kernels=2, seed=0)
    return nn.Sequential(
        block,
        DynamicConv2d(8, 8, 3, stride=2, padding="tf_same", num_kernels=2, temperature=1.0),
        DynamicConv2d(8, 8, 3, padding=1, groups=8, num_kernels=2, bias=False, padding_mode="reflect"),
        CondConv2d(8, 6, 1, num_kernels=3),
        ODConv2d(6, 8, 3, padding=1, num_kernels=2, temperature=1.0),
        PartlyDynamicConv2d(8, 8, 2, padding="same", groups=2, num_kernels=2, normalization="signed"),
        DCDConv2d(8, 6, 3, padding=1, stride=2),
        nn.Flatten(2),
        Transposed(),
        DynamicLinear(6, CLASSES, num_kernels=2, aggregation="max"),
    ).eval()


class Transposed(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return input.transpose(1, 2)


def stripes(number: int, seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, size, size) of noisy stripes in one of four directions, and the directions (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (number,), generator=generator)
    angle = labels * (torch.pi / CLASSES)
    rows = torch.arange(size, dtype=torch.float32)
    across = torch.cos(angle)[:, None, None] * rows[:, None] + torch.sin(angle)[:, None, None] * rows
    phase = 6.3 * torch.rand(number, 1, 1, generator=generator)
    noise = 0.8 * torch.randn(number, 1, size, size, generator=generator)
    return torch.sin(1.2 * across + phase)[:, None] + noise, labels


def trained_network(**options: Any) -> nn.Module:
    """Return a small dynamic network that tells the directions of stripes apart."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)),
    )
    make_dynamic(model, **({"num_kernels": 3, "seed": 0} | options))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for step in range(60):
        set_temperature(model, 5.0 - step / 15)
        images, labels = stripes(64, seed=step)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of right answers in per cent."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def batches(number: int, size: int = 32) -> Iterator[Tensor]:
    """Yield batches of images that no training has seen."""
    for i in range(number):
        yield stripes(size, seed=10_000 + i)[0]
