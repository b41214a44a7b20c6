"""This module makes the view in which MLflow's UI shows the trainings of an experiment, and gives its address.

MLflow 3 opens an experiment on traces of language models, where nothing of ours shows. A view that somebody shares is a
tag of the experiment, which an address names; this one has the columns that tell trainings apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ablations import vocabulary as names

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VIEW = "trainings"
_TAG = f"mlflow.sharedViewState.{_VIEW}"
_VIEW_STATE = json.dumps(
    {
        "searchFilter": f"tags.`{names.TAG_KIND}` = 'trial'",
        "selectedColumns": [
            "attributes.`Created`",
            "attributes.`Duration`",
            f"metrics.`{names.TEST_TOP1}`",
            f"metrics.`{names.VAL_TOP1}`",
            "params.`seed`",
            "params.`model.layer`",
            "params.`model.num_kernels`",
            "params.`train.temperature.start`",
        ],
        "runListHidden": False,
    }
)
"""The state of MLflow's list of runs: its search, and its columns in order."""


def trainings_pages(uri: str, server: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each experiment of a store, the last used first, and the address that lists its trainings.

    Args:
        uri: The tracking store; the view is written to it where it can be.
        server: The address at which MLflow's UI shows the store.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    experiments = client.search_experiments(filter_string=f"name LIKE '{names.EXPERIMENTS}%'")
    # The store's own time of an update is that of its creation, whatever runs there are.
    experiments.sort(key=lambda experiment: _newest_run(client, experiment.experiment_id), reverse=True)
    for experiment in experiments:
        address = f"{server.rstrip('/')}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        # Without the right to write tags, MLflow's own columns must do.
        with suppress(MlflowException):
            if experiment.tags.get(_TAG) != _VIEW_STATE:
                client.set_experiment_tag(experiment.experiment_id, _TAG, _VIEW_STATE)
            # A search in the address would take precedence over the view, and its columns would not show.
            address += f"&viewStateShareKey={_VIEW}"
        yield experiment.name, address


def _newest_run(client: MlflowClient, experiment_id: str) -> int:
    """Return the time at which the newest run of an experiment began, 0 without any."""
    runs = client.search_runs([experiment_id], order_by=["attributes.start_time DESC"], max_results=1)
    return int(runs[0].info.start_time) if runs else 0
