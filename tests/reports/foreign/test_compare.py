"""Comparing two sets of foreign results."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from ablations.errors import ReportError
from reports.compare import compare_sides
from reports.content.blocks import Document, Interval, Text
from reports.foreign.make import ForeignRequest
from tests.reports.foreign.made_up import VALUES, tables_of, write_csv


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """The documents that comparisons make."""
    made: list[Document] = []

    def show(document: Document) -> list[Document]:
        made.append(document)
        return []

    monkeypatch.setattr("reports.compare.on_terminal", show)
    return made


def requests(folder: Path, old: str, new: str) -> tuple[ForeignRequest, ForeignRequest]:
    """Returns the requests for the results, and for those with a text replaced."""
    left, right = write_csv(folder / "left.csv"), write_csv(folder / "right.csv")
    right.write_text(right.read_text().replace(old, new))
    return ForeignRequest(str(left), reference="plain"), ForeignRequest(str(right), reference="plain")


def test_rows_are_held_against_each_other_unpaired(tmp_path: Path, documents: list[Document]) -> None:
    left, right = requests(tmp_path, "93.45", "92.00")
    compare_sides(left, right, ["md"], tmp_path)
    (document,) = documents
    rows = tables_of(document)["Row by row"].rows
    changed = [92.0 if value == 93.45 else value for value in VALUES["plain"]]
    welch = stats.ttest_ind(changed, VALUES["plain"], equal_var=False).confidence_interval(0.95)
    delta = rows[0][5]
    assert isinstance(delta, Interval)
    assert (delta.low, delta.high) == pytest.approx((welch.low, welch.high))
    assert rows[0][6] == Text("unpaired")
    # Two files that agree in every value hold the same runs.
    assert rows[1][6] == Text("same runs")
    assert "Settings are not compared" in str(document)
    assert len(list(tmp_path.glob("compare-left-right-*.md"))) == 1


def test_metrics_of_other_directions_are_not_compared(tmp_path: Path) -> None:
    left, right = requests(tmp_path, "93.45", "92.00")
    with pytest.raises(ReportError, match="accuracy is not measured alike"):
        compare_sides(left, ForeignRequest(right.address, reference="plain", lower_is_better=True), [], tmp_path)
    with pytest.raises(ReportError, match="both sides are the same"):
        compare_sides(left, left, [], tmp_path)
