"""Takes the pictures of MLflow's UI in the docs, of a store that holds the runs of the evening's bundle.

    python -m benchmarks.screenshots [FOLDER]

It needs Chromium (on the path, or named by CHROMIUM) and playwright (`pip install "dyconv-ablations[test]"`), and takes
a minute. The store is made in FOLDER, where it is left for a look of one's own (`run_ablation.py ui --runs-dir
FOLDER`), or in a temporary folder. A bundle has no weights, logs or machines, so these are not seen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablations import vocabulary as names
from ablations.datasets.registry import stated_facts
from ablations.stores.addresses import sqlite_address
from reports.archive.bundle import Bundle, open_bundle
from reports.bundles.checking import planned_in
from reports.bundles.packing import DATA_FILE
from reports.bundles.surroundings import read_facts
from reports.collect.stores.bundle import HISTORY_FILE, BundleStore, member
from reports.collect.tracked_runs import TrackedRun
from reports.content.file_names import Destination
from runners.state.layout import RunsFolder
from runners.tracking import prepare_store
from runners.tracking.experiment import Experiment
from runners.tracking.views import MODEL_TRAINING

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUNDLE = DOCS / "evening" / "core.zip"
STUDY = "Study: Kernel aggregation"
"""The run of which the pictures of a study are taken."""

_ARTIFACTS = (names.CORRECTNESS_FILE, names.ATTENTION_FILE)
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_WIDTH, _HEIGHT = 1440, 900
_PATIENCE = 300.0
"""Seconds for a server to start and for a page to be there; on an idle machine it takes some five."""
_SETTLED = 10_000.0
"""Milliseconds after its text has come until a page has drawn its charts, on a busy machine too."""
_LINKS = (
    ("the variants side by side", "Run details", "mlflow-compare.png"),
    ("report", "Path:", "mlflow-report.png"),
)
"""Links of a study's description, with a text on the page that each leads to, and the picture of it."""
_QUIET = "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');"
_QUIET += "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
"""MLflow opens a panel at the first visit, over what is looked at."""


def restore(bundle: Bundle, folder: Path) -> str:
    """Make a tracking store of the trainings and evaluations in a bundle; return its address.

    Summaries of studies are left to the report that is made of the store.
    """
    uri = sqlite_address(RunsFolder(folder).store)
    prepare_store(uri)
    store = BundleStore(bundle)
    ids: dict[str, str] = {}
    for name in store.experiments(names.EXPERIMENTS):
        experiment = Experiment(uri, name, RunsFolder(folder).artifacts)
        runs = [run for run in store.runs([name]) if run.measured]
        # Trainings first, as the runs of evaluations name them; within these the oldest first, as they were made.
        for run in sorted(runs, key=lambda run: (names.TAG_PARENT in run.tags, run.began)):
            ids[run.run_id] = _restore_run(experiment, bundle, run, ids)
    return uri


def _restore_run(experiment: Experiment, bundle: Bundle, run: TrackedRun, ids: Mapping[str, str]) -> str:
    """Write a run of a bundle to an experiment and return its new id."""
    tags = dict(run.tags)
    if names.TAG_PARENT in tags:
        tags[names.TAG_PARENT] = ids[tags[names.TAG_PARENT]]
    known = experiment.open_run(run.name, tags, began=run.began / 1000)
    experiment.write(known.run_id, _events(bundle, run), params=dict(run.params))
    for artifact in _ARTIFACTS:
        name = member(run.run_id, artifact)
        if name in bundle:
            experiment.put_text(known, bundle.read(name).decode(), artifact)
    experiment.set_status(known, run.status.upper(), run.ended)
    return known.run_id


def _events(bundle: Bundle, run: TrackedRun) -> Iterator[dict[str, Any]]:
    """Yield the metrics of a run by epoch, evenly spread over its time, and those of its end."""
    name = member(run.run_id, HISTORY_FILE)
    histories: dict[str, dict[str, float]] = json.loads(bundle.read(name)) if name in bundle else {}
    epochs: dict[int, dict[str, float]] = {}
    for metric, values in histories.items():
        for step, value in values.items():
            epochs.setdefault(int(step), {})[metric] = value
    last = max(epochs, default=0)
    for epoch, metrics in sorted(epochs.items()):
        yield {"step": epoch, "time": run.began + (run.ended - run.began) * epoch // last, "metrics": metrics}
    final = {metric: value for metric, value in run.metrics.items() if metric not in histories}
    yield {"step": last, "time": run.ended, "metrics": final}


def make_store(folder: Path) -> None:
    """Make a runs folder with the bundle's runs, its report and the summaries of its studies."""
    # With pandas, matplotlib and more, for which nobody waits who only wants to know how this is called.
    from runners.api.reporting import write_report

    bundle = open_bundle(BUNDLE)
    uri = restore(bundle, folder)
    with stated_facts(read_facts(bundle.read(DATA_FILE))):
        plan, _ = planned_in(bundle)
        write_report(plan, folder, uri, ["html"], Destination(RunsFolder(folder).reports))


@contextmanager
def served(folder: Path) -> Iterator[dict[str, str]]:
    """Run the verb `ui` on a runs folder; yield the addresses that it prints, by their names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "run_ablation.py"), "ui", "--runs-dir", str(folder), "--port", str(port)]
    # A server of the user's own would come first.
    variables = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    log = folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=variables)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield dict(re.findall(r"^ +(\w+) +(http\S+)$", log.read_text(), re.MULTILINE))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    sys.exit(f"MLflow's server does not answer at {address}; exit code {process.poll()}")


def take_pictures(addresses: Mapping[str, str], folder: Path) -> None:
    """Take all pictures in headless Chromium and write them into a folder."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if program is None:
        sys.exit(f"No Chromium: none of {', '.join(_CHROMIUM)} is on the path, and CHROMIUM names none.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": _WIDTH, "height": _HEIGHT})
        context.set_default_timeout(_PATIENCE * 1000)
        context.add_init_script(_QUIET)
        page = context.new_page()
        page.goto(addresses["trainings"])
        _take(page, page.get_by_text("matching runs"), folder / "mlflow-trainings.png")
        page.goto(addresses["studies"])
        # The list's own link leads to MLflow's menu for language models.
        address = page.get_by_role("link", name=STUDY).first.get_attribute("href")
        page.goto(f"{page.url.partition('#')[0]}{address}?{MODEL_TRAINING}")
        page.get_by_text("Show more", exact=True).click()
        _take(page, page.get_by_text("Show less", exact=True), folder / "mlflow-study.png")
        for link, text, name in _LINKS:
            # Links of a description open another page.
            with context.expect_page() as opened:
                page.get_by_role("link", name=link, exact=True).first.click()
            _take(opened.value, opened.value.get_by_text(text), folder / name)
            opened.value.close()
        browser.close()


def _take(page: Any, sign: Any, path: Path) -> None:
    """Write a picture of a page when `sign` is there, in 256 colours, which makes the file a third as large."""
    from PIL import Image

    sign.first.wait_for()
    # Not until the network is idle, which it never is: MLflow asks for news again and again.
    page.wait_for_timeout(_SETTLED)
    page.screenshot(path=str(path))
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    """Make the store and take the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not RunsFolder(folder).store.exists():
            make_store(folder)
        with served(folder) as addresses:
            take_pictures(addresses, DOCS)


if __name__ == "__main__":
    main()
