"""This module resolves sparse layers of settings into the spec of a trial, one complete training configuration.

Plans make specs with `resolve`; workers and records read them back from JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pydantic import ValidationError, model_validator

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import folder_sets
from ablations.errors import SpecError
from ablations.spec.layers import LAYERS
from ablations.spec.parts import DataSpec, Frozen, ModelSpec, Seed, TrainSpec
from ablations.spec.settings import DEFAULTS, Settings, blank_unread, explain, merge, nest, unread


class TrialSpec(Frozen):
    """One fully resolved training configuration, seed included.

    The seed is that of each source of randomness whose own seed is not set: `weights_seed`, `order_seed` and
    `split_seed` are the numbers that a training draws from.
    """

    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _blank_what_nothing_reads(cls, raw: Any) -> Any:
        return blank_unread(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_train(self.train)
        _check_data(self.data, self.train)
        return self

    @property
    def weights_seed(self) -> int:
        """The seed of the initial weights."""
        return self.seed if self.train.weights_seed is None else self.train.weights_seed

    @property
    def order_seed(self) -> int:
        """The seed of all that is drawn during the training: order, augmentation, mixing, dropout, aggregation."""
        return self.seed if self.train.order_seed is None else self.train.order_seed

    @property
    def split_seed(self) -> int | None:
        """The seed by which the validation images are drawn, or `None` for the split of the data set."""
        return self.seed if self.data.split_seed == "trial" else self.data.split_seed


def _check_train(train: TrainSpec) -> None:
    """Raise `ValueError` if settings of a training that are valid alone do not fit together."""
    temperature = train.temperature
    if temperature is not None and temperature.epochs is not None and temperature.epochs > train.epochs:
        raise ValueError(
            f"train.temperature.epochs = {temperature.epochs:g} is longer than the training, "
            f"train.epochs = {train.epochs}: the annealing would never end"
        )
    # Every device gets an equal share of each batch.
    if train.batch_size % train.devices:
        raise ValueError(f"train.batch_size = {train.batch_size} is not a multiple of train.devices = {train.devices}")
    if train.micro_batch is not None and (train.batch_size % train.micro_batch or train.micro_batch % train.devices):
        raise ValueError(
            f"train.micro_batch = {train.micro_batch} must divide train.batch_size = {train.batch_size} and be a "
            f"multiple of train.devices = {train.devices}"
        )
    if train.warmup_epochs >= train.epochs and train.warmup_epochs > 0:
        raise ValueError(f"train.warmup_epochs = {train.warmup_epochs:g} leaves nothing of {train.epochs} epochs")
    if train.nesterov and not train.momentum:
        raise ValueError("train.nesterov needs a train.momentum above 0")


def _check_data(data: DataSpec, train: TrainSpec) -> None:
    """Raise `ValueError` if the data set cannot be used as the settings say."""
    if data.name in folder_sets() and data.augmentation in ("crop", "crop_flip"):
        raise ValueError(
            f"data.augmentation = {data.augmentation!r} shifts images in memory, and {data.name!r} is read from files. "
            "Use 'resized_crop_flip', or 'none'"
        )
    facts = check_images(data, ("train_images", "validation_images", "test_images"))
    images = data.train_images or facts.train_images
    if images is not None and train.batch_size > images:
        raise ValueError(f"train.batch_size = {train.batch_size} is more than the {images} training images")


def check_images(data: DataSpec, splits: Iterable[str]) -> DatasetFacts:
    """Return the facts of a data set.

    Args:
        splits: Settings, such as `test_images`, that must not ask for more images than there are.

    Raises:
        ValueError: One does.
    """
    facts = data.facts
    for split in splits:
        requested, available = getattr(data, split), getattr(facts, split)
        if requested is not None and available is not None and requested > available:
            raise ValueError(
                f"data.{split} = {requested}, but {facts.name!r} has {available}. Ask for at most that many, "
                f"for example with --set data.{split}={available}"
            )
    return facts


def dotted_settings(spec: TrialSpec) -> dict[str, Any]:
    """Return every setting of a trial but its seed, dotted; `None` where nothing reads it, a placement stays whole."""
    settings = {key: _value_at(spec, key) for key in DEFAULTS}
    for option in LAYERS[spec.model.layer].options:
        # An option that was added later is absent at its default.
        if settings[f"model.options.{option.name}"] is None:
            settings[f"model.options.{option.name}"] = option.default
    return settings


def _value_at(spec: TrialSpec, key: str) -> Any:
    value: Any = spec
    for name in key.split("."):
        # A group that nothing reads, such as the temperature of a static network, is `None` as a whole.
        if value is None:
            return None
        # Options of another layer kind are not there at all.
        value = getattr(value, name, None)
    return value


def resolve(layers: Iterable[Settings], changes: Settings, seed: int) -> TrialSpec:
    """Return the trial that `changes` make of the `layers`.

    Args:
        layers: General settings, the weakest first; what nothing reads among them is dropped.
        changes: Settings of a variant, strongest; each must be read.

    Raises:
        SpecError: If a value is invalid or nothing reads a setting in `changes`.
    """
    # General settings that nothing reads are dropped in silence, those of the variant are refused: a preset cannot know
    # the variants, but a variant that sets something without effect is a mistake.
    values = merge([*layers, changes])
    reasons = unread(values)
    for key in changes:
        if key in reasons:
            raise SpecError(f"{key} = {changes[key]!r} would be read by nothing: {reasons[key]}.")
    settings = {key: value for key, value in values.items() if key not in reasons}
    try:
        return TrialSpec.model_validate({**nest(settings), "seed": seed})
    except ValidationError as error:
        raise SpecError(explain(error)) from None
