"""This module turns specs into torch objects: the network, its temperature schedule, its batches, its intervention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dyconv
from ablations.datasets.facts import DatasetFacts
from ablations.errors import DatasetError
from ablations.spec.inspected import NetworkSpec
from ablations.spec.layers import LAYERS
from ablations.spec.parts import DataSpec, Intervention, ModelSpec, TemperatureSpec
from ablations.spec.trial import TrialSpec
from dyconv.deployment.quantisation import simulated_int8
from runners.data import Augmentation, BatchSettings, BatchSource, SplitSizes, open_batches
from runners.seeding import derive_seed

_EVALUATION_BATCH_SIZE = 250
"""A change needs a new spec version: results of strategies that shuffle across images depend on it."""
_CALIBRATION_BATCHES = 2
"""A change needs a new spec version: results in int8 depend on it."""


def build_network(spec: ModelSpec, facts: DatasetFacts, seed: int) -> nn.Module:
    """Return the network of a spec, initialised from `seed`, for images of the data set `facts`.

    Raises:
        DyconvError: If the network cannot be built, for example because a placement selects nothing.
    """
    options: dict[str, Any] = {
        "width": spec.width,
        "depth": spec.depth,
        "stem_stride": spec.stem_stride,
        "stem_kernel": spec.stem_kernel,
        "stem_pool": spec.stem_pool,
        "dropout": spec.dropout,
        "squeeze_excitation": spec.squeeze_excitation,
        "num_kernels": spec.num_kernels,
        "reduction": spec.reduction,
        "normalization": spec.normalization,
        "aggregation": spec.aggregation,
    }
    if not spec.is_static:
        options["layer"] = spec.layer
    if spec.options is not None:
        options["options"] = spec.options.model_dump()
    if spec.where is not None:
        options["where"] = spec.where.as_mapping()
    # Options that the spec leaves out are not passed: some networks refuse them.
    return dyconv.build_model(
        spec.name,
        facts.num_classes,
        in_channels=facts.channels,
        input_size=input_size(facts),
        seed=derive_seed(seed, "initialisation"),
        **{key: value for key, value in options.items() if value is not None},
    )


def build_trained_network(spec: TrialSpec, facts: DatasetFacts) -> nn.Module:
    """Return the network of a trial before its training, whose random strategies draw as its training does.

    Raises:
        DyconvError: If the network cannot be built.
    """
    network = build_network(spec.model, facts, spec.weights_seed)
    # Built from the weights' seed, the strategies would draw from that too, and these draws are of the training.
    dyconv.set_forward_seed(network, derive_seed(spec.order_seed, "initialisation"))
    return network


def timed_networks(spec: ModelSpec, facts: DatasetFacts, seed: int) -> dict[str, nn.Module]:
    """Return the networks whose latency is compared: "static" and "network".

    A network that comes with dynamic layers of its own is alone: there is no static one to compare it with.
    """
    network = build_network(spec, facts, seed)
    if spec.layer != "static" and "where" not in LAYERS[spec.layer].reads:
        return {"network": network}
    return {"static": build_network(as_static(spec), facts, seed), "network": network}


def as_static(spec: ModelSpec) -> ModelSpec:
    """Return the spec of the same network with static layers."""
    # Settings that a static layer does not read are None, so that specs of one network are equal.
    unread = dict.fromkeys(("options", "num_kernels", "reduction", "normalization", "aggregation", "where"))
    return spec.model_copy(update={"layer": "static", **unread})


def input_size(facts: DatasetFacts) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of an image of the data set."""
    return (facts.channels, facts.image_size, facts.image_size)


def temperature_schedule(spec: TemperatureSpec | None) -> dyconv.ConstantTemperature | dyconv.LinearAnnealing | None:
    """Return the schedule of a spec, or `None` for a network that has no temperature."""
    if spec is None:
        return None
    # A schedule without an end stays at its start.
    if spec.end is None or spec.epochs is None:
        return dyconv.ConstantTemperature(spec.start)
    return dyconv.LinearAnnealing(spec.start, spec.end, spec.epochs)


def open_source(spec: TrialSpec, device: torch.device, memory_format: torch.memory_format) -> BatchSource:
    """Return the batches of a trial.

    Raises:
        DatasetError: If the data set is missing or corrupt.
    """
    data, test_only = spec.data, isinstance(spec, NetworkSpec)
    batch_size, augmentation = spec.train.batch_size, augmentation_of(data)
    if test_only:
        # Nothing is trained, so that any number of training images fills a batch.
        batch_size, augmentation = 1, Augmentation()
    settings = BatchSettings(
        batch_size=batch_size,
        evaluation_batch_size=_EVALUATION_BATCH_SIZE,
        seed=derive_seed(spec.order_seed, "batches"),
        augmentation=augmentation,
        device=device,
        memory_format=memory_format,
        workers=data.workers or 0,
    )
    sizes = SplitSizes(
        train=data.train_images,
        validation=data.validation_images,
        test=data.test_images,
        split_seed=spec.split_seed,
    )
    return open_batches(
        data.name,
        settings,
        root=Path(data.root) if data.root else None,
        download=bool(data.download),
        sizes=sizes,
        image_size=data.image_size,
        test_only=test_only,
    )


def augmentation_of(data: DataSpec) -> Augmentation:
    """Return the random changes of single training images; `runners.data.mixing` mixes whole batches."""
    return Augmentation(
        # `None` stands for what the other settings leave unread.
        crop_padding=data.crop_padding or 0,
        resized_crop=data.augmentation == "resized_crop_flip",
        flip=data.augmentation in ("crop_flip", "resized_crop_flip"),
        rand_augment=data.rand_augment,
        rand_augment_magnitude=data.rand_augment_magnitude or 0,
    )


@contextmanager
def intervened(
    model: nn.Module, intervention: Intervention, facts: DatasetFacts, seed: int, calibration: Iterable[Tensor] = ()
) -> Iterator[nn.Module]:
    """Yield the network that the intervention makes of a trained one, which is as it was at the end.

    `calibration` are batches of images, which int8 reads the ranges of activations off.
    """
    if intervention.precision is not None:
        yield in_precision(model, intervention.precision, calibration)
        return
    where = intervention.where.as_mapping() if intervention.where is not None else None
    with dyconv.intervene(
        model,
        aggregation=intervention.aggregation,
        where=where,
        temperature=intervention.temperature,
        seed=derive_seed(seed, "intervention", intervention.seed),
        input_size=input_size(facts),
        attention=intervention.attention,
    ):
        yield model


def in_precision(model: nn.Module, precision: str, calibration: Iterable[Tensor]) -> nn.Module:
    """Return a copy of a network with constant weights that computes in bfloat16, or as int8 does."""
    if precision == "int8":
        return simulated_int8(model, calibration)
    return _InBfloat16(dyconv.deployable(model))


class _InBfloat16(nn.Module):
    """A network whose weights and activations are all bfloat16; attention is normalised in float32, as in training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.bfloat16())  # type: ignore[no-any-return]


def calibration_images(source: BatchSource) -> Iterator[Tensor]:
    """Yield two batches of training images, not augmented.

    Raises:
        DatasetError: The data set has test images alone.
    """
    if not source.num_images("train"):
        raise DatasetError(
            "int8 reads the ranges of activations off training images, and this data set has test images alone: add "
            "the training images, or leave the rows in int8 out."
        )
    for images, _ in islice(source.evaluation("train"), _CALIBRATION_BATCHES):
        yield images
