"""Checking a report on foreign results: an honest one agrees with its source, and whatever is changed is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.errors import OptionError, ReportError
from ablations.spec.fingerprint import digest
from reports.bundles.checking import verify_file
from reports.content.maker import Maker
from reports.evidence.manifest import read_manifest
from reports.evidence.report_file import read_report
from reports.foreign.make import ForeignRequest, make_foreign_report
from reports.verify import Verification
from tests.reports.foreign.made_up import write_csv, write_study

MAKER = Maker("a" * 40)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "results.csv")


@pytest.fixture
def report(csv: Path, tmp_path: Path) -> Path:
    """An HTML report, which is made faster than a PDF."""
    request = ForeignRequest(str(csv), write_study(tmp_path / "study.yaml"))
    _, files = make_foreign_report(request, ["html"], tmp_path / "out", MAKER)
    return files["html"]


def check(path: Path, results: Path | None = None) -> Verification:
    """Returns the outcome of a check; no tracking store is needed."""
    return verify_file(path, "sqlite:////nowhere.db", MAKER, str(results) if results is not None else None)


def test_an_honest_report_agrees_with_its_source_and_with_its_copy(report: Path, csv: Path) -> None:
    with_source = check(report, csv)
    assert not with_source.differences
    assert not with_source.notes
    assert with_source.numbers > 100
    assert with_source.runs == 15
    alone = check(report)
    assert not alone.differences
    assert "computed from the copy" in alone.notes[0]


def test_a_pdf_is_checked_too(csv: Path, tmp_path: Path) -> None:
    _, files = make_foreign_report(ForeignRequest(str(csv), reference="plain"), ["pdf"], tmp_path / "out", MAKER)
    assert not check(files["pdf"], csv).differences
    csv.write_text(csv.read_text().replace("94.40", "94.41"))
    assert any(line.startswith("page 1: ") for line in check(files["pdf"], csv).differences)


def test_a_changed_digit_of_the_source_is_named_first(report: Path, csv: Path) -> None:
    csv.write_text(csv.read_text().replace("94.40", "94.41"))
    first, *others = check(report, csv).differences
    assert first == "<b>mixup</b>, seed 1: 94.4 in the report, 94.41 in results.csv"
    assert others


def test_a_row_more_or_less_is_named(report: Path, csv: Path) -> None:
    text = csv.read_text()
    csv.write_text(text.replace('"plain",4,93.21\n', ""))
    assert check(report, csv).differences[0] == "plain, seed 4: 93.21 in the report, nothing in results.csv"
    csv.write_text(text + "plain,4,93.5\n")
    assert check(report, csv).differences[0] == "plain, seed 4: 93.21 in the report, 93.21 and 93.5 in results.csv"


def test_a_file_that_was_renamed_and_sorted_holds_the_same_results(report: Path, csv: Path) -> None:
    head, *rows = csv.read_text().splitlines()
    other = csv.with_name("other.csv")
    other.write_text("\n".join([head, *sorted(rows)]) + "\n")
    outcome = check(report, other)
    assert not outcome.differences
    assert outcome.notes == ("other.csv is not the same bytes, but all its values are those in the report",)


def test_a_changed_page_is_found_without_the_source(report: Path) -> None:
    report.write_text(report.read_text().replace("94.09 ± 0.23", "94.90 ± 0.23"))
    (line,) = check(report).differences
    assert "94.90 ± 0.23" in line


def test_a_changed_copy_is_found_even_with_a_new_digest(report: Path, csv: Path) -> None:
    text = report.read_text()
    start = text.index("{", text.index('id="manifest.json"'))
    end = text.index("</script>", start)
    content = json.loads(text[start:end])
    content["results"]["measurements"][0]["value"] = 90.0
    del content["sha256"]
    content["sha256"] = digest(content)
    forged = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    report.write_text(text[:start] + forged + text[end:])
    assert any(line.startswith("rows, plain, value, mean: ") for line in check(report).differences)
    assert check(report, csv).differences[0] == "plain, seed 0: 90.0 in the report, 93.12 in results.csv"


def test_results_of_another_kind_are_refused(report: Path) -> None:
    with pytest.raises(OptionError, match=r"the report is on results.csv, and --results mlflow:"):
        verify_file(report, "", MAKER, "mlflow:sqlite:///m.db/mine")


def test_nothing_of_it_can_be_trained_again(report: Path) -> None:
    with pytest.raises(ReportError, match="a report on results from elsewhere, of which nothing can be run again"):
        read_manifest(read_report(report).manifest)


def test_a_manifest_that_cannot_be_read_is_a_sentence(report: Path) -> None:
    text = report.read_text()
    report.write_text(text.replace('"seed":0', '"seed":"x"', 1))
    with pytest.raises(ReportError, match="the results in its manifest cannot be read"):
        check(report)
    report.write_text(text.replace('"format":1,"kind":"foreign results"', '"format":9,"kind":"foreign results"'))
    with pytest.raises(ReportError, match="has format 9, this version reads 1"):
        check(report)
