"""Settings are values under dotted keys; sparse layers of them (preset, study, command line, variant) make one spec.

A setting that nothing reads, given the other settings, becomes `None` if it comes from a general layer, and is an error
if a variant sets it. The rules for that are one table (`_RULES`), which serves the validation, the check of overrides
and the explanation in the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ablations.datasets.registry import downloadable, folder_sets, get_folder_set
from ablations.errors import SettingError, SpecError, UnknownNameError, nearest
from ablations.spec.layers import LAYERS, LayerKind, LayersThatRead, kinds_by_option, option_of
from ablations.spec.names import NETWORKS
from ablations.spec.parts import (
    MAX_OPERATIONS,
    DataSpec,
    Intervention,
    LayerOptions,
    ModelSpec,
    Placement,
    TemperatureSpec,
    TrainSpec,
    check_option,
)

Settings = Mapping[str, Any]
"""Values under dotted keys, for example `{"train.epochs": 4}`."""

_TEMPERATURE = tuple(f"train.temperature.{name}" for name in ("schedule", "start", "end", "epochs"))

SOURCES = {
    "train.weights_seed": "initial weights",
    "train.order_seed": "order and augmentation",
    "data.split_seed": "validation split",
}
"""The sources of randomness of a training: the setting that fixes each, and its name in a report."""

Allowed = tuple[Any, ...] | range | LayersThatRead | Callable[[], tuple[Any, ...]]
"""Values under which a setting is read: listed, a range (at least its start), or a function if plug-ins can add any."""

_RULES: tuple[tuple[tuple[str, ...], str, Allowed], ...] = (
    (("model.num_kernels",), "model.layer", LayersThatRead("num_kernels")),
    (("model.where",), "model.layer", LayersThatRead("where")),
    (("model.reduction",), "model.layer", LayersThatRead("reduction")),
    (("model.normalization",), "model.layer", LayersThatRead("normalization")),
    (("model.aggregation",), "model.layer", LayersThatRead("aggregation")),
    (_TEMPERATURE, "model.layer", LayersThatRead("temperature")),
    (_TEMPERATURE, "model.normalization", ("softmax", "tempered_sigmoid")),
    (("train.temperature.end", "train.temperature.epochs"), "train.temperature.schedule", ("linear",)),
    (("train.momentum", "train.nesterov"), "train.optimizer", ("sgd",)),
    (("train.step_epochs", "train.step_factor"), "train.schedule", ("step",)),
    (("data.crop_padding",), "data.augmentation", ("crop", "crop_flip")),
    (("data.rand_augment_magnitude",), "data.rand_augment", range(1, MAX_OPERATIONS + 1)),
    (("data.image_size", "data.workers"), "data.name", folder_sets),
    (("data.download",), "data.name", downloadable),
)
"""(settings, setting that decides, its values under which the settings are read)."""

DECIDERS = frozenset({"model.name", "model.layer", *(decider for _, decider, _ in _RULES)})
"""Settings whose values decide which others are read."""

_NETWORK_OPTIONS = ("width", "depth", "stem_stride", "stem_kernel", "stem_pool", "dropout", "squeeze_excitation")


def _branch(annotation: Any) -> type[BaseModel] | None:
    # A group that may be `None` is a union. A placement is a model as well, but counts as one value.
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel) and option is not Placement:
            return option
    return None


def _walk(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = _branch(field.annotation)
        if inner is None:
            yield prefix + name, field.default
        else:
            yield from _walk(inner, f"{prefix}{name}.")


_OPTIONS = "model.options"
DEFAULTS: dict[str, Any] = dict([*_walk(ModelSpec, "model."), *_walk(DataSpec, "data."), *_walk(TrainSpec, "train.")])
"""Every setting of a trial but its seed, with its default. That of a layer's option depends on the kind: None."""
DEFAULTS.update((f"{_OPTIONS}.{name}", None) for name in kinds_by_option())


def add_layer(name: str, kind: LayerKind) -> None:
    """Make a plug-in's layer kind known to specs; adding a name again replaces it."""
    LAYERS[name] = kind
    for option in kind.options:
        DEFAULTS.setdefault(f"{_OPTIONS}.{option.name}", None)


_GROUPS: Mapping[str, type[BaseModel]] = {
    "model": ModelSpec,
    _OPTIONS: LayerOptions,
    "data": DataSpec,
    "train": TrainSpec,
    "train.temperature": TemperatureSpec,
}
"""The groups of settings, those inside another group included."""

_INTERVENTION = "intervention"


