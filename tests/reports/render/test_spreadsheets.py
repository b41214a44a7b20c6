"""CSV that a report writes or carries: no text in it is a formula, and numbers are numbers."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest

from reports.content.blocks import Figure
from reports.evidence.contents import data_csv, data_digest, harmless

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    " =1",
    "\u00a0=1",
    '"=1',
    "＝1",
    "|calc",
    "-",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_like_a_formula_is_shown_as_a_text(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1", "a\r=1", "a\r\n=1", "a\u2028=1", "\x1b=1"], ids=ascii)
def test_nothing_in_a_text_begins_a_cell_of_its_own(text: str) -> None:
    figure = _figure(pd.DataFrame({"variant": [text], "n": [-1]}))
    rows = list(csv.reader(io.StringIO(data_csv(figure), newline="")))
    assert rows[1:] == [[harmless(text), "-1"]]
    assert harmless(text)[0] in "[a"


@pytest.mark.parametrize("value", [-1.5, -3, 0, np.float64(-2.5), True, None, "τ = 1", "a=b", "K=4", "1e-3", ""])
def test_anything_else_stays(value: object) -> None:
    assert harmless(value) == value
    assert type(harmless(value)) is type(value)


def _figure(data: pd.DataFrame) -> Figure:
    return Figure(name="f", kind="accuracy", data=data, title="T", caption="C", alt="A", axis="x")


@pytest.mark.parametrize("text", FORMULAS)
def test_data_behind_a_figure_have_no_formula_and_exact_numbers(text: str) -> None:
    figure = _figure(pd.DataFrame({"variant": [text, "plain"], text: [-0.1, 2.0], "n": [-1, 3]}))
    header, first, second = csv.reader(io.StringIO(data_csv(figure), newline=""))
    assert header == ["variant", f"'{text}", "n"]
    assert first == [f"'{text}", "-0.1", "-1"]
    assert second == ["plain", "2.0", "3"]


def test_a_digest_is_of_the_data_and_not_of_how_they_are_shown() -> None:
    one, other = (_figure(pd.DataFrame({"a": [text]})) for text in ("=1", "'=1"))
    assert data_digest(one) != data_digest(other)
