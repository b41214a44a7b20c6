"""The file of a study of foreign results: its short forms, its errors with their lines, and its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from ablations.errors import StudyError
from ablations.files.foreign_file import load_foreign_study
from ablations.files.schema import foreign_study_schema
from ablations.files.study_file import load_study
from ablations.files.yaml_source import read_document
from ablations.foreign_study import ForeignStudy, StatedMetric
from ablations.planning.plan_data import study_data

EXAMPLE = Path(__file__).parents[3] / "examples" / "results" / "study.yaml"
RESULTS = ("plain", "mixup", "<b>")
CLAIM = "{name: c, statement: s, contrasts: [{better: [mixup], worse: [plain]}]}"


def study_of(folder: Path, text: str) -> ForeignStudy:
    """Returns the study in a text, as the results `RESULTS` complete it."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    file = load_foreign_study(path)
    return file.study(RESULTS, (93.1, 94.2), file.stated.metric or StatedMetric(name="acc"))


def test_the_results_complete_what_a_file_leaves_out(tmp_path: Path) -> None:
    study = study_of(tmp_path, "reference: plain\n")
    assert [variant.name for variant in study.variants] == list(RESULTS)
    assert (study.name, study.title, study.metric) == ("mine", "mine", "acc")
    assert "plain" in study.question


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        "title: T\nreference: plain\nmetric: {name: acc, label: accuracy, unit: '%', better: lower}\nseeds: [2, 0]\n"
        "variants: {<b>: Bold, plain: {published: 76.5}, mixup: }\npublished: Somebody 2020\nsize_of_interest: 0.5\n",
    )
    assert [variant.title for variant in study.variants] == ["Bold", "plain", "mixup"]
    facts = study.metric_facts
    assert (facts.words, facts.unit, facts.decimals) == ("accuracy (%)", " points", 2)
    assert not facts.higher_is_better
    assert (study.smallest_of_interest, study.kept_seeds) == (0.5, (2, 0))
    table = study.published_table
    assert table is not None
    assert table.setting == "Somebody 2020"
    published = table.get("plain", facts.published)
    assert published is not None
    assert (published.value, table.get("mixup", facts.published)) == (76.5, None)


@pytest.mark.parametrize(
    ("unit", "values", "decimals", "size"),
    [("per cent", [93.1], 2, 1.0), ("share", [0.93], 4, 0.01), ("ms", [0.0123], 5, None), ("", [1234.5], 0, None)],
)
def test_a_unit_decides_decimals_and_size(unit: str, values: list[float], decimals: int, size: float | None) -> None:
    facts = StatedMetric(name="m", unit=unit).facts(values)
    assert (facts.decimals, facts.usual_size) == (decimals, size)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("reference: plain\nbaseline: {train.epochs: 3}\n", 2, "'baseline' is about trainings that are run here"),
        ("reference: plain\nmetrics: acc\n", 2, "unknown key 'metrics'. Did you mean 'metric'?"),
        ("title: x\nreference: plane\n", 2, "no such reference: unknown variant 'plane'. Did you mean 'plain'?"),
        ("reference: plain\nvariants:\n  plain:\n  mixip: Mixup\n", 4, "no such row: unknown variant 'mixip'"),
        ("metric:\n  name: acc\n  beter: lower\n", 3, "unknown key 'beter'. Did you mean 'better'?"),
        ("metric:\n  name: acc\n  better: up\n", 3, "should be 'higher' or 'lower', found 'up'"),
        ("reference: plain\nvariants:\n  plain: 3\n", 3, "a label, or label and published, found 3"),
        ("reference: plain\nvariants:\n  plain: {lable: x}\n", 3, "unknown key 'lable'. Did you mean 'label'?"),
        ("reference: plain\nvariants: [plain, 2]\n", 2, "found 2. Put it in quotes."),
        ("reference: plain\nvariants: [plain, plain]\n", 2, "named twice"),
        ("title: x\nreference: 1\n", 2, "found 1. Put it in quotes."),
        ("- plain\n", 1, "is a mapping with reference"),
        ("title: x\n", 1, "which variant is the reference"),
        ("reference: plain\nseeds: [0, x]\n", 2, "should be a valid integer, found 'x'"),
        ("reference: plain\nsize_of_interest: 0\n", 2, "should be greater than 0"),
        (f"reference: plain\nmetric: loss\nclaims: [{CLAIM}]\n", 3, "Add size_of_interest"),
        (f"reference: plain\nsize_of_interest: 1\nclaims:\n- {CLAIM.replace('mixup', 'mixip')}\n", 4, "Did you mean"),
        (f"reference: plain\nsize_of_interest: 1\nclaims:\n- {CLAIM[:-1]}, equal_size: true}}\n", 4, "parameters of"),
    ],
)
def test_an_error_has_its_line_and_says_what_to_do(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(StudyError) as raised:
        study_of(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'mine.yaml'}:{line}: ")
    assert reason in str(raised.value)


def test_it_is_no_study_that_can_be_run() -> None:
    with pytest.raises(StudyError, match=r"study.yaml:4: .* Report on them with report --results"):
        load_study(EXAMPLE)


def test_a_manifest_holds_the_whole_study(tmp_path: Path) -> None:
    study = study_of(tmp_path, f"reference: plain\nmetric: {{name: acc, unit: share}}\nclaims: [{CLAIM}]\n")
    assert ForeignStudy.model_validate_json(json.dumps(study_data(study))) == study


def test_the_schema_takes_what_is_loaded_and_refuses_what_is_not() -> None:
    schema = json.loads(json.dumps(foreign_study_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    example = read_document(EXAMPLE).data
    validator.validate(example)
    validator.validate({"reference": "a", "metric": "acc", "variants": ["a", "b"]})
    for wrong in ({**example, "baseline": {}}, {**example, "metric": {"name": "a", "better": "up"}}, {"variants": []}):
        assert not validator.is_valid(wrong)
