"""The addresses of an experiment's lists, and the views behind them, in a real store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ablations import vocabulary as names
from runners.cli import upkeep
from runners.tracking import prepare_store
from runners.tracking.views import TRAININGS, View, experiment_pages, runs_view, shared_page, variants_view
from tests.command_line import Invoke

SERVER = "http://127.0.0.1:5000"
HEAT = names.study_tag("heat")
STUDY = {names.TAG_STUDY_NAME: "heat"}
RUNS: dict[str, dict[str, str]] = {
    "training": {names.TAG_KIND: "trial", HEAT: "a"},
    "evaluation": {names.TAG_KIND: "evaluation", HEAT: "b"},
    "other training": {names.TAG_KIND: "trial", names.study_tag("cold"): "a"},
    "variant": {names.TAG_KIND: "variant", HEAT: "a", **STUDY},
    "study": {names.TAG_KIND: "study", HEAT: "summary", **STUDY},
}


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    prepare_store(uri)
    return MlflowClient(tracking_uri=uri)


def _view(client: MlflowClient, experiment: str, key: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(client.get_experiment(experiment).tags[f"mlflow.sharedViewState.{key}"])
    return state


def test_each_experiment_of_ours_has_a_list_of_trainings_and_one_of_studies(client: MlflowClient) -> None:
    ours = client.create_experiment(names.experiment_name("quick", "digits"))
    client.create_experiment("somebody else's")
    (pages,) = experiment_pages(client.tracking_uri, SERVER)
    assert pages.experiment == names.experiment_name("quick", "digits")
    begin = f"{SERVER}/#/experiments/{ours}/runs?workflowType=machine_learning&viewStateShareKey="
    assert (pages.trainings, pages.studies) == (f"{begin}trainings", f"{begin}studies")
    assert "metrics.`test/top1`" in _view(client, ours, "trainings")["selectedColumns"]
    assert "metrics.`test/top1.mean`" in _view(client, ours, "studies")["selectedColumns"]


def test_the_lists_hide_nothing_from_each_other(client: MlflowClient) -> None:
    ours = client.create_experiment(names.experiment_name("quick", "digits"))
    for name, tags in RUNS.items():
        client.create_run(ours, run_name=name, tags=tags)
    list(experiment_pages(client.tracking_uri, SERVER))
    shared_page(client, ours, runs_view("heat", names.TEST_TOP1, ["model.layer"]))
    shared_page(client, ours, variants_view("heat", names.TEST_TOP1, ["model.layer"]))

    def listed(key: str) -> set[str]:
        # The searches are those that MLflow's UI would send.
        return {run.info.run_name for run in client.search_runs([ours], _view(client, ours, key)["searchFilter"])}

    assert listed("trainings") == {"training", "other training"}
    assert listed("studies") == {"variant", "study"}
    assert listed("runs-heat") == {"training", "evaluation"}
    assert listed("variants-heat") == {"variant"}


def test_columns_stand_in_their_order_and_are_as_wide_as_their_names() -> None:
    view = View("v", "", ("test/top1",), ("train.temperature.start", "seed"))
    state = json.loads(view.state())
    columns = ["metrics.`test/top1`", "params.`train.temperature.start`", "params.`seed`"]
    assert state["selectedColumns"][-3:] == state["columnOrder"][-3:] == columns
    assert state["columnOrder"][0] == "attributes.`Run Name`"
    assert state["columnWidths"][columns[1]] > state["columnWidths"][columns[2]]


def test_a_view_of_a_study_with_many_settings_fits_into_a_tag() -> None:
    settings = [f"model.options.a_setting_of_a_long_name_{number}" for number in range(100)]
    view = variants_view("s" * 200, names.ATTENTION_GAP, settings)
    assert len(view.state()) < names.LONGEST_TAG
    assert len(view.tag) < 250


def test_the_experiment_that_was_used_last_comes_first(client: MlflowClient) -> None:
    first, second = (names.experiment_name("quick", data) for data in ("digits", "cifar10"))
    identifier = client.create_experiment(first)
    client.create_experiment(second)
    client.create_run(identifier)
    assert [pages.experiment for pages in experiment_pages(client.tracking_uri, f"{SERVER}/")] == [first, second]


def test_the_verb_prints_both_addresses_of_an_experiment_on_lines_of_their_own(
    client: MlflowClient, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = names.experiment_name("quick", "a_data_set_with_a_name_that_makes_a_long_line")
    ours = client.create_experiment(name)
    monkeypatch.setattr(upkeep, "serve", lambda uri, port: 0)
    _, output = invoke("ui", "--runs-dir", tmp_path, "--port", 5017)
    lines = output.splitlines()
    begin = f"http://127.0.0.1:5017/#/experiments/{ours}/runs?workflowType=machine_learning&viewStateShareKey="
    assert lines[:3] == [name, f"  trainings  {begin}trainings", f"  studies    {begin}studies"]


def test_without_the_right_to_write_the_page_has_the_search_alone(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_experiment(names.experiment_name("quick", "digits"))

    def refuse(*arguments: object) -> None:
        raise MlflowException("read only")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    (pages,) = experiment_pages(client.tracking_uri, SERVER)
    assert "viewStateShareKey" not in pages.trainings
    assert unquote(pages.trainings).endswith(f"searchFilter={TRAININGS.search}")
