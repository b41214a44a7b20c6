"""CSV and JSON: the numbers of the report, exact, read back by pandas and held against the values they come from."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from reports.content.blocks import Document, Number, Records, Table
from reports.render.data_files import cell_records, csv_text, render_csv, render_json
from reports.tables.export.records import CLAIM_COLUMNS, REPEAT_COLUMNS, ROW_COLUMNS
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import HOSTILE, TOP1, document_of, hostile_document

PAGE = Path(__file__).parents[3] / "docs" / "report-formats.md"


@pytest.fixture(scope="module")
def judged() -> Document:
    """The report on a registered study with claims, of made-up results."""
    plan = whole_plan("quick", "temperature", seeds=4)
    return document_of(plan, made_up_results(plan))


def _read(document: Document, folder: Path) -> dict[str, pd.DataFrame]:
    path = render_csv(document, folder, "report")
    frames = {"rows": pd.read_csv(path, keep_default_na=False, na_values=[""])}
    for file in (folder / "tables").glob("*.csv"):
        frames[file.stem.removeprefix("report-")] = pd.read_csv(file)
    return frames


def test_rows_have_exact_means_and_differences_and_no_mean_of_a_part(document: Document, tmp_path: Path) -> None:
    rows = _read(document, tmp_path)["rows"].set_index(["study", "variant"])
    static = rows.loc[("temperature", "static")]
    values = [value for value in TOP1["static"] if value is not None]
    assert static["n"] == static["planned"] == 3
    assert static["mean"] == statistics.mean(values)
    assert static["sd"] == pytest.approx(statistics.stdev(values), rel=1e-12)
    # The values of the reference are 82, 84 and 86.
    assert static["delta"] == pytest.approx(-2.0, rel=1e-12)
    assert static["delta_ci_low"] < -2.0 < static["delta_ci_high"]
    missing = rows.loc[("temperature", "tau_20")]
    assert (missing["n"], missing["planned"]) == (2, 3)
    assert missing[["mean", "sd", "ci_low", "ci_high", "delta", "p"]].isna().all()
    # Of the published numbers one is known, and the reference has no difference to itself.
    assert rows.loc[("temperature", "tau_30"), "published"] == 69.4
    assert pd.isna(rows.loc[("temperature", "tau_30"), "delta"])


def test_claims_have_the_differences_of_the_repeats(judged: Document, tmp_path: Path) -> None:
    frames = _read(judged, tmp_path)
    claims, repeats = frames["claims"], frames["repeats"]
    means = repeats.groupby("variant")["value"].mean()
    assert len(repeats) == 4 * len(means)
    assert len(claims) >= 4
    compared = 0
    for claim in claims.itertuples():
        if claim.better in means and claim.worse in means:
            assert claim.delta == pytest.approx(means[claim.better] - means[claim.worse], abs=1e-9)
            assert claim.ci_low < claim.delta < claim.ci_high
            compared += 1
    assert compared >= 4
    assert set(claims["verdict"]) <= {"reproduced", "contradicted", "practically the same", "undecided"}
    # Exactly one contrast decides a claim.
    assert (claims.groupby("claim")["decides"].sum() == 1).all()


def test_cells_hold_every_number_of_every_table(judged: Document) -> None:
    cells = cell_records(judged)
    exported = [row[cells.columns.index("value")] for row in cells.rows]
    numbers = []
    for section in judged.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                numbers += [cell.value for row in block.rows for cell in row if isinstance(cell, Number)]
    assert len(numbers) > 20
    assert [value for value in numbers if value == value and value not in exported] == []


def test_json_has_what_csv_has_and_no_number_that_is_none(document: Document, tmp_path: Path) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    frames = _read(document, tmp_path)
    path = render_json(document, tmp_path, "report")
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert len(content["rows"]) == len(frames["rows"])
    for stored, row in zip(content["rows"], frames["rows"].to_dict("records"), strict=True):
        assert list(stored) == list(ROW_COLUMNS)
        for name, value in stored.items():
            assert pd.isna(row[name]) if value in (None, "") else row[name] == value
    assert len(content["repeats"]) == len(frames["repeats"])
    assert sum(len(table["cells"]) for table in content["tables"]) == len(frames["cells"])


def test_a_document_without_records_is_its_cells(tmp_path: Path) -> None:
    path = render_csv(hostile_document(), tmp_path, HOSTILE)
    assert path.resolve().parent == tmp_path.resolve()
    frame = pd.read_csv(path)
    assert set(frame["value"].dropna()) == {1.5}
    assert not (tmp_path / "tables").exists()


def test_no_text_is_a_formula() -> None:
    text = csv_text(Records("rows", ("a", "b", "c"), (("=1+1", -2.5, True), (None, "plain", False))))
    assert text == "a,b,c\n'=1+1,-2.5,true\n,plain,false\n"


def test_the_page_describes_every_column() -> None:
    page = PAGE.read_text(encoding="utf-8")
    columns = {*ROW_COLUMNS, *CLAIM_COLUMNS, *REPEAT_COLUMNS, *cell_records(hostile_document()).columns}
    assert [name for name in columns if f"`{name}`" not in page] == []
