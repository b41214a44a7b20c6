"""A factorial as part of a study: the variants that it makes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from ablations.errors import SpecError, StudyError
from ablations.files.schema import study_schema
from ablations.files.yaml_source import read_document
from ablations.planning.lint import lint
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.study import Study

FACTORS: dict[str, Any] = {
    "many": {"label": "more kernels", "off": {"changes": {"model.num_kernels": 2}}, "on": {"changes": {}}},
    "long": {"off": {}, "on": {"label": "3 epochs", "changes": {"train.epochs": 3}}},
    "wide": {"on": {"changes": {"model.width": 0.5}}},
}


def study_of(**fields: Any) -> Study:
    return Study.model_validate(
        {"name": "s", "title": "S", "question": "Q?", "factorial": {"factors": FACTORS}, **fields}
    )


def fraction(*generators: str, **factors: Any) -> dict[str, Any]:
    return {"factors": {**FACTORS, **factors}, "fraction": generators}


def test_its_combinations_are_the_variants() -> None:
    study = study_of()
    assert [variant.name for variant in study.variants] == [
        "none", "wide", "long", "long+wide", "many", "many+wide", "many+long", "all",
    ]  # fmt: skip
    assert study.reference == "none"
    assert study.columns == ("more kernels", "long", "wide")
    some = study.variant("many+long")
    assert some.changes == {"train.epochs": 3}
    assert some.cells == ("✓", "✓", "–")
    assert some.title == "more kernels + long"
    assert some.differs_in == ("model.num_kernels", "train.epochs")
    assert study.variant("none").changes == {"model.num_kernels": 2}
    assert study.variant("none").differs_in == ()


def test_differences_are_to_the_reference_that_is_named() -> None:
    study = study_of(reference="all")
    assert study.variant("all").differs_in == ()
    assert study.variant("none").differs_in == ("model.num_kernels", "train.epochs", "model.width")


def test_it_survives_a_file_of_plain_data() -> None:
    study = study_of(factorial=fraction("wide = -many*long"))
    data = study.model_dump_json(by_alias=True, exclude_defaults=True)
    assert Study.model_validate_json(data) == study
    # A copy in which a row was changed is no factorial any more.
    changed = json.loads(data)
    changed["variants"][0]["changes"] = {"train.epochs": 5}
    with pytest.raises(ValidationError, match="a factorial makes the variants"):
        Study.model_validate_json(json.dumps(changed))


def test_a_plan_trains_every_combination_and_lints_nothing() -> None:
    plan = make_plan([study_of()], Request(get_preset("smoke")))
    assert len(plan.trials) == 8 * 2
    assert [finding.code for finding in lint(plan) if not finding.is_allowed] == []


def test_a_fraction_trains_half_and_says_what_it_cannot_tell_apart() -> None:
    study = study_of(factorial=fraction("wide = -many*long"))
    plan = make_plan([study], Request(get_preset("smoke")))
    assert len(plan.trials) == 4 * 2
    (finding,) = [finding for finding in lint(plan) if not finding.is_allowed]
    assert finding.code == "aliased-effects"
    assert "resolution III (constant: many*long*wide)" in finding.message


def test_a_fraction_of_resolution_four_has_no_lint() -> None:
    smooth = {"on": {"changes": {"train.label_smoothing": 0.1}}}
    study = study_of(factorial=fraction("smooth = many*long*wide", smooth=smooth))
    plan = make_plan([study], Request(get_preset("smoke")))
    assert [finding.code for finding in lint(plan) if not finding.is_allowed] == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"factorial": {"factors": {"many": FACTORS["many"]}}}, "2 to 6 factors, found 1"),
    ({"factorial": {"factors": {**FACTORS, "same": {}}}}, "'same' is the same on and off"),
    ({"factorial": {"factors": {**FACTORS, "a+b": FACTORS["wide"]}}}, "a factor's name is a word"),
    ({"factorial": {"factors": {**FACTORS, "all": FACTORS["wide"]}}}, "not none or all"),
    ({"factorial": {"factors": {**FACTORS, "short": FACTORS["long"]}}}, "'long' and 'short' both set train.epochs"),
    ({"factorial": fraction("wide = many*lng")}, "unknown factor 'lng'"),
    ({"factorial": fraction("wide = many")}, "makes wide an alias of many"),
    ({"factorial": fraction("wide = many*long")}, "does not train the combination in which all factors are off"),
    ({"reference": "longwide"}, "unknown combination 'longwide'.*'long[+]wide'"),
    ({"variants": [{"name": "none"}]}, "a factorial makes the variants of its combinations"),
    ({"columns": ["a"]}, "the columns of a factorial are its factors"),
    ({"scales": {"smoke": {"variants": ["none", "all"]}}}, "leaves out combinations that every effect needs"),
    ({"metric": "cost/parameters"}, "is for a study that trains its variants"),
    ({"networks": [{"name": "n"}], "inspect": ["n"]}, "is for a study that trains its variants"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        study_of(**fields)


def test_a_combination_in_which_a_setting_is_read_by_nothing_is_named() -> None:
    factors = {
        "dynamic": {"off": {"changes": {"model.layer": "static"}}},
        "warm": {"on": {"changes": {"train.temperature.start": 3.0}}},
    }
    study = study_of(factorial={"factors": {**factors, "wide": FACTORS["wide"]}})
    with pytest.raises(SpecError, match=r"variant 'warm': train.temperature.start = 3.0 would be read by nothing"):
        make_plan([study], Request(get_preset("smoke")))


def test_an_override_that_merges_combinations_leaves_no_factorial() -> None:
    assert study_of().whole_factorial is not None
    plan = make_plan([study_of()], Request(get_preset("smoke"), {"model.layer": "static"}))
    (study,) = plan.studies
    assert len(study.variants) == 4
    assert study.whole_factorial is None


FILE = """\
name: mine
question: Which part?
factorial:
  factors:
    many:
      label: more kernels
      off: {label: K = 2, model.num_kernels: 2}
      on: {label: K = 4, model: {num_kernels: 4}}
    wide:
      on: {model.width: 0.5}
    smooth:
      on: {train.label_smoothing: 0.1}
  fraction: [smooth = -many*wide]
