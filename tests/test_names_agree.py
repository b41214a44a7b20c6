"""What `ablations` says of networks, strategies and roles without importing torch is what `dyconv` does."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import nn

import dyconv
from ablations.spec.layers import BUILT_IN_LAYERS, LAYERS
from ablations.spec.names import AGGREGATIONS, NETWORKS, ROLES, input_resolutions, static_convolutions
from ablations.spec.parts import BLOCKS, ModelSpec
from dyconv import placement_from_dict
from dyconv.networks.description import LayerInfo, describe_layers
from dyconv.networks.roles import ROLES as DYCONV_ROLES

COMMON = {"stem_stride"}
"""Every builder of dyconv's reads it, so that `model_options` does not list it."""
SIZES = (28, 224)
GATES = ("squeeze_excitation",)
"""Convolutions of a gate work on one pixel, whatever the resolution of their block."""


@cache
def network(name: str, stem_stride: int, stem_pool: bool | None) -> nn.Module:
    """A static network without memory for its weights: shapes are all that is asked of it."""
    options: dict[str, Any] = {"width": 0.35} if "width" in dyconv.model_options(name) else {}
    with torch.device("meta"):
        return dyconv.build_model(name, 10, stem_stride=stem_stride, stem_pool=stem_pool, **options)


def layers(name: str, size: int, stem_stride: int = 2, stem_pool: bool | None = None) -> list[LayerInfo]:
    return describe_layers(network(name, stem_stride, stem_pool), (3, size, size))


def test_networks_are_the_registered_ones() -> None:
    assert set(NETWORKS) == set(dyconv.available_models())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_reads_what_its_builder_heeds(name: str) -> None:
    assert NETWORKS[name].options == dyconv.model_options(name) | COMMON


@pytest.mark.parametrize("name", NETWORKS)
def test_options_are_settings_of_a_model(name: str) -> None:
    assert NETWORKS[name].options <= set(ModelSpec.model_fields)


def test_strategies_and_normalizations_are_the_registered_ones() -> None:
    assert set(AGGREGATIONS) == set(dyconv.available_aggregations())
    (literal, _) = get_args(ModelSpec.model_fields["normalization"].annotation)
    assert set(get_args(literal)) == set(dyconv.available_normalizations())


WITHOUT_CLASS = {"static", "adopted"}
"""Kinds that convert nothing: a network without dynamic layers, and one that comes with them."""


def built_in_kinds() -> dict[str, dyconv.LayerKind]:
    """The layer kinds of dyconv's registry but those of a test's plug-ins."""
    kinds = [dyconv.layer_kind(name) for name in dyconv.available_layers()]
    return {kind.name: kind for kind in kinds if kind.layer.__module__.startswith("dyconv.")}


def test_layer_kinds_are_the_registered_ones() -> None:
    assert built_in_kinds().keys() | WITHOUT_CLASS == BUILT_IN_LAYERS


@pytest.mark.parametrize("name", sorted(BUILT_IN_LAYERS - WITHOUT_CLASS))
def test_a_layer_kind_has_the_same_facts_in_both(name: str) -> None:
    kind, facts = built_in_kinds()[name], LAYERS[name]
    # No training of CondConv has had another aggregation than attention, though its layer takes others.
    never_set = {"aggregation"} if name == "condconv" else set()
    # Every kind to which networks are converted reads the placement.
    assert facts.reads == {"where", *kind.reads} - never_set
    assert facts.title == kind.title
    ours, theirs = (
        [(o.name, type(o.default), o.default, o.low, o.high, o.choices) for o in options]
        for options in (facts.options, kind.options)
    )
    assert ours == theirs
    assert bool(facts.cannot_replace) == (kind.layer.obstacle(nn.Conv2d(4, 4, 1, groups=4)) is not None)


def test_roles_are_the_same_in_the_same_order() -> None:
    assert ROLES == DYCONV_ROLES


STEMS = [
    (name, stride, pool)
    for name in NETWORKS
    for stride in (1, 2)
    for pool in ((False, True) if "stem_pool" in NETWORKS[name].options else (None,))
]


@pytest.mark.parametrize(("name", "stride", "pool"), STEMS)
def test_resolutions_of_the_blocks_are_those_that_a_forward_pass_finds(
    name: str, stride: int, pool: bool | None
) -> None:
    for size in SIZES:
        blocks = [info for info in layers(name, size, stride, pool) if info.role not in ("stem", "head", *GATES)]
        found = tuple(dict.fromkeys(info.resolution for info in blocks))
        assert found == input_resolutions(name, {"stem_stride": stride, "stem_pool": pool}, size)
        assert len(blocks) > len(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_placement_is_every_convolution_of_the_blocks_but_the_gates(name: str) -> None:
    infos = layers(name, 28)
    selected = {info.name for info in infos if placement_from_dict(BLOCKS.as_mapping())(info)}
    assert selected == {info.name for info in infos if info.role not in ("stem", "head", *GATES)}
    assert any(info.role in GATES for info in infos) == name.startswith("mobilenet_v3")


@pytest.mark.torture
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("depth", [0.35, 1.0, 1.7])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_rule_leaves_static_is_what_conversion_says(name: str, depth: float, gated: bool) -> None:
    options: dict[str, Any] = {"depth": depth, "squeeze_excitation": gated}
    options = {key: value for key, value in options.items() if key in NETWORKS[name].options}
    with torch.device("meta"):
        model = dyconv.build_model(name, 10, num_kernels=2, where=BLOCKS.as_mapping(), **options)
    report = dyconv.conversion_report(model)
    assert report is not None
    expected = static_convolutions(name, options.get("depth"), options.get("squeeze_excitation"))
    assert Counter(report.left_static.values()) == {
        f"is not meant by `where` (role {role})": count for role, count in expected.items()
    }


@pytest.mark.parametrize(("width", "millions"), [(1.0, 11.15), (0.5, 3.95)])
def test_the_default_placement_gives_the_parameters_that_the_paper_suggests(width: float, millions: float) -> None:
    model = dyconv.build_model("mobilenet_v2", 1000, width=width, num_kernels=4, where=BLOCKS.as_mapping())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
