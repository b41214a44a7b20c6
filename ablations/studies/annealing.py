"""Annealing: how long must the temperature be annealed, for a training of a given length?

Published table: `tiny_imagenet` (an independent project, Tiny ImageNet, DY-MobileNetV2 ×0.35, 300 epochs, one run
each): static 33.99, τ from 30 to 1 in 10 epochs 31.91, 60 to 1 in 20 33.53, 100 to 1 in 40 33.55, 60 to 1 in 60
34.25. The lengths here are the same shares of a training: 10, 20, 40 and 60 in 300 of the preset's epochs, in trainings
of its full and of half its length. So no annealing is longer than its training. Command: `python run_ablation.py run
annealing --preset quick`. Expected time: quick (7 rows, 2 seeds), about 4 minutes on two cores; small, about 7 hours.
Expected result: at a small scale the differences are within the noise of a few seeds.
"""

from __future__ import annotations

from typing import Any

from ablations.claims import Claim, at_least_as_good_as, better_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_PUBLISHED_EPOCHS = 300
"""Epochs of the published trainings, of which an annealing takes 10, 20, 40 or 60."""

_LENGTHS = (10, 20, 40, 60)
_STEEPER = ((60, 20), (100, 40), (60, 60))
"""Published rows that start at another τ: where it starts, and the length."""

_QUICK = ("full_static", "full_30_in_10", "full_30_in_60", "full_60_in_60")


def build(base: TrialSpec) -> Study:
    """Return the study for the number of epochs of `base`."""
    full_epochs = base.train.epochs
    variants = _rows("full", full_epochs, full_epochs)
    for start, length in _STEEPER:
        variants.append(_annealed("full", full_epochs, full_epochs, start, length))
    quick_names = list(_QUICK)
    half_epochs = full_epochs // 2
    # A training of one epoch has no half.
    if half_epochs:
        variants += _rows("half", half_epochs, full_epochs)
        quick_names += ("half_static", "half_30_in_10", "half_30_in_60")
    return Study(
        name="annealing",
        title="Length of the annealing",
        question="How long must the temperature be annealed, for a training of a given length?",
        reference="full_static",
        published="tiny_imagenet",
        columns=("training", "temperature"),
        finding=(
            "On a small data set, a network whose temperature is annealed in the first thirtieth of the training is "
            "worse than the static one; annealed over a fifth of it, it is about as good."
        ),
        variants=tuple(variants),
        claims=_CLAIMS,
        scales={
            "smoke": Scale(variants=tuple(quick_names)),
            "quick": Scale(variants=tuple(quick_names), seeds=2),
            "evening": Scale(variants=tuple(quick_names)),
        },
    )


def _rows(training: str, epochs: int, full_epochs: int) -> list[Variant]:
    """Return the static row of a training of some length, and its rows from τ = 30 to 1."""
    changes: dict[str, Any] = dict(STATIC)
    factors: tuple[str, ...] = ()
    if epochs != full_epochs:
        changes["train.epochs"] = epochs
        factors = ("train.epochs",)
    name = f"{training}_static"
    title = _training_title(epochs)
    rows = [Variant(name=name, cells=(title, "static"), changes=changes, differs_in=factors, published=_key(name))]
    for length in _LENGTHS:
        rows.append(_annealed(training, epochs, full_epochs, 30, length))
    return rows


def _annealed(training: str, epochs: int, full_epochs: int, start: int, length: int) -> Variant:
    # By the full training also in a shorter one: the same number of epochs is then a larger share.
    annealing_epochs = full_epochs * length / _PUBLISHED_EPOCHS
    changes = {**ANNEALING, "model.layer": "dynamic", "train.temperature.epochs": annealing_epochs}
    changes["train.temperature.start"] = float(start)
    factors = ["model.layer"]
    if epochs != full_epochs:
        changes["train.epochs"] = epochs
        factors.append("train.epochs")
    name = f"{training}_{start}_in_{length}"
    return Variant(
        name=name,
        cells=(_training_title(epochs), f"τ = {start} → 1 in {annealing_epochs:.3g}"),
        label=f"{_training_title(epochs)}, τ = {start} → 1 in {annealing_epochs:.3g}",
        changes=changes,
        differs_in=tuple(factors),
        published=_key(name),
    )


def _training_title(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def _key(name: str) -> str:
    """Return the published row: that of the full training, as nothing was published of a shorter one."""
    training, _, row = name.partition("_")
    if training != "full":
        return name
    if row == "static":
        return row
    start, _, length = row.partition("_in_")
    return f"annealed_{start}_over_{length}"


_CLAIMS = (
    Claim(
        name="a long annealing beats a short one",
        statement="Annealing τ from 60 to 1 over a fifth of the training is better than from 30 to 1 in a thirtieth.",
        primary=True,
        contrasts=better_than("full_60_in_60", "full_30_in_10"),
    ),
    Claim(
        name="a short annealing is worse than none of it",
        statement="Annealed in a thirtieth of the training, a dynamic network is worse than the static one.",
        contrasts=better_than("full_static", "full_30_in_10"),
    ),
    Claim(
        name="a long annealing is at least as good as static",
        statement="Annealed over a fifth of the training, a dynamic network is at least as good as the static one.",
        contrasts=at_least_as_good_as("full_60_in_60", "full_static"),
    ),
)
