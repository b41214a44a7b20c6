"""The whole path at preset smoke: from the command line to a PDF whose numbers are those in MLflow."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pypdf import PdfReader

from ablations import vocabulary as names
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from reports.collect import curves
from reports.collect.stores.opening import open_store
from tests.command_line import Invoke

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("aggregation", "resolution", "temperature")
REPORT = "aggregation--resolution--temperature-smoke"
EXPERIMENT = names.experiment_name("smoke", "fashion_mnist_mini")


def _environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**kept, "PYTHONWARNINGS": "default", "NO_COLOR": "1", **more}


def _command(*arguments: str, timeout: float = 1000, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run_ablation.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=_environment(**environment),
        cwd=ROOT,
        check=False,
    )


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all three studies."""
    runs = tmp_path_factory.mktemp("runs")
    done = _command("run", *STUDIES, "--preset", "smoke", "--workers", "2", "--runs-dir", str(runs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return runs


@pytest.fixture(scope="module")
def client(launched: Path) -> MlflowClient:
    """The store of that run."""
    return MlflowClient(tracking_uri=f"sqlite:///{launched}/mlflow.db")


def _runs(client: MlflowClient, kind: str) -> list[Any]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`abl.kind` = '{kind}'"))


def _pdf_text(path: Path) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def test_every_node_has_one_finished_run(client: MlflowClient) -> None:
    trials, evaluations = _runs(client, "trial"), _runs(client, "evaluation")
    assert len(trials) == 16
    assert len(evaluations) == 48
    assert {run.info.status for run in (*trials, *evaluations)} == {"FINISHED"}
    assert all(names.TAG_CORRECTNESS in run.data.tags for run in (*trials, *evaluations))
    parents = {run.info.run_id for run in trials}
    assert {run.data.tags["mlflow.parentRunId"] for run in evaluations} <= parents
    fingerprints = [run.data.tags[names.TAG_FINGERPRINT] for run in (*trials, *evaluations)]
    assert len(set(fingerprints)) == len(fingerprints)


def test_the_report_of_the_run_is_verified(launched: Path, invoke: Invoke) -> None:
    code, out, err = invoke.apart("verify", launched / "reports" / f"{REPORT}.pdf", "--runs-dir", launched)
    assert code == 0, out + err
    assert re.search(r"numbers of 64 runs computed again: no differences\.$", out.strip())


def test_curves_of_records_are_those_of_histories(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = MlflowClient.get_metric_history
    with open_store(client.tracking_uri) as store:
        experiments = [experiment.name for experiment in client.search_experiments()]
        trials = [run for run in store.runs(experiments) if run.kind == "trial"]
        monkeypatch.setattr(MlflowClient, "get_metric_history", lambda *_: pytest.fail("asked"))
        recorded = list(curves.curve_rows(store, trials))
        monkeypatch.setattr(MlflowClient, "get_metric_history", asked)
        monkeypatch.setattr(curves, "_recorded", lambda *_: {})
        assert recorded == list(curves.curve_rows(store, trials))
    assert len(recorded) > 2 * 3 * len(trials)


def test_each_epoch_is_tracked_once(client: MlflowClient) -> None:
    for run in _runs(client, "trial"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, "val/top1")] == [1, 2]


def test_summary_runs_carry_means_and_the_report(client: MlflowClient) -> None:
    summaries = {run.data.tags[names.TAG_STUDY_NAME]: run for run in _runs(client, "study")}
    assert set(summaries) == set(STUDIES)
    for study, run in summaries.items():
        files = [artifact.path for artifact in client.list_artifacts(run.info.run_id, "report")]
        assert {file.rpartition(".")[2] for file in files} >= {"pdf", "html"}, study
        assert "[report](#/experiments/" in run.data.tags[names.TAG_NOTE]
    variants = [run for run in _runs(client, "variant") if run.data.tags[names.TAG_STUDY_NAME] == "temperature"]
    assert len(variants) == 8
    trials = {
        (run.data.tags["abl.study.temperature"], run.data.tags[names.TAG_SEED]): run.data.metrics["test/top1"]
        for run in _runs(client, "trial")
    }
    for run in variants:
        name = run.data.tags[names.TAG_VARIANT_NAME]
        by_hand = (trials[name, "0"] + trials[name, "1"]) / 2
        assert run.data.metrics["test/top1.mean"] == pytest.approx(by_hand)


def test_the_pdf_says_what_mlflow_has(launched: Path, client: MlflowClient) -> None:
    text = _pdf_text(launched / "reports" / f"{REPORT}.pdf")
    for heading in ("Kernel aggregation", "Attention per input resolution", "Softmax temperature"):
        assert heading in text
    said = " ".join(text.split())
    assert "with its 95 % interval over seeds and test images." in said
    assert "McNemar's test" in said
    for run in _runs(client, "variant"):
        mean = f"{run.data.metrics['test/top1.mean']:.2f}"
        assert re.search(rf"(?<![\d.]){re.escape(mean)}(?!\d)", text), (run.info.run_name, mean)
    for run in _runs(client, "trial"):
        assert run.data.tags[names.TAG_FINGERPRINT][:12] in text.replace("\n", "")


def test_markdown_and_latex_stand_beside_it(launched: Path) -> None:
    assert "| " in (launched / "reports" / f"{REPORT}.md").read_text(encoding="utf-8")
    assert r"\toprule" in (launched / "reports" / f"{REPORT}.tex").read_text(encoding="utf-8")


def test_a_second_run_starts_nothing_and_gives_the_same_pdf(
    launched: Path, client: MlflowClient, invoke: Invoke
) -> None:
    before = (launched / "reports" / f"{REPORT}.pdf").read_bytes()
    results = {path: path.stat().st_mtime_ns for path in (launched / "state").glob("*/result.json")}
    # In this process, the first one in another: nothing of a process is in a report.
    code, text = invoke("run", *STUDIES, "--preset", "smoke", "--workers", "2", "--runs-dir", launched)
    assert code == 0, text
    assert "To do: 0 trainings, 0 evaluations" in text
    assert {path: path.stat().st_mtime_ns for path in (launched / "state").glob("*/result.json")} == results
    assert len(_runs(client, "trial")) == 16
    assert (launched / "reports" / f"{REPORT}.pdf").read_bytes() == before


def test_a_table_for_a_paper_is_printed_and_nothing_else(launched: Path, invoke: Invoke) -> None:
    names = ("--table", "aggregation", "--columns", "attention,average", "--digits", "1")
    code, out, err = invoke.apart("report", *names, "--format", "csv", "--runs-dir", launched)
    assert code == 0, err
    header, *rows = list(csv.reader(out.splitlines()))
    assert header[0] == ""
    assert {name.split()[0] for name in header[1:]} == {"attention", "average"}
    assert [row[0] for row in rows if row[0].startswith("published")] == ["published: top-1", "published: Δ"]
    assert all(len(row) == len(header) for row in rows)


def test_a_report_alone_finds_what_was_run_last(launched: Path, invoke: Invoke) -> None:
    code, text = invoke("report", "temperature", "--format", "md", "--runs-dir", launched)
    assert code == 0, text
    assert "smoke" in (launched / "reports" / "temperature-smoke.md").read_text(encoding="utf-8")


def test_another_store_gets_what_was_measured_before(
    launched: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, text = invoke("run", "temperature", "--preset", "smoke", "--format", "md", "--runs-dir", launched)
    assert code == 0, text
    other = MlflowClient(tracking_uri=uri)
    runs = _runs(other, "trial")
    assert len(runs) == 16
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [m.step for m in other.get_metric_history(runs[0].info.run_id, "val/top1")] == [1, 2]


TINY = {"train.epochs": 1, "data.train_images": 32, "data.validation_images": 40, "data.test_images": 40}
"""Less than smoke: every study from its first training to its tables, in a minute and a half of two cores."""


@pytest.mark.torture
def test_all_studies_run_to_a_report(tmp_path: Path) -> None:
    arguments = ["run", "--all", "--canary", "--preset", "smoke", "--seeds", "1", "--workers", "2"]
    arguments += ["--format", "pdf,md"]
    for key, value in TINY.items():
        arguments += ["--set", f"{key}={value}"]
    done = _command(*arguments, "--runs-dir", str(tmp_path), timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"To do: \d+ trainings, \d+ evaluations, \d+ networks to count and time", done.stdout)
    found = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    studies = {run.data.tags[names.TAG_STUDY_NAME] for run in _runs(found, "study")}
    assert studies == set(available_studies())
    kinds = {kind: _runs(found, kind) for kind in ("trial", "evaluation", "cost")}
    assert {run.info.status for runs in kinds.values() for run in runs} == {"FINISHED"}
    listed = len(list((tmp_path / "state").glob("*/result.json")))
    assert sum(map(len, kinds.values())) == listed
    text = " ".join(_pdf_text(next((tmp_path / "reports").glob("*-studies-smoke-1seed-canary-*.pdf"))).split())
    base = Request(get_preset("smoke"), TINY).base()
    for name in available_studies():
        assert get_study(name, base).title in text, name
    canaries = {run.data.tags[names.TAG_SEED] for run in kinds["trial"] if "canary" in run.data.tags.values()}
    assert canaries == {"10000"}
    assert "trained again under other seeds, has one repeat and so no interval" in text
    for run in _runs(found, "variant"):
        if "test/top1.mean" in run.data.metrics:
            mean = f"{run.data.metrics['test/top1.mean']:.2f}"
            assert re.search(rf"(?<![\d.]){re.escape(mean)}(?!\d)", text), (run.info.run_name, mean)
    assert re.search(
        r"(\d+) of \1 trainings, (\d+) of \2 evaluations of their checkpoints and (\d+) of \3 networks", text
    )


@pytest.mark.torture
def test_an_interrupt_ends_within_seconds_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = ["run", "temperature", "--preset", "smoke", "--workers", "2", "--runs-dir", str(tmp_path)]
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "run_ablation.py"), *arguments, "--set", "train.epochs=40"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        cwd=ROOT,
        # A shell that starts the tests in the background has them ignore it, and what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _wait_until(lambda: len(list(tmp_path.glob("state/*/events.jsonl"))) >= 2, started)
    started.send_signal(signal.SIGINT)
    asked = time.monotonic()
    output, errors = started.communicate(timeout=600)
    assert started.returncode == 130, output + errors
    assert time.monotonic() - asked < 30
    assert "The same command goes on" in output
    statuses = [run.info.status for run in _runs(MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"), "trial")]
    assert "KILLED" in statuses
    assert "RUNNING" not in statuses


def _wait_until(condition: Any, process: subprocess.Popen[str], seconds: float = 1000.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.torture
def test_a_users_own_study_and_strategy(tmp_path: Path) -> None:
    (tmp_path / "my_strategies.py").write_text(
        "import torch, dyconv\n\n"
        '@dyconv.register_aggregation("top2")\n'
        "def top2(attention, context):\n"
        "    kept = torch.zeros_like(attention).scatter(1, attention.topk(2, dim=1).indices, 1.0) * attention\n"
        "    return kept / kept.sum(dim=1, keepdim=True)\n"
    )
    study = tmp_path / "mine.yaml"
    study.write_text(
        "name: ../<script>$#\\ 🙂\nquestion: Are two kernels enough?\nreference: all\nseeds: 2\n"
        "variants:\n  all: {}\n  '$two_{#}': {intervention: {aggregation: top2}}\n"
    )
    done = _command(
        "run", str(study), "--preset", "smoke", "--plugin", "my_strategies", "--runs-dir", str(tmp_path / "runs"),
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reports = list((tmp_path / "runs" / "reports").glob("*.pdf"))
    assert len(reports) == 1
    assert reports[0].resolve().is_relative_to(tmp_path / "runs" / "reports")
    assert "$two_{#}" in _pdf_text(reports[0])
    assert "<script>" in _pdf_text(reports[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "agregation"), "aggregation"),
        (("run", "aggregation", "--preset", "quik"), "quick"),
        (("run", "aggregation", "--set", "model.num_kernel=3"), "model.num_kernels"),
        (("run", "aggregation", "--format", "pfd"), "pdf"),
        (("run", "aggregation", "--set", "model.where={name: [nothing]}", "--preset", "smoke"), "features"),
        (("run", "temperature", "--preset", "paper", "--set", "data.root=/nowhere", "--seeds", "1"), "nowhere"),
    ],
)
def test_a_wrong_input_is_a_sentence_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], words: str, invoke: Invoke
) -> None:
    code, out, err = invoke.apart(*arguments, "--runs-dir", tmp_path)
    assert code == 2, out + err
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("state/*/result.json"))


def test_a_folder_or_server_that_cannot_be_used_is_said_before_training(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    run = ("run", "temperature", "--preset", "smoke", "--runs-dir")
    code, _, err = invoke.apart(*run, tmp_path / "file" / "runs")
    assert (code, "cannot write" in err) == (2, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, _, err = invoke.apart(*run, tmp_path)
    assert (code, "does not answer" in err) == (2, True)
