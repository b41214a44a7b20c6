"""Files: complete or absent, inside their folder, and errors that say what to do; the package's own door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.errors import OutputError, ReportError, UnknownNameError
from ablations.planning.plan import Plan
from reports import make_report
from reports.collect.results import Results
from reports.content.blocks import Document
from reports.render import FORMATS, get_renderer
from reports.render.files import document_path, ensure_folder, write_atomically
from tests.reports.made_up import HOSTILE, TEMPERATURE, Store, plan_of


def test_make_report_writes_each_format(plan: Plan, store: Store, out: Path) -> None:
    files = make_report(plan, store.uri, ("md", "tex", "md"), out)
    assert files == {e: out / f"aggregation--temperature-smoke-3seeds.{e}" for e in ("md", "tex")}
    assert all(path.is_file() for path in files.values())


def test_one_study_names_the_file(store: Store, out: Path) -> None:
    files = make_report(plan_of(TEMPERATURE), store.uri, ("md",), out)
    assert files == {"md": out / "temperature-smoke-3seeds.md"}
    assert (out / "figures" / "temperature-smoke-3seeds-temperature-accuracy.png").is_file()


def test_results_at_hand_are_not_read_again(plan: Plan, results: Results, out: Path) -> None:
    assert make_report(plan, "http://127.0.0.1:9", ("md",), out, results=results)["md"].is_file()


def test_unknown_format_is_refused_before_anything_is_read(plan: Plan, out: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown report format 'pfd'. Did you mean 'pdf'"):
        make_report(plan, "http://127.0.0.1:9", ("pfd",), out)
    assert not out.exists()


def test_a_store_without_the_runs(store: Store, out: Path) -> None:
    with pytest.raises(ReportError, match="Run it first"):
        make_report(plan_of(TEMPERATURE, preset="quick"), store.uri, ("md",), out)


def test_an_unwritable_folder(plan: Plan, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Choose another folder"):
        make_report(plan, store.uri, ("md",), tmp_path / "file" / "reports")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_renderer_explains_an_unwritable_folder(document: Document, tmp_path: Path, name: str) -> None:
    in_the_way = tmp_path / "reports"
    in_the_way.write_text("in the way")
    with pytest.raises(OutputError, match="reports"):
        get_renderer(name)(document, in_the_way, "report")


@pytest.mark.parametrize("name", ["md", "pdf", "tex"])
def test_a_folder_of_figures_that_cannot_be_made(document: Document, tmp_path: Path, name: str) -> None:
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(OutputError, match="figures"):
        get_renderer(name)(document, tmp_path, "report")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.md"]


@pytest.mark.parametrize("stem", ["../up", "/etc/passwd", "..", "", HOSTILE, "a" * 300])
def test_no_name_leaves_the_folder(tmp_path: Path, stem: str) -> None:
    path = document_path(ensure_folder(tmp_path), stem, "pdf")
    assert path.resolve().parent == tmp_path.resolve()
    assert len(path.name) < 100


def test_importing_the_package_is_light() -> None:
    code = "import reports, sys; print(sorted({'mlflow', 'pandas', 'matplotlib', 'scipy', 'typst'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
