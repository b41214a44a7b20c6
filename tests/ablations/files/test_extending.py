"""`extends` in a study file: what is taken over, changed and added, and where errors are said to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from ablations.errors import StudyError
from ablations.files.schema import study_schema
from ablations.files.study_file import load_study, name_in
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import find_studies, get_study, study_name
from ablations.study import Study

BASE = Request(get_preset("quick")).base()

EXTENDING = """\
name: mine
extends: temperature
question: And without weight decay?
size_of_interest: 0.5
baseline: {train.epochs: 2}
variants:
  tau_1:
    train.temperature.start: 2
  bare:
    train.temperature.schedule: constant
    train.weight_decay: 0.0
claims:
  - name: weight decay matters
    statement: Without weight decay it is worse.
    primary: true
    contrasts: [{better: [tau_30], worse: [bare]}]
  - name: τ = 1 is worse than τ = 30
    statement: τ = 2 is, too.
    contrasts: [{better: [tau_30], worse: [tau_1]}]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "mine.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return written


def loaded(path: Path) -> Study:
    return load_study(path, lambda name: get_study(name, BASE))


def test_what_is_named_is_changed_or_added_and_the_rest_is_taken_over(write: Write) -> None:
    study, temperature = loaded(write(EXTENDING)), get_study("temperature", BASE)
    names = [variant.name for variant in temperature.variants]
    assert [variant.name for variant in study.variants] == [*names, "bare"]
    assert study.variant("tau_1").changes == {**temperature.variant("tau_1").changes, "train.temperature.start": 2}
    # The label was that of the other study, and stays where nothing else is said.
    assert study.variant("tau_1").label == temperature.variant("tau_1").label
    assert study.variant("tau_5") == temperature.variant("tau_5")
    assert study.baseline == {**temperature.baseline, "train.epochs": 2}
    assert (study.title, study.published, study.reference) == ("mine", "temperature", "tau_30")
    assert (study.size_of_interest, study.question) == (0.5, "And without weight decay?")
    assert len(study.claims) == len(temperature.claims) + 1
    assert study.primary_claim is not None
    assert study.primary_claim.name == "weight decay matters"
    assert study.claims[0].statement == "τ = 2 is, too."


def test_a_preset_that_names_its_rows_keeps_those_of_the_file(write: Write) -> None:
    temperature = get_study("temperature", BASE)
    rows = [variant.name for variant in temperature.at("quick").variants]
    assert len(rows) < len(temperature.variants)
    assert [variant.name for variant in loaded(write(EXTENDING)).at("quick").variants] == [*rows, "bare"]


def test_networks_are_added_to_those_that_are_inspected(write: Write) -> None:
    text = "name: mine\nextends: aggregation\nnetworks:\n  cold: {train.temperature.start: 5}\n"
    study, aggregation = loaded(write(text)), get_study("aggregation", BASE)
    assert study.inspect == (*aggregation.inspect, "cold")
    assert study.claims == aggregation.claims
    assert study.question == aggregation.question


def test_a_file_extends_another_file_beside_it(write: Write) -> None:
    write(EXTENDING, "first.yaml")
    study = loaded(write("name: second\nextends: first.yaml\nseeds: 7\n", "second.yaml"))
    assert (study.name, study.seeds, study.baseline["train.epochs"]) == ("second", 7, 2)
    assert "bare" in [variant.name for variant in study.variants]


def test_the_registry_builds_the_other_study_for_the_preset(write: Write) -> None:
    path = write("name: mine\nextends: resolution\nseeds: 2\n")
    request = Request(get_preset("paper"))
    (study,) = find_studies([str(path)], False, request)
    assert study.variants == get_study("resolution", request.base()).variants
    assert (study_name(str(path)), name_in(path)) == ("mine", "mine")


def test_a_factorial_is_taken_over_or_replaced_as_a_whole(write: Write) -> None:
    parts = get_study("parts", BASE)
    assert loaded(write("name: mine\nextends: parts\nseeds: 3\n")).variants == parts.variants
    own = (
        "name: mine\nextends: parts\nfactorial:\n  factors:\n    a: {on: {model.num_kernels: 8}}\n"
        "    b: {on: {model.width: 0.5}}\n"
    )
    # The claims of the other study are about variants that are gone.
    with pytest.raises(StudyError, match=r"mine\.yaml:2: with what parts has: .*unknown variant"):
        loaded(write(own))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (
            EXTENDING.replace("extends: temperature", "extends: temprature"),
            "mine.yaml:2: ",
            "unknown study 'temprature'",
        ),
        (EXTENDING.replace("extends: temperature", "extends: [a]"), "mine.yaml:2: ", "'extends' names a study"),
        (EXTENDING.replace("extends: temperature", "extends: gone.yaml"), "gone.yaml: ", "No such file"),
        (
            EXTENDING.replace("extends: temperature", "extends: mine.yaml"),
            "mine.yaml:2: ",
            "mine.yaml extends this file",
        ),
        (EXTENDING.replace("name: mine\n", ""), "mine.yaml:1: ", "a study that extends another has a name of its own"),
        (
            EXTENDING.replace("name: mine", "name: temperature"),
            "mine.yaml:1: ",
            "'temperature' is the study that is extended",
        ),
        (EXTENDING.replace("train.weight_decay: 0.0", "train.weight_decai: 0.0"), "mine.yaml:11: ", "unknown key"),
        (EXTENDING.replace("worse: [bare]", "worse: [bear]"), "mine.yaml:13: ", "unknown variant 'bear'"),
        (EXTENDING.replace("worse: [tau_1]", "worse: [tau_3]"), "mine.yaml:17: ", "unknown variant 'tau_3'"),
        (EXTENDING + "reference: nobody\n", "mine.yaml:20: ", "unknown variant 'nobody'"),
        ("name: mine\nextends: parts\nvariants:\n  a: {}\n", "mine.yaml:3: ", "'parts' is a factorial"),
        ("name: mine\nextends: resolution\nvariants:\n  a: {}\n", "mine.yaml:4: ", "variant 'a' has 0 cells"),
        ("name: mine\nextends: temperature\nmetric: val/top2\n", "mine.yaml:3: ", "metric: unknown metric"),
    ],
)
def test_errors_name_the_line(write: Write, text: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as error:
        loaded(write(text))
    assert place in str(error.value)
    assert words in str(error.value).partition(place)[2]


def test_without_registered_studies_a_name_is_not_known(write: Write) -> None:
    with pytest.raises(StudyError, match="are not known by name here"):
        load_study(write(EXTENDING))


def test_an_editor_knows_the_key() -> None:
    validator = jsonschema.Draft202012Validator(study_schema())
    assert list(validator.iter_errors(yaml.safe_load(EXTENDING))) == []
    assert list(validator.iter_errors(yaml.safe_load(EXTENDING.replace("extends: temperature\n", ""))))
