"""This module makes the lists in which MLflow's UI shows trainings, studies and variants, and gives their addresses.

MLflow 3 opens an experiment on traces of language models, where nothing of ours shows. A view that somebody shares is a
tag of the experiment, which an address names: the address stays short however many runs there are, and the view has
the columns that tell them apart. Checked in MLflow 3.17.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ablations import vocabulary as names

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_TRAINING = "workflowType=machine_learning"
"""The part of an address that makes MLflow 3 show trainings instead of language models."""

_TAG_PREFIX = "mlflow.sharedViewState."
_NAME_WIDTH, _LETTER_WIDTH, _LEAST_WIDTH = 420, 8, 90
"""Pixels of the column of names, of a letter in the head of another column, and of the narrowest column."""
_CREATED, _DURATION = "attributes.`Created`", "attributes.`Duration`"
# The columns that MLflow always shows first, by its names for them in a view's order of columns.
_FIRST = {"attributes.`Run Name`": _NAME_WIDTH, "runDateAndNestInfo": 150, "duration": 90}
_MOST_PARAMS = 8


@dataclass(frozen=True)
class View:
    """A list of runs in MLflow's UI.

    Attributes:
        key: Its name in addresses, without characters that have a meaning there.
        search: Its runs, in MLflow's language.
        metrics, params: Its columns in order.
    """

    key: str
    search: str
    metrics: tuple[str, ...]
    params: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The tag of an experiment that holds the view."""
        return f"{_TAG_PREFIX}{self.key}"

    def state(self) -> str:
        """Return the view as MLflow's UI reads it."""
        columns = [_column("metrics", name) for name in self.metrics]
        columns += [_column("params", name) for name in self.params]
        widths = dict(_FIRST)
        for name, column in zip([*self.metrics, *self.params], columns, strict=True):
            widths[column] = max(_LEAST_WIDTH, _LETTER_WIDTH * len(name))
        state: dict[str, Any] = {
            "searchFilter": self.search,
            "selectedColumns": [_CREATED, _DURATION, *columns],
            # The order is needed for the widths, which are those of the columns in it.
            "columnOrder": list(widths),
            "columnWidths": widths,
            "runListHidden": False,
        }
        return json.dumps(state)


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


TRAININGS = View(
    "trainings",
    f"tags.`{names.TAG_KIND}` = 'trial'",
    (names.TEST_TOP1, names.VAL_TOP1, names.TRAIN_LOSS),
    ("seed", "model.layer", "model.num_kernels", "train.temperature.start", "train.temperature.end"),
)
# Summary runs and their variants alone have the tag.
STUDIES = View(
    "studies",
    f"tags.`{names.TAG_STUDY_NAME}` LIKE '%'",
    tuple(
        f"{prefix}{names.TEST_TOP1}{suffix}"
        for prefix in ("", names.DELTA_PREFIX)
        for suffix in (names.MEAN, names.CI_LOW, names.CI_HIGH, names.COUNT)
    ),
    (),
)


def runs_view(study: str, metric: str, params: Iterable[str]) -> View:
    """Return the list of the trainings and evaluations behind a study.

    Args:
        study: The study's name.
        metric: The metric that it is judged by.
        params: The settings in which its rows differ.
    """
    tag, kind = names.study_tag(study), names.TAG_KIND
    # The runs of nodes, without the summary and its rows.
    search = f"tags.`{tag}` LIKE '%' AND tags.`{kind}` != 'variant' AND tags.`{kind}` != 'study'"
    return View(f"runs-{names.slug(study)}", search, (metric,), ("seed", *list(params)[:_MOST_PARAMS]))


def variants_view(study: str, metric: str, params: Iterable[str]) -> View:
    """Return the list of a study's variants, with their numbers and the settings in which they differ."""
    search = f"tags.`{names.study_tag(study)}` LIKE '%' AND tags.`{names.TAG_KIND}` = 'variant'"
    own = [f"{metric}{suffix}" for suffix in (names.MEAN, names.SD, names.CI_LOW, names.CI_HIGH, names.COUNT)]
    delta = [f"{names.DELTA_PREFIX}{metric}{suffix}" for suffix in (names.MEAN, names.CI_LOW, names.CI_HIGH)]
    return View(f"variants-{names.slug(study)}", search, (*own, *delta), tuple(params)[:_MOST_PARAMS])


def shared_page(client: MlflowClient, experiment_id: str, view: View) -> str:
    """Write a view to an experiment and return the address that shows it, from `#` on.

    Without the right to write it, the address has its search alone, and MLflow's own columns must do.
    """
    from mlflow.exceptions import MlflowException

    page = f"#/experiments/{experiment_id}/runs?{MODEL_TRAINING}"
    state = view.state()
    with suppress(MlflowException):
        if client.get_experiment(experiment_id).tags.get(view.tag) != state:
            client.set_experiment_tag(experiment_id, view.tag, state)
        # A search in the address would take precedence over the view, and its columns would not show.
        return f"{page}&viewStateShareKey={view.key}"
    return f"{page}&searchFilter={quote(view.search, safe='')}"


@dataclass(frozen=True)
class ExperimentPages:
    """The addresses at which MLflow's UI shows an experiment."""

    experiment: str
    trainings: str
    studies: str


def experiment_pages(uri: str, server: str) -> Iterator[ExperimentPages]:
    """Yield the addresses of the lists of each experiment of a store, the last used experiment first.

    Args:
        uri: The tracking store; the views are written to it where they can be.
        server: The address at which MLflow's UI shows the store.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = client.search_experiments(filter_string=f"name LIKE '{names.EXPERIMENTS}%'")
    # The store's own time of an update is that of its creation, whatever runs there are.
    experiments.sort(key=lambda experiment: _newest_run(client, experiment.experiment_id), reverse=True)
    begin = f"{server.rstrip('/')}/"
    for experiment in experiments:
        trainings, studies = (
            begin + shared_page(client, experiment.experiment_id, view) for view in (TRAININGS, STUDIES)
        )
        yield ExperimentPages(experiment.name, trainings, studies)


def _newest_run(client: MlflowClient, experiment_id: str) -> int:
    """Return the time at which the newest run of an experiment began, 0 without any."""
    runs = client.search_runs([experiment_id], order_by=["attributes.start_time DESC"], max_results=1)
    return int(runs[0].info.start_time) if runs else 0
