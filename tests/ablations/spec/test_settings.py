"""Settings: nested and dotted forms, who reads what, layers, and values that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import AblationError, SettingError, SpecError, UnknownNameError
from ablations.spec.parts import BLOCKS, Placement, TemperatureSpec
from ablations.spec.settings import DEFAULTS, check_values, flatten, merge, nest, unread
from ablations.spec.trial import TrialSpec, resolve

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
FLAT = st.dictionaries(st.sampled_from(sorted(DEFAULTS)), LEAVES | st.lists(LEAVES, max_size=2))


@given(FLAT)
def test_flatten_undoes_nest(flat: dict[str, Any]) -> None:
    assert flatten(nest(flat)) == flat


@given(FLAT)
def test_dotted_settings_are_flat_already(flat: dict[str, Any]) -> None:
    assert flatten(flat) == flat


@pytest.mark.parametrize(
    "form",
    [
        {"train.temperature.start": 3.0},
        {"train.temperature": {"start": 3.0}},
        {"train": {"temperature.start": 3.0}},
        {"train": {"temperature": {"start": 3.0}}},
        {"train": {"temperature": TemperatureSpec(start=3.0)}},
        {"train": {"temperature": {"start": 3.0}}, "model": None},
    ],
)
def test_every_mixture_of_nested_and_dotted_is_the_same(form: dict[str, Any]) -> None:
    assert flatten(form) == {"train.temperature.start": 3.0}


def test_a_placement_stays_whole() -> None:
    where = {"not": {"role": ["stem"]}}
    assert flatten({"model": {"where": where}}) == {"model.where": where}


def test_a_setting_given_twice_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"'train\.epochs' is given twice") as caught:
        flatten({"train.epochs": 3, "train": {"epochs": 3}})
    assert caught.value.key == "train.epochs"


@pytest.mark.parametrize("value", [5, "x", [1], True])
def test_a_group_is_not_a_value(value: object) -> None:
    with pytest.raises(SettingError, match=r"'train\.temperature' is a group of settings"):
        flatten({"train": {"temperature": value}})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model.num_kernel", "model.num_kernels"),
        ("num_kernels", "model.num_kernels"),
        ("train.temperatur.start", "train.temperature.start"),
        ("data.nam", "data.name"),
    ],
)
def test_a_typo_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        flatten({key: 1})
    assert caught.value.given == key
    assert repr(nearest) in str(caught.value)


# (what makes the settings unread, the settings): the contract of `unread`, written down apart from its table.
TAU = ("train.temperature.schedule", "train.temperature.start")
OPTIONS = {
    "model.options.hidden_ratio": 0.0625,
    "model.options.least_hidden": 16,
    "model.options.share": 0.5,
    "model.options.share_routing": False,
}
"""Options of layer kinds, with the default of their kind; that of the setting is None."""
OPTIONS_OF = {
    "odconv": {"model.options.hidden_ratio", "model.options.least_hidden"},
    "partly_dynamic": {"model.options.share"},
    "condconv": {"model.options.share_routing"},
}
"""The options that a kind reads; all other kinds have none."""
LAYER_NAMES = ("static", "dynamic", "condconv", "odconv", "dcd", "partly_dynamic", "adopted")
UNREAD: list[tuple[dict[str, Any], set[str]]] = [
    ({"model.layer": "static"}, {"model.num_kernels", "model.where"}),
    ({"model.layer": "adopted"}, {"model.num_kernels", "model.where"}),
    *(
        ({"model.layer": layer}, {"model.reduction", "model.normalization", "model.aggregation"} | set(TAU))
        for layer in ("static", "condconv", "adopted")
    ),
    ({"model.layer": "odconv"}, {"model.reduction", "model.normalization"}),
    *(({"model.layer": layer}, set(OPTIONS) - OPTIONS_OF.get(layer, set())) for layer in LAYER_NAMES),
    ({"model.layer": "dcd"}, {"model.num_kernels", "model.reduction", "model.normalization", *TAU}),
    *(({"model.normalization": name}, set(TAU)) for name in ("sigmoid", "normalized_sigmoid", "signed")),
    ({"model.name": "mobilenet_v2"}, {"model.stem_kernel", "model.stem_pool"}),
    *(
        ({"model.name": name}, {"model.depth", "model.stem_kernel", "model.stem_pool", "model.squeeze_excitation"})
        for name in ("mobilenet_v3_small", "mobilenet_v3_large")
    ),
    *(
        ({"model.name": name}, {"model.width", "model.depth", "model.dropout"})
        for name in ("resnet10", "resnet18", "resnet50")
    ),
    ({"train.temperature.schedule": "constant"}, {"train.temperature.end", "train.temperature.epochs"}),
    ({"train.optimizer": "adamw"}, {"train.momentum", "train.nesterov"}),
    ({"train.schedule": "cosine"}, {"train.step_epochs", "train.step_factor"}),
    ({"train.schedule": "constant"}, {"train.step_epochs", "train.step_factor"}),
    ({"data.augmentation": "none"}, {"data.crop_padding"}),
    ({"data.augmentation": "resized_crop_flip"}, {"data.crop_padding"}),
    ({"data.rand_augment": 0}, {"data.rand_augment_magnitude"}),
    ({"data.name": "fashion_mnist_mini"}, {"data.download", "data.image_size", "data.workers"}),
    ({"data.name": "cifar10"}, {"data.image_size", "data.workers"}),
    ({"data.name": "imagenet", "data.augmentation": "none"}, {"data.download"}),
    ({"model.name": "timm/resnet10t"}, {"model.width", "model.depth", "model.stem_stride", "model.dropout"}),
    ({"model.name": "timm/resnet10t"}, {"model.stem_kernel", "model.stem_pool", "model.squeeze_excitation"}),
]
CASES = [(context, key) for context, keys in UNREAD for key in sorted(keys)]
VALUES = {
    **DEFAULTS,
    **OPTIONS,
    "data.image_size": 64,
    "model.options.share": 0.25,
    "model.options.share_routing": True,
}
"""Of every setting a value that is not `None`."""


def value_of(spec: TrialSpec, key: str) -> Any:
    value: Any = spec
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


@pytest.mark.parametrize(("context", "key"), CASES)
def test_an_unread_setting_of_a_general_layer_becomes_none(context: dict[str, Any], key: str) -> None:
    assert value_of(resolve([{key: VALUES[key]}], context, 0), key) is None


@pytest.mark.parametrize(("context", "key"), CASES)
def test_an_unread_setting_of_a_variant_is_an_error(context: dict[str, Any], key: str) -> None:
    with pytest.raises(SpecError, match=rf"{key} = .* would be read by nothing"):
        resolve([context], {key: VALUES[key]}, 0)
    with pytest.raises(SpecError, match="would be read by nothing"):
        resolve([], {**context, key: VALUES[key]}, 0)


@pytest.mark.parametrize(("context", "key"), CASES)
def test_an_unread_setting_in_a_spec_is_an_error(context: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"nothing reads {key}"):
        TrialSpec.model_validate(nest({**context, key: VALUES[key]}))


def test_all_that_is_unread_is_listed_above() -> None:
    for context in [{}, *(context for context, _ in UNREAD)]:
        expected = {key for other, keys in UNREAD for key in keys if other.items() <= merge([context]).items()}
        assert set(unread(merge([context]))) == expected


@pytest.mark.parametrize(
    "own", [{"model.layer": "static"}, {"model.layer": "condconv"}, {"model.normalization": "sigmoid"}]
)
def test_a_network_without_a_softmax_has_no_temperature_at_all(own: dict[str, Any]) -> None:
    assert resolve([{"train.temperature.schedule": "linear"}], own, 0).train.temperature is None


@pytest.mark.parametrize(
    ("own", "title"),
    [
        ({"model.layer": "condconv"}, {"num_kernels": 4, "where": BLOCKS, "layer": "condconv"}),
        ({"model.normalization": "sigmoid"}, {"normalization": "sigmoid", "reduction": 4}),
        ({"model.layer": "odconv"}, {"num_kernels": 4, "where": BLOCKS, "aggregation": "attention"}),
        ({"model.name": "resnet18"}, {"stem_kernel": 7, "stem_pool": True, "squeeze_excitation": False}),
        ({"model.name": "resnet18", "model.stem_pool": False}, {"stem_pool": False, "stem_stride": 2}),
    ],
)
def test_what_is_read_keeps_its_value(own: dict[str, Any], title: dict[str, Any]) -> None:
    model = resolve([], own, 0).model
    assert {name: getattr(model, name) for name in title} == title


def test_later_layers_are_stronger_and_the_variant_is_strongest() -> None:
    layers = [{"train.epochs": 11, "train.batch_size": 8, "model.width": 1.0}, {"train.epochs": 12, "model.width": 0.5}]
    spec = resolve(layers, {"model.width": 0.75}, 7)
    assert (spec.train.epochs, spec.train.batch_size, spec.model.width, spec.seed) == (12, 8, 0.75, 7)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"train.temperature.schedule": "linear", "train.temperature.epochs": 10.5}, "longer than the training"),
        ({"train.temperature.schedule": "linear", "train.epochs": 9}, "longer than the training"),
        ({"train.warmup_epochs": 10.0}, "leaves nothing"),
        ({"train.momentum": 0.0}, "nesterov needs"),
        ({"data.train_images": 60, "train.batch_size": 61}, "more than the 60 training images"),
        ({"train.devices": 3}, "batch_size = 64 is not a multiple of train.devices = 3"),
        ({"data.test_images": 3001}, "has 3000"),
        ({"data.validation_images": 1001}, "has 1000"),
    ],
)
def test_settings_that_do_not_fit_together(own: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        resolve([], own, 0)


@pytest.mark.parametrize(
    "own",
    [
        {"train.temperature.schedule": "linear", "train.temperature.epochs": 10.0},
        {"train.temperature.schedule": "constant", "train.epochs": 1},
        {"train.warmup_epochs": 9.5},
        {"train.momentum": 0.0, "train.nesterov": False},
        {"data.train_images": 60, "train.batch_size": 60},
        {"train.devices": 64},
        {"data.test_images": 3000},
    ],
)
def test_the_last_value_that_still_fits_is_accepted(own: dict[str, Any]) -> None:
    assert isinstance(resolve([], own, 0), TrialSpec)


WRONG = [
    ("model.name", "mobilenet_v9", "unknown network 'mobilenet_v9'.*'mobilenet_v2'"),
    ("model.name", [], "valid string"),
    ("model.width", 0, "greater than 0"),
    ("model.width", "wide", "valid number"),
    ("model.layer", "dynamc", "unknown layer 'dynamc'. Did you mean 'dynamic'"),
    ("model.num_kernels", 0, "greater than or equal to 1"),
    ("model.num_kernels", 2.0, "valid integer"),
    ("model.num_kernels", True, "valid integer"),
    ("model.num_kernels", 10**30, "less than or equal to"),
    ("model.stem_stride", 3, "1 or 2"),
    ("model.stem_kernel", 5, "3 or 7"),
    ("model.stem_pool", 1, "valid boolean"),
    ("model.squeeze_excitation", "yes", "valid boolean"),
    ("model.normalization", "softmx", "'tempered_sigmoid', 'normalized_sigmoid' or 'signed', found 'softmx'"),
    ("model.where", {"role": ["squeeze_exitation"]}, "'squeeze_exitation'.*'squeeze_excitation'"),
    ("train.devices", 0, "greater than or equal to 1"),
    ("model.aggregation", "atention", "'atention'.*'attention'"),
    ("model.where", "stem", "mapping"),
    ("model.where", {"role": "stem"}, "list"),
    ("model.where", {"role": ["stm"]}, "unknown role 'stm'.*'stem'"),
    ("model.where", {"rle": ["stem"]}, "unknown key 'model.where.rle'.*'role'"),
    ("model.where", {"resolution": []}, "names nothing"),
    ("model.dropout", 1.0, "less than 1"),
    ("data.name", "fashion_mnst", "'fashion_mnst'.*'fashion_mnist'"),
    ("data.root", 3, "valid string"),
    ("train.epochs", 0, "greater than or equal to 1"),
    ("train.epochs", "4", "valid integer, found '4'"),
    ("train.batch_size", 1, "greater than or equal to 2"),
    ("train.learning_rate", float("nan"), "finite|greater"),
    ("train.learning_rate", float("inf"), "finite"),
    ("train.learning_rate", -0.1, "greater than 0"),
    ("train.weight_decay", float("-inf"), "finite"),
    ("train.nesterov", 1, "valid boolean"),
    ("train.temperature.start", 0.0, "greater than 0"),
    ("train.momentum", None, "needs a value"),
    ("train.epochs", None, "valid integer, found None"),
]


@pytest.mark.parametrize(("key", "value", "reason"), WRONG)
def test_a_wrong_value_names_its_setting(key: str, value: object, reason: str) -> None:
    with pytest.raises(SettingError, match=rf"(?i){key}.*|unknown key") as caught:
        check_values({key: value})
    caught.match(reason)
    assert caught.value.key.startswith(key)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(("key", "value", "reason"), WRONG)
def test_a_wrong_value_never_resolves(key: str, value: object, reason: str) -> None:
    with pytest.raises(AblationError):
        resolve([], {key: value}, 0)


@pytest.mark.parametrize("key", sorted(key for key in DEFAULTS if not key.startswith("model.options.")))
def test_every_default_is_a_valid_value(key: str) -> None:
    check_values({key: (DEFAULTS | OPTIONS)[key]})


@given(st.sampled_from(sorted(DEFAULTS)), LEAVES | st.lists(LEAVES) | st.dictionaries(st.text(max_size=4), LEAVES))
def test_any_value_is_taken_or_refused_with_a_reason(key: str, value: Any) -> None:
    reason, spec = None, TrialSpec()
    try:
        spec = resolve([], {key: value}, 0)
    except AblationError as error:
        reason = str(error)
    taken = value_of(spec, key)
    assert reason or isinstance(taken, Placement) or taken == value


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(SettingError) as caught:
        check_values({"train.epochs": ["x" * 100] * 1000})
    assert len(str(caught.value)) < 200
