"""The plan: what is shared, what is missing, which overrides and names are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ablations.errors import SpecError, StudyError, UnknownNameError
from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.spec.parts import Intervention
from ablations.study import Study, Variant

Planner = Callable[..., Plan]
THREE = ("aggregation", "resolution", "temperature")


def study(*variants: Variant, name: str = "mine", **fields: object) -> Study:
    return Study(name=name, title=name, question="?", variants=variants, reference=variants[0].name, **fields)


def trials_of(plan: Plan, name: str) -> set[str]:
    nodes = [plan.node(cell.fingerprint) for cell in plan.cells_of(name)]
    return {node.network.fingerprint if isinstance(node, EvaluationNode) else node.fingerprint for node in nodes}


def test_three_studies_need_six_trainings_per_seed(plan: Planner) -> None:
    made = plan(*THREE, seeds=3)
    assert len(made.trials) == 18
    assert len(made.evaluations) == 72
    assert {node.spec.seed for node in made.trials.values()} == {0, 1, 2}
    assert made.trainings_without_sharing == 3 * (2 * 5 + 2 * 10 + 6)


def test_evaluation_only_studies_share_the_trainings_of_temperature(plan: Planner) -> None:
    made = plan(*THREE, seeds=3)
    assert trials_of(made, "temperature") == set(made.trials)
    assert trials_of(made, "aggregation") == trials_of(made, "resolution")
    assert len(trials_of(made, "aggregation")) == 6
    assert trials_of(made, "aggregation") < trials_of(made, "temperature")
    shared = [cell for cell in made.cells_of("temperature") if cell.variant in ("annealed", "tau_1")]
    assert {cell.fingerprint for cell in shared} == trials_of(made, "aggregation")


def test_no_attention_anywhere_is_the_average_of_aggregation(plan: Planner) -> None:
    made = plan("aggregation", "resolution", seeds=3)

    def nodes(name: str, variant: str) -> list[str]:
        return [cell.fingerprint for cell in made.cells_of(name) if cell.variant == variant]

    assert nodes("aggregation", "average") == nodes("resolution", "none")
    assert nodes("aggregation", "attention") == nodes("resolution", "all")
    assert len(set(nodes("aggregation", "average"))) == 6
    first = nodes("aggregation", "average")[0]
    assert made.studies_of(first) == {"aggregation": ["annealed: average"], "resolution": ["annealed: none"]}


def test_nothing_is_missing_when_everything_is_done(plan: Planner) -> None:
    fresh = plan(*THREE)
    everything = {*fresh.trials, *fresh.evaluations}
    again = plan(*THREE, done=everything)
    assert (again.missing_trials, again.missing_evaluations) == ((), ())
    one = next(iter(fresh.trials))
    partly = plan(*THREE, done=everything - {one})
    assert [node.fingerprint for node in partly.missing_trials] == [one]
    assert partly.missing_evaluations == ()


def test_order_of_studies_changes_no_node(plan: Planner) -> None:
    forward, backward = plan(*THREE), plan(*reversed(THREE))
    assert forward.trials.keys() == backward.trials.keys()
    assert forward.evaluations.keys() == backward.evaluations.keys()


def test_nodes_are_stored_under_their_own_fingerprint(plan: Planner) -> None:
    made = plan(*THREE)
    assert all(key == node.fingerprint for key, node in {**made.trials, **made.evaluations}.items())
    assert all(node.network.fingerprint in made.trials for node in made.evaluations.values())
    trial = next(iter(made.evaluations.values())).network.fingerprint
    assert [node.depends_on for node in made.evaluations.values()].count(trial) == 12
    assert made.node(trial).depends_on is None


def test_inspect_chooses_the_networks(plan: Planner) -> None:
    made = plan("aggregation", overrides={"inspect": "tau_30"}, seeds=3)
    assert {cell.network for cell in made.cells} == {"tau_30"}
    assert len(made.trials) == 3
    assert {node.spec.train.temperature.start for node in made.trials.values() if node.spec.train.temperature} == {30.0}
    assert {
        cell.network for cell in plan("aggregation", overrides={"inspect": ["tau_1", "annealed", "tau_1"]}).cells
    } == {
        "tau_1",
        "annealed",
    }
    with_repeats = plan("aggregation", overrides={"inspect": ["tau_1", "tau_1"]}, seeds=3)
    assert len(with_repeats.cells) == 5 * 3


@pytest.mark.parametrize("wanted", [None, 3, [], "", [["tau_1"]], {"tau_1": 1}, True])
def test_inspect_takes_a_list_of_names_only(plan: Planner, wanted: object) -> None:
    with pytest.raises((SpecError, UnknownNameError), match=r"inspect|network"):
        plan("aggregation", overrides={"inspect": wanted})


def test_inspect_of_an_unknown_network_names_the_nearest(plan: Planner) -> None:
    with pytest.raises(UnknownNameError, match=r"'tau_31'.*'tau_30'"):
        plan("aggregation", overrides={"inspect": "tau_31"})


def test_inspect_that_nothing_reads_is_an_error(plan: Planner) -> None:
    with pytest.raises(SpecError, match="nothing reads inspect"):
        plan("temperature", overrides={"inspect": "tau_30"})


@pytest.mark.parametrize(("seeds", "trainings"), [(None, 6 * 5), (1, 6), (3, 18)])
def test_seeds(plan: Planner, seeds: int | None, trainings: int) -> None:
    assert len(plan("temperature", seeds=seeds).trials) == trainings


def test_seeds_of_the_study_come_before_those_of_the_preset() -> None:
    own = study(Variant(name="a"), seeds=4)
    assert len(make_plan([own], Request(get_preset("quick"))).trials) == 4
    assert len(make_plan([own], Request(get_preset("quick"), seeds=2)).trials) == 2


def test_more_seeds_keep_the_old_nodes(plan: Planner) -> None:
    assert plan("aggregation", seeds=2).evaluations.keys() < plan("aggregation", seeds=3).evaluations.keys()


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_repeat_at_all_is_an_error(seeds: int) -> None:
    with pytest.raises(SpecError, match="at least one"):
        Request(get_preset("quick"), seeds=seeds)


def test_an_override_reaches_every_variant(plan: Planner) -> None:
    made = plan("temperature", overrides={"train.epochs": 7, "model.num_kernels": 2})
    assert {node.spec.train.epochs for node in made.trials.values()} == {7}
    assert {node.spec.model.num_kernels for node in made.trials.values()} == {2, None}


def test_a_study_of_variances_says_itself_what_varies(plan: Planner) -> None:
    with pytest.raises(SpecError, match=r"--set train\.weights_seed=3: study 'variance' says itself which sources"):
        plan("variance", overrides={"train.weights_seed": 3})
    both, alone = plan("variance", "temperature", overrides={"train.weights_seed": 3}), plan("variance")
    assert trials_of(both, "variance") == trials_of(alone, "variance")
    assert {both.node(key).spec.weights_seed for key in trials_of(both, "temperature")} == {3}


def test_an_override_is_stronger_than_a_baseline_and_weaker_than_a_variant() -> None:
    own = study(Variant(name="a"), Variant(name="b", changes={"train.epochs": 5}), baseline={"train.epochs": 4})
    made = make_plan([own], Request(get_preset("quick"), {"train.epochs": 9}, seeds=1))
    assert [node.spec.train.epochs for node in made.trials.values()] == [9, 5]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"train.step_epochs": 3}, "nothing reads --set train.step_epochs=3.*train.schedule"),
        ({"train.temperature.start": 3.0}, "sets it itself in every variant"),
        ({"train.temperature.schedule": "linear"}, "sets it itself in every variant"),
        ({"train.optimizer": "adamw", "train.momentum": 0.5}, "nothing reads --set train.momentum"),
        ({"train.temperature.epochs": 999.0}, "longer than the training"),
        ({"train.epochs": "many"}, "train.epochs.*valid integer"),
        ({"train.epochs": True}, "train.epochs.*valid integer"),
        ({"train.learning_rate": float("nan")}, "train.learning_rate.*finite"),
        ({"train.learning_rate": float("inf")}, "train.learning_rate.*finite"),
        ({"model.name": ["mobilenet_v2"]}, "model.name.*valid string"),
        ({"model.width": None}, "model.width needs a value"),
        ({"data.train_images": 8001}, "has 8000"),
    ],
)
def test_overrides_that_cannot_be_meant(plan: Planner, overrides: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        plan("temperature", overrides=overrides)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.epoch", "train.epochs"),
        ("model.name.x", "model.name"),
        ("epochs", "train.epochs"),
        ("inspct", "inspect"),
    ],
)
def test_a_mistyped_override_names_the_nearest_setting(plan: Planner, key: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        plan("temperature", overrides={key: 1})
    assert repr(key) in str(caught.value)
    assert repr(nearest) in str(caught.value)


def test_a_variant_setting_that_nothing_reads_names_study_and_variant() -> None:
    own = study(Variant(name="odd", changes={"model.layer": "static", "model.num_kernels": 2}))
    with pytest.raises(SpecError, match=r"'mine'.*'odd'.*model.num_kernels = 2 would be read by nothing.*model.layer"):
        make_plan([own], Request(get_preset("smoke")))


def test_an_intervention_on_a_static_network_is_an_error() -> None:
    own = study(Variant(name="a", changes={"model.layer": "static"}, intervention=Intervention(aggregation="average")))
    with pytest.raises(SpecError, match="static network"):
        make_plan([own], Request(get_preset("smoke")))


def test_a_static_network_is_measured_in_another_precision() -> None:
    changes = {"model.layer": "static"}
    own = study(Variant(name="a", changes=changes, intervention=Intervention(precision="int8")))
    made = make_plan([own], Request(get_preset("smoke"), seeds=1))
    (node,) = made.evaluations.values()
    assert node.title.endswith("int8")
    assert node.network.spec.model.is_static


def test_an_intervention_that_changes_nothing_is_the_training_itself() -> None:
    own = study(
        Variant(name="a"),
        Variant(name="b", intervention=Intervention(aggregation="attention")),
        Variant(name="c", intervention=Intervention(temperature=1.0)),
    )
    made = make_plan([own], Request(get_preset("smoke"), seeds=1))
    plain, same, other = (cell.fingerprint for cell in made.cells)
    assert plain == same
    assert other in made.evaluations


def test_two_studies_of_one_name_are_refused(plan: Planner) -> None:
    with pytest.raises(StudyError, match="two studies are called 'temperature'"):
        plan("temperature", "temperature")


def test_resolution_has_a_row_per_level_of_the_network(plan: Planner) -> None:
    base = Request(get_preset("quick"), {"model.stem_stride": 1}).base()
    assert get_study("resolution", base).columns == ("28²", "14²", "7²", "4²", "2²")
    with pytest.raises(StudyError, match="timm/resnet10t"):
        plan("resolution", overrides={"model.name": "timm/resnet10t"})


def calls_of(action: Callable[[], object]) -> int:
    """Returns how many Python functions `action` calls, which no busy machine changes."""
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def many(rows: int) -> Study:
    changes = [{"train.learning_rate": 0.01 + row * 1e-4} for row in range(rows)]
    return study(*(Variant(name=f"v{row}", changes=own) for row, own in enumerate(changes)))


def test_planning_takes_as_many_calls_per_row_however_many_there_are() -> None:
    small, large = many(20), many(80)
    request = Request(get_preset("quick"), {"train.epochs": 7}, seeds=3)
    assert calls_of(lambda: make_plan([large], request)) <= 4 * calls_of(lambda: make_plan([small], request))


def test_a_row_is_validated_once_however_many_seeds_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from ablations.planning import rows
    from ablations.spec import trial as settings

    resolved: list[object] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        resolved.append(arguments)
        return settings.resolve(*arguments, **named)

    monkeypatch.setattr(rows, "resolve", counted)
    made = make_plan([many(4)], Request(get_preset("quick"), seeds=50))
    assert len(made.trials) == 200
    assert len(resolved) == 4
