"""Results from an MLflow experiment that plain `mlflow.log_metric` has filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from mlflow.tracking import MlflowClient

from ablations.errors import ResultsError, TrackingError
from reports.collect.foreign.experiment import read_experiment, split_address
from reports.collect.foreign.measurements import Columns, ForeignResults
from tests.reports.made_up import Store

NAMES = Columns("method", "rng", "acc")


class Experiment:
    """An experiment of anybody's, in a store of its own."""

    def __init__(self, uri: str, name: str = "mine") -> None:
        self.uri, self.name = uri, name
        self.client = MlflowClient(tracking_uri=uri)
        self.id = self.client.create_experiment(name)

    def log(
        self,
        values: Mapping[str, list[float]],
        tags: Mapping[str, str],
        params: Mapping[str, object],
        status: str = "FINISHED",
    ) -> str:
        """Logs a run, each value of a metric at a step of its own; a status of RUNNING leaves it open."""
        run = self.client.create_run(self.id, tags=dict(tags)).info.run_id
        for key, value in params.items():
            self.client.log_param(run, key, value)
        for metric, steps in values.items():
            for step, value in enumerate(steps):
                self.client.log_metric(run, metric, value, step=step)
        if status != "RUNNING":
            self.client.set_terminated(run, status)
        return run

    def read(self, columns: Columns = NAMES) -> ForeignResults:
        """Returns its results."""
        return read_experiment(self.uri, self.name, columns)


@pytest.fixture
def experiment(make_store: Callable[[], Store]) -> Experiment:
    return Experiment(make_store().uri)


def test_variant_and_seed_come_from_tags_or_params(experiment: Experiment) -> None:
    first = experiment.log({"acc": [91.5]}, {"method": "a"}, {"rng": 0})
    experiment.log({"acc": [92.5]}, {"rng": "1"}, {"method": "a"})
    results = experiment.read()
    assert sorted((item.variant, item.seed, item.value) for item in results.measurements) == [
        ("a", 0, 91.5),
        ("a", 1, 92.5),
    ]
    assert first in {item.origin for item in results.measurements}
    assert not results.notes
    assert results.source.ended > 0
    # The folder of the store, which may name a person, is no part of a report.
    assert results.source.title == "experiment mine of mlflow.db"


def test_the_last_step_counts_and_is_said(experiment: Experiment) -> None:
    experiment.log({"acc": [91.0, 95.0, 93.0]}, {"method": "a"}, {"rng": 0})
    results = experiment.read()
    assert [item.value for item in results.measurements] == [93.0]
    assert results.notes == (
        "acc was logged at up to 3 steps of a run: the value at the last step counts, which need not be the best one.",
    )


def test_runs_that_are_not_over_have_no_value(experiment: Experiment) -> None:
    experiment.log({"acc": [91.0]}, {"method": "a"}, {"rng": 0})
    for seed, status in enumerate(("FAILED", "KILLED", "RUNNING"), start=1):
        experiment.log({"acc": [50.0]}, {"method": "a"}, {"rng": seed}, status)
    experiment.log({"loss": [0.5]}, {"method": "a"}, {"rng": 4})
    experiment.log({"acc": [float("inf")]}, {"method": "a"}, {"rng": 5})
    states = {item.seed: item.status for item in experiment.read().measurements}
    absent = "without a value of the metric"
    assert states == {0: "finished", 1: "failed", 2: "killed", 3: "running", 4: absent, 5: absent}


def test_runs_of_something_else_are_left_out_and_counted(experiment: Experiment) -> None:
    experiment.log({"acc": [91.0]}, {"method": "a"}, {"rng": 0})
    experiment.log({"acc": [50.0]}, {}, {})
    results = experiment.read()
    assert len(results.measurements) == 1
    assert results.notes == ("1 of 2 runs have no tag or param “method” and are left out.",)


def test_what_is_wrong_is_said(experiment: Experiment) -> None:
    with pytest.raises(ResultsError, match="holds no run"):
        experiment.read()
    with pytest.raises(ResultsError, match=r"no experiment 'mien'. It has .*'mine'"):
        read_experiment(experiment.uri, "mien", NAMES)
    experiment.log({"acc": [91.0], "loss": [1.0]}, {"method": "a"}, {"rng": 0})
    for columns, reason in (
        (Columns("variant", "rng", "acc"), "has no tag or param 'variant'. It has 'method', 'rng'"),
        (Columns("method", "seed", "acc"), "'seed', which numbers the repeats. It has 'method', 'rng'"),
        (Columns("method", "rng", "ac"), "has no metric 'ac'. It has 'acc', 'loss'"),
        (Columns("method", "rng"), "several metrics: 'acc', 'loss'"),
    ):
        with pytest.raises(ResultsError, match=reason):
            experiment.read(columns)
    run = experiment.log({"acc": [92.0]}, {"method": "a"}, {"rng": 1, "method": "b"})
    with pytest.raises(ResultsError, match=f"run {run} .* has a tag 'method', 'a', and a param of that name, 'b'"):
        experiment.read()


def test_a_store_that_is_not_there_is_not_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("none") / "m.db"
    with pytest.raises(TrackingError, match="there is no tracking store at"):
        read_experiment(f"sqlite:///{path}", "mine", NAMES)
    assert not path.exists()
    with pytest.raises(TrackingError, match="cannot be read"):
        read_experiment("http://127.0.0.1:9", "mine", NAMES)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("sqlite:///m.db/mine", ("sqlite:///m.db", "mine")),
        ("http://host:5000/mine", ("http://host:5000", "mine")),
        ("http://host:5000#a/b", ("http://host:5000", "a/b")),
        ("./mlruns/mine", ("./mlruns", "mine")),
    ],
)
def test_an_address_names_a_store_and_an_experiment(address: str, parts: tuple[str, str]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", "mine", "sqlite:///m.db", "http://host", "http://host:5000/"])
def test_an_address_without_both_is_refused(address: str) -> None:
    with pytest.raises(TrackingError, match="names no store and experiment"):
        split_address(address)
