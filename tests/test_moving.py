"""A runs folder that was moved or copied, as home from a cluster; secrets of an address; names of the runs folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from mlflow import MlflowClient

from ablations import vocabulary as names
from reports.collect.compared_study import ComparisonRequest
from runners.cli.options.groups import GivenPath
from tests.command_line import Invoke

# The first test launches a study.
pytestmark = pytest.mark.timeout(2400)
ROOT = Path(__file__).resolve().parent.parent
STUDY = """\
name: tiny
question: Does it come home?
reference: dynamic
seeds: 1
baseline:
  train.epochs: 1
  data.train_images: 64
  data.validation_images: 10
  data.test_images: 10
  model.depth: 0.25
variants:
  dynamic: {}
  averaged: {intervention: {aggregation: average}}
"""


@pytest.fixture(autouse=True)
def _study(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in the home of one user, with a report; to be copied or moved, not used."""
    home = tmp_path_factory.mktemp("home of one")
    (home / "tiny.yaml").write_text(STUDY)
    command = [sys.executable, str(ROOT / "run_ablation.py"), "run", "tiny.yaml", "--preset", "smoke"]
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run([*command, "--dispatch", "inline"], cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.torture
@pytest.mark.parametrize("is_moved", [False, True])
def test_a_folder_in_another_home_is_reported_and_synced_there(
    launched: Path, tmp_path: Path, invoke: Invoke, is_moved: bool
) -> None:
    original, there = tmp_path / "home of one" / "runs", tmp_path / "home of another" / "my%20runs?"
    shutil.copytree(launched, original)
    # It still says where it was launched; from there it is copied, or moved, once more.
    there.parent.mkdir()
    if is_moved:
        original.rename(there)
    else:
        shutil.copytree(original, there)
    before = _files(launched), _files(original) if original.exists() else {}
    code, said = invoke("sync", "--all", "--runs-dir", there)
    assert code == 0, said
    assert "0 runs brought over" in said
    assert "sync again" not in said
    code, said = invoke("report", "tiny.yaml", "--runs-dir", there)
    assert code == 0, said
    assert (there / "reports" / "tiny-smoke.pdf").exists(), said
    client = MlflowClient(f"sqlite+pysqlite:///{there.parent}/my%2520runs%3F/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    (summary,) = client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'study'")
    assert summary.info.artifact_uri.startswith(there.as_uri())
    assert "report/tiny-smoke.pdf" in [file.path for file in client.list_artifacts(summary.info.run_id, "report")]
    code, said = invoke(
        "run", "tiny.yaml", "--preset", "smoke", "--runs-dir", there, "--seeds", "2", "--dispatch", "inline"
    )
    assert code == 0, said
    assert (_files(launched), _files(original) if original.exists() else {}) == before


@pytest.mark.torture
def test_a_copy_that_cannot_be_written_is_verified_and_compared(
    launched: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "copy"
    shutil.copytree(launched, there)
    record = next(there.rglob("record.json"))
    hidden = launched.with_name("hidden")
    launched.rename(hidden)
    try:
        before = _files(there)
        code, said = invoke("verify", there / "reports" / "tiny-smoke.pdf", "--runs-dir", there)
        assert code == 0, said
        other = shutil.copytree(there, tmp_path / "other copy")
        asked = ["tiny.yaml", "--left-preset", "smoke", "--right-preset", "smoke"]
        code, said = invoke("compare", *asked, "--left-uri", there, "--right-uri", other)
        assert code == 0, said
        assert _files(there) == before
        assert record.exists()
    finally:
        hidden.rename(launched)


SECRET = "hunter2pass"
_COMPARE = ["compare", "tiny.yaml", "--right-uri", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{SECRET}@127.0.0.1:9",
        f"http://me@127.0.0.1:9/?token={SECRET}",
        f"http://127.0.0.1:{SECRET}/",
        f"http://me:{SECRET}/@127.0.0.1:9",
        f"http://me:{SECRET}@[::1",
        f"postgresql://me:{SECRET}@127.0.0.1:{SECRET}/db",
        f"postgresql://me:{SECRET}@127.0.0.1:9/db",
        f"nosuchscheme://me:{SECRET}@host",
    ],
)
def test_no_verb_says_what_is_secret_in_an_address(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for arguments in (["ui"], ["report", "tiny.yaml"], ["sync"], _COMPARE):
        code, said = invoke(*arguments)
        assert code == 2, said
        assert said.strip().count("\n") < 6, said
        assert "Traceback" not in said
        assert SECRET not in said


def test_a_store_with_nothing_tracked_is_named_without_its_secret(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs/mlflow.db?timeout=31337")
        code, said = invoke("report", "tiny.yaml")
    assert code != 0
    assert "holds no finished run" in said
    assert "timeout=***" in said.replace("\n", "")
    assert "31337" not in said


@pytest.mark.parametrize("verb", ["status", "sync", "ui", "run"])
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(invoke: Invoke, tmp_path: Path, verb: str, name: str) -> None:
    code, said = invoke(verb, *(["tiny.yaml"] if verb == "run" else []), "--runs-dir", name)
    assert code == 2
    assert "it is empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_output_is_not_the_current_folder(invoke: Invoke, tmp_path: Path, name: str) -> None:
    code, said = invoke("report", "tiny.yaml", "--output", name)
    assert code == 2
    assert "it is empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(("given", "meant"), [("~/runs", "home/runs"), ("runs/", "runs"), ("./a/../runs", "runs")])
def test_a_runs_folder_is_where_it_was_named(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "a").mkdir()
    code, said = invoke("sync", "--all", "--runs-dir", given)
    assert code == 0, said
    assert (tmp_path / meant / "mlflow.db").exists()
    assert not (tmp_path / "~").exists()


def test_an_output_that_ends_with_a_slash_is_a_folder(tmp_path: Path) -> None:
    output = GivenPath(file_okay=True)
    assert output.convert(f"{tmp_path}/new/sub/", None, None) == tmp_path / "new" / "sub"
    assert (tmp_path / "new" / "sub").is_dir()
    output.convert(f"{tmp_path}/report.pdf", None, None)
    assert not (tmp_path / "report.pdf").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(click.BadParameter, match="cannot be made"):
        output.convert(f"{tmp_path}/file/", None, None)


@pytest.mark.parametrize(("right", "name"), [((), "aggregation"), (("kernels",), "kernels")])
def test_a_comparison_without_a_right_side_is_of_one_study(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, right: tuple[str, ...], name: str
) -> None:
    sides: list[ComparisonRequest] = []

    def compare_sides(*arguments: Any, **_: Any) -> tuple[list[Any], dict[str, Path]]:
        sides.extend(arguments[:2])
        return [], {}

    monkeypatch.setattr("reports.compare.compare_sides", compare_sides)
    code, said = invoke("compare", "aggregation", *right, "--right-set", "model.num_kernels=2")
    assert code == 0, said
    assert [side.study for side in sides] == ["aggregation", name]
    assert [dict(side.scale.settings) for side in sides] == [{}, {"model.num_kernels": 2}]
