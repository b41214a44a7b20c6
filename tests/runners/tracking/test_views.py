"""The address of an experiment's trainings, and the view behind it, in a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ablations import vocabulary as names
from runners.tracking import prepare_store
from runners.tracking.views import trainings_pages

SERVER = "http://127.0.0.1:5000"
VIEW_TAG = "mlflow.sharedViewState.trainings"


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    prepare_store(uri)
    return MlflowClient(tracking_uri=uri)


def test_each_experiment_of_ours_has_a_page_with_a_view_of_its_trainings(client: MlflowClient) -> None:
    ours = client.create_experiment(names.experiment_name("quick", "digits"))
    client.create_experiment("somebody else's")
    ((name, address),) = trainings_pages(client.tracking_uri, SERVER)
    assert name == names.experiment_name("quick", "digits")
    page = f"{SERVER}/#/experiments/{ours}/runs?workflowType=machine_learning"
    assert address == f"{page}&viewStateShareKey=trainings"
    view = json.loads(client.get_experiment(ours).tags[VIEW_TAG])
    assert view["searchFilter"] == "tags.`abl.kind` = 'trial'"
    assert "metrics.`test/top1`" in view["selectedColumns"]
    # The search is one that MLflow understands, and finds trainings alone.
    for kind in ("trial", "evaluation"):
        client.create_run(ours, tags={names.TAG_KIND: kind})
    (run,) = client.search_runs([ours], view["searchFilter"])
    assert run.data.tags[names.TAG_KIND] == "trial"


def test_the_experiment_that_was_used_last_comes_first(client: MlflowClient) -> None:
    first, second = (names.experiment_name("quick", data) for data in ("digits", "cifar10"))
    identifier = client.create_experiment(first)
    client.create_experiment(second)
    client.create_run(identifier)
    assert [name for name, _ in trainings_pages(client.tracking_uri, f"{SERVER}/")] == [first, second]


def test_without_the_right_to_write_the_page_has_no_view(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.create_experiment(names.experiment_name("quick", "digits"))

    def refuse(*arguments: object) -> None:
        raise MlflowException("read only")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    ((_, address),) = trainings_pages(client.tracking_uri, SERVER)
    assert address.endswith("workflowType=machine_learning")
