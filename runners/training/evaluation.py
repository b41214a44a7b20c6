"""This module measures a network on a split: accuracy, loss, accuracy per class, and which images it gets right.

Legend: B images in a batch, C classes, N images.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablations.vocabulary import class_metric
from runners.data import Batch

_MIN_CLASSES_FOR_TOP5 = 6


@dataclass(frozen=True)
class Measurement:
    """The measurement of a network on one split.

    Attributes:
        top1: Accuracy in per cent.
        top5: Share of images whose class is among the five likeliest, in per cent; `None` up to five classes.
        loss: Mean cross-entropy in nats.
        per_class: Accuracy per class in per cent, NaN for a class without images.
        correct: (N,) bool, whether each image was classified correctly, in the order of evaluation.
        among_five: (N,) bool, whether its class was among the five likeliest; `None` up to five classes.
        labels: (N,) int64, their classes in the same order.
    """

    top1: float
    top5: float | None
    loss: float
    per_class: tuple[float, ...]
    correct: Tensor
    among_five: Tensor | None
    labels: Tensor

    def metrics(self, split: str, *, with_classes: bool = False) -> dict[str, float]:
        """Return the measurement under the names of the vocabulary, `split` being `val` or `test`."""
        values = {f"{split}/top1": self.top1, f"{split}/loss": self.loss}
        if self.top5 is not None:
            values[f"{split}/top5"] = self.top5
        if with_classes:
            for index, accuracy in enumerate(self.per_class):
                # NaN is unequal to itself: a class without images has no accuracy.
                if accuracy == accuracy:
                    values[class_metric(split, index)] = accuracy
        return values


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    autocast: AbstractContextManager[object] | None = None,
) -> Measurement:
    """Measure `model` on `batches`; it is in training mode again afterwards if it was before.

    Args:
        model: Takes images and gives logits (B, C).
        batches: Pairs of images and labels on the model's device.
        num_classes: C.
        autocast: The precision to evaluate in.
    """
    was_training = model.training
    model.eval()
    ranks, losses, labels = [], [], []
    with autocast or nullcontext():
        for images, targets in batches:
            logits_BC = model(images).float()
            losses.append(F.cross_entropy(logits_BC, targets, reduction="none"))
            ranks.append(_ranks(logits_BC, targets))
            labels.append(targets)
    model.train(was_training)
    return _measure(torch.cat(ranks), torch.cat(losses), torch.cat(labels), num_classes)


def _ranks(logits_BC: Tensor, targets: Tensor) -> Tensor:
    """Return the number of classes rated at least as high as the true one, itself not counted: (B,).

    A tie counts against the network: equal logits for all classes are right about no image.
    """
    true_B1 = logits_BC.gather(1, targets[:, None])
    ranks = (logits_BC >= true_B1).sum(1) - 1
    # A comparison with NaN is false, which would make rank -1: NaN gets the worst rank.
    return torch.where(true_B1.isnan().squeeze(1), logits_BC.shape[1], ranks)


def _measure(ranks: Tensor, losses: Tensor, labels: Tensor, num_classes: int) -> Measurement:
    correct = (ranks == 0).cpu()
    # In double precision, which counts images exactly; a class without images gives 0 / 0, which is NaN.
    counts = torch.bincount(labels.cpu(), minlength=num_classes).double()
    hits = torch.bincount(labels.cpu(), weights=correct.double(), minlength=num_classes)
    top5 = among_five = None
    if num_classes >= _MIN_CLASSES_FOR_TOP5:
        among_five = (ranks < 5).cpu()
        top5 = among_five.double().mean().item() * 100
    return Measurement(
        top1=correct.double().mean().item() * 100,
        top5=top5,
        loss=losses.double().mean().item(),
        per_class=tuple((hits / counts * 100).tolist()),
        correct=correct,
        among_five=among_five,
        labels=labels.cpu(),
    )
