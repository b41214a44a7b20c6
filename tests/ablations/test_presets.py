"""Presets: each resolves, at its own scale. What the studies need at each is in `test_sharing`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablations.datasets.registry import facts_of
from ablations.errors import UnknownNameError
from ablations.planning.plan import Plan
from ablations.planning.request import Request
from ablations.presets import PRESETS, get_preset
from ablations.registry import available_studies
from ablations.spec.settings import DEFAULTS, check_values


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_consistent(name: str) -> None:
    preset = get_preset(name)
    assert preset.name == name
    assert preset.summary
    assert set(preset.settings) <= set(DEFAULTS)
    check_values(preset.settings)
    base = Request(preset).base()
    for key, value in preset.settings.items():
        read: object = base
        for part in key.split("."):
            read = getattr(read, part)
        assert read == value or key.startswith("train.temperature."), f"{key} of {name} is read by nothing"


@pytest.mark.parametrize("name", PRESETS)
def test_annealing_takes_as_long_as_the_preset_says(name: str, plan: Callable[..., Plan]) -> None:
    # These say themselves how long they anneal.
    others = [study for study in available_studies() if study not in ("annealing", "longer")]
    made = plan(*others, preset=name)
    for node in made.trials.values():
        temperature = node.spec.train.temperature
        if temperature is not None and temperature.epochs is not None:
            assert temperature.epochs == PRESETS[name].settings["train.temperature.epochs"]


@pytest.mark.parametrize(
    ("name", "seeds", "data", "epochs", "width"),
    [
        ("smoke", 2, "fashion_mnist_mini", 2, 0.35),
        ("quick", 3, "fashion_mnist_mini", None, 0.35),
        ("small", 5, "fashion_mnist", None, 0.35),
        ("paper", 3, "imagenet", 300, 0.5),
    ],
)
def test_scales(name: str, seeds: int, data: str, epochs: int | None, width: float) -> None:
    base = Request(get_preset(name)).base()
    assert (get_preset(name).seeds, base.data.name, base.model.width) == (seeds, data, width)
    assert epochs in (None, base.train.epochs)


def test_the_paper_preset_is_the_recipe_that_is_known() -> None:
    base = Request(get_preset("paper")).base()
    train = base.train
    assert (train.optimizer, train.schedule, train.learning_rate, train.momentum) == ("sgd", "cosine", 0.05, 0.9)
    assert (train.weight_decay, train.label_smoothing, train.batch_size) == (4e-5, 0.1, 256)
    assert (base.model.dropout, base.model.depth, base.model.num_kernels, base.data.mixup) == (0.2, 1.0, 4, 0.2)
    assert base.data.augmentation == "resized_crop_flip"
    assert facts_of(base.data.name).image_size == 224
    assert get_preset("paper").settings["train.temperature.epochs"] == 10.0


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'quik'.*'quick'"):
        get_preset("quik")
