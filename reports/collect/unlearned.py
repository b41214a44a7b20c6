"""This module finds trainings that never learned: their loss or their accuracy ended at the level of guessing. Pure.

Such a row says nothing about what it varies, only that its training failed. A strange evaluation of a network that did
learn is no such row: that an aggregation takes all accuracy away is a finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ablations.spec.trial import TrialSpec
from ablations.vocabulary import TEST_TOP1, TRAIN_LOSS, VAL_TOP1

MARK = "§"
"""Marks a row that never learned."""

_LOSS_SHARE = 0.02
"""Noise may cover this share of the way from the loss of guessing to the lowest that smoothed labels allow."""

_DEVIATIONS = 2.0
"""Standard deviations of the accuracy of guessing, on so many images, that count as chance."""


def guessing_loss(spec: TrialSpec) -> float:
    """Return the cross-entropy of equal probabilities, ln(classes), whatever labels are smoothed or mixed."""
    return math.log(spec.data.facts.num_classes)


def why_unlearned(spec: TrialSpec, metrics: Mapping[str, float]) -> str:
    """Return the reason why a training counts as never learned, or nothing if it learned or too little is known.

    Its last metrics count: the training loss, and top-1 accuracy in per cent on the test or validation split.
    """
    classes = spec.data.facts.num_classes
    if classes < 2:
        return ""
    # A comparison with NaN is false, so that a training without a tracked loss is judged by its accuracy.
    loss, guessed = metrics.get(TRAIN_LOSS, math.nan), guessing_loss(spec)
    if loss > guessed - _LOSS_SHARE * (guessed - _lowest_loss(classes, spec.train.label_smoothing)):
        return f"its training loss ended at {loss:.3g}, guessing has {guessed:.3g}"
    # Where both accuracies are known, that of the test split decides.
    for split, metric in (("test", TEST_TOP1), ("validation", VAL_TOP1)):
        top1 = metrics.get(metric, math.nan)
        if top1 <= _chance(classes, _images(spec, split)):
            return f"its {split} accuracy is {top1:.3g} %, guessing has {100 / classes:.3g} %"
        if not math.isnan(top1):
            break
    return ""


def is_at_chance(spec: TrialSpec, metric: str, top1: float) -> bool:
    """Return True if an accuracy in per cent is about that of guessing on its split; False for any other metric.

    Far below it is no guessing: such an evaluation is wrong in a way that says something.
    """
    splits = {TEST_TOP1: "test", VAL_TOP1: "validation"}
    classes = spec.data.facts.num_classes
    if metric not in splits or classes < 2:
        return False
    guessed = 100 / classes
    return abs(top1 - guessed) <= _chance(classes, _images(spec, splits[metric])) - guessed


def _lowest_loss(classes: int, smoothing: float) -> float:
    """Return the entropy of smoothed labels, below which no cross-entropy comes."""
    shares = [1 - smoothing + smoothing / classes, *[smoothing / classes] * (classes - 1)]
    return -math.fsum(share * math.log(share) for share in shares if share > 0)


def _chance(classes: int, images: int) -> float:
    """Return the accuracy in per cent up to which one counts as guessing, on so many images."""
    share = 1 / classes
    return 100 * (share + _DEVIATIONS * math.sqrt(share * (1 - share) / images))


def _images(spec: TrialSpec, split: str) -> int:
    facts = spec.data.facts
    if split == "test":
        return spec.data.test_images or facts.test_images
    return spec.data.validation_images or facts.validation_images


def seeds_and_reasons(unlearned: Mapping[int, str]) -> str:
    """Return the repeats of a row that never learned with their reasons: `seed 0: …; seed 2: …`."""
    return "; ".join(f"seed {seed}: {reason}" for seed, reason in unlearned.items())


def quoted(titles: Iterable[str]) -> str:
    """Return titles in quotation marks, each once, as a sentence lists them."""
    return ", ".join(f"“{title}”" for title in dict.fromkeys(titles))
