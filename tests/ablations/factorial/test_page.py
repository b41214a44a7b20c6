"""The studies of docs/factorial.md: each is taken from the page, and planned as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.planning.lint import lint
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from ablations.study import Study

PAGE = (Path(__file__).parents[3] / "docs" / "factorial.md").read_text(encoding="utf-8")
EXAMPLES = {match[1]: match[0] for match in re.findall(r"```yaml\n((?:name: (\S+)\n).*?)```", PAGE, flags=re.DOTALL)}


@pytest.mark.parametrize("name", ["small-or-smooth", "four-parts-in-eight"])
@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_an_example_is_planned_without_a_lint(load: Callable[[str], Study], name: str, preset: str) -> None:
    study = load(EXAMPLES[name])
    plan = make_plan([study], Request(get_preset(preset), seeds=2))
    assert len(plan.trials) == 8 * 2
    assert [finding.message for finding in lint(plan) if not finding.is_allowed] == []


def test_every_example_of_the_page_is_looked_at() -> None:
    assert len(EXAMPLES) == PAGE.count("```yaml") == 2


def test_the_numbers_that_the_page_gives() -> None:
    request = Request(get_preset("quick"))
    names = ("temperature", "kernels", "placement")
    before = make_plan([get_study(name, request.base()) for name in names], request)
    after = make_plan([get_study(name, request.base()) for name in (*names, "parts")], request)
    assert f"`quick` trains {len(after.trials) - len(before.trials)} of 48" in " ".join(PAGE.split())
