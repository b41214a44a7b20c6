"""Cost: what do dynamic layers cost in parameters, multiply-adds and time?

Published tables: `backbones` and `condconv`, on ImageNet-size images. Nothing is trained: parameters and
multiply-adds are counted, and one image is timed on one CPU thread, dynamic and static in turn. Command: `python
run_ablation.py run cost --preset quick`. Expected time: about 1 minute on two cores, whatever the preset. Expected
result: counts within one or two per cent of the published ones, except where torchvision's network is another one
(MobileNetV3-Small).
"""

from __future__ import annotations

from typing import Any

from ablations.studies._networks import STATIC
from ablations.study import Study, Variant
from ablations.vocabulary import COST_PARAMETERS

_WIDTHS = (1.0, 0.75, 0.5, 0.35)
_EVERY_BUT_STEM = {"model.where": {"not": {"role": ["stem", "squeeze_excitation"]}}}
_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenet_v3_small": ("MobileNetV3-Small", {"model.name": "mobilenet_v3_small", "model.width": 1.0}),
    "resnet10": ("ResNet-10", {"model.name": "resnet10"}),
    "resnet18": ("ResNet-18", {"model.name": "resnet18"}),
}


def _mobilenet(width: float) -> dict[str, Any]:
    return {"model.name": "mobilenet_v2", "model.width": width, "model.depth": 1.0}


def _differs(settings: dict[str, Any]) -> tuple[str, ...]:
    """Return the factors in which a network with other than static layers differs from the reference."""
    reference = _mobilenet(1.0)
    factors = [key for key, value in settings.items() if value != reference[key]]
    return (*factors, "model.layer")


def _pair(key: str, title: str, settings: dict[str, Any], dynamic: dict[str, Any]) -> tuple[Variant, Variant]:
    # Also what the preset has: the cells say it, so that no override may change it.
    changes = {**settings, "model.layer": "dynamic", "model.num_kernels": 4, **dynamic}
    return (
        Variant(name=f"{key}_static", cells=(title, "static"), changes={**settings, **STATIC}),
        Variant(name=f"{key}_dynamic", cells=(title, "dynamic, K = 4"), changes=changes, differs_in=_differs(settings)),
    )


def _condconv(width: float) -> Variant:
    changes = {**_mobilenet(width), "model.layer": "condconv", "model.num_kernels": 8}
    cells = (f"MobileNetV2 ×{width:g}", "CondConv, K = 8")
    changes |= _EVERY_BUT_STEM
    return Variant(name=f"condconv_{width}", cells=cells, changes=changes, differs_in=_differs(_mobilenet(width)))


def _variants() -> tuple[Variant, ...]:
    variants: list[Variant] = []
    for width in _WIDTHS:
        variants += _pair(f"mobilenet_v2_{width}", f"MobileNetV2 ×{width:g}", _mobilenet(width), {})
    variants += (_condconv(1.0), _condconv(0.5))
    for key, (title, settings) in _OTHERS.items():
        variants += _pair(key, title, settings, _EVERY_BUT_STEM)
    return tuple(variants)


_TITLE = "Parameters, multiply-adds and latency"
_QUESTION = "What do dynamic layers cost?"

ITS_OWN = "its_own"
"""The row of a network that was trained elsewhere, with the layers that it has."""

# Of a network that was trained elsewhere, its own layers are held against static ones, on images of its own size.
ELSEWHERE = Study(
    name="cost",
    title=_TITLE,
    question=_QUESTION,
    reference="static",
    metric=COST_PARAMETERS,
    columns=("network", "layers"),
    variants=(
        Variant(name="static", cells=("inspected network", "static"), changes=STATIC),
        Variant(name=ITS_OWN, cells=("inspected network", "its own")),
    ),
)

STUDY = Study(
    name="cost",
    title=_TITLE,
    question=_QUESTION,
    reference="mobilenet_v2_1.0_static",
    metric=COST_PARAMETERS,
    published="backbones",
    columns=("network", "layers"),
    finding="Dynamic convolution multiplies the parameters by 1.7 to 3.8 and adds 2 to 5 % multiply-adds.",
    # The stem too is the published one, whatever the preset trains with.
    baseline={
        "data.name": "imagenet",
        "data.augmentation": "resized_crop_flip",
        "model.dropout": 0.2,
        "model.stem_stride": 2,
    },
    variants=_variants(),
)
