"""Names in MLflow and on disk: safe, and different for different names."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablations.vocabulary import (
    COST_METRICS,
    HIGHER_IS_BETTER,
    STUDY_METRICS,
    class_metric,
    entropy_metric,
    experiment_name,
    measured_metric,
    slug,
    study_tag,
    tracked_metric,
)

NAMES = st.text(max_size=300) | st.text(alphabet="ab./\\-_ ", max_size=8) | st.text(st.characters(), max_size=5)


@given(NAMES)
@example("../../etc/passwd")
@example("")
@example("..")
@example("<script>")
@example("🐙" * 300)
@example("\ud800")
def test_a_slug_is_a_safe_name(name: str) -> None:
    found = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_\-]{1,57}", found)


@given(st.lists(NAMES, unique=True, max_size=20))
def test_different_names_have_different_slugs(names: list[str]) -> None:
    assert len({slug(name) for name in names}) == len(names)


@given(NAMES)
def test_no_name_has_the_slug_of_another_as_its_own(name: str) -> None:
    # A study may be named like the slug of another one, on purpose or because its user copied a folder's name.
    if slug(name) != name:
        assert slug(slug(name)) != slug(name)


@pytest.mark.parametrize("name", ["aggregation", "my-kernels", "tau_30", "x" * 48, "K4"])
def test_a_safe_name_stays_what_it_is(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize("name", ["x" * 49, "a b", "v1.0", "é", ""])
def test_any_other_name_gains_a_digest(name: str) -> None:
    assert re.fullmatch(r"(.+-)?[0-9a-f]{8}", slug(name))


def test_keys() -> None:
    assert study_tag("aggregation") == "abl.study.aggregation"
    assert "/" not in study_tag("../x")
    assert entropy_metric("features.1.conv") == "attention/entropy.features.1.conv"
    assert class_metric("test", 3) == "test/top1.class.3"
    assert experiment_name("quick", "fashion_mnist_mini") == "dyconv-ablations/quick/fashion_mnist_mini"
    assert experiment_name("../..", "a/b").count("/") == 2


LAYERS = ("features.1.conv", "features.2.conv.0", "features.10.conv.0.1", "features.10.conv.2", "layer1.0.conv1")
CLASSES = (0, 2, 10, 100, 999)


def test_charts_of_classes_and_layers_come_after_all_others_and_in_their_order() -> None:
    general = ["train/loss", "val/top1", "test/top1", "temperature", "seconds"]
    single = [class_metric("test", index) for index in CLASSES] + [entropy_metric(layer) for layer in LAYERS]
    tracked = [tracked_metric(metric) for metric in (*single, *general)]
    # As MLflow's UI sorts: sections (what stands before the last slash) by name, the one without a name last.
    shown = sorted(tracked, key=lambda name: ("/" not in name, name))
    assert shown[len(general) :] == tracked[: len(single)]
    assert sorted(shown[: len(general)]) == sorted(general)
    assert tracked_metric(entropy_metric("features.2.conv.0")) == "weight_entropy.features.02.conv.00"
    assert tracked_metric(class_metric("test", 3)) == "top1_class.test.003"


PARTS = st.integers(0, 300).map(str) | st.sampled_from(["conv", "layer1", "block_07", "a1b", ""])


@given(st.lists(PARTS, min_size=1, max_size=6).map(".".join))
@example("features.0.0.9.10")
def test_a_metric_of_a_layer_is_read_back_from_the_store_by_its_own_name(layer: str) -> None:
    metric = entropy_metric(layer)
    assert measured_metric(tracked_metric(metric)) == metric
    # Stores of earlier versions have the name itself.
    assert measured_metric(metric) == metric


@given(st.sampled_from(["test", "val"]), st.integers(0, 22_000))
def test_a_metric_of_a_class_is_read_back_from_the_store_by_its_own_name(split: str, index: int) -> None:
    metric = class_metric(split, index)
    assert measured_metric(tracked_metric(metric)) == metric
    assert measured_metric(metric) == metric


def test_metrics_that_are_better_high_are_known() -> None:
    better_low = {"test/loss", "val/loss", "cost/parameters", "cost/multiply_adds"}
    assert {metric for metric in STUDY_METRICS if metric not in HIGHER_IS_BETTER} == better_low
    assert set(STUDY_METRICS) & COST_METRICS == {"cost/parameters", "cost/multiply_adds"}
