"""Networks that are counted and timed instead of trained: their nodes, and which overrides they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from ablations.errors import SpecError
from ablations.planning.nodes import CostNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.study import InspectedNetwork, Study, Variant

Planner = Callable[..., Plan]


def test_nothing_is_trained(plan: Planner) -> None:
    made = plan("cost")
    assert (made.trials, made.evaluations, made.trainings_without_sharing) == ({}, {}, 0)
    assert all(isinstance(node, CostNode) and node.kind == "cost" for node in made.nodes)
    assert made.missing == made.missing_costs == tuple(made.costs.values())
    assert made.missing_trials == ()
    assert [made.node(cell.fingerprint) for cell in made.cells] == list(made.nodes)


def test_every_network_is_counted_once_whatever_the_seeds(plan: Planner) -> None:
    assert {cell.seed for cell in plan("cost", seeds=5).cells} == {0}
    assert plan("cost", seeds=5).costs.keys() == plan("cost").costs.keys()


@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_it_counts_the_same_networks_at_every_preset(plan: Planner, preset: str) -> None:
    assert plan("cost", preset=preset).costs.keys() == plan("cost").costs.keys()


def test_networks_are_counted_on_images_of_the_published_size(plan: Planner) -> None:
    made = plan("cost")
    assert {node.spec.data.facts.image_size for node in made.costs.values()} == {224}
    assert {node.spec.data.facts.num_classes for node in made.costs.values()} == {1000}
    assert "MobileNetV2 ×1 · cost" in {node.title for node in made.nodes}
    assert "CondConv-MobileNetV2 ×0.5 K=8 · cost" in {node.title for node in made.nodes}


def test_what_is_counted_is_not_counted_again(plan: Planner) -> None:
    everything = plan("cost")
    one, *rest = everything.costs
    assert plan("cost", done=set(everything.costs)).missing == ()
    assert [node.fingerprint for node in plan("cost", done=set(rest)).missing_costs] == [one]


def test_two_rows_with_one_network_share_a_node() -> None:
    variants = (Variant(name="a", changes={"model.num_kernels": 2}), Variant(name="b", changes={"train.epochs": 7}))
    same = Variant(name="c", changes={"model.num_kernels": 2, "train.batch_size": 8})
    own = Study(
        name="mine", title="m", question="?", reference="a", metric="cost/multiply_adds", variants=(*variants, same)
    )
    made = make_plan([own], Request(get_preset("quick")))
    assert (len(made.costs), len(made.cells)) == (2, 3)
    assert made.cells[0].fingerprint == made.cells[2].fingerprint
    assert made.studies_of(made.cells[0].fingerprint) == {"mine": ["a", "c"]}


def test_a_study_that_trains_counts_its_networks_too_if_it_says_so() -> None:
    variants = (
        Variant(name="a", changes={"model.num_kernels": 2}),
        Variant(name="b", changes={"train.epochs": 7}),
        Variant(name="c", changes={"model.num_kernels": 2, "train.batch_size": 8}),
    )
    own = Study(name="mine", title="m", question="?", reference="a", variants=variants, with_cost=True)
    made = make_plan([own], Request(get_preset("quick"), seeds=3))
    assert (len(made.trials), len(made.costs)) == (9, 2)
    assert [(cell.variant, cell.seed) for cell in made.cost_cells] == [("a", 0), ("b", 0), ("c", 0)]
    assert made.cost_cells[0].fingerprint == made.cost_cells[2].fingerprint
    assert made.studies_of(made.cost_cells[0].fingerprint) == {"mine": ["a", "c"]}
    # Neither rows of the table nor trainings become more.
    assert len(made.cells) == made.trainings_without_sharing == 9
    facts = {node.spec.data.name for node in made.costs.values()}
    assert facts == {"fashion_mnist_mini"}, "on images of the size that the network is trained on"
    plain = make_plan([own.model_copy(update={"with_cost": False})], Request(get_preset("quick"), seeds=3))
    assert (plain.costs, plain.cost_cells) == ({}, ())
    assert plain.trials.keys() == made.trials.keys()


@pytest.mark.parametrize("other", [{"metric": "cost/parameters"}, {"inspect": ("n",)}])
def test_only_a_study_that_trains_its_variants_counts_them_beside(other: dict[str, Any]) -> None:
    networks = (InspectedNetwork(name="n"),) if "inspect" in other else ()
    variants = (Variant(name="a"),)
    with pytest.raises(ValidationError, match="is for a study that trains its variants"):
        Study(
            name="mine",
            title="m",
            question="?",
            reference="a",
            variants=variants,
            networks=networks,
            with_cost=True,
            **other,
        )


TRAINING_ONLY: list[dict[str, Any]] = [
    {"train.epochs": 4},
    {"train.temperature.start": 2.0},
    {"data.augmentation": "crop"},
    {"data.train_images": 4000},
    {"data.root": "/nowhere"},
]


@pytest.mark.parametrize("overrides", TRAINING_ONLY)
def test_an_override_of_the_training_alone_is_an_error(plan: Planner, overrides: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"nothing reads --set .*study 'cost' trains nothing"):
        plan("cost", overrides=overrides)


@pytest.mark.parametrize("overrides", [o for o in TRAINING_ONLY if "train.temperature.start" not in o])
def test_beside_a_study_that_trains_it_reaches_that_one_only(plan: Planner, overrides: dict[str, Any]) -> None:
    # For example the folder of a training's data: the images that networks are counted on do not lie there.
    made = plan("cost", "temperature", overrides=overrides)
    ((key, value),) = overrides.items()
    group, name = key.split(".")
    assert {getattr(getattr(node.spec, group), name) for node in made.trials.values()} == {value}
    assert made.costs.keys() == plan("cost").costs.keys()


@pytest.mark.parametrize(
    "overrides", [{"model.dropout": 0.5}, {"model.stem_stride": 1}, {"data.name": "cifar10"}, {"data.image_size": 96}]
)
def test_an_override_of_the_network_or_its_input_changes_what_is_counted(
    plan: Planner, overrides: dict[str, Any]
) -> None:
    assert plan("cost", overrides=overrides).costs.keys().isdisjoint(plan("cost").costs) or "model.dropout" in overrides
    assert plan("cost", overrides=overrides).costs.keys() != plan("cost").costs.keys()


def test_widths_are_the_rows_own(plan: Planner) -> None:
    with pytest.raises(SpecError, match="study 'cost' sets it itself in every variant"):
        plan("cost", overrides={"model.width": 0.5})


def test_the_folder_of_the_data_set_that_is_asked_for_is_looked_into(plan: Planner, tmp_path: Any) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (8, 8)).save(tmp_path / split / name / f"{index}.png")
    small: dict[str, Any] = {"data.name": "image_folder", "data.root": str(tmp_path), "data.augmentation": "none"}
    small |= {"train.batch_size": 2, "data.train_images": 3}
    base = Request(get_preset("quick"), small).base()
    assert base.data.facts.num_classes == 3
    made = plan("cost", "temperature", overrides=small)
    assert {node.spec.data.facts.num_classes for node in made.costs.values()} == {3}


def test_inspect_is_not_for_networks_that_are_counted(plan: Planner) -> None:
    with pytest.raises(SpecError, match="nothing reads inspect"):
        plan("cost", overrides={"inspect": "tau_30"})
    made = plan("cost", "aggregation", overrides={"inspect": "tau_30"}, seeds=3)
    assert (len(made.costs), len(made.trials)) == (16, 3)