"""
CASES = [
    ("many*wide", "many*wid", 13, "unknown factor 'wid'.*'wide'"),
    ("model.width: 0.5", "model.wdth: 0.5", 10, "unknown key 'model.wdth'.*'model.width'"),
    ("model.width: 0.5", "model.width: x", 10, "model.width: .*number, found 'x'"),
    ("      on: {train", "      om: {train", 12, "unknown key 'om'.*'on'"),
    ("  fraction:", "  fractions:", 13, "unknown key 'fractions'.*'fraction'"),
    ("      on: {train.label_smoothing: 0.1}", "      on: 3", 12, "'on' must map settings to values, found 3"),
    ("      label: more kernels", "      label: 3", 6, "label: .*string, found 3"),
    ("  factors:", "  factorz:", 3, "factorial.factors is missing"),
    ("question:", "variants: {none: {}}\nquestion:", 2, "a factorial makes the variants"),
]


def test_a_file(load: Callable[[str], Study]) -> None:
    study = load(FILE)
    assert [variant.name for variant in study.variants] == ["none", "wide+smooth", "many+smooth", "many+wide"]
    assert study.factorial is not None
    assert study.factorial.level_title("many", on=False) == "K = 2"
    assert study.variant("many+wide").changes == {"model.num_kernels": 4, "model.width": 0.5}


@pytest.mark.parametrize(("old", "new", "line", "reason"), CASES)
def test_errors_have_a_line(load: Callable[[str], Study], old: str, new: str, line: int, reason: str) -> None:
    assert FILE.count(old) == 1
    with pytest.raises(StudyError, match=reason) as caught:
        load(FILE.replace(old, new))
    assert f"study.yaml:{line}: " in str(caught.value)


def test_the_schema_takes_a_factorial_in_place_of_variants(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(study_schema())
    path = tmp_path / "study.yaml"

    def messages(text: str) -> list[str]:
        path.write_text(text, encoding="utf-8")
        return [error.message for error in validator.iter_errors(read_document(path).data)]

    assert messages(FILE) == []
    (neither,) = messages("name: mine\nquestion: Which part?\n")
    assert "is not valid under any of the given schemas" in neither
    (typo,) = messages(FILE.replace("fraction", "fracton"))
    assert "'fracton' was unexpected" in typo
