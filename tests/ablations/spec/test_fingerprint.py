"""Fingerprints: what changes them, what does not, and that they stay what they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.datasets.registry import DATASETS, facts_of
from ablations.spec.fingerprint import (
    canonical_json,
    cost_fingerprint,
    digest,
    evaluation_fingerprint,
    spec_version_of,
    trial_fingerprint,
    trial_fingerprints,
)
from ablations.spec.parts import SPEC_VERSION, Intervention, Placement
from ablations.spec.settings import DEFAULTS
from ablations.spec.trial import TrialSpec, dotted_settings, resolve

# The canonical JSON of the default trial, written by hand: whoever changes a default, a name or the form of a spec
# gives every trained network another fingerprint, and must raise SPEC_VERSION and this text on purpose.
CANONICAL = (
    '{"data_digest":"DIGEST","kind":"trial","spec":{"data":{"augmentation":"crop_flip","crop_padding":2,"cutmix":0.0,'
    '"image_size":null,"mixup":0.0,"name":"fashion_mnist_mini","rand_augment":0,"rand_augment_magnitude":null,'
    '"test_images":null,"train_images":null,"validation_images":null},'
    '"model":{"aggregation":"attention","depth":0.5,"dropout":0.0,"layer":"dynamic","name":"mobilenet_v2",'
    '"normalization":"softmax","num_kernels":4,"reduction":4,"squeeze_excitation":false,"stem_kernel":null,'
    '"stem_pool":null,"stem_stride":2,"where":{"all":null,"any":null,"depth":null,"name":null,'
    '"not":{"all":null,"any":null,"depth":null,"name":null,"not":null,"resolution":null,"role":["stem","head","squeeze_excitation"]},'
    '"resolution":null,"role":null},"width":0.35},"seed":0,'
    '"train":{"batch_size":64,"epochs":10,"label_smoothing":0.0,"learning_rate":0.05,"micro_batch":null,"momentum":0.9,'
    '"nesterov":true,"on_out_of_memory":"fail","optimizer":"sgd","precision":"float32","schedule":"cosine","step_epochs":null,"step_factor":null,'
    '"temperature":{"end":null,"epochs":null,"schedule":"constant","start":30.0},"warmup_epochs":0.0,'
    '"weight_decay":4e-05}},"spec_version":5}'
)
PINNED = "05728fdae673f6a91f43e18010b057d3b1cbd53111ddb52fb5ca728a8848b465"

# Under these settings everything is read that can be read at once; "step" and "constant" need their own context.
LINEAR = {"train.temperature.schedule": "linear"}
STEP = {"train.schedule": "step"}
RESNET = {"model.name": "resnet18"}
ODCONV = {"model.layer": "odconv"}
CHANGES_NO_RESULT = {"data.root", "data.download", "data.workers", "train.devices"}
OTHER_VALUES: dict[str, tuple[dict[str, Any], Any]] = {
    "model.name": ({}, "timm/mobilenetv2_100"),
    "model.width": ({}, 0.5),
    "model.depth": ({}, 1.0),
    "model.stem_stride": ({}, 1),
    "model.stem_kernel": (RESNET, 3),
    "model.stem_pool": (RESNET, False),
    "model.dropout": ({}, 0.1),
    "model.squeeze_excitation": ({}, True),
    "model.layer": ({}, "static"),
    "model.options.hidden_ratio": (ODCONV, 0.125),
    "model.options.least_hidden": (ODCONV, 8),
    "model.num_kernels": ({}, 2),
    "model.reduction": ({}, 8),
    "model.normalization": ({}, "normalized_sigmoid"),
    "model.aggregation": ({}, "average"),
    "model.where": ({}, Placement(role=("depthwise",))),
    "model.options.share_routing": ({"model.layer": "condconv"}, True),
    "model.options.share": ({"model.layer": "partly_dynamic"}, 0.25),
    "data.name": ({}, "fashion_mnist"),
    "data.train_images": ({}, 7000),
    "data.validation_images": ({}, 900),
    "data.test_images": ({}, 2000),
    "data.augmentation": ({}, "none"),
    "data.crop_padding": ({}, 3),
    "data.image_size": ({"data.name": "imagenet", "data.augmentation": "none"}, 64),
    "data.rand_augment": ({}, 2),
    "data.rand_augment_magnitude": ({"data.rand_augment": 2}, 5),
    "data.mixup": ({}, 0.2),
    "data.cutmix": ({}, 1.0),
    "data.split_seed": ({}, "trial"),
    "train.epochs": ({}, 11),
    "train.batch_size": ({}, 65),
    "train.micro_batch": ({}, 32),
    "train.on_out_of_memory": ({}, "halve_micro_batch"),
    "train.optimizer": ({}, "adamw"),
    "train.learning_rate": ({}, 0.051),
    "train.momentum": ({}, 0.8),
    "train.nesterov": ({}, False),
    "train.weight_decay": ({}, 5e-5),
    "train.schedule": ({}, "constant"),
    "train.step_epochs": (STEP, 3),
    "train.step_factor": (STEP, 0.2),
    "train.warmup_epochs": ({}, 1.0),
    "train.label_smoothing": ({}, 0.1),
    "train.precision": ({}, "amp"),
    "train.weights_seed": ({}, 0),
    "train.order_seed": ({}, 0),
    "train.temperature.schedule": ({}, "linear"),
    "train.temperature.start": ({}, 29.0),
    "train.temperature.end": (LINEAR, 2.0),
    "train.temperature.epochs": (LINEAR, 5.0),
}


def fingerprint(settings: dict[str, Any], seed: int = 0) -> str:
    return trial_fingerprint(resolve([], settings, seed))


def test_it_is_the_sha256_of_the_canonical_json_of_the_whole_spec() -> None:
    text = CANONICAL.replace("DIGEST", str(facts_of("fashion_mnist_mini").digest))
    assert trial_fingerprint(TrialSpec()) == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize("key", ["model.layer", "model.where", "data.name", "train.temperature.schedule"])
def test_those_of_repeats_are_those_of_each_repeat_written_as_a_whole(key: str) -> None:
    context, value = OTHER_VALUES[key]
    spec = resolve([], {**context, key: value}, 5)
    left_out = {"data": {"root", "download", "workers"}, "train": {"devices"}}
    wholes = [
        {
            "kind": "trial",
            "spec_version": SPEC_VERSION,
            "data_digest": spec.data.facts.digest,
            "spec": {**spec.model_dump(mode="json", by_alias=True, exclude=left_out), "seed": seed},
        }
        for seed in (0, 5, 2**32 - 1)
    ]
    assert list(trial_fingerprints(spec, (0, 5, 2**32 - 1))) == [digest(whole) for whole in wholes]
    assert trial_fingerprint(spec) == digest(wholes[1])


def test_a_known_fingerprint_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = dataclasses.replace(facts_of("fashion_mnist_mini"), digest="0" * 64)
    monkeypatch.setitem(DATASETS, "fashion_mnist_mini", facts)
    assert trial_fingerprint(TrialSpec()) == PINNED


def test_an_option_that_was_added_later_leaves_earlier_fingerprints_as_they_were() -> None:
    spec = resolve([], {"model.layer": "condconv"}, 0)
    # Counted before the kind had an option.
    assert cost_fingerprint(spec) == "799de188b10135b590422b83995681502c560c352f49e0ea95f2bd392e6afe11"
    given = resolve([], {"model.layer": "condconv", "model.options.share_routing": False}, 0)
    assert given == spec
    assert "options" not in spec.model_dump()["model"]
    assert dotted_settings(spec)["model.options.share_routing"] is False
    shared = resolve([], {"model.layer": "condconv", "model.options.share_routing": True}, 0)
    assert shared.model_dump()["model"]["options"] == {"share_routing": True}
    assert dotted_settings(shared)["model.options.share_routing"] is True
    # An option that a kind had from the first is always there.
    partly = resolve([], {"model.layer": "partly_dynamic"}, 0)
    assert partly.model_dump()["model"]["options"] == {"share": 0.5}


def test_every_setting_has_another_value_here() -> None:
    assert set(OTHER_VALUES) == set(DEFAULTS) - CHANGES_NO_RESULT


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_every_setting_changes_it(key: str) -> None:
    context, value = OTHER_VALUES[key]
    assert fingerprint({**context, key: value}) != fingerprint(context)


def test_all_those_changes_are_told_apart() -> None:
    found = [fingerprint({**context, key: value}) for key, (context, value) in OTHER_VALUES.items() if not context]
    assert len({*found, fingerprint({})}) == len(found) + 1


def test_seed_and_content_of_the_data_change_it_and_their_folder_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint({})
    assert fingerprint({}, seed=1) != before
    assert fingerprint({"data.root": "/elsewhere"}) == before
    assert fingerprint({"train.devices": 8}) == before
    facts = dataclasses.replace(facts_of("fashion_mnist_mini"), digest="f" * 64)
    monkeypatch.setitem(DATASETS, "fashion_mnist_mini", facts)
    assert fingerprint({}) != before


@pytest.mark.parametrize("key", [key for key, (context, _) in OTHER_VALUES.items() if not context])
def test_a_default_given_explicitly_changes_nothing(key: str) -> None:
    assert fingerprint({key: DEFAULTS[key]}) == fingerprint({})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"train.temperature.start": 30}, {"train.temperature.start": 30.0}),
        ({"model.width": 1}, {"model.width": 1.0}),
        ({"train.weight_decay": 0}, {"train.weight_decay": -0.0}),
        ({"model.where": {"role": ["stem", "head"]}}, {"model.where": {"role": ["head", "stem", "head"]}}),
        ({"model.where": {"resolution": [7, 14]}}, {"model.where": Placement(resolution=(14, 7))}),
        ({"model.where": {"name": ["b*", "a*"]}}, {"model.where": {"name": ["a*", "b*"]}}),
        (ODCONV, {**ODCONV, "model.options.hidden_ratio": 0.0625}),
        (ODCONV, {**ODCONV, "model.options.least_hidden": 16, "model.options.hidden_ratio": 0.0625}),
        (
            {**ODCONV, "model.options.hidden_ratio": 1},
            {**ODCONV, "model.options": {"hidden_ratio": 1.0, "least_hidden": 16}},
        ),
        (
            {**ODCONV, "model.options.hidden_ratio": 0},
            {**ODCONV, "model.options.hidden_ratio": -0.0},
        ),
    ],
)
def test_two_ways_to_say_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) == fingerprint(other)


@given(st.permutations(sorted(key for key, (context, _) in OTHER_VALUES.items() if not context)))
def test_the_order_of_settings_changes_nothing(keys: list[str]) -> None:
    kept = {key: DEFAULTS[key] for key in keys}
    assert fingerprint(kept) == fingerprint(dict(sorted(kept.items())))


def test_what_nothing_reads_changes_nothing() -> None:
    static = {"model.layer": "static"}
    with_kernels = resolve([{"model.num_kernels": 8, "train.temperature.start": 3.0}], static, 0)
    assert trial_fingerprint(with_kernels) == fingerprint(static)


READ_BACK: tuple[dict[str, Any], ...] = (
    {},
    {"model.layer": "static"},
    {"model.layer": "condconv"},
    {"model.layer": "condconv", "model.options.share_routing": True},
    {"model.layer": "partly_dynamic"},
    {"model.layer": "dcd"},
    ODCONV,
    {**ODCONV, "model.options.least_hidden": 8},
    {"model.normalization": "sigmoid"},
    LINEAR,
    RESNET,
    {"model.name": "timm/x"},
    {"train.optimizer": "adamw"},
)


def test_a_spec_read_back_from_json_has_the_same() -> None:
    for settings in READ_BACK:
        spec = resolve([], settings, 3)
        again = TrialSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json", by_alias=True))))
        assert again == spec
        assert trial_fingerprint(again) == trial_fingerprint(spec)


INTERVENTIONS = (
    Intervention(),
    Intervention(aggregation="average"),
    Intervention(aggregation="max"),
    Intervention(temperature=1.0),
    Intervention(precision="bfloat16"),
    Intervention(precision="int8"),
    Intervention(aggregation="shuffle_per_image", seed=1),
    Intervention(aggregation="shuffle_per_image"),
    Intervention(aggregation="average", where=Placement(resolution=(7,))),
    Intervention(aggregation="average", where=Placement(exclude=Placement(resolution=(7,)))),
)


def test_the_cost_of_a_network_is_the_sha256_of_its_canonical_json() -> None:
    model = CANONICAL.partition('"model":')[2].partition(',"seed"')[0]
    text = '{"classes":10,"input":[1,28,28],"kind":"cost","model":' + model + ',"spec_version":5}'
    assert cost_fingerprint(TrialSpec()) == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_the_cost_of_a_network_depends_on_the_network_and_its_input_only(key: str) -> None:
    context, value = OTHER_VALUES[key]
    before, after = resolve([context], {}, 0), resolve([context, {key: value}], {}, 1)
    is_same = cost_fingerprint(before) == cost_fingerprint(after)
    # Both Fashion-MNIST sets have 10 classes of 28 px.
    assert is_same is not (key.startswith("model.") or key == "data.image_size")


def test_the_cost_of_a_network_depends_on_the_classes() -> None:
    found = {
        cost_fingerprint(resolve([{"data.name": name}], {}, 0)) for name in ("fashion_mnist", "cifar10", "cifar100")
    }
    assert len(found) == 3


def test_an_evaluation_depends_on_its_trial_and_its_intervention() -> None:
    trials = [fingerprint({}), fingerprint({}, seed=1)]
    found = {evaluation_fingerprint(trial, intervention) for trial in trials for intervention in INTERVENTIONS}
    assert len(found) == len(trials) * len(INTERVENTIONS)
    assert found.isdisjoint(trials)


def test_an_evaluation_is_the_sha256_of_its_canonical_json() -> None:
    text = (
        '{"intervention":{"aggregation":"average","seed":0,"temperature":null,"where":null},"kind":"evaluation",'
        '"spec_version":5,"trial":"' + "a" * 64 + '"}'
    )
    expected = hashlib.sha256(text.encode("ascii")).hexdigest()
    assert evaluation_fingerprint("a" * 64, Intervention(aggregation="average")) == expected


def test_canonical_json_is_sorted_ascii_and_without_spaces() -> None:
    assert canonical_json({"τ": [1, 2.5, None, True], "a": {"c": 1, "b": "×"}}) == (
        '{"a":{"b":"\\u00d7","c":1},"\\u03c4":[1,2.5,null,true]}'
    )
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_json_has_no_nan(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_it_is_the_same_in_another_process() -> None:
    code = (
        "from ablations.spec.fingerprint import trial_fingerprint as f; from ablations.spec.trial import resolve;"
        "print(f(resolve([], {'model.where': {'role': {'stem', 'head', 'conv1', 'other'}}}, 0)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize("version", [1, SPEC_VERSION - 1, SPEC_VERSION])
def test_a_fingerprint_tells_its_spec_version(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    spec, intervention = TrialSpec(), Intervention(aggregation="max")
    with monkeypatch.context() as patch:
        patch.setattr("ablations.spec.fingerprint.SPEC_VERSION", version)
        trial = trial_fingerprint(spec)
        evaluation = evaluation_fingerprint(trial, intervention)
    told = {"spec": spec.model_dump(mode="json", by_alias=True), "data_digest": spec.data.facts.digest}
    assert spec_version_of(trial, {"kind": "trial", **told}) == version
    resting = {"trial": trial, "intervention": intervention.model_dump(mode="json", by_alias=True)}
    assert spec_version_of(evaluation, {"kind": "evaluation", **told, **resting}) == version
    assert spec_version_of(trial, {"kind": "trial", **told, "data_digest": "another"}) is None
    assert spec_version_of(trial, {"kind": "cost", **told}) is None
