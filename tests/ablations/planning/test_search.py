"""Searches: the built-in one, those of files, and what they train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.errors import SpecError, StudyError, UnknownNameError
from ablations.planning.optimisation import SEARCH_SEED
from ablations.planning.optimisation_plans import SearchPlan, make_search_plan
from ablations.planning.request import Request
from ablations.planning.search import PARTS, get_search
from ablations.presets import get_preset

FILE = """\
name: mine
question: What matters?
baseline:
  train.epochs: 2
factors:
  model.num_kernels: {choices: [2, 4]}
  train.learning_rate: {low: 0.001, high: 0.1, log: true}
  placement:
    options:
      all: {}
      none: {model.layer: static}
"""


def planned(trials: int = 3, repeats: int = 2, **more: Any) -> SearchPlan:
    return make_search_plan(PARTS, Request(get_preset("smoke"), **more), trials, repeats)


def test_every_choice_of_the_built_in_search_can_be_trained() -> None:
    assert get_search("parts") is PARTS
    (node, *_) = planned().nodes
    for name, factor in PARTS.factors.items():
        trained = [node.with_values({name: label}) for label in factor.ends]
        assert len({spec.model_dump_json() for spec in trained}) == len(trained)


def test_annealing_has_the_length_of_the_preset() -> None:
    spec = planned().nodes[0].with_values({"temperature": "τ = 30 → 1"})
    assert spec.train.temperature is not None
    assert (spec.train.temperature.end, spec.train.temperature.epochs) == (1.0, 1.0)


def test_a_choice_that_makes_another_factor_unread_drops_that() -> None:
    spec = planned().nodes[0].with_values({"placement": "nowhere", "model.num_kernels": 8})
    assert (spec.model.layer, spec.model.num_kernels) == ("static", None)


def test_each_trial_has_a_seed_of_its_own_and_each_repeat_another() -> None:
    plan = planned(trials=4, repeats=2)
    again = [node for trial in plan.nodes for node in plan.repeats_of(trial, {"model.num_kernels": 2})]
    seeds = [node.spec.seed for node in (*plan.nodes, *again)]
    assert seeds[:4] == [SEARCH_SEED + slot for slot in range(4)]
    assert len(set(seeds)) == len({node.fingerprint for node in (*plan.nodes, *again)}) == 12
    assert all(node.values == {"model.num_kernels": 2} for node in again)


def test_more_trials_go_on_from_fewer_and_other_settings_do_not() -> None:
    few, many = ({node.fingerprint for node in planned(trials=count).nodes} for count in (2, 6))
    assert few < many
    assert planned(overrides={"train.epochs": 3}).group != planned().group


def test_what_a_factor_proposes_cannot_be_set() -> None:
    with pytest.raises(SpecError, match=r"factor 'placement' of search 'parts' proposes it"):
        planned(overrides={"model.layer": "static"})


def test_a_file_is_a_search(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    search = get_search(str(path))
    assert (search.name, search.title, list(search.factors)) == (
        "mine", "mine", ["model.num_kernels", "train.learning_rate", "placement"]
    )  # fmt: skip
    assert make_search_plan(search, Request(get_preset("smoke")), 2, 0).spec.train.epochs == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("factors:", "facters:", 5, "Did you mean 'factors'"),
        ("choices: [2, 4]", "choices: [2]", 6, "two or more"),
        ("choices: [2, 4]", "chioces: [2, 4]", 6, "Did you mean 'choices'"),
        ("model.num_kernels: {", "model.num_kernel: {", 6, "Did you mean 'model.num_kernels'"),
        ("low: 0.001", "low: 1.0", 7, "is empty"),
        ("{model.layer: static}", "{model.layer: statik}", 8, "model.layer"),
        ("{model.layer: static}", "{model.num_kernels: 2}", 8, "proposed by 'model.num_kernels' too"),
        ("train.epochs: 2", "train.epoch: 2", 4, "train.epoch"),
        ("name: mine", "name: parts", 1, "is a built-in search"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    path = tmp_path / "mine.yaml"
    assert FILE.count(old) == 1
    path.write_text(FILE.replace(old, new))
    with pytest.raises(StudyError) as caught:
        get_search(str(path))
    assert reason in str(caught.value)
    assert f"mine.yaml:{line}: " in str(caught.value) or f"mine.yaml:{line - 1}: " in str(caught.value)


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'parts'"):
        get_search("part")
