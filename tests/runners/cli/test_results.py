"""The verb `results`: the numbers are those of the report, and the tables fit a terminal."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from ablations.planning.plan import Plan
from benchmarks import evening
from reports.archive.bundle import open_bundle
from reports.collect.results import Results
from runners.api.study_results import ResultRow, StudyResults, study_results
from runners.cli.options.json_output import finite
from runners.cli.results.as_json import results_as_data
from runners.cli.results.table import print_results
from tests.command_line import Invoke
from tests.reports.made_up import TOP1

CORE = evening.BUNDLES / f"{evening.CORE}.zip"


@pytest.fixture
def tables(plan: Plan, results: Results) -> dict[str, StudyResults]:
    return {table.study.name: table for table in study_results(plan, results)}


def row_of(table: StudyResults, network: str, variant: str) -> ResultRow:
    (row,) = (row for row in table.rows if (row.network, row.variant) == (network, variant))
    return row


def test_rows_are_what_was_measured(tables: dict[str, StudyResults]) -> None:
    static, reference = (row_of(tables["temperature"], "", name) for name in ("static", "tau_30"))
    assert (static.n, static.planned, static.is_reference) == (3, 3, False)
    assert static.mean.mean == pytest.approx(statistics.mean([80.0, 81.0, 85.0]))
    assert static.mean.sd == pytest.approx(statistics.stdev([80.0, 81.0, 85.0]))
    # Seed by seed: 80 − 82, 81 − 84, 85 − 86.
    assert static.delta is not None
    assert static.delta.mean == pytest.approx(-2.0)
    assert static.delta.low < -2.0 < static.delta.high
    assert (reference.is_reference, reference.delta) == (True, None)
    # The paper: 65.4 for the static network, 69.4 for τ = 30.
    assert static.published is not None
    assert static.published_delta is not None
    assert (static.published.value, static.published_delta.value) == (65.4, -4.0)


def test_a_row_with_a_missing_repeat_has_no_mean(tables: dict[str, StudyResults]) -> None:
    row = row_of(tables["temperature"], "", "tau_20")
    assert (row.n, row.planned, math.isnan(row.mean.mean)) == (2, 3, True)
    assert row.values == {0: TOP1["tau_20"][0], 2: TOP1["tau_20"][2]}
    assert list(row.absent) == [1]


def test_a_table_fits_and_breaks_no_number(
    tables: dict[str, StudyResults], printed: Callable[..., list[str]], width: int
) -> None:
    lines = printed(lambda terminal: print_results(terminal, list(tables.values()), every=True))
    text = "\n".join(lines)
    (static,) = (line for line in lines if line.startswith("static ") and "±" in line)
    assert static.split()[:5] == ["static", "3", "82.00", "±", "2.65"]
    assert "−2.00 [" in static
    assert "65.4" in static
    assert ("95 % interval of mean" in text) == (width == 120)
    (missing,) = (line for line in lines if line.startswith("τ = 20 ") and "2/3" in line)
    assert "—" in missing
    # Each value, and what became of the one that has none.
    assert "0: 83.00, 2: 87.00, 1: " in text
    assert "standard deviation" in text


def test_rows_of_several_networks_stand_below_their_network(
    tables: dict[str, StudyResults], printed: Callable[..., list[str]]
) -> None:
    lines = printed(lambda terminal: print_results(terminal, [tables["aggregation"]], brief=True))
    names = [line.split("  ")[0] for line in lines]
    first, second = names.index("τ = 30"), names.index("τ = 20")
    assert first < names.index(" average") < second
    assert names[second + 1 :].index(" average") >= 0
    assert "standard deviation" not in "\n".join(lines)


def test_numbers_as_json_have_no_nan(plan: Plan, tables: dict[str, StudyResults]) -> None:
    document = json.loads(json.dumps(finite(results_as_data(plan, list(tables.values()))), allow_nan=False))
    by_study = {study["study"]: study for study in document["studies"]}
    rows = {row["variant"]: row for row in by_study["temperature"]["rows"]}
    assert rows["tau_20"]["mean"] is None
    assert rows["tau_20"]["missing"].keys() == {"1"}
    assert rows["tau_30"]["difference"] is None
    assert rows["static"]["difference"]["mean"] == pytest.approx(-2.0)
    assert rows["static"]["published"] == {"value": 65.4, "confidence": "A"}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(open_bundle(CORE).read("manifest.json"))
    return content


def test_a_bundle_is_printed_as_one_document_with_the_numbers_of_its_report(
    invoke: Invoke, manifest: dict[str, Any]
) -> None:
    code, out, err = invoke.apart("results", CORE, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["format"], document["verb"]) == (1, "results")
    assert [study["study"] for study in document["studies"]] == list(manifest["rows"])
    checked = 0
    for study in document["studies"]:
        for row in study["rows"]:
            key = f"{row['network']}: {row['variant']}" if row["network"] else row["variant"]
            reported = manifest["rows"][study["study"]][key]
            values = {seed: repeat[study["metric"]] for seed, repeat in reported["seeds"].items()}
            assert row["values"] == values
            assert row["mean"] == pytest.approx(statistics.mean(values.values()))
            checked += 1
        for claim in study["claims"]:
            prefix = f"{claim['network']}: " if claim["network"] else ""
            reported_claim = manifest["claims"][f"{study['study']}, {prefix}{claim['claim']}"]
            assert (claim["verdict"], claim["rank"]) == (reported_claim["verdict"], reported_claim["rank"])
    assert checked == sum(map(len, manifest["rows"].values()))


def test_a_bundle_says_itself_what_was_asked(invoke: Invoke) -> None:
    code, out, err = invoke.apart("results", CORE, "--preset", "small")
    assert (code, out) == (2, "")
    assert "is a bundle, which says itself" in err


def test_nothing_measured_is_said_with_what_to_do(invoke: Invoke) -> None:
    code, out, err = invoke.apart("results", "temperature", "--json")
    assert (code, out) == (1, "")
    assert "Run it first" in err
