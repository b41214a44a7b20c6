"""Each draw of a training comes from one of three sources, which can be fixed apart from each other.

A probe per draw says what a training draws; it must change with the seed of its source and with no other seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import dyconv
from ablations.spec.trial import TrialSpec
from runners.training.checkpoint import CheckpointStore
from runners.training.network import build_trained_network, open_source
from runners.training.trainer import Trainer
from tests.runners.bench import Bench

CPU = torch.device("cpu")
ALL_DRAWS = {
    "model.dropout": 0.5,
    "model.aggregation": "shuffle_per_image",
    "data.mixup": 0.4,
    "data.augmentation": "crop_flip",
    "data.split_seed": "trial",
}
SOURCES = ("train.weights_seed", "train.order_seed", "data.split_seed")


def source_of(spec: TrialSpec) -> Any:
    return open_source(spec, CPU, torch.contiguous_format)


def initial_weights(spec: TrialSpec, bench: Bench) -> bytes:
    weights = build_trained_network(spec, spec.data.facts).state_dict()
    return b"".join(tensor.numpy().tobytes() for tensor in weights.values())


def order(spec: TrialSpec, bench: Bench) -> bytes:
    """The classes in the order of an epoch, which is that of the positions, whatever images are there."""
    return b"".join(labels.numpy().tobytes() for _, labels in source_of(spec).training(1))


def aggregation(spec: TrialSpec, bench: Bench) -> bytes:
    layers = dyconv.dynamic_layers(build_trained_network(spec, spec.data.facts))
    generators = [layer.aggregator.context.layer_generator() for _, layer in layers]
    return b"".join(torch.rand(4, generator=generator).numpy().tobytes() for generator in generators)


def mixing_and_dropout(spec: TrialSpec, bench: Bench) -> bytes:
    model, state = build_trained_network(spec, spec.data.facts), bench.states["0" * 64]
    trainer = Trainer(spec, model, source_of(spec), CheckpointStore(state.folder))
    with trainer._seeded("step", 3):
        return torch.rand(4).numpy().tobytes()


def validation_images(spec: TrialSpec, bench: Bench) -> bytes:
    source = source_of(spec)
    # In pixels, as the statistics by which images are normalised are those of the training split.
    statistics = source._dataset
    images = torch.cat([images for images, _ in source.evaluation("validation")])
    pixels = (images * statistics.std.view(1, -1, 1, 1) + statistics.mean.view(1, -1, 1, 1)) * 255
    return bytes(pixels.round().to(torch.uint8).numpy())


PROBES: dict[str, tuple[Callable[[TrialSpec, Bench], bytes], str]] = {
    "initial weights": (initial_weights, "train.weights_seed"),
    "order": (order, "train.order_seed"),
    "aggregation": (aggregation, "train.order_seed"),
    "mixing and dropout": (mixing_and_dropout, "train.order_seed"),
    "validation images": (validation_images, "data.split_seed"),
}


@pytest.mark.parametrize("draw", PROBES)
@pytest.mark.parametrize("varied", SOURCES)
def test_a_draw_changes_with_the_seed_of_its_source_alone(bench: Bench, draw: str, varied: str) -> None:
    probe, source = PROBES[draw]
    fixed = {key: 7 for key in SOURCES if key != varied}
    draws = set()
    for seed in (1, 2):
        settings = {key.replace(".", "__"): value for key, value in {**ALL_DRAWS, **fixed}.items()}
        draws.add(probe(bench.trial(seed=seed, **settings).spec, bench))
    assert len(draws) == (2 if varied == source else 1)


@pytest.mark.parametrize("draw", PROBES)
def test_a_source_draws_from_its_own_seed_as_from_the_same_one_of_the_trial(bench: Bench, draw: str) -> None:
    probe, source = PROBES[draw]
    settings = {key.replace(".", "__"): value for key, value in ALL_DRAWS.items()}
    fixed = {**settings, source.replace(".", "__"): 7}
    assert probe(bench.trial(seed=1, **fixed).spec, bench) == probe(bench.trial(seed=7, **settings).spec, bench)


def test_augmentation_is_of_the_order_and_not_of_the_other_sources(bench: Bench) -> None:
    """What the position of an image gives is compared, so that the split stays as it is."""
    images = []
    for seed, fixed in ((1, 7), (2, 7), (1, 8)):
        spec = bench.trial(seed=seed, train__order_seed=fixed, data__augmentation="crop_flip").spec
        images.append(torch.cat([batch for batch, _ in source_of(spec).training(0)]))
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
