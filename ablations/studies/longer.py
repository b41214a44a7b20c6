"""Longer: does a dynamic network need a longer or a more regularised training to beat the static one?

No published table; an independent project saw dynamic networks fit a small training set far better than static ones
and gain nothing on its test images (published table `tiny_imagenet`). Trainings of the preset's length, twice and
four times that, and four times with stronger regularisation, each static and dynamic; a fifth of each is annealed, as
in *annealing*. Command: `python run_ablation.py run longer --preset quick`. Expected time: quick (lengths once and
twice, 2 seeds), about 4 minutes on two cores, by calculation; evening (6 seeds), about 2 hours likewise; small, about
8 hours likewise. Expected result: not known.
"""

from __future__ import annotations

from typing import Any

from ablations.claims import Claim, Contrast, better_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_ANNEALED = 0.2
"""The share of a training during which τ falls from 30 to 1."""

_FACTORS = {"once": 1, "twice": 2, "four_times": 4}
_REGULARISED: dict[str, Any] = {"train.weight_decay": 4e-4, "model.dropout": 0.2}
"""Ten times the usual weight decay, and the paper's dropout; images are shifted and mirrored besides."""


def build(base: TrialSpec) -> Study:
    """Return the study for the number of epochs of `base`."""
    rows: list[Variant] = []
    for name, factor in _FACTORS.items():
        rows += _pair(base, name, factor, {})
    augmentation: str = base.data.augmentation
    # Images that are read from files have an augmentation of their own, which the preset has.
    if augmentation == "none":
        augmentation = "crop_flip"
    recipe = {**_REGULARISED, "data.augmentation": augmentation}
    rows += _pair(base, "regularised", _FACTORS["four_times"], recipe)
    short_names = tuple(row.name for row in rows if row.name.startswith(("once", "twice")))
    return Study(
        name="longer",
        title="Longer and more regularised trainings",
        question="Does a dynamic network need a longer or a more regularised training to beat the static one?",
        reference="once_static",
        columns=("training", "layers"),
        finding="The paper trains for 300 epochs; on small data sets dynamic networks over-fit.",
        variants=tuple(rows),
        claims=tuple(_claims()),
        scales={
            "smoke": Scale(variants=short_names),
            "quick": Scale(variants=short_names, seeds=2),
            "evening": Scale(seeds=6),
        },
    )


def _pair(base: TrialSpec, name: str, factor: int, recipe: dict[str, Any]) -> list[Variant]:
    """Return the static and the dynamic row of a training that is so many times as long, with a recipe."""
    changes = dict(recipe)
    factors: tuple[str, ...] = tuple(recipe)
    epochs = base.train.epochs * factor
    annealing = {**ANNEALING, "train.temperature.epochs": _ANNEALED * epochs}
    # The training of the preset is said as the preset says it, so that it is shared.
    if factor > 1:
        changes["train.epochs"] = epochs
        factors = ("train.epochs", *factors)
    title = f"{epochs} epochs" if epochs > 1 else "1 epoch"
    if recipe:
        title += ", regularised"
    return [
        Variant(
            name=f"{name}_static",
            label=f"{title}, static",
            cells=(title, "static"),
            changes={**changes, **STATIC},
            differs_in=factors,
        ),
        Variant(
            name=f"{name}_dynamic",
            label=f"{title}, dynamic",
            cells=(title, "dynamic"),
            changes={**changes, **annealing, "model.layer": "dynamic"},
            differs_in=("model.layer", *factors),
        ),
    ]


def _claims() -> list[Claim]:
    # What dynamic layers gain in the long training, less what they gain in the short one.
    growing = Contrast(better=("four_times_dynamic", "once_static"), worse=("four_times_static", "once_dynamic"))
    twice = Contrast(better=("twice_dynamic", "once_static"), worse=("twice_static", "once_dynamic"))
    return [
        Claim(
            name="a longer training favours dynamic layers",
            statement="Dynamic layers gain more over static ones in a training of four times (or twice) the length.",
            primary=True,
            contrasts=(growing, twice),
        ),
        *(
            Claim(
                name=f"dynamic beats static: {words}",
                statement=f"The dynamic network is more accurate than the static one, {words}.",
                contrasts=better_than(f"{name}_dynamic", f"{name}_static"),
            )
            for name, words in (
                ("once", "trained once"),
                ("twice", "trained twice as long"),
                ("four_times", "trained four times as long"),
                ("regularised", "trained four times as long and regularised"),
            )
        ),
    ]
