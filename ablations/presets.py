"""Presets set the scale of a study: amount of data, size of the network, length of training, number of seeds.

The question of the study stays the same at every preset.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ablations.errors import UnknownNameError
from ablations.spec.parts import Frozen
from ablations.spec.settings import flatten


class Preset(Frozen):
    """A scale at which a study can be run.

    Attributes:
        summary: Its purpose, with the time it takes.
        settings: The weakest layer of settings, over the defaults.
        allow: Lints that every study may raise at this scale, each with the reason.
    """

    name: str
    summary: str
    seeds: int
    settings: dict[str, Any]
    allow: dict[str, str] = Field(default_factory=dict)


SMOKE = Preset(
    name="smoke",
    summary="seconds, for tests: 128 images, 2 epochs, 2 seeds; its numbers mean nothing",
    seeds=2,
    allow={"few-seeds": "its numbers mean nothing"},
    settings=flatten(
        {
            # So few images and epochs that all studies together stay a matter of seconds.
            "data": {"name": "fashion_mnist_mini", "train_images": 128, "validation_images": 100, "test_images": 100},
            "model": {"width": 0.35, "depth": 0.5},
            "train": {
                "epochs": 2,
                "batch_size": 8,
                "learning_rate": 0.04,
                "warmup_epochs": 0.5,
                "temperature.epochs": 1.0,
            },
        }
    ),
)

QUICK = Preset(
    name="quick",
    summary="minutes on two cores: all 8,000 embedded Fashion-MNIST training images, 4 epochs, 3 to 9 seeds",
    seeds=3,
    allow={"few-seeds": "minutes do not pay for more; networks to inspect, of which there are two, get nine seeds"},
    # Chosen by measurement, see docs/presets.md. The stem keeps the resolution, so that the deepest dynamic layers see
    # maps of 2 x 2 pixels and there are the paper's five resolutions; so short a training is worse with augmentation.
    settings=flatten(
        {
            "data": {"name": "fashion_mnist_mini", "augmentation": "none"},
            "model": {"width": 0.35, "depth": 0.34, "stem_stride": 1},
            "train": {
                "epochs": 4,
                "batch_size": 32,
                "learning_rate": 0.03,
                "warmup_epochs": 0.25,
                "label_smoothing": 0.1,
                "temperature.epochs": 1.0,
            },
        }
    ),
)

EVENING = Preset(
    name="evening",
    summary="about two and a half hours on two cores: all 55,000 Fashion-MNIST training images once, 9 seeds",
    seeds=9,
    # The network and the recipe of quick, on seven times the images: docs/presets.md says why one epoch.
    settings=flatten(
        {
            "data": {"name": "fashion_mnist", "augmentation": "none"},
            "model": {"width": 0.35, "depth": 0.34, "stem_stride": 1},
            "train": {
                "epochs": 1,
                "batch_size": 32,
                "learning_rate": 0.03,
                "warmup_epochs": 0.1,
                "label_smoothing": 0.1,
                # A fifth of the training, the longest annealing of the study *annealing*, with which it is shared.
                "temperature.epochs": 0.2,
            },
        }
    ),
)

SMALL = Preset(
    name="small",
    summary="hours on two cores: all 55,000 Fashion-MNIST training images, 5 seeds",
    seeds=5,
    allow={"few-seeds": "five seeds take hours; claims are judged by intervals, and the report says what has no star"},
    settings=flatten(
        {
            "data": {"name": "fashion_mnist"},
            "model": {"width": 0.35, "depth": 0.5},
            "train": {
                "epochs": 15,
                "batch_size": 128,
                "learning_rate": 0.04,
                "warmup_epochs": 1.0,
                "temperature.epochs": 5.0,
            },
        }
    ),
)

PAPER = Preset(
    name="paper",
    summary="the paper's scale: ImageNet at 224 px, MobileNetV2 ×0.5, 300 epochs; GPUs and weeks",
    seeds=3,
    allow={"few-seeds": "each seed takes a GPU days; three give an interval, if a wide one"},
    settings=flatten(
        {
            "data": {"name": "imagenet", "augmentation": "resized_crop_flip", "mixup": 0.2},
            "model": {"width": 0.5, "depth": 1.0, "dropout": 0.2},
            "train": {
                "epochs": 300,
                "batch_size": 256,
                "learning_rate": 0.05,
                # The recipe that is known of the paper names momentum alone.
                "nesterov": False,
                "weight_decay": 4e-5,
                "label_smoothing": 0.1,
                "precision": "amp",
                "temperature.epochs": 10.0,
            },
        }
    ),
)

PRESETS = {preset.name: preset for preset in (SMOKE, QUICK, EVENING, SMALL, PAPER)}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        UnknownNameError: If there is none, with the nearest names.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name]
