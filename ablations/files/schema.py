"""This module makes the JSON schemas of both kinds of study files, for completion and checks in an editor.

The command line writes them; studies are validated when their files are read, not by these schemas.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel

from ablations.claims import Claim
from ablations.datasets.registry import available_datasets
from ablations.factorial.declaration import FEWEST_FACTORS, MOST_FACTORS
from ablations.foreign_study import StatedStudy
from ablations.presets import PRESETS
from ablations.spec.descriptions import field_descriptions
from ablations.spec.factors import NEVER_NUISANCE
from ablations.spec.layers import LAYERS, kinds_by_option, option_of
from ablations.spec.names import AGGREGATIONS, LINTS, NETWORKS
from ablations.spec.parts import DataSpec, Intervention, ModelSpec, TemperatureSpec, TrainSpec
from ablations.spec.settings import DEFAULTS, all_factors
from ablations.spec.trial import TrialSpec
from ablations.study import Study
from ablations.vocabulary import STUDY_METRICS

_VARIANT_WORDS = {
    "label": {"type": "string", "description": "What a table prints instead of the name."},
    "published": {"type": "string", "description": "Row of the published table to stand beside."},
    "cells": {"type": "array", "items": {"type": "string"}, "description": "One entry per column of the study."},
}


def study_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the YAML form of a study."""
    trial = TrialSpec.model_json_schema(by_alias=True)
    intervention = Intervention.model_json_schema(by_alias=True)
    claim = Claim.model_json_schema()
    # All definitions go to the root of the schema, where every `$ref` looks for them.
    definitions = {**trial.pop("$defs"), **intervention.pop("$defs", {}), **claim.pop("$defs")}
    settings = {key: _setting(trial, definitions, key) for key in DEFAULTS}
    groups = {key: {"$ref": f"#/$defs/{name}"} for key, name in _GROUPS.items()}
    changes = {**settings, **groups}
    variant_keys = {**_VARIANT_WORDS, "differs_in": _differs_in(), "intervention": intervention}
    baseline = {"type": "object", "additionalProperties": False, "properties": changes}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study of dyconv-ablations",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        # A factorial makes the variants, and its reference is the combination in which all factors are off.
        "anyOf": [
            {"required": ["question", "reference", "variants"]},
            {"required": ["question", "factorial"]},
            {"required": ["extends"]},
        ],
        "properties": {
            "extends": {
                "type": "string",
                "minLength": 1,
                "description": "The study, or the file of one, whose variants, settings and claims are taken over.",
            },
            **{name: _described(name) for name in ("name", "title", "question", "reference", "published", "finding")},
            "metric": {"enum": sorted(STUDY_METRICS), "default": "test/top1"},
            "seeds": {"type": "integer", "minimum": 1, "maximum": 1000},
            "size_of_interest": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "The smallest difference that matters, in the unit of the metric.",
            },
            "inspect": _inspect(changes),
            "columns": {"type": "array", "items": {"type": "string"}},
            "across": {
                "type": "string",
                "description": "One of the columns, whose values the table of a report sets side by side.",
            },
            "baseline": baseline,
            "factorial": _factorial(baseline),
            "networks": _by_name({**changes, "label": _VARIANT_WORDS["label"], **_CHECKPOINT}),
            "variants": _by_name({**changes, **variant_keys}),
            "claims": {"type": "array", "items": claim},
            "scales": _scales(baseline),
            "equal_size": {"type": "boolean", "description": "Whether all variants have about as many parameters."},
            "selects": {"type": "boolean", "description": "Whether the best variant is kept for later use."},
            "with_cost": {
                "type": "boolean",
                "description": "Whether the network of each variant is counted and timed.",
            },
            "compares": {
                "enum": ["means", "variances"],
                "default": "means",
                "description": "Whether rows are compared by their means, or by their variances over the seeds.",
            },
            "allow": _reasons("Lints that are meant, each with the reason."),
            "nuisance": _nuisance(),
        },
        "$defs": definitions,
    }


_GROUPS = {"model": "ModelSpec", "data": "DataSpec", "train": "TrainSpec"}


_CHECKPOINT = {
    "checkpoint": {
        "type": "string",
        "minLength": 1,
        "description": "The file of a network that was trained elsewhere; its settings say which network it is.",
    },
    "temperature": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "The temperature of its softmax, if the file does not hold it.",
    },
}


def _inspect(changes: dict[str, Any]) -> dict[str, Any]:
    names = {"type": "array", "items": {"type": "string"}, "description": "Networks of this study, by their names."}
    checkpoint = {
        "type": "object",
        "additionalProperties": False,
        "required": ["checkpoint"],
        "properties": {**changes, "label": _VARIANT_WORDS["label"], **_CHECKPOINT},
        "description": "A network that was trained elsewhere.",
    }
    return {"anyOf": [names, checkpoint]}


def _factorial(baseline: dict[str, Any]) -> dict[str, Any]:
    level = {**baseline, "properties": {**baseline["properties"], "label": _VARIANT_WORDS["label"]}}
    factor = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"label": _VARIANT_WORDS["label"], "off": level, "on": level},
    }
    factors = {
        "type": "object",
        "additionalProperties": factor,
        "minProperties": FEWEST_FACTORS,
        "maxProperties": MOST_FACTORS,
        "description": "Parts that are off or on, each with the settings of both levels.",
    }
    generators = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Generators of a fraction such as d = a*b*c; all combinations are trained without.",
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["factors"],
        "properties": {"factors": factors, "fraction": generators},
        "description": "Factors whose combinations are the variants, which are then left out.",
    }


