"""Labels, cells and names of built-in rows that say a setting: the training has it, whatever is overridden."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from ablations.errors import AblationError
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from ablations.spec.trial import TrialSpec

_OVERRIDES: tuple[Mapping[str, Any], ...] = (
    {},
    {"model.num_kernels": 8},
    {"model.num_kernels": 2},
    {"model.layer": "condconv"},
    {"model.layer": "odconv"},
    {"model.layer": "dcd"},
    {"model.layer": "partly_dynamic"},
    {"model.layer": "static"},
    {"model.reduction": 8},
    {"model.width": 0.75},
    {"model.depth": 0.7},
    {"model.aggregation": "average"},
    {"model.normalization": "sigmoid"},
    {"train.temperature.start": 5.0},
    {"model.squeeze_excitation": True},
)


def _said(text: str) -> dict[str, str]:
    """Return the settings that a text names, as it names them."""
    patterns = {
        "kernels": r"K ?= ?(\d+)",
        "reduction": r"C/(\d+)",
        "width": r"×([\d.]+)",
        "depth": r"depth ([\d.]+)",
        "tau": r"τ = ([\d.]+(?: → [\d.]+)?)",
        "layer": r"\b(static|CondConv|ODConv|OD|DCD|Part-DY|channels dynamic|dynamic|DY)\b",
    }
    matches = {name: re.search(pattern, text) for name, pattern in patterns.items()}
    return {name: match.group(1) for name, match in matches.items() if match}


def _had(spec: TrialSpec) -> dict[str, str]:
    model, temperature = spec.model, spec.train.temperature
    had = {"layer": model.layer, "width": f"{model.width or 1:g}", "depth": f"{model.depth or 1:g}"}
    had["kernels"], had["reduction"] = str(model.num_kernels), str(model.reduction)
    if temperature is not None:
        had["tau"] = f"{temperature.start:g}"
        if temperature.schedule == "linear":
            had["tau"] += f" → {temperature.end:g}"
    return had


@pytest.mark.parametrize("overrides", _OVERRIDES, ids=str)
@pytest.mark.parametrize("name", available_studies())
def test_a_label_says_what_is_trained(name: str, overrides: Mapping[str, Any]) -> None:
    request = Request(get_preset("quick"), dict(overrides), seeds=1)
    try:
        study = get_study(name, request.base())
        plan = make_plan([study], request)
    except AblationError:
        # The override is refused, so that no row can be called by what it is not.
        return
    layers = {"static": "static", "CondConv": "condconv", "dynamic": "dynamic", "DY": "dynamic"}
    layers |= {"ODConv": "odconv", "OD": "odconv", "DCD": "dcd", "channels dynamic": "partly_dynamic"}
    layers |= {"Part-DY": "partly_dynamic"}
    networks = {network.name: network.title for network in plan.studies[0].networks}
    for cell in plan.cells:
        variant = plan.studies[0].variant(cell.variant)
        node = plan.node(cell.fingerprint)
        had = _had(node.spec)
        for text in (variant.title, *variant.cells, networks.get(cell.network, "")):
            for setting, value in _said(text).items():
                expected = layers[value] if setting == "layer" else value
                assert had[setting] == expected, f"{cell.variant} is called {text!r} and trained with {had}"
