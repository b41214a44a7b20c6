"""Repeats are pairs: the r-th of every variant starts from the same seed and sees the same images in the same order.

Reports subtract repeat by repeat, so that what a seed does to both variants cancels.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from ablations.spec.trial import TrialSpec
from runners.training.network import build_network, open_source
from tests.runners.bench import Bench

CPU = torch.device("cpu")

VARIANTS: dict[str, dict[str, Any]] = {
    "static": {"model__layer": "static"},
    "condconv": {"model__layer": "condconv", "model__num_kernels": 8},
    "hotter": {"train__temperature__start": 1.0},
    "longer": {"train__epochs": 3},
    "faster": {"train__learning_rate": 0.1},
    "never mirrored": {"data__augmentation": "none"},
    "mixed": {"data__mixup": 0.2, "data__cutmix": 1.0},
    "augmented": {"data__rand_augment": 2},
    "measured on fewer": {"data__test_images": 20, "data__validation_images": 10},
    "in other batches": {"train__batch_size": 8},
}


@pytest.mark.parametrize("study", available_studies())
def test_every_variant_has_the_same_seeds(study: str) -> None:
    request = Request(get_preset("small"))
    plan = make_plan([get_study(study, request.base())], request)
    seeds: dict[str, list[int]] = {}
    for cell in plan.cells:
        seeds.setdefault(cell.key, []).append(plan.node(cell.fingerprint).spec.seed)
    asked = 1 if plan.studies[0].is_about_cost else plan.request.seeds_of(plan.studies[0])
    assert set(map(tuple, seeds.values())) == {tuple(range(asked))}


def _labels(spec: TrialSpec, epochs: int = 2) -> list[int]:
    """Returns the classes of the images in the order in which a training sees them."""
    source = open_source(spec, CPU, torch.contiguous_format)
    return [int(label) for epoch in range(epochs) for _, labels in source.training(epoch) for label in labels]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_the_images_is_that_of_the_seed(bench: Bench, variant: str) -> None:
    specs = [bench.trial(seed=1, **changes).spec for changes in ({}, VARIANTS[variant])]
    assert _labels(specs[0]) == _labels(specs[1])
    assert _labels(specs[0]) != _labels(bench.trial(seed=2).spec)


@pytest.mark.parametrize("variant", ["hotter", "longer", "faster", "in other batches"])
def test_each_image_is_varied_in_the_same_way(bench: Bench, variant: str) -> None:
    """What is drawn for an image is drawn from the seed, the epoch and the image, not from its batch."""
    sources = [
        open_source(bench.trial(seed=1, **changes).spec, CPU, torch.contiguous_format)
        for changes in ({}, VARIANTS[variant])
    ]
    one, two = (torch.cat([images for images, _ in source.training(1)]) for source in sources)
    assert torch.equal(one, two)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_two_networks_share_starts_alike(bench: Bench, variant: str) -> None:
    """All parts that are not dynamic: stem, normalisations, classifier; and all of it, if the network is the same."""
    specs = [bench.trial(seed=1, **changes).spec for changes in ({}, VARIANTS[variant])]
    one, two = (build_network(spec.model, spec.data.facts, spec.seed).state_dict() for spec in specs)
    shared = [name for name in one if name in two and one[name].shape == two[name].shape]
    assert {"features.0.0.weight", "classifier.1.weight"} <= set(shared)
    assert [name for name in shared if not torch.equal(one[name], two[name])] == []
    other = build_network(specs[0].model, specs[0].data.facts, seed=2).state_dict()
    assert not torch.equal(one["features.0.0.weight"], other["features.0.0.weight"])
    if specs[0].model == specs[1].model:
        assert one.keys() == two.keys() == set(shared)
