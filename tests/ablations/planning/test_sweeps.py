"""Sweeps: the rows that several values of a setting make of a study, what they are called, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ablations.errors import AblationError
from ablations.files.overrides import split_overrides
from ablations.planning.lint import lint
from ablations.planning.plan import Plan
from ablations.planning.plan_data import plan_of, request_data
from runners.api.selection import Selection


def plan(*studies: str, sets: Sequence[str], preset: str = "smoke", seeds: int | None = 1) -> Plan:
    return Selection(studies, overrides=tuple(sets), preset=preset, seeds=seeds).plan()


def test_one_row_is_held_against_its_first_value() -> None:
    made = plan("temperature/tau_30", sets=["train.epochs=2,4,8"])
    (study,) = made.studies
    assert (study.name, study.reference) == ("temperature.tau_30-by-train.epochs", "epochs=2")
    assert [variant.name for variant in study.variants] == ["epochs=2", "epochs=4", "epochs=8"]
    assert [node.spec.train.epochs for node in made.trials.values()] == [2, 4, 8]
    assert [node.spec.train.temperature.start for node in made.trials.values()] == [30.0] * 3
    # It shares its trainings with the study as it is at that value.
    whole = plan("temperature", sets=["train.epochs=4"])
    assert len(made.trials.keys() & whole.trials.keys()) == 1
    assert [item for item in lint(made) if not item.is_allowed] == []


def test_rows_times_values_with_the_claims_at_each_value() -> None:
    made = plan("temperature", sets=["train.batch_size=8,16"])
    (study,) = made.studies
    assert len(study.variants) == 2 * 8
    assert study.reference == "tau_30, batch_size=8"
    assert [claim.name for claim in study.claims if claim.primary] == ["τ = 1 is worse than τ = 30, batch_size = 8"]
    last = study.claims[-1].contrasts[0]
    assert (last.better, last.worse) == (("annealed, batch_size=16",), ("static, batch_size=16",))
    assert [item.code for item in lint(made) if not item.is_allowed] == []
    # Published numbers are those of one value, which is none of these.
    assert study.published is None


def test_a_row_that_does_not_read_the_setting_stands_there_once() -> None:
    made = plan("temperature", sets=["model.num_kernels=2,4"])
    names = [variant.name for variant in made.studies[0].variants]
    assert names[:3] == ["static", "tau_1, num_kernels=2", "tau_1, num_kernels=4"]
    assert len(names) == 1 + 2 * 7


def test_a_row_may_be_swept_over_what_it_sets_itself() -> None:
    made = plan("temperature/tau_30", sets=["train.temperature.start=1,10"])
    assert [node.spec.train.temperature.start for node in made.trials.values()] == [1, 10]


def test_several_settings_make_all_their_combinations() -> None:
    made = plan("temperature/tau_30", sets=["train.epochs=2,4", "model.width=0.35,0.5"])
    names = [variant.name for variant in made.studies[0].variants]
    assert names == ["epochs=2, width=0.35", "epochs=2, width=0.5", "epochs=4, width=0.35", "epochs=4, width=0.5"]


def test_networks_are_looked_into_at_each_value() -> None:
    made = plan("aggregation", sets=["train.epochs=2,3", "inspect=tau_1"])
    (study,) = made.studies
    assert study.inspect == ("tau_1, epochs=2", "tau_1, epochs=3")
    assert (study.reference, len(study.variants), len(made.trials), len(made.evaluations)) == ("attention", 5, 2, 8)
    row = plan("aggregation/tau_1: average", sets=["train.epochs=2,3"]).studies[0]
    assert [variant.name for variant in row.variants] == ["attention", "average"]
    # Its claims name rows that were not asked for.
    assert row.claims == ()


def test_a_manifest_makes_the_same_plan_again() -> None:
    made = plan("temperature/tau_30", "temperature/static", sets=["train.epochs=2,4"])
    data = request_data(made)
    assert data["sweeps"] == {"train.epochs": ["2", "4"]}
    again = plan_of(data, "the manifest")
    assert (again.cells, request_data(again)) == (made.cells, data)


@pytest.mark.parametrize(
    ("text", "settings", "sweeps"),
    [
        ("train.epochs=4", {"train.epochs": 4}, {}),
        ("train.epochs=4, 8", {}, {"train.epochs": ("4", "8")}),
        ("model.where={role: [depthwise, expansion]}", {"model.where": {"role": ["depthwise", "expansion"]}}, {}),
        (
            "model.where={role: [depthwise]},{role: [expansion]}",
            {},
            {"model.where": ("{role: [depthwise]}", "{role: [expansion]}")},
        ),
        # A path may have a comma, and networks to inspect are a list.
        ("data.root=/a,b", {"data.root": "/a,b"}, {}),
        ("inspect=a,b", {"inspect": ["a", "b"]}, {}),
    ],
)
def test_commas_outside_of_brackets_part_values(
    text: str, settings: dict[str, object], sweeps: dict[str, tuple[str, ...]]
) -> None:
    assert split_overrides([text]) == (settings, sweeps)


@pytest.mark.parametrize(
    ("studies", "sets", "words"),
    [
        (["temperature"], ["train.epochs=4,4"], "names the value 4 twice"),
        (["temperature"], ["train.epochs=4,"], "empty value"),
        (["temperature"], ["train.epochs=4,x"], "should be a valid integer, found 'x'"),
        (["temperature"], ["train.epochs=4,8", "train.epochs=2"], "once with one value"),
        (["temperature"], ["train.epochs=4,8", "train.epochs=2,4"], "swept twice"),
        (["temperature"], ["train.temperature.start=1,10"], "Sweep one row: temperature/tau_1"),
        (["temperature/static"], ["model.num_kernels=2,4"], "nothing reads --set model.num_kernels"),
        (["temperature/tau_2"], ["train.epochs=4,8"], "has no row 'tau_2'"),
        (["variance"], ["train.epochs=4,8"], "compares variances"),
        (["temperature"], ["train.epoch=4,8"], "'train.epochs'"),
    ],
)
def test_what_cannot_be_swept_is_refused(studies: list[str], sets: list[str], words: str) -> None:
    with pytest.raises(AblationError) as error:
        plan(*studies, sets=sets)
    assert words in str(error.value)


def test_verbs_about_one_value_refuse_several() -> None:
    with pytest.raises(AblationError, match=r"is a sweep.*--set train\.epochs=4\."):
        Selection(("temperature",), overrides=("train.epochs=4,8",)).request()
