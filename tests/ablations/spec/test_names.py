"""Names of networks and what planning knows of them."""

from __future__ import annotations

import pytest

from ablations.errors import StudyError
from ablations.spec import names
from ablations.spec.names import Network, add_aggregation, add_network, input_resolutions
from ablations.spec.trial import resolve


@pytest.mark.parametrize(
    ("image_size", "stem_stride", "expected"),
    [
        (28, 2, (14, 7, 4, 2, 1)),
        (224, 2, (112, 56, 28, 14, 7)),
        (28, 1, (28, 14, 7, 4, 2)),
        (1, 2, (1,)),
        (32, 1, (32, 16, 8, 4, 2)),
    ],
)
def test_input_resolutions_of_mobilenet_v2(image_size: int, stem_stride: int, expected: tuple[int, ...]) -> None:
    assert input_resolutions("mobilenet_v2", {"stem_stride": stem_stride}, image_size) == expected


def test_a_pooling_stem_halves_once_more() -> None:
    assert input_resolutions("resnet18", {"stem_stride": 2, "stem_pool": True}, 224) == (56, 28, 14, 7)
    assert input_resolutions("resnet18", {"stem_stride": 1, "stem_pool": True}, 224) == (112, 56, 28, 14)
    assert input_resolutions("resnet18", {"stem_stride": 1, "stem_pool": False}, 32) == (32, 16, 8, 4)


@pytest.mark.parametrize("name", ["unplanned", "timm/resnet10t"])
def test_resolutions_that_are_not_known_are_an_error_that_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(names.NETWORKS, "unplanned", Network("Unplanned"))
    with pytest.raises(StudyError, match=rf"'{name}' are not known.*add_network"):
        input_resolutions(name, {}, 224)


def test_plug_ins_add_names_without_replacing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "NETWORKS", names.NETWORKS)
    monkeypatch.setitem(names.AGGREGATIONS, "mine", "taken")
    add_aggregation("mine", "other")
    add_aggregation("attention", "other")
    assert names.AGGREGATIONS["mine"] == "taken"
    assert names.AGGREGATIONS["attention"] == "attention"
    before = names.NETWORKS["mobilenet_v2"]
    add_network("mobilenet_v2", Network("Other"))
    assert names.NETWORKS["mobilenet_v2"] is before


def test_a_registered_strategy_is_a_value_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names.AGGREGATIONS, "mine", "mine")
    assert resolve([], {"model.aggregation": "mine"}, 0).model.aggregation == "mine"
