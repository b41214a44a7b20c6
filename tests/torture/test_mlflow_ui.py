"""MLflow's own UI in headless Chromium, on a real server with a run of preset smoke: from a study to all of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from runners.tracking.views import experiment_pages
from tests.reports.browser import chromium

pytestmark = pytest.mark.torture
ROOT = Path(__file__).resolve().parent.parent.parent
VARIANTS = ("static", "τ = 1", "τ = 5", "τ = 10", "τ = 20", "τ = 30", "τ = 40", "τ = 30 → 1")
_PATIENCE = 90.0
_QUIET = "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');"
_QUIET += "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
"""MLflow opens a panel at the first visit, over what is looked at."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with *temperature* at preset smoke and its report."""
    folder = tmp_path_factory.mktemp("runs")
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    asked = ["run", "temperature", "--preset", "smoke", "--runs-dir", str(folder)]
    command = [sys.executable, str(ROOT / "run_ablation.py"), *asked]
    subprocess.run(command, check=True, env=kept, cwd=ROOT, capture_output=True, timeout=1000)
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    """The address of a server on that store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{runs}/mlflow.db", "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
    with (runs / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            # The server has children of its own, which do not end with it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"no server at {address}, exit code {process.poll()}")


@pytest.fixture(scope="module")
def context(server: str) -> Iterator[Any]:
    """A browser's window."""
    with chromium() as browser:
        found = browser.new_context(viewport={"width": 1440, "height": 900})
        found.set_default_timeout(_PATIENCE * 1000)
        found.add_init_script(_QUIET)
        yield found


@pytest.fixture(scope="module")
def study(server: str, context: Any) -> Any:
    """The page of the study's summary run."""
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'study'")
    page = context.new_page()
    page.goto(f"{server}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}")
    page.get_by_role("link", name="the variants side by side").wait_for()
    unfold(page)
    return page


def unfold(page: Any) -> None:
    """Shows the whole description, of which MLflow shows the beginning."""
    more = page.get_by_text("Show more", exact=True)
    if more.count():
        more.first.click()


Follow = Callable[..., Any]


@pytest.fixture
def follow(study: Any, context: Any) -> Iterator[Follow]:
    """Clicks on a link of the study's page, which opens another."""
    opened = []

    def click(name: str, page: Any = study) -> Any:
        with context.expect_page() as found:
            page.get_by_role("link", name=name, exact=True).first.click()
        opened.append(found.value)
        return found.value

    yield click
    for page in opened:
        page.close()


def test_the_study_shows_its_variants_with_their_means_and_intervals(study: Any) -> None:
    rows = study.locator("table", has_text="Δ to the reference").locator("tr").all_inner_texts()
    assert [re.split(r"\s*\t\s*", row)[0].strip() for row in rows[1:]] == list(VARIANTS)
    assert all(re.search(r"\d+\.\d\d ± \d+\.\d\d", row) for row in rows[1:])
    assert any(re.search(r"[−+]?\d+\.\d\d \[[−+]?\d+\.\d\d, [−+]?\d+\.\d\d\]", row) for row in rows[1:])
    assert study.get_by_text("Does near-uniform attention early in training help").is_visible()


def test_a_variant_leads_to_its_trainings(study: Any, follow: Follow) -> None:
    page = follow("τ = 20")
    # Not an end of the interval: two seeds may happen to differ by the same, which has none.
    page.get_by_text("delta.test/top1.mean", exact=True).wait_for()
    unfold(page)
    seeds = page.locator("table", has_text="seed").first.locator("tr").all_inner_texts()
    assert [row.split()[0] for row in seeds] == ["seed", "0", "1"]
    run_id = page.locator("table", has_text="seed").first.get_by_role("link").first.inner_text()
    training = follow(run_id, page)
    training.get_by_text(re.compile(r"DY-MobileNetV2 .* τ=20 · seed 0")).first.wait_for()


def test_the_report_is_seen_in_the_artifact_viewer(follow: Follow) -> None:
    page = follow("report")
    heading = page.frame_locator("iframe").locator("h1")
    heading.wait_for()
    assert heading.inner_text() == "Softmax temperature: an ablation of dynamic convolution"
    assert page.frame_locator("iframe").locator(".picture svg").count() >= 2


@pytest.fixture
def trainings(server: str, runs: Path, context: Any) -> Iterator[Any]:
    """The page whose address `ui` prints for trainings."""
    (pages,) = experiment_pages(f"sqlite:///{runs}/mlflow.db", server)
    page = context.new_page()
    page.goto(pages.trainings)
    page.get_by_text("matching runs").first.wait_for()
    page.get_by_role("link", name=re.compile("MobileNetV2")).first.wait_for()
    yield page
    page.close()


def test_the_printed_address_lists_trainings_alone_with_the_chosen_columns(trainings: Any) -> None:
    heads = {head.strip() for head in trainings.get_by_role("columnheader").all_inner_texts()}
    assert {"test/top1", "val/top1", "train/loss", "seed"} <= heads
    # Columns that MLflow shows of itself.
    assert not {"Source", "Models", "Dataset"} & heads
    names_of_runs = trainings.get_by_role("link", name=re.compile("seed")).all_inner_texts()
    assert names_of_runs
    assert all(re.search(r"· seed \d+$", name) for name in names_of_runs)


def test_trainings_are_listed(follow: Follow) -> None:
    page = follow("trainings and evaluations")
    page.get_by_text("16 matching runs").wait_for()


def test_side_by_side_few_named_params_differ(follow: Follow) -> None:
    page = follow("the variants side by side")
    page.get_by_text("Run Name:").wait_for()
    page.get_by_text("train.temperature.start").last.wait_for()
    shown = page.inner_text("body").partition("\nParameters\n")[2].partition("\nMetrics\n")[0]
    lines = [line.split("\t") for line in shown.splitlines() if "\t" in line]
    params = {name: values for name, *values in lines}
    assert {"variant", "model.layer", "train.temperature.start", "train.temperature.schedule"} <= set(params)
    assert len(params) <= 6
    assert params["variant"] == list(VARIANTS)
    assert all(len(set(values)) > 1 for values in params.values())
