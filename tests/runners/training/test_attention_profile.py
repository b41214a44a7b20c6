"""The attention profile against hand-computed answers."""

from __future__ import annotations

import json

import pytest
import torch

from ablations import vocabulary as names
from runners.training.attention_profile import attention_gap, attention_profile
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