def all_factors() -> tuple[str, ...]:
    """Return all that variants can differ in: every setting and group, the intervention as a whole or in part."""
    parts = [f"{_INTERVENTION}.{key}" for key in Intervention.model_fields]
    return (*DEFAULTS, *sorted(_GROUPS), _INTERVENTION, *parts)


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings as dotted settings; keys may be dotted already, a placement stays whole.

    Raises:
        UnknownNameError: If a key is not a setting.
        SettingError: If the same setting is given twice, once nested and once dotted, or a group has a value.
    """
    flat: dict[str, Any] = {}
    for key, value in _settings(nested):
        if key not in DEFAULTS:
            raise UnknownNameError("setting", key, DEFAULTS)
        if key in flat:
            raise SettingError(key, f"setting {key!r} is given twice. Keep one.")
        flat[key] = value
    return flat


def leaves(nested: Mapping[str, Any], is_group: Callable[[str], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings with their dotted names.

    Args:
        is_group: Tells by its dotted name whether a mapping is a group of values; others are values as they are.
        prefix: Stands before all names.
    """
    for name, value in nested.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and is_group(key):
            yield from leaves(value, is_group, f"{key}.")
        else:
            yield key, value


def _settings(nested: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in leaves(nested, _GROUPS.__contains__):
        if key not in _GROUPS:
            yield key, value
        elif isinstance(value, BaseModel):
            # Only fields that were set: a default here must not win over a preset.
            yield from _settings({key: value.model_dump(by_alias=True, exclude_unset=True)})
        elif value is not None:
            # None: the dump of a static network has no temperature at all; that sets nothing.
            raise SettingError(key, f"{key!r} is a group of settings, not a value; found {_shown(value)}.")


def nest(flat: Settings) -> dict[str, Any]:
    """Return dotted settings as nested mappings."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        # `group_values` walks down from the root and makes the groups on its way.
        group_values = nested
        for group in groups:
            group_values = group_values.setdefault(group, {})
        group_values[name] = value
    return nested


def check_values(flat: Settings) -> None:
    """Raise `SettingError` for the first value that its setting cannot have, whatever the other settings are.

    Raises:
        UnknownNameError: If a key is not a setting.
    """
    for key, value in flat.items():
        if key not in DEFAULTS:
            raise UnknownNameError("setting", key, DEFAULTS)
        if value is None and key in _OPTIONAL:
            raise SettingError(key, f"{key} needs a value. Leave it out for the one of the preset.")
        *groups, name = key.split(".")
        if ".".join(groups) == _OPTIONS:
            _check_option(key, name, value)
            continue
        try:
            # The group alone, with defaults for its other settings, so that only this value can be at fault.
            _GROUPS[".".join(groups)].model_validate({name: value})
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            location = (*groups, *detail["loc"])
            raise SettingError(".".join(map(str, location)), reason_of({**detail, "loc": location})) from None


def _check_option(key: str, name: str, value: Any) -> None:
    try:
        check_option(name, value)
    except ValueError as error:
        raise SettingError(key, f"{key}: {error}") from None


def unread(values: Settings) -> dict[str, str]:
    """Return the settings that nothing reads, given all `values`, each with the reason."""
    reasons: dict[str, str] = {}
    network = NETWORKS.get(str(values["model.name"]))
    for option in _NETWORK_OPTIONS:
        # A network that is not listed, such as one of timm, has none of these options.
        if network is None or option not in network.options:
            reasons[f"model.{option}"] = f"network {values['model.name']!r} has no {option}"
    for keys, decider, allowed in (*_RULES, *_option_rules()):
        # A setting that nothing reads itself decides nothing: a kind without `normalization` may have a temperature.
        if decider in reasons:
            continue
        # Plug-ins may have added values since this module was imported.
        allowed_values = allowed() if callable(allowed) else allowed
        if values[decider] in allowed_values:
            continue
        condition = " or ".join(map(repr, allowed_values))
        if isinstance(allowed, range):
            condition = f"at least {allowed.start}"
        for key in keys:
            # Several rules may apply to a setting; the first in the table gives the reason.
            reasons.setdefault(key, f"it is read only if {decider} is {condition}, and that is {values[decider]!r}")
    return reasons


def _option_rules() -> Iterator[tuple[tuple[str, ...], str, Allowed]]:
    for name, kinds in kinds_by_option().items():
        yield (f"{_OPTIONS}.{name}",), "model.layer", kinds


def blank_unread(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested raw form of a trial with everything that nothing reads set to `None`.

    Raises:
        ValueError: If a value is given for a setting that nothing reads, or a key is unknown.
    """
    try:
        flat = flatten({key: value for key, value in raw.items() if key != "seed"})
    except (SpecError, UnknownNameError) as error:
        raise ValueError(str(error)) from None
    merged = dict(DEFAULTS)
    for key, value in flat.items():
        # `None` for an optional setting means "nothing reads it", so the default stands in while that is checked.
        if value is not None or key not in _OPTIONAL:
            merged[key] = value
    reasons = unread(merged)
    for key, value in flat.items():
        if value is None and key in _OPTIONAL and key not in reasons:
            raise ValueError(f"{key} needs a value")
        if key in reasons and value is not None:
            raise ValueError(f"nothing reads {key}: {reasons[key]}")
    merged |= dict.fromkeys(reasons)
    nested = nest(merged)
    if "train.temperature.schedule" in reasons:
        # The group as a whole, as nothing reads any of its settings.
        nested["train"]["temperature"] = None
    # Filled in here, so that a spec which leaves the size out has the fingerprint of one that gives it.
    if nested["data"]["image_size"] is None and merged["data.name"] in folder_sets():
        nested["data"]["image_size"] = get_folder_set(merged["data.name"]).image_size
    nested["model"]["options"] = _complete_options(merged)
    if "seed" in raw:
        nested["seed"] = raw["seed"]
    return nested


def _complete_options(values: Settings) -> dict[str, Any] | None:
    """Return all options of the layer kind, in the type and with the default of each; None if it has none.

    An option that was added later is left out at its default.

    Raises:
        ValueError: If one has a value that it cannot have.
    """
    layer = values["model.layer"]
    # Anything may stand in a file where a name is meant; its own validator refuses it.
    kind = LAYERS.get(layer) if isinstance(layer, str) else None
    if kind is None or not kind.options:
        return None
    options = {}
    for option in kind.options:
        key = f"{_OPTIONS}.{option.name}"
        value = values.get(key)
        try:
            checked = option.checked(option.default if value is None else value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        if not (option.added_later and checked == option.default):
            options[option.name] = checked
    return options or None


def varied_sources(settings: Settings) -> frozenset[str]:
    """Return the sources of randomness (keys of `SOURCES`) that vary from seed to seed under some settings."""
    varied = {key for key in ("train.weights_seed", "train.order_seed") if settings.get(key) is None}
    # Without a seed the split is that of the data set, which is the same for all trials.
    if settings.get("data.split_seed") == "trial":
        varied.add("data.split_seed")
    return frozenset(varied)


def is_whole_number(setting: str) -> bool:
    """Return True if a setting takes whole numbers alone."""
    default = DEFAULTS.get(setting)
    name = setting.removeprefix(f"{_OPTIONS}.")
    if name != setting:
        options = [option_of(kind, name) for kind in kinds_by_option().get(name, ())]
        default = options[0].default if options and options[0] is not None else None
    return isinstance(default, int) and not isinstance(default, bool)


_OPTIONAL = {f"model.{name}" for name in _NETWORK_OPTIONS}.union(*(keys for keys, _, _ in _RULES))
_OPTIONAL -= {key for key, value in DEFAULTS.items() if value is None}
"""Settings that are `None` exactly when nothing reads them."""


def merge(layers: Iterable[Settings]) -> dict[str, Any]:
    """Return the defaults overlaid by `layers`, the last one strongest."""
    merged = dict(DEFAULTS)
    for layer in layers:
        merged.update(layer)
    return merged


def checked_changes(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested or dotted settings as dotted ones that exist and have values which they can have.

    Raises:
        ValueError: If one does not, for the validators of studies and searches.
    """
    try:
        flat = flatten(nested)
        check_values(flat)
    except (SpecError, UnknownNameError) as error:
        raise ValueError(str(error)) from None
    return flat


def explain(error: ValidationError) -> str:
    """Return one line per wrong setting with the reason, without pydantic's vocabulary."""
    return "\n".join(reason_of(dict(detail)) for detail in error.errors(include_url=False))


_JARGON = {
    "Tuple should": "List should",
    "valid tuple": "list",
    "valid dictionary": "mapping",
    " or instance of": ", a",
}
"""The terms of pydantic, and those of a user who writes YAML."""


def reason_of(detail: Mapping[str, Any]) -> str:
    """Return the message of one error of pydantic in the terms of a user who wrote a setting."""
    path = ".".join(map(str, detail["loc"]))
    message: str = detail["msg"].removeprefix("Value error, ")
    for jargon, word in _JARGON.items():
        message = message.replace(jargon, word)
    if detail["type"] == "missing":
        return f"{path} is missing"
    if detail["type"] == "extra_forbidden":
        keys = [field.alias or name for name, field in Placement.model_fields.items()]
        return f"unknown key {path!r}. {nearest(str(detail['loc'][-1]), keys)}"
    if not path:
        return message
    if detail["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message[0].lower()}{message[1:]}, found {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) > 60:
        text = f"{text[:60]}…"
    return text
