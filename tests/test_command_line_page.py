"""docs/command-line.md says what is so: its study plans, and every key of a JSON document is on the page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evening
from tests.command_line import Invoke

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text(encoding="utf-8")
KEYS = set(re.findall(r"`(\w+)`", PAGE.partition("## JSON for scripts")[2]))
AS_WRITTEN = ("definition", "values", "missing", "published", "overrides")
"""Keys below which stand names of a user's own, seeds, or what a study file has."""


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for member in value:
            yield from keys_of(member)
    if isinstance(value, dict):
        for key, member in value.items():
            yield key
            if key not in AS_WRITTEN:
                yield from keys_of(member)


@pytest.mark.parametrize(
    "arguments",
    [
        ("results", evening.BUNDLES / f"{evening.CORE}.zip"),
        ("plan", "temperature", "aggregation", "cost"),
        ("list",),
        ("list", "temperature"),
    ],
    ids=["results", "plan", "list", "study"],
)
def test_every_key_is_on_the_page(invoke: Invoke, arguments: tuple[object, ...]) -> None:
    code, out, err = invoke.apart(*arguments, "--json")
    assert (code, err) == (0, "")
    # `title` and `name` of a published table are described where they stand.
    assert set(keys_of(json.loads(out))) - KEYS == set() or set(keys_of(json.loads(out))) - KEYS == {"name"}


def test_the_study_of_the_page_plans_as_it_stands(invoke: Invoke, tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "colder.yaml").write_text(example)
    code, out, err = invoke.apart("plan", "colder.yaml", "-q")
    assert (code, err) == (0, "")
    # Five seeds of the six rows that quick has of the other study, and of one more.
    assert out.startswith("To do: 35 trainings")


@pytest.mark.parametrize("line", re.findall(r"^run-ablation (plan .*--set .*)$", PAGE, re.MULTILINE))
def test_the_sweeps_of_the_page_plan(invoke: Invoke, line: str) -> None:
    assert invoke.apart(*line.split(), "-q")[0] == 0
