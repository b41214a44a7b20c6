"""The registry: names, builders, duplicates and typos."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from ablations import registry
from ablations.errors import StudyError, UnknownNameError
from ablations.registry import available_studies, get_study, register_study
from ablations.spec.trial import TrialSpec
from ablations.study import Study, Variant


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_builders", {})


def make(name: str) -> Study:
    return Study(name=name, title=name, question="?", reference="a", variants=(Variant(name="a"),))


@pytest.mark.parametrize("name", available_studies())
def test_built_in_studies_are_found_under_their_name(name: str) -> None:
    study = get_study(name, TrialSpec())
    assert study.name == name
    assert study.question.endswith("?")
    assert study.finding


BUILT_IN = (
    "aggregation",
    "resolution",
    "temperature",
    "kernels",
    "placement",
    "parts",
    "condconv",
    "methods",
    "annealing",
    "longer",
    "sum_to_one",
    "squeeze_excitation",
    "backbones",
    "trained_aggregation",
    "reduction",
    "attention_profile",
    "deployment",
    "variance",
    "cost",
)


def test_built_in_studies() -> None:
    assert available_studies() == BUILT_IN


def test_every_file_of_the_studies_is_registered() -> None:
    folder = Path(str(resources.files("ablations").joinpath("studies")))
    assert {file.stem for file in folder.glob("[a-z]*.py")} == set(BUILT_IN)


def test_a_study_and_a_builder_can_be_registered() -> None:
    register_study(make("one"))
    register_study(lambda base: make(f"two-{base.seed}"), name="two")
    assert available_studies()[len(BUILT_IN) :] == ("one", "two")
    assert get_study("one", TrialSpec()) == make("one")
    assert get_study("two", TrialSpec(seed=4)).name == "two-4"


@pytest.mark.parametrize("name", ["aggregation", "one"])
def test_a_name_is_given_once(name: str) -> None:
    register_study(make("one"))
    with pytest.raises(StudyError, match=f"'{name}' is registered already"):
        register_study(make(name))
    with pytest.raises(StudyError, match=f"'{name}' is registered already"):
        register_study(lambda base: make("x"), name=name)


def test_a_builder_needs_a_name() -> None:
    with pytest.raises(StudyError, match="needs a name"):
        register_study(lambda base: make("x"))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("agregation", "aggregation"), ("Temperature", "temperature"), ("resolutions", "resolution")],
)
def test_a_typo_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown study '{name}'.*'{nearest}'"):
        get_study(name, TrialSpec())


@pytest.mark.parametrize("name", ["", "..", "../aggregation", "_networks", "__init__", "os", "xyzzy", "aggregation.py"])
def test_a_name_imports_nothing_else(name: str) -> None:
    with pytest.raises(UnknownNameError):
        get_study(name, TrialSpec())


def test_a_name_like_nothing_lists_all() -> None:
    with pytest.raises(UnknownNameError, match=f"Known are: {', '.join(sorted(BUILT_IN))}"):
        get_study("xyzzy", TrialSpec())
