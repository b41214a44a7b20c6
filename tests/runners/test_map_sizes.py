"""The maps that the dynamic layers of preset quick work on: the paper's five resolutions, and none of one pixel."""

from __future__ import annotations

import pytest

from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from dyconv import describe_layers
from runners.training.network import build_network, input_size

RESOLUTIONS = {28, 14, 7, 4, 2}
"""Fashion-MNIST's 28 pixels, halved and rounded up four times, as the paper's five are from 112 to 7."""
QUICK = Request(get_preset("quick"), seeds=1)


@pytest.mark.parametrize("study", [name for name in available_studies() if name != "cost"])
def test_no_dynamic_layer_works_on_a_single_pixel(study: str) -> None:
    plan = make_plan([get_study(study, QUICK.base())], QUICK)
    models = {node.spec.model: node.spec.data.facts for node in plan.trials.values()}
    dynamic = {model: facts for model, facts in models.items() if model.layer != "static"}
    assert dynamic
    for model, facts in dynamic.items():
        layers = describe_layers(build_network(model, facts, seed=0), input_size(facts))
        assert {layer.input_size for layer in layers if layer.dynamic} == {(side, side) for side in RESOLUTIONS}


def test_the_rows_per_resolution_are_those_of_the_layers() -> None:
    study = get_study("resolution", QUICK.base()).at("quick")
    assert study.columns == tuple(f"{side}²" for side in sorted(RESOLUTIONS, reverse=True))
    # With five resolutions each row stands beside a row of the paper's table.
    assert {variant.published_key for variant in study.variants} == {variant.name for variant in study.variants}
