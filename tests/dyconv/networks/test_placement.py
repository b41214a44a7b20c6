"""Placements: what they mean, how they combine, what they refuse."""

from typing import Any

import pytest

from dyconv import (
    Depth,
    LayerInfo,
    Name,
    Placement,
    PlacementError,
    Resolution,
    Role,
    build_model,
    describe_layers,
    placement_from_dict,
)
from dyconv.networks.placement import select_layers


@pytest.fixture(scope="module")
def layers() -> list[LayerInfo]:
    return describe_layers(build_model("mobilenet_v2", 10, width=0.35), (3, 224, 224))


def names(layers: list[LayerInfo], where: Placement | dict[str, Any]) -> set[str]:
    return {layer.name for layer in select_layers(layers, where)}


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (Role("projection"), 17),
        (Role("expansion", "projection"), 33),
        (~Role("stem"), 51),
        (Resolution(7), 11),
        (Resolution(7) & Role("depthwise"), 3),
        (Resolution(7) | Role("stem"), 12),
        (Name("features.18.*", "features.0.*"), 2),
        (Name("features.1[0-3].*"), 12),
        (Depth(0, 0), 1),
        (Depth(0.5, 1), 26),
        (~(Role("stem") | Role("head")), 50),
    ],
    ids=str,
)
def test_predicates(layers: list[LayerInfo], where: Placement, count: int) -> None:
    assert len(names(layers, where)) == count


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ({}, Depth(0, 1)),
        ({"role": ["projection"]}, Role("projection")),
        ({"role": "projection"}, Role("projection")),
        ({"resolution": [14, 7]}, Resolution(14, 7)),
        ({"resolution": 7, "role": "expansion"}, Resolution(7) & Role("expansion")),
        ({"name": ["*.18.*"]}, Name("*.18.*")),
        ({"depth": [0, 0.5]}, Depth(0, 0.5)),
        ({"any": [{"role": "stem"}, {"role": "head"}]}, Role("stem", "head")),
        ({"all": [{"role": "depthwise"}, {"depth": [0, 0.5]}]}, Role("depthwise") & Depth(0, 0.5)),
        ({"not": {"role": ["stem"]}}, ~Role("stem")),
    ],
    ids=str,
)
def test_the_form_as_data(layers: list[LayerInfo], data: dict[str, Any], same: Placement) -> None:
    assert names(layers, data) == names(layers, same) == names(layers, placement_from_dict(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"rolle": "stem"}, "'role'"),
        ({"role": "projecton"}, "'projection'"),
        ({"resolution": "7"}, "height in pixels"),
        ({"resolution": [0]}, "at least 1"),
        ({"name": 3}, "pattern"),
        ({"depth": 0.5}, r"\[start, end\]"),
        ({"depth": [0.5, 0.2]}, "start <= end"),
        ({"depth": [0, 2]}, "end <= 1"),
        ({"any": {"role": "stem"}}, "list"),
        ({"not": ["stem"]}, "mapping"),
        (["stem"], "mapping"),
    ],
    ids=str,
)
def test_bad_data_is_an_error_that_says_so(data: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        placement_from_dict(data)


def test_selecting_nothing_is_an_error_that_lists_the_layers(layers: list[LayerInfo]) -> None:
    with pytest.raises(PlacementError, match=r"(?s)sizes=\(13,\).*features\.0\.0: stem.*features\.18\.0: head"):
        select_layers(layers, Resolution(13))


def test_a_resolution_that_was_not_measured_is_an_error() -> None:
    layers = describe_layers(build_model("mobilenet_v2", 10, width=0.35))
    with pytest.raises(PlacementError, match="input_size"):
        select_layers(layers, Resolution(7))


def test_placements_are_values() -> None:
    assert Role("stem") & ~Depth(0, 1) == Role("stem") & ~Depth(0, 1)
    assert hash(Name("a")) == hash(Name("a"))
