"""What a report says of its launches: read from tags, told as a fact and a table, and the same bytes each time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from ablations.launches import Range, Record
from ablations.planning.plan import Plan
from ablations.vocabulary import TAG_LAUNCHES
from reports.collect.results import MOST_LAUNCHES, Results, in_order
from reports.collect.summary_runs import read_launches
from reports.content.blocks import Facts, Table
from reports.content.formatting import set_rows
from reports.tables.launches import launch_facts, launches_table
from tests.reports.made_up import document_of

FIRST = Record("one", 1_700_000_000.0, ("aggregation", "temperature"), 16, 2, Range(540, 720, 960), 792.0, 700.0)
SECOND = Record("two", 1_700_003_600.0, ("temperature",), 4, 1, None, 61.0)


def tagged(*records: Record) -> dict[str, str]:
    return {TAG_LAUNCHES: json.dumps([record.as_mapping() for record in records])}


def test_launches_are_read_from_tags() -> None:
    assert list(read_launches([tagged(FIRST, SECOND), {}, tagged(FIRST)])) == [FIRST, SECOND, FIRST]


@pytest.mark.parametrize("text", ["", "no JSON", "3", "{}", "[3]", '[{"launch": "x"}]', '[{"began": NaN}]'])
def test_what_is_no_record_is_left_out(text: str) -> None:
    assert list(read_launches([{TAG_LAUNCHES: text}, tagged(SECOND)])) == [SECOND]


def test_each_launch_counts_once_in_order_and_of_many_the_newest() -> None:
    assert in_order([SECOND, FIRST, SECOND]) == (FIRST, SECOND)
    many = [replace(FIRST, launch=str(n), began=float(n)) for n in range(MOST_LAUNCHES + 5)]
    assert in_order(many) == tuple(many[-MOST_LAUNCHES:])


def test_the_newest_launch_is_a_fact(plan: Plan, results: Results) -> None:
    assert launch_facts(results) == ()
    one = results.with_launch(FIRST)
    told = "estimated 12 min (9 min to 16 min), took 13 min with 2 workers, 1.10 times that"
    assert launch_facts(one) == (("Last launch", told),)
    two = one.with_launch(SECOND)
    assert launch_facts(two) == (("Last launch", "took 61 s with 1 worker; not estimated beforehand"),)
    cut = results.with_launch(replace(FIRST, is_whole=False))
    assert launch_facts(cut)[0][1].endswith("took 13 min with 2 workers")


def rows(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[cell.text for cell in row] for row in set_rows(table)]


def test_every_launch_is_a_row(results: Results) -> None:
    assert launches_table(results) is None
    both = results.with_launch(SECOND).with_launch(FIRST)
    first, second = rows(launches_table(both))
    assert first == [
        "2023-11-14 22:13", "aggregation, temperature", "16", "2", "12 min (9 min to 16 min)", "13 min", "1.10",
    ]  # fmt: skip
    assert second[:4] == ["2023-11-14 23:13", "temperature", "4", "1"]
    assert "not estimated" in second[4]
    assert math.isnan(SECOND.ratio)


def test_the_document_has_them(plan: Plan, results: Results) -> None:
    def facts(document: Any) -> dict[str, str]:
        (found,) = (block for block in document.appendix[0].blocks if isinstance(block, Facts))
        return dict(found.items)

    plain, told = (document_of(plan, one) for one in (results, results.with_launch(FIRST)))
    assert "Last launch" not in facts(plain)
    assert "12 min" in facts(told)["Last launch"]
    titles = [section.title for section in told.appendix]
    assert [title for title in titles if title not in [section.title for section in plain.appendix]] == [
        "Estimated and actual time"
    ]
