"""Studies on a network that was trained elsewhere, from the command line to a report that is verified."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from ablations import vocabulary as names
from ablations.stores.addresses import sqlite_address
from runners.state.nodes import StateStore
from tests.command_line import Invoke, run_command

SMALL = ("--preset", "smoke", "--dispatch", "inline", "--set", "data.test_images=60")
STUDIES = ("aggregation", "resolution", "attention_profile", "cost")
TRAINING = ("--set", "train.epochs=1", "--set", "data.train_images=64")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which one network was trained and evaluated."""
    runs = tmp_path_factory.mktemp("trained")
    options = (*SMALL, *TRAINING, "--seeds", 1, "--set", "inspect=tau_1", "--runs-dir", runs, "--format", "md")
    assert run_command("run", "aggregation", "resolution", *options) == 0
    return runs


@pytest.fixture(scope="module")
def file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its network, as somebody else would get it."""
    (weights,) = (trained / "state").glob("*/model.safetensors")
    path: Path = tmp_path_factory.mktemp("theirs") / "theirs.safetensors"
    shutil.copy(weights, path)
    return path


@pytest.fixture(scope="module")
def inspected(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which all studies that can be were run on it, with their report."""
    runs = tmp_path_factory.mktemp("inspected")
    assert run_command("run", *STUDIES, *SMALL, "--set", f"inspect={file}", "--runs-dir", runs) == 0
    return runs


def measured(runs: Path) -> dict[str, dict[str, Any]]:
    """The metrics of each network and evaluation by its intervention."""
    results: dict[str, dict[str, Any]] = {}
    store = StateStore(runs / "state")
    for fingerprint in store.fingerprints():
        about, result = store[fingerprint].about(), store[fingerprint].result()
        assert about is not None
        assert result is not None
        if about["kind"] != "cost":
            metrics = {key: value for key, value in result["metrics"].items() if key != names.TEMPERATURE}
            results[json.dumps(about.get("intervention"), sort_keys=True)] = metrics
    return results


def test_all_numbers_are_those_of_the_runs_own_evaluations(trained: Path, inspected: Path) -> None:
    expected, actual = measured(trained), measured(inspected)
    assert len(expected) == 1 + 4 + 8
    assert actual == expected
    profiles = []
    for runs in (trained, inspected):
        (profile,) = (json.loads(path.read_text()) for path in (runs / "state").glob("*/attention.json"))
        profile.pop("fingerprint")
        profiles.append(profile)
    assert profiles[0] == profiles[1]


def test_nothing_of_a_training_is_tracked_and_the_file_is(inspected: Path, file: Path) -> None:
    client = MlflowClient(sqlite_address((inspected / "mlflow.db").absolute()))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{names.TAG_CHECKPOINT}` LIKE '%'", max_results=100)
    assert {run.data.tags[names.TAG_KIND] for run in runs} == {"network", "evaluation"}
    (network,) = [run for run in runs if run.data.tags[names.TAG_KIND] == "network"]
    for run in runs:
        assert run.data.params["checkpoint.file"] == "theirs.safetensors"
        assert run.data.params["checkpoint.sha256"] == run.data.tags[names.TAG_CHECKPOINT]
        assert not [key for key in run.data.params if key.startswith("train.")]
        if run is not network:
            assert run.data.tags[names.TAG_PARENT] == network.info.run_id
    assert network.data.metrics[names.TEMPERATURE] == 1.0


def test_the_report_says_whose_network_it_is_and_what_its_intervals_cover(inspected: Path, file: Path) -> None:
    (path,) = (inspected / "reports").glob("*.md")
    text = path.read_text(encoding="utf-8")
    (state,) = [state for state in StateStore(inspected / "state").folders() if state.kind == "network"]
    about = state.about()
    assert about is not None
    assert about["checkpoint"]["sha256"] in text
    assert "from theirs.safetensors (SHA-256" in text
    assert "one network, no spread between trainings" in text
    # Not of the caption: on some processors no evaluation of this network is right more often than another, and
    # without a difference there is no interval.
    assert "its intervals are over test images alone" in text
    # Epochs are named by the preset's own words alone.
    assert re.findall(r"\d+ epochs", text) == ["2 epochs"]
    assert "seeds say almost nothing" not in text
    for kind in ("html", "pdf"):
        (report,) = (inspected / "reports").glob(f"*.{kind}")
        assert report.stat().st_size > 1000


@pytest.mark.parametrize("kind", ["html", "pdf"])
def test_the_report_is_verified(inspected: Path, invoke: Invoke, kind: str) -> None:
    (report,) = (inspected / "reports").glob(f"*.{kind}")
    store = sqlite_address((inspected / "mlflow.db").absolute())
    code, text = invoke("verify", report, "--tracking-uri", store)
    assert code == 0, text


def test_every_verb_answers(inspected: Path, file: Path, invoke: Invoke) -> None:
    options = (*SMALL[:2], *SMALL[4:], "--set", f"inspect={file}", "--runs-dir", inspected)
    code, text = invoke.unwrapped("plan", *STUDIES, *options)
    assert code == 0
    assert "Nothing is trained" in text
    assert f"Trained elsewhere: {file}" in text
    assert "To do: 0 trainings, 0 evaluations." in text
    code, text = invoke.unwrapped("status", "--runs-dir", inspected, "--nodes")
    assert code == 0
    assert "theirs.safetensors" in text
    code, text = invoke.unwrapped("explain", "aggregation/average", *options)
    assert code == 0
    assert f"trained elsewhere: {file}, SHA-256" in text
    code, text = invoke.unwrapped("gc", "--runs-dir", inspected)
    assert code == 0
    assert "nothing to remove" in text


def test_a_changed_file_is_another_network(inspected: Path, file: Path, tmp_path: Path, invoke: Invoke) -> None:
    changed = tmp_path / "theirs.safetensors"
    tensors = load_file(file)
    torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}}, changed)
    options = (*SMALL, "--set", f"inspect={changed}", "--runs-dir", inspected)
    code, text = invoke.unwrapped("explain", "aggregation/average", *options[:2], *options[4:])
    assert code == 0
    assert "checkpoint.sha256:" in text
    # Nothing in it says which network it is; the preset does.
    code, text = invoke.unwrapped("run", "aggregation", *options, "--format", "md")
    assert code == 0, text
    store = StateStore(inspected / "state")
    results = [store[key].result() for key in store.fingerprints() if (store[key].about() or {})["kind"] == "network"]
    assert len(results) == 2
    assert results[0] is not None
    assert results[1] is not None
    assert results[0]["metrics"] == results[1]["metrics"]


def test_a_network_of_another_architecture_is_an_error_before_anything_is_measured(
    file: Path, tmp_path: Path, invoke: Invoke
) -> None:
    options = (*SMALL, "--set", f"inspect={file}", "--set", "model.num_kernels=3", "--runs-dir", tmp_path)
    code, text = invoke.unwrapped("run", "aggregation", *options)
    assert code == 2, text
    assert "does not fit" in text or "do not fit" in text or "shape" in text
    assert not list((tmp_path / "state").glob("*/result.json"))
