"""A factor is a setting of a training, or a group of settings, for which an optimiser proposes values.

A study's *scientific* factors are the settings of its variants. Its *nuisance* factors are settings that may be tuned
for each variant. Every other setting is *fixed*. `runners` proposes the values, with Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ablations.errors import UnknownNameError
from ablations.spec.fingerprint import canonical_json
from ablations.spec.parts import Frozen, Placement
from ablations.spec.settings import DEFAULTS, SOURCES, Settings, check_values, flatten, is_whole_number, merge, unread
from ablations.spec.trial import TrialSpec, resolve

Number = int | float
Choice = str | int | float | bool

_SPREAD = 5.0
"""The factor by which a tuned learning rate may differ from the preset's in either direction, by default."""
_DECAY_SPREAD = 10.0
_DECAY_BY_DEFAULT = (1e-6, 1e-3)
_WARMUP_SHARE = 0.25
"""Share of the training up to which its warm-up is tuned."""

_SAME_DATA = ("data.name", "data.root", "data.download", "data.workers", "data.image_size")
_SAME_SIZES = ("data.train_images", "data.validation_images", "data.test_images")
_SAME_EFFORT = ("train.epochs", "train.devices", "train.micro_batch", "train.on_out_of_memory")
NEVER_NUISANCE = frozenset((*_SAME_DATA, *_SAME_SIZES, *_SAME_EFFORT, *SOURCES))
"""Settings by which one variant would get other images, more training, or a luckier draw than another."""


class Factor(Frozen):
    """The values that one factor can take: a range, a list of choices, or named options that set several settings.

    Attributes:
        low, high: Ends of a range, both included. Of whole numbers if both are and the setting is one.
        log: Whether the range is even in the logarithm.
        choices: Values without an order.
        options: Name of each option → the settings that it stands for.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    choices: Annotated[tuple[Choice, ...], Field(strict=False)] | None = None
    options: dict[str, dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _is_one_of_three(self) -> Self:
        forms = [self.low is not None or self.high is not None, self.choices is not None, self.options is not None]
        if sum(forms) != 1:
            raise ValueError("needs low and high, or choices, or options, and only one of these")
        if self.choices is not None or self.options is not None:
            self._check_listed()
        else:
            self._check_range()
        return self

    def _check_listed(self) -> None:
        if self.log:
            raise ValueError("log is for a range with low and high. Leave it out.")
        labels = self.labels or ()
        # By their JSON, as Python takes 1, 1.0 and True for equal.
        if len(set(map(canonical_json, labels))) != len(labels):
            raise ValueError("lists a choice twice. Keep one.")
        if len(labels) < 2:
            raise ValueError(f"has {len(labels)} choices. A factor varies only with two or more.")

    def _check_range(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError("a range needs both low and high")
        if not self.low < self.high:
            raise ValueError(f"the range from {self.low:g} to {self.high:g} is empty. low must be less than high.")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} has no logarithm. Start above 0, or leave out log.")

    @property
    def labels(self) -> tuple[Choice, ...] | None:
        """The choices, or the names of the options, or `None` for a range."""
        return tuple(self.options) if self.options is not None else self.choices

    def __str__(self) -> str:
        if self.labels is not None:
            return ", ".join(map(str, self.labels))
        if self.log:
            return f"{self.low:g} to {self.high:g} (log)"
        return f"{self.low:g} to {self.high:g}"

    def is_whole(self, setting: str) -> bool:
        """Return True if the range proposes whole numbers alone, for a setting that is one."""
        return isinstance(self.low, int) and isinstance(self.high, int) and is_whole_number(setting)

    def contains(self, value: Any) -> bool:
        """Return True if a value of the setting can be proposed."""
        if self.choices is not None:
            return value in self.choices
        is_number = isinstance(value, int | float) and self.low is not None and self.high is not None
        return is_number and self.low <= value <= self.high

    def settings(self, name: str, value: Any) -> dict[str, Any]:
        """Return the settings that a proposed value of the factor called `name` stands for."""
        if self.options is not None:
            return dict(self.options[str(value)])
        return {name: value}

    @property
    def ends(self) -> tuple[Any, ...]:
        """All choices, or both ends of a range."""
        return self.labels if self.labels is not None else (self.low, self.high)

    def every(self, name: str) -> list[dict[str, Any]]:
        """Return the settings of each choice, or those of both ends of a range."""
        return [self.settings(name, value) for value in self.ends]


def proposed_settings(factors: Mapping[str, Factor], proposed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that proposed values of factors stand for."""
    settings: dict[str, Any] = {}
    for name, value in proposed.items():
        settings |= factors[name].settings(name, value)
    return settings


def resolve_proposed(general: Settings, changes: Settings, values: Settings, seed: int) -> TrialSpec:
    """Return the spec of a training with proposed `values`; those that nothing reads beside the others are dropped.

    Args:
        general: General settings over the defaults.
        changes: Settings of a row over these; each must be read.
        values: The proposed settings, strongest.

    Raises:
        SpecError: If they do not fit together.
    """
    reasons = unread(merge([general, changes, values]))
    read = {key: value for key, value in values.items() if key not in reasons}
    return resolve([general], {**changes, **read}, seed)


def check_factor(name: str, factor: Factor) -> None:
    """Raise if a value of a factor is none that its setting, or the settings of its options, can have.

    Raises:
        UnknownNameError: If a setting does not exist.
        SpecError: If a value is wrong.
    """
    if factor.options is None and name not in DEFAULTS:
        raise UnknownNameError("setting", name, DEFAULTS)
    for values in factor.every(name):
        check_values(flatten(values))


def default_nuisance(spec: TrialSpec) -> dict[str, Factor]:
    """Return the factors of a study that names none: learning rate, weight decay and warm-up around those of `spec`."""
    rate, decay, epochs = spec.train.learning_rate, spec.train.weight_decay, spec.train.epochs
    low, high = decay / _DECAY_SPREAD, decay * _DECAY_SPREAD
    if decay == 0:
        # It has no logarithm to spread around.
        low, high = _DECAY_BY_DEFAULT
    # At least the preset's own warm-up, so that the range contains it.
    warmup = max(_WARMUP_SHARE * epochs, spec.train.warmup_epochs)
    return {
        "train.learning_rate": Factor(low=_round(rate / _SPREAD), high=_round(rate * _SPREAD), log=True),
        "train.weight_decay": Factor(low=_round(low), high=_round(high), log=True),
        "train.warmup_epochs": Factor(low=0.0, high=_round(warmup)),
    }


def _round(value: float) -> float:
    # The ends of a range are part of fingerprints and printed for people, so without the noise of a float division.
    return float(f"{value:.6g}")


def plain(settings: Settings) -> dict[str, Any]:
    """Return settings in a form that JSON takes: sorted, with placements as plain mappings."""
    values: dict[str, Any] = {}
    for key, value in sorted(settings.items()):
        values[key] = value.as_mapping() if isinstance(value, Placement) else value
    return values
