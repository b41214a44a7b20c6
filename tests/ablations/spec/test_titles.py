"""Titles for people."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.spec.parts import BLOCKS, Intervention, Placement
from ablations.spec.titles import intervention_title, placement_title, trial_title
from ablations.spec.trial import resolve

LINEAR = {"train.temperature.schedule": "linear"}


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"model.depth": 1.0}, "DY-MobileNetV2 ×0.35 K=4 τ=30 · seed 0"),
        ({"model.width": 1, "model.layer": "static"}, "MobileNetV2 ×1 depth 0.5 · seed 0"),
        ({"model.depth": 1.0, **LINEAR}, "DY-MobileNetV2 ×0.35 K=4 τ=30→1 · seed 0"),
        ({"model.depth": 1.0, "model.aggregation": "max"}, "DY-MobileNetV2 ×0.35 K=4 max τ=30 · seed 0"),
        ({"model.name": "timm/resnet10t"}, "DY-timm/resnet10t K=4 τ=30 · seed 0"),
        (
            {"model.depth": 1.0, "model.layer": "condconv", "model.num_kernels": 8},
            "CondConv-MobileNetV2 ×0.35 K=8 · seed 0",
        ),
        (
            {"model.depth": 1.0, "model.layer": "condconv", "model.options.share_routing": True},
            "CondConv-MobileNetV2 ×0.35 K=4 share_routing=True · seed 0",
        ),
        ({"model.depth": 1.0, "model.layer": "dcd"}, "DCD-MobileNetV2 ×0.35 · seed 0"),
        (
            {"model.depth": 1.0, "model.layer": "partly_dynamic", "model.options.share": 0.25},
            "Part-DY-MobileNetV2 ×0.35 K=4 share=0.25 τ=30 · seed 0",
        ),
        (
            {"model.depth": 1.0, "model.squeeze_excitation": True},
            "DY-SE-MobileNetV2 ×0.35 K=4 τ=30 · seed 0",
        ),
        (
            {"model.name": "resnet18", "model.layer": "static", "model.squeeze_excitation": True},
            "SE-ResNet-18 · seed 0",
        ),
        ({"model.name": "resnet50", "model.normalization": "sigmoid"}, "DY-ResNet-50 K=4 sigmoid · seed 0"),
        (
            {"model.name": "mobilenet_v3_large", "model.normalization": "normalized_sigmoid"},
            "DY-MobileNetV3-Large ×0.35 K=4 normalized sigmoid · seed 0",
        ),
        (
            {"model.depth": 1.0, "model.where": {"role": ["depthwise", "expansion"]}},
            "DY-MobileNetV2 ×0.35 K=4 at expansion, depthwise τ=30 · seed 0",
        ),
        ({"model.depth": 1.0, "model.reduction": 16}, "DY-MobileNetV2 ×0.35 K=4 C/16 τ=30 · seed 0"),
        (
            {"model.depth": 1.0, "train.weights_seed": 0, "train.order_seed": 7, "data.split_seed": 9},
            "DY-MobileNetV2 ×0.35 K=4 τ=30 · weights 0, order 7, split 9 · seed 0",
        ),
        (
            {"model.depth": 1.0, "data.split_seed": "trial"},
            "DY-MobileNetV2 ×0.35 K=4 τ=30 · split by seed · seed 0",
        ),
    ],
)
def test_trial_titles(settings: dict[str, Any], title: str) -> None:
    assert trial_title(resolve([], settings, 0)) == title


@pytest.mark.parametrize(
    ("intervention", "title"),
    [
        (Intervention(), "as trained"),
        (Intervention(aggregation="shuffle_per_image"), "shuffle per image"),
        (Intervention(aggregation="average", where=Placement(resolution=(7, 14))), "average at 14, 7 px"),
        (Intervention(temperature=1.0), "τ=1"),
        (Intervention(precision="int8"), "int8"),
    ],
)
def test_intervention_titles(intervention: Intervention, title: str) -> None:
    assert intervention_title(intervention) == title


@pytest.mark.parametrize(
    ("where", "title"),
    [
        (Placement(), "every layer"),
        (BLOCKS, "not (stem, head, squeeze_excitation)"),
        (Placement(name=("features.*",), depth=(0.0, 0.5)), "features.* and depth 0 to 0.5"),
        (Placement(any_of=(Placement(role=("conv1",)), Placement(resolution=(7,)))), "(conv1) or (7 px)"),
        (Placement(all_of=(Placement(role=("conv1",)), Placement(resolution=(7,)))), "(conv1) and (7 px)"),
    ],
)
def test_placement_titles(where: Placement, title: str) -> None:
    assert placement_title(where) == title
