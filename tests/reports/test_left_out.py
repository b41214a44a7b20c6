"""A study that an override leaves out is part of what a report was asked, and so of what `verify` asks again."""

from __future__ import annotations

from ablations.planning.plan import make_plan
from ablations.planning.plan_data import study_data
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from reports.document.prose import caveats, scale_words
from reports.verify import planned
from tests.reports.everything import made_up_results

REQUEST = Request(get_preset("smoke"), {"model.layer": "condconv"})
PLAN = make_plan([get_study(name, REQUEST.base()) for name in ("reduction", "temperature")], REQUEST)


def test_verify_asks_what_the_report_was_asked() -> None:
    asked = {"preset": "smoke", "overrides": dict(REQUEST.overrides), "seeds": None, "canary": False, "tuned": None}
    asked |= {"studies": [study_data(study.whole) for study in PLAN.studies]}
    assert planned({"request": asked}).left_out == ()
    again = planned({"request": {**asked, "left_out": ["reduction"]}})
    assert again.left_out == PLAN.left_out == ("reduction",)
    assert again.studies == PLAN.studies


def test_a_report_says_which_studies_and_rows_are_left_out() -> None:
    assert any("left out: reduction." in words for words in caveats(PLAN, made_up_results(PLAN)))
    words = scale_words(PLAN.studies[0], PLAN)
    assert words.startswith("At preset smoke and with model.layer: condconv, which leaves rows alike, only a part")
    assert "2 of 8 rows" in words
