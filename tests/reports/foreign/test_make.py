"""Reports on foreign results: their numbers against scipy's, their verdicts, and what they must not claim to know."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablations.errors import OptionError
from reports.content.blocks import Interval, Missing, Number, Text
from reports.content.maker import Maker
from reports.evidence.manifest import made_by
from reports.evidence.report_file import read_report
from reports.foreign.make import ForeignReport, ForeignRequest, compute_foreign, make_foreign_report
from tests.reports.foreign.made_up import VALUES, tables_of, write_csv, write_study

MAKER = Maker("a" * 40)


def report_of(request: ForeignRequest) -> ForeignReport:
    """Returns a report without writing it."""
    return compute_foreign(*request.read(), made_by(MAKER))


@pytest.fixture
def request_of_three(tmp_path: Path) -> ForeignRequest:
    return ForeignRequest(str(write_csv(tmp_path / "results.csv")), write_study(tmp_path / "study.yaml"))


def test_two_variants_have_the_paired_interval_of_scipy(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "two.csv", ("plain", "<b>mixup</b>"))
    report = report_of(ForeignRequest(str(path), reference="plain"))
    row = report.summary.get("", "<b>mixup</b>")
    assert row.delta is not None
    paired = stats.ttest_rel(VALUES["<b>mixup</b>"], VALUES["plain"])
    interval = paired.confidence_interval(0.95)
    assert (row.delta.low, row.delta.high) == pytest.approx((interval.low, interval.high))
    assert row.p_value == pytest.approx(paired.pvalue)
    assert row.estimate.mean == pytest.approx(np.mean(VALUES["<b>mixup</b>"]))
    assert row.estimate.sd == pytest.approx(np.std(VALUES["<b>mixup</b>"], ddof=1))


def test_the_table_has_means_stars_and_published_numbers(request_of_three: ForeignRequest) -> None:
    table = tables_of(report_of(request_of_three).document)["Which augmentation helps?"]
    headings = [(column.group, column.heading) for column in table.columns]
    assert headings[1] == ("measured", "accuracy (%)")
    assert headings[-1] == ("published", "accuracy (%)")
    plain, mixup, _ = table.rows
    assert (plain[0], mixup[0]) == (Text("Plain"), Text("<i>Mixup</i>"))
    assert isinstance(mixup[1], Number)
    assert isinstance(mixup[3], Interval)
    assert mixup[-2] == Text("**")
    assert isinstance(mixup[-1], Number)
    assert mixup[-1].value == 94.3
    assert plain[-1] == Missing()
    assert any("Somebody 2020" in note.text for note in table.notes)


def test_claims_have_verdicts(request_of_three: ForeignRequest) -> None:
    report = report_of(request_of_three)
    assert {claim.claim.name: claim.verdict for claim in report.claims} == {
        "mixup": "reproduced",
        "loses": "contradicted",
        "same": "reproduced",
    }
    assert "verdict" in {
        column.heading for column in tables_of(report.document)["Which augmentation helps? Claims"].columns
    }


def test_lower_is_better_turns_verdicts_round(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study.yaml")
    study.write_text(study.read_text().replace("unit: per cent", "unit: per cent, better: lower"))
    report = report_of(ForeignRequest(str(write_csv(tmp_path / "r.csv")), study))
    assert {claim.claim.name: claim.verdict for claim in report.claims}["mixup"] == "contradicted"
    improvement = report.summary.get("", "<b>mixup</b>").improvement
    assert improvement is not None
    assert improvement.probability == 0.0


def test_every_value_can_be_found_in_the_results(request_of_three: ForeignRequest) -> None:
    table = tables_of(report_of(request_of_three).document)["Measurements"]
    values = [cell.text for _, _, cell in table.rows if isinstance(cell, Text)]
    assert values == [repr(value) for by_seed in VALUES.values() for value in by_seed]


def test_a_missing_repeat_leaves_no_mean(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "results.csv")
    path.write_text(path.read_text().replace('"plain",3,93.30\n', ""))
    report = report_of(ForeignRequest(str(path), reference="plain"))
    assert not report.summary.get("", "plain").estimate.is_known
    table = tables_of(report.document)["results"]
    assert any("plain: seed 3 missing. Measured: 93.12 (seed 0)" in note.text for note in table.notes)


def test_nothing_is_told_that_cannot_be_known(request_of_three: ForeignRequest, tmp_path: Path) -> None:
    report, files = make_foreign_report(request_of_three, ["md"], tmp_path / "out", MAKER)
    text = files["md"].read_text()
    assert "made elsewhere" in text
    for word in ("ingerprint", "commit", "preset", "Overrides", "Settings", "ours", "Chen et al"):
        assert word not in text
    assert report.document.timestamp == 0


def test_names_are_escaped_and_two_reports_are_the_same_bytes(request_of_three: ForeignRequest, tmp_path: Path) -> None:
    formats = ["pdf", "html", "tex", "md"]
    _, files = make_foreign_report(request_of_three, formats, tmp_path / "one", MAKER)
    html, tex = files["html"].read_text(), files["tex"].read_text()
    page = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "&lt;i&gt;Mixup&lt;/i&gt;" in page
    assert "<i>Mixup" not in page
    assert r"\$x\_\allowbreak{}1\$ \& \#1" in tex
    _, again = make_foreign_report(request_of_three, formats, tmp_path / "two", MAKER)
    assert [path.read_bytes() for path in files.values()] == [path.read_bytes() for path in again.values()]


def test_the_title_comes_before_a_figure_that_fits_on_its_page(tmp_path: Path) -> None:
    """A short report has its figure on the first page, where floats once stood above the title."""
    request = ForeignRequest(str(write_csv(tmp_path / "short.csv")), reference="plain")
    _, files = make_foreign_report(request, ["pdf"], tmp_path / "out", MAKER)
    lines = read_report(files["pdf"]).pages[0].lines
    assert lines[0] == "short"
    assert any(line.startswith("Figure 1: short.") for line in lines)


def test_evaluations_of_one_checkpoint_are_compared_image_by_image(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["variant,seed,checkpoint,correct,acc"]
    for seed in range(3):
        right = draw.random(400) < 0.8
        # The change loses a few images that were right.
        changed = right & (draw.random(400) < 0.95)
        for variant, bits in (("as trained", right), ("pruned", changed)):
            name = f"{variant}-{seed}.txt"
            (tmp_path / name).write_text("".join(str(int(bit)) for bit in bits))
            lines.append(f"{variant},{seed},net {seed},{name},{100 * bits.mean():.4f}")
    path = tmp_path / "images.csv"
    path.write_text("\n".join(lines) + "\n")
    report = report_of(ForeignRequest(str(path), reference="as trained"))
    delta = report.summary.get("", "pruned").delta
    assert delta is not None
    assert delta.covers_images
    assert "McNemar's tests" in tables_of(report.document)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metric": "loss"}, "the metric is 'accuracy', and --metric says 'loss'"),
        ({"reference": "other"}, "the reference is 'plain', and --reference says 'other'"),
        ({"lower_is_better": True}, "say better: lower there"),
    ],
)
def test_an_option_may_not_contradict_the_study_file(
    request_of_three: ForeignRequest, options: dict[str, str], reason: str
) -> None:
    request = ForeignRequest(request_of_three.address, request_of_three.study_file, **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=reason):
        request.read()
