"""The attention profile against hand-computed answers."""

from __future__ import annotations

import json

import pytest
import torch

from ablations import vocabulary as names
from reports.collect.attention import profile_rows
from runners.training.attention_profile import MOST_MEANS, attention_gap, attention_profile
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench


def test_the_profile_of_one_kernel_is_uniform() -> None:
    profile = attention_profile({"a": torch.ones(3, 1)}, torch.tensor([0, 1, 0]), {"a": (7, 0.5)}, ("a", "b"))
    (layer,) = profile["layers"]
    assert (layer["entropy"], layer["entropy_sd"], layer["per_class"]) == (1.0, 0.0, [1.0, 1.0])


def test_a_profile_is_sorted_by_depth_and_split_by_class() -> None:
    attention = {
        "deep": torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]),
        "shallow": torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]),
    }
    labels = torch.tensor([0, 1, 0])
    profile = attention_profile(attention, labels, {"deep": (7, 0.9), "shallow": (14, 0.1)}, ("a", "b", "c"))
    shallow, deep = profile["layers"]
    assert (shallow["name"], deep["name"], deep["resolution"]) == ("shallow", "deep", 7)
    assert shallow["entropy"] == pytest.approx(1.0)
    assert deep["entropy"] == pytest.approx(1 / 3)
    assert deep["per_class"] == [pytest.approx(0.0), pytest.approx(1.0), None]
    assert deep["mean_attention"] == [[0.5, 0.5], [0.5, 0.5], None]
    assert attention_gap(profile) == pytest.approx(2 / 3)


def test_negative_weights_count_by_their_magnitudes() -> None:
    attention = {"signed": torch.tensor([[0.5, -0.5], [-1.0, 0.0], [0.75, -0.25], [0.0, 0.0]])}
    profile = attention_profile(attention, torch.tensor([0, 1, 0, 1]), {"signed": (7, 0.5)}, ("a", "b"))
    (layer,) = profile["layers"]
    # -0.75 log2 0.75 - 0.25 log2 0.25
    mixed = 0.811278
    assert layer["per_class"] == [pytest.approx((1 + mixed) / 2, rel=1e-5), 0.0]
    assert layer["entropy"] == pytest.approx((1 + mixed) / 4, rel=1e-5)
    assert 0 <= layer["entropy_sd"] < 1
    assert layer["mean_attention"] == [[0.625, -0.375], [-0.5, 0.0]]
    # What a report reads of it.
    rows = profile_rows(json.dumps(profile))
    assert [row[-1] for row in rows] == [layer["entropy"], *layer["per_class"]]


@pytest.mark.parametrize("width", [MOST_MEANS, MOST_MEANS + 1])
def test_means_of_a_wide_attention_are_left_out(width: int) -> None:
    attention = {"core": torch.randn(3, width)}
    profile = attention_profile(attention, torch.tensor([0, 1, 0]), {"core": (7, 0.5)}, ("a", "b"))
    (layer,) = profile["layers"]
    assert (layer["mean_attention"] is None) == (width > MOST_MEANS)
    assert 0 < layer["entropy"] < 1
    assert len(profile_rows(json.dumps(profile))) == 3


def test_the_gap_leaves_out_the_layer_in_the_middle() -> None:
    layers = [{"entropy": entropy} for entropy in (1.0, 0.8, 0.1, 0.4, 0.2)]
    assert attention_gap({"layers": layers}) == pytest.approx(0.9 - 0.3)
    assert attention_gap({"layers": layers[:1]}) == 0.0


def test_a_dynamic_trial_writes_its_profile_and_a_static_one_does_not(bench: Bench) -> None:
    dynamic, static = bench.trial(train__temperature__start=1.0), bench.trial(model__layer="static")
    for node in (dynamic, static):
        run_node(Task(bench.root, node.fingerprint, device="cpu"))
    state = bench.states[dynamic.fingerprint]
    profile = json.loads((state.folder / names.ATTENTION_FILE).read_text())
    result = state.result()
    assert result is not None
    assert result["metrics"][names.ATTENTION_GAP] == pytest.approx(attention_gap(profile))
    assert profile["layers"][0]["resolution"] == 14
    assert len(profile["classes"]) == 10
    other = bench.states[static.fingerprint].result()
    assert other is not None
    assert names.ATTENTION_GAP not in other["metrics"]
    assert not (bench.states[static.fingerprint].folder / names.ATTENTION_FILE).exists()


def test_a_layer_with_other_rows_than_images_is_left_out() -> None:
    attention = {"whole": torch.full((3, 2), 0.5), "patches": torch.full((12, 2), 0.5)}
    places = {"whole": (7, 0.0), "patches": (7, 1.0)}
    profile = attention_profile(attention, torch.tensor([0, 1, 0]), places, ("a", "b"))
    assert [layer["name"] for layer in profile["layers"]] == ["whole"]