def _differs_in() -> dict[str, Any]:
    return {
        "type": "array",
        # Asked anew each time, because a plug-in's layer kind may have added options.
        "items": {"enum": list(all_factors())},
        "description": "The factors in which it differs from the reference, where they are more than one.",
    }


def _scales(baseline: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "variants": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1},
        "baseline": baseline,
        "rows": {"type": "object", "additionalProperties": baseline},
        "seeds": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
    }
    scale = {"type": "object", "additionalProperties": False, "properties": properties}
    return {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(PRESETS, scale)}


def _reasons(description: str) -> dict[str, Any]:
    reason = {"type": "string", "minLength": 1, "maxLength": 500}
    codes = dict.fromkeys(LINTS, reason)
    return {"type": "object", "additionalProperties": False, "properties": codes, "description": description}


def _nuisance() -> dict[str, Any]:
    number = {"type": "number"}
    numbers = {"low": number, "high": number, "log": {"type": "boolean", "default": False}}
    choices = {"type": "array", "minItems": 2, "uniqueItems": True}
    span = {"type": "object", "additionalProperties": False, "required": ["low", "high"], "properties": numbers}
    # Options are left out: a nuisance factor is one setting.
    listed = {"type": "object", "additionalProperties": False, "required": ["choices"]}
    factor = {"oneOf": [span, {**listed, "properties": {"choices": choices}}]}
    keys = sorted(set(DEFAULTS) - NEVER_NUISANCE)
    return {
        "type": "object",
        "additionalProperties": False,
        "description": "What is tuned for each variant: settings that no variant sets, with their ranges.",
        # Groups are left open here; their settings are checked when the file is read.
        "properties": {**dict.fromkeys(keys, factor), **{group: {"type": "object"} for group in _GROUPS}},
    }


def _described(name: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": Study.model_fields[name].description or name}


def _by_name(properties: dict[str, Any]) -> dict[str, Any]:
    # Null, as a variant that changes nothing is written as `reference:` with nothing behind it.
    body = {"type": ["object", "null"], "additionalProperties": False, "properties": properties}
    return {"type": "object", "minProperties": 1, "additionalProperties": body}


def _setting(trial: dict[str, Any], definitions: dict[str, Any], key: str) -> dict[str, Any]:
    if key == "model.layer":
        return {"enum": list(LAYERS), "default": DEFAULTS[key], "description": setting_description(key)}
    if key.startswith("model.options."):
        return _option(key.removeprefix("model.options."))
    # Groups are references to definitions, which have to be followed at each step.
    schema = trial
    for step in key.split("."):
        schema = _target(schema, definitions)["properties"][step]
    schema = {**schema, "description": setting_description(key)}
    names = _known_names().get(key)
    # Any other name may be a plug-in's, so that an editor proposes these and takes all.
    return schema if names is None else {**schema, "examples": names}


def _known_names() -> dict[str, list[str]]:
    return {
        "model.name": list(NETWORKS),
        "model.aggregation": list(AGGREGATIONS),
        "data.name": list(available_datasets()),
    }


def setting_description(key: str) -> str:
    """Return what a setting of a trial means, as the docstring of its part of the spec says it."""
    if key == "model.layer":
        return "The kind of the layers."
    group, _, name = key.rpartition(".")
    if group == "model.options":
        kinds = ", ".join(kinds_by_option()[name])
        return f"An option of layer {kinds}."
    return field_descriptions(_PARTS[group])[name]


_PARTS: dict[str, type[BaseModel]] = {
    "model": ModelSpec,
    "data": DataSpec,
    "train": TrainSpec,
    "train.temperature": TemperatureSpec,
}


def _option(name: str) -> dict[str, Any]:
    kinds = kinds_by_option()[name]
    values = []
    for kind in kinds:
        option = option_of(kind, name)
        # By construction: these are the kinds that have the option.
        assert option is not None
        value: dict[str, Any] = {"type": _JSON_TYPES[type(option.default)], "default": option.default}
        if option.choices:
            value["enum"] = list(option.choices)
        for keyword, bound in (("minimum", option.low), ("maximum", option.high)):
            # An option without a bound has an infinite one, which JSON cannot write.
            if math.isfinite(bound):
                value[keyword] = bound
        values.append(value)
    return {"anyOf": values, "description": f"An option of layer {', '.join(kinds)}."}


_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _target(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    # A group that may be `None` is an `anyOf` of the reference and null.
    for option in (schema, *schema.get("anyOf", ())):
        if "$ref" in option:
            target: dict[str, Any] = definitions[option["$ref"].removeprefix("#/$defs/")]
            return target
    return schema


def foreign_study_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the YAML form of a study of foreign results."""
    schema = StatedStudy.model_json_schema()
    definitions = schema.pop("$defs")
    properties = schema["properties"]
    variant = {"anyOf": [{"$ref": "#/$defs/StatedVariant"}, {"type": ["string", "null"]}]}
    by_name = {"type": "object", "minProperties": 1, "additionalProperties": variant}
    names = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    # The short forms that the file may have as well.
    properties["metric"] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/StatedMetric"}]}
    properties["variants"] = {"anyOf": [by_name, names], "description": "The rows; without them, all of the results."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study of results that were measured elsewhere",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }
