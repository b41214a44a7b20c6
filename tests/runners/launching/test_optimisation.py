"""A search carried out: what is proposed is trained once, the best again, and a second time there is nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

import run_ablation
from ablations import vocabulary as names
from ablations.errors import SpecError
from ablations.planning.optimisation_plans import make_search_plan
from ablations.planning.request import Request
from ablations.planning.search import Search, get_search, pareto_front
from ablations.presets import get_preset
from runners.launching.optimisation import best_again
from runners.state.nodes import StateStore
from runners.workers.preflight import check

SEARCH = """\
name: tiny
question: What matters?
baseline:
  data: {train_images: 40, validation_images: 20, test_images: 30}
  train: {epochs: 1, batch_size: 10, learning_rate: 0.01, warmup_epochs: 0.0, temperature.epochs: 1.0}
factors:
  model.num_kernels: {choices: [2, 4]}
  placement:
    options:
      all: {}
      nowhere: {model.layer: static}
"""


def invoke(*arguments: str) -> int:
    try:
        # MLflow keeps connections by the name of the store, so that a relative one would be another test's.
        run_ablation.main([*arguments, "--runs-dir", str(Path.cwd() / "runs")])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def test_a_search_through_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("tiny.yaml").write_text(SEARCH)
    command = ("search", "tiny.yaml", "--preset", "smoke", "--trials", "3", "--dispatch", "inline", "--format", "md")
    assert invoke(*command, "--repeats", "1") == 0
    plan = make_search_plan(get_search("tiny.yaml"), Request(get_preset("smoke")), 3, 1)
    states = StateStore(tmp_path / "runs/state")
    results = [states[node.fingerprint].result() or {} for node in plan.nodes]
    points = [(one["metrics"][names.TUNING_TOP1], one["metrics"][names.COST_MULTIPLY_ADDS]) for one in results]
    again = best_again(plan, states)
    assert [node.slot for node in again] == pareto_front(points)
    assert all(states[node.fingerprint].is_done for node in again)
    for node in again:
        # The same settings under another seed, and as costly.
        first = states[plan.nodes[node.slot].fingerprint]
        repeat = states[node.fingerprint]
        assert (repeat.proposal() or {})["values"] == (first.proposal() or {})["values"]
        assert repeat.training(node).seed != first.training(plan.nodes[node.slot]).seed
    assert "Pareto front" in Path("runs/reports/search-tiny-smoke.md").read_text()
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(names.experiment_name("smoke", "fashion_mnist_mini"))
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`{names.TAG_KIND}` = 'search'")
    assert len(runs) == 3 + len(again)
    assert not [name for run in runs for name in run.data.metrics if name.startswith("test/")]
    capsys.readouterr()
    assert invoke(*command, "--repeats", "1") == 0
    assert "finished" not in capsys.readouterr().out


def test_an_option_that_cannot_be_built_is_an_error_before_anything_is_trained() -> None:
    factors = {
        "placement": {"options": {"all": {}, "none": {"model.where": {"name": ["nothing.like.this"]}}}},
        "model.num_kernels": {"choices": [2, 4]},
    }
    search = Search.model_validate({"name": "bad", "title": "bad", "question": "?", "factors": factors})
    plan = make_search_plan(search, Request(get_preset("smoke")), 1, 0)
    with pytest.raises(SpecError):
        check(plan.as_plan())
