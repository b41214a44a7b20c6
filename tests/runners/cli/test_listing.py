"""The verb `list`: all studies at a glance, and one study on a page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.published import get_published
from ablations.registry import available_studies, get_study
from runners.cli.studies.study_page import setting_text, study_page
from runners.console.tables import study_overview
from tests.command_line import Invoke

REQUEST = Request(get_preset("quick"))


def test_all_studies_fit_and_no_name_is_broken(printed: Callable[..., list[str]], width: int) -> None:
    lines = printed(study_overview(REQUEST, width))
    # A line that goes on with a question has blanks where the name stands.
    names = [found[1] for line in lines if (found := re.match(r"(?:│ )?(\w+) ", line))]
    assert [name for name in names if name in available_studies()] == list(available_studies())


@pytest.mark.parametrize("name", available_studies())
def test_the_page_of_each_study_has_its_rows_settings_and_claims(name: str, printed: Callable[..., list[str]]) -> None:
    study = get_study(name, REQUEST.base())
    lines = printed(study_page(study, REQUEST, every=True))
    text = " ".join(" ".join(lines).split())
    assert [variant.name for variant in study.variants if f"{variant.name} " not in text] == []
    assert [claim.name for claim in study.claims if claim.name not in text] == []
    for part in (*study.variants, *study.networks):
        assert [key for key in part.changes if f"{key} = " not in text] == []


def test_the_published_numbers_and_what_a_preset_leaves_out_are_there(invoke: Invoke) -> None:
    code, out, err = invoke.apart("list", "temperature", "--preset", "quick")
    assert (code, err) == (0, "")
    published = get_published("temperature").rows["tau_1"]["top1"].value
    (line,) = (line for line in out.splitlines() if line.startswith("tau_1 "))
    assert line.split() == ["tau_1", "train.temperature.schedule", "=", "constant", str(published)]
    assert out.count("(not at preset quick)") == 2
    assert "tau_30 better than tau_1" in out


def test_a_study_as_json_is_its_definition(invoke: Invoke) -> None:
    code, out, err = invoke.apart("list", "temperature", "aggregation", "--json")
    assert (code, err) == (0, "")
    temperature, aggregation = json.loads(out)["studies"]
    rows = [variant["name"] for variant in temperature["definition"]["variants"]]
    assert {"tau_20", "tau_40"} == set(rows) - set(temperature["rows_at_preset"])
    assert temperature["published"]["tau_5"] == {"value": 65.7, "confidence": "B"}
    assert (temperature["primary_claim"], aggregation["study"]) == ("τ = 1 is worse than τ = 30", "aggregation")


def test_all_studies_as_json_need_what_the_table_says(invoke: Invoke) -> None:
    studies = {study["study"]: study for study in json.loads(invoke.apart("list", "--json")[1])["studies"]}
    # Counted by hand in `tests/ablations/planning/test_sharing.py`.
    assert (studies["temperature"]["rows"], studies["temperature"]["trainings"]) == (6, 30)
    assert list(studies) == list(available_studies())


def test_quietly_there_are_names_that_other_verbs_take(invoke: Invoke) -> None:
    assert invoke.apart("list", "-q")[1].split() == list(available_studies())
    rows = invoke.apart("-q", "list", "temperature")[1].split()
    assert "temperature/tau_40" in rows
    assert invoke.apart("plan", "-q", rows[0], "--preset", "smoke")[0] == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(30.0, "30"), (True, "true"), ({"role": ["depthwise"]}, "{role: [depthwise]}"), ((1, 2), "[1, 2]"), ("a", "a")],
)
def test_a_setting_is_shown_as_a_study_file_has_it(value: object, text: str) -> None:
    assert setting_text(value) == text
