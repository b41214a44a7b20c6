"""Backbones: does dynamic convolution help every network?

Published table: `backbones` (ImageNet): it gains 2.3 points on ResNet-18, 2.9 on MobileNetV3-Small, 3.2 to 5.6 on
MobileNetV2. Each row is a training. Command: `python run_ablation.py run backbones --preset quick`. Expected time:
quick (MobileNetV2 alone, 2 seeds), about 1 minute on two cores, none after *temperature*; small, about 15 hours.
Expected result: others saw small dynamic MobileNets lose on small data; so may we. At preset `paper` each family is
trained with its own recipe where one is known (epochs, learning rate, schedule, weight decay); label smoothing and
mixup, of which only MobileNetV2's is known, are the same for all.
"""

from __future__ import annotations

from typing import Any

from ablations.claims import Claim, better_than
from ablations.spec.trial import TrialSpec
from ablations.studies._networks import ANNEALING, STATIC
from ablations.study import Scale, Study, Variant

_LARGEST_SMALL_IMAGE = 64
"""Side in px up to which a ResNet gets the stem for small images: 3×3 without pooling."""

_NETWORKS: dict[str, tuple[str, str | None]] = {
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2_0.5"),
    "mobilenet_v3_small": ("MobileNetV3-Small", "mobilenet_v3_small"),
    "mobilenet_v3_large": ("MobileNetV3-Large", None),
    "resnet10": ("ResNet-10", "resnet10"),
    "resnet18": ("ResNet-18", "resnet18"),
    "resnet50": ("ResNet-50", None),
}
"""Title of each network, and the beginning of its rows in the published table, if it is there."""

_REFERENCE = "mobilenet_v2"
_SMOKE = ("mobilenet_v2", "mobilenet_v3_small", "resnet10")
_QUICK = ("mobilenet_v2",)
"""MobileNetV3-Small stayed at chance when it was tried at this size; a dynamic ResNet takes minutes per training."""

_FEW = {"data.train_images": 32}
_RESNET: dict[str, Any] = {
    "train.epochs": 100,
    "train.learning_rate": 0.1,
    "train.weight_decay": 1e-4,
    "train.schedule": "step",
}
_MOBILENET_V3: dict[str, Any] = {"train.learning_rate": 0.1, "train.weight_decay": 3e-5}
_RECIPES = {
    "mobilenet_v3_small": _MOBILENET_V3,
    "mobilenet_v3_large": _MOBILENET_V3,
    "resnet10": _RESNET,
    "resnet18": _RESNET,
    "resnet50": _RESNET,
}
"""Differences from MobileNetV2's recipe at the paper's scale; the step is a tenth every 30 epochs, the default."""


def build(base: TrialSpec) -> Study:
    """Return the study for the images of `base`, on whose size the networks depend."""
    variants: list[Variant] = []
    for name in _NETWORKS:
        variants += _pair(name, base.data.facts.image_size)
    recipes: dict[str, dict[str, Any]] = {}
    for name, recipe in _RECIPES.items():
        recipes |= dict.fromkeys(_row_names(name), recipe)
    return Study(
        name="backbones",
        title="Static against dynamic networks",
        question="Does dynamic convolution help every network?",
        reference=f"{_REFERENCE}_static",
        published="backbones",
        columns=("network", "layers"),
        finding="Dynamic convolution improves every network tried, the small ones most.",
        variants=tuple(variants),
        claims=tuple(_claim(name, title) for name, (title, _) in _NETWORKS.items()),
        scales={
            "smoke": Scale(variants=_row_names(*_SMOKE), seeds=1, rows=dict.fromkeys(_row_names("resnet10"), _FEW)),
            "quick": Scale(variants=_row_names(*_QUICK), seeds=2),
            "evening": Scale(variants=_row_names(*_QUICK)),
            "paper": Scale(rows=recipes),
        },
        with_cost=True,
    )


def _row_names(*networks: str) -> tuple[str, ...]:
    names: list[str] = []
    for network in networks:
        names += (f"{network}_static", f"{network}_dynamic")
    return tuple(names)


def _pair(name: str, image_size: int) -> tuple[Variant, Variant]:
    title, published = _NETWORKS[name]
    network = {"model.name": name, **_size(name, image_size)}
    # At some presets the rows of other families also have another width, recipe or number of images, see `scales`.
    factors: tuple[str, ...] = ()
    if name != _REFERENCE:
        factors = ("model.name", "model.width", *_RECIPES.get(name, {}), *_FEW)
    static_name, dynamic_name = _row_names(name)
    return (
        Variant(
            name=static_name,
            cells=(title, "static"),
            label=title,
            changes={**network, **STATIC},
            differs_in=factors,
            published=published and f"{published}_static",
        ),
        Variant(
            name=dynamic_name,
            cells=(title, "dynamic"),
            label=f"DY-{title}",
            changes={**network, **ANNEALING},
            differs_in=(*factors, "model.layer"),
            published=published and f"{published}_dynamic",
        ),
    )


def _size(name: str, image_size: int) -> dict[str, Any]:
    is_small = image_size <= _LARGEST_SMALL_IMAGE
    if name.startswith("resnet") and is_small:
        return {"model.stem_kernel": 3, "model.stem_pool": False}
    # The published MobileNetV3 is ×1.0, and a preset's width is that of its MobileNetV2.
    if name.startswith("mobilenet_v3") and not is_small:
        return {"model.width": 1.0}
    return {}


def _claim(name: str, title: str) -> Claim:
    return Claim(
        name=f"dynamic beats static: {title}",
        statement=f"{title} with dynamic convolutions is more accurate than without.",
        # MobileNetV2 is the network of every other table of the paper, and the one that each preset has.
        primary=name == _REFERENCE,
        contrasts=better_than(f"{name}_dynamic", f"{name}_static"),
    )
