"""The JSON schema of a study file agrees with what is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from ablations.errors import StudyError
from ablations.files.schema import study_schema
from ablations.files.yaml_source import parse_value
from ablations.spec.settings import DEFAULTS
from ablations.study import Study


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


def test_a_valid_study_is_valid(validator: jsonschema.Draft202012Validator, study_text: str) -> None:
    validator.validate(parse_value(study_text))
    validator.validate(parse_value(f"{study_text}size_of_interest: 0.5\n"))


CLAIMED = """\
claims:
  - {name: c, statement: s, contrasts: [{better: [k4], worse: [k2], margin: -0.5}]}
  - {name: d, statement: s, primary: true, contrasts: [{better: [k4], worse: [k2], kind: same}]}
scales:
  quick: {variants: [k4, k2], seeds: 2, baseline: {train.epochs: 3}, rows: {k2: {train.nesterov: false}}}
equal_size: true
selects: false
with_cost: true
allow: {few-seeds: a pilot}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{name: c, ", "{"),
        ("kind: same", "kind: equal"),
        ("primary: true", "primary: 1"),
        ("primary: true", "secondary: true"),
        ("statement: s, contrasts", "statment: s, contrasts"),
        ("better: [k4], worse: [k2], margin", "better: [], worse: [k2], margin"),
        ("margin: -0.5", "margin: wide"),
        ("quick:", "quik:"),
        ("seeds: 2", "seeds: 0"),
        ("variants: [k4, k2]", "variants: []"),
        ("train.epochs: 3", "train.epoch: 3"),
        ("train.nesterov", "train.nestrov"),
        ("nesterov: false", "nesterov: never"),
        ("few-seeds", "few-seds"),
        ("a pilot", "''"),
        ("equal_size: true", "equal_size: 1"),
        ("selects", "select"),
    ],
)
def test_claims_and_scales_are_checked_by_both(
    validator: jsonschema.Draft202012Validator, load: Callable[[str], Study], study_text: str, old: str, new: str
) -> None:
    right = study_text + CLAIMED
    validator.validate(parse_value(right))
    assert len(load(right).claims) == 2
    wrong = study_text + CLAIMED.replace(old, new)
    assert wrong != right
    assert not validator.is_valid(parse_value(wrong))
    with pytest.raises(StudyError):
        load(wrong)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: my-kernels", "nmae: my-kernels"),
        ("name: my-kernels", "name: 5"),
        ("reference: k4\n", ""),
        ("reference: k4", "reference: k4\nmetric: test/top2"),
        ("reference: k4", "reference: k4\nseeds: 0"),
        ("reference: k4", "reference: k4\nsize_of_interest: 0"),
        ("  train.epochs: 2", "  train.epoch: 2"),
        ("  train.epochs: 2", "  train.epochs: two"),
        ("  train.epochs: 2", "  train.epochs: 0"),
        ("weight_decay: 1e-4", "weight_dcay: 1e-4"),
        ("start: 30", "strat: 30"),
        ("start: 30", "start: 0"),
        ("layer: static", "layer: sttic"),
        ("{model.num_kernels: 2}", "2"),
        ("label: K = 4", "lable: K = 4"),
        ("role: [stem,", "roles: [stem,"),
        ("resolution: [7, 14]", "resolution: [x]"),
        ("aggregation: average", "agregation: average"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(
    validator: jsonschema.Draft202012Validator, load: Callable[[str], Study], study_text: str, old: str, new: str
) -> None:
    assert study_text.count(old) == 1
    wrong = study_text.replace(old, new)
    assert not validator.is_valid(parse_value(wrong))
    with pytest.raises(StudyError):
        load(wrong)


INSPECTED = """\
name: mine
question: Does it need its kernels?
reference: attention
inspect: {checkpoint: theirs.pth, temperature: 1.5, model.width: 0.5}
variants:
  attention: {}
  average: {intervention: {aggregation: average}}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("checkpoint: theirs.pth, ", ""),
        ("checkpoint: theirs.pth", "checkpoint: 5"),
        ("temperature: 1.5", "temperature: 0"),
        ("temperature: 1.5", "temprature: 1"),
        ("model.width: 0.5", "model.width: wide"),
        ("{checkpoint: theirs.pth, temperature: 1.5, model.width: 0.5}", "theirs.pth"),
    ],
)
def test_a_checkpoint_is_checked_by_both(
    validator: jsonschema.Draft202012Validator, load: Callable[[str], Study], old: str, new: str
) -> None:
    validator.validate(parse_value(INSPECTED))
    assert load(INSPECTED).networks[0].checkpoint
    assert INSPECTED.count(old) == 1
    wrong = INSPECTED.replace(old, new)
    assert not validator.is_valid(parse_value(wrong))
    with pytest.raises(StudyError):
        load(wrong)


def test_every_setting_is_in_it() -> None:
    variant = study_schema()["properties"]["variants"]["additionalProperties"]["properties"]
    assert set(DEFAULTS) | {"model", "data", "train"} <= set(variant)
    words = {"label", "intervention", "published", "cells", "differs_in"}
    assert set(variant) - set(DEFAULTS) == {"model", "data", "train"} | words


def test_every_field_of_a_study_is_in_it() -> None:
    # A file has one key more, which no study has any more once it is read.
    assert set(study_schema()["properties"]) == {*Study.model_fields, "extends"}


def test_every_reference_is_defined() -> None:
    schema = study_schema()
    references = set(find(schema, "$ref"))
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= set(schema["$defs"])


def find(node: Any, key: str) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in find(item, key)]
    if not isinstance(node, dict):
        return []
    own = [node[key]] if isinstance(node.get(key), str) else []
    return own + [found for value in node.values() for found in find(value, key)]
