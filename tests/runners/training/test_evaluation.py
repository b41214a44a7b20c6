"""Measurements against hand-computed answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from runners.training.evaluation import evaluate


class _Logits(nn.Module):
    """Gives back its input as logits, and remembers in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return x


def _batches(logits: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(logits.split(size), labels.split(size), strict=True))


def test_accuracy_loss_and_classes_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 5.0]])
    labels = torch.tensor([0, 1, 0, 2])
    measured = evaluate(_Logits(), _batches(logits, labels, 3), num_classes=3)
    assert measured.top1 == 75.0
    assert measured.top5 is None
    assert measured.per_class == (50.0, 100.0, 100.0)
    assert measured.correct.tolist() == [True, True, False, True]
    by_hand = (
        -sum(
            math.log(math.exp(row[y]) / sum(map(math.exp, row))) for row, y in zip(logits.tolist(), labels, strict=True)
        )
        / 4
    )
    assert measured.loss == pytest.approx(by_hand, rel=1e-6)
    assert measured.metrics("test", with_classes=True)["test/top1.class.0"] == 50.0
    assert "test/top5" not in measured.metrics("test")


def test_top5_agrees_with_topk() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 12, generator=generator), torch.randint(12, (200,), generator=generator)
    measured = evaluate(_Logits(), _batches(logits, labels, 32), num_classes=12)
    inside = (logits.topk(5).indices == labels[:, None]).any(1).float().mean().item() * 100
    assert measured.top5 == pytest.approx(inside)
    assert measured.top1 == pytest.approx((logits.argmax(1) == labels).float().mean().item() * 100)


def test_a_network_that_says_nothing_is_right_about_nothing() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    assert evaluate(_Logits(), _batches(torch.zeros(10, 10), labels, 5), 10).top1 == 0.0
    assert evaluate(_Logits(), _batches(torch.full((10, 10), math.nan), labels, 5), 10).top1 == 0.0


def test_batches_do_not_matter_and_the_mode_is_put_back() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(50, 10, generator=generator), torch.randint(10, (50,), generator=generator)
    model = _Logits().train()
    whole = evaluate(model, _batches(logits, labels, 50), 10)
    parts = evaluate(model, _batches(logits, labels, 7), 10)
    assert whole.metrics("val") == pytest.approx(parts.metrics("val"))
    assert model.training
    assert not any(model.modes)
