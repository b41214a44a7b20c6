"""A trained network comes back from the store by MLflow's own loader, and nothing in the store can execute."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from ablations.errors import AblationError
from ablations.planning.nodes import TrialNode
from runners.provenance import Commit
from runners.tracking import Tracker
from runners.training.network import build_trained_network
from runners.training.sealed_tensors import save_tensors
from tests.runners.bench import Bench


class Trained:
    """A tracked training whose network has weights of its own, without an hour of training."""

    def __init__(self, bench: Bench, store: str, folder: Path) -> None:
        self.node: TrialNode = bench.trial(model__depth=0.5)
        self.network = build_trained_network(self.node.spec, self.node.spec.data.facts).eval()
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.add_(0.01)
        state = bench.states[self.node.fingerprint]
        weights = self.network.state_dict()
        save_tensors(state.weights_file, weights, node=state.fingerprint, model=self.node.spec.model)
        state.append_event(1, {"train/loss": 1.0})
        state.finish({"test/top1": 50.0}, 1.0)
        tracker = Tracker(
            store, f"dyconv-ablations/test/{folder.name}", folder, commit=Commit("c0ffee", False), preset="smoke"
        )
        self.run_id = tracker.record(self.node, state, {})
        run = tracker.client.get_run(self.run_id)
        self.artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
        self.note = run.data.tags["mlflow.note.content"]


@pytest.fixture
def trained(bench: Bench, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(store)
    yield Trained(bench, store, tmp_path)
    # For the whole process otherwise, and so for the tests after it.
    mlflow.set_tracking_uri(None)


def _load(trained: Trained) -> Any:
    return mlflow.pyfunc.load_model(f"runs:/{trained.run_id}/")


def test_mlflow_loads_the_network_that_was_trained(trained: Trained) -> None:
    facts = trained.node.spec.data.facts
    size = (3, facts.channels, facts.image_size, facts.image_size)
    images = np.random.default_rng(0).normal(size=size).astype(np.float32)
    model = _load(trained)
    with torch.inference_mode():
        expected = trained.network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(model.predict(images), expected, rtol=1e-5, atol=1e-6)
    network: nn.Module = model.get_raw_model()
    assert not network.training
    assert all(torch.equal(value, trained.network.state_dict()[name]) for name, value in network.state_dict().items())
    assert f"runs:/{trained.run_id}/" in trained.note


def test_the_python_of_docs_mlflow_md_loads_it(trained: Trained, store: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    facts = trained.node.spec.data.facts
    images = np.zeros((2, facts.channels, facts.image_size, facts.image_size), np.float32)
    values: dict[str, Any] = {"images": images}
    # What a reader replaces: the store, and the id of the run.
    exec(code.replace("sqlite:///runs/mlflow.db", store).replace("<run id>", trained.run_id), values)
    assert values["logits"].shape == (2, facts.num_classes)
    assert not values["network"].training


def test_the_description_of_the_model_names_no_code_of_the_store(trained: Trained) -> None:
    described = yaml.safe_load((trained.artifacts / "MLmodel").read_text())
    assert set(described["flavors"]) == {"python_function"}
    flavour = described["flavors"]["python_function"]
    assert flavour["loader_module"] == "runners.api.tracked_network"
    assert not {"code", "model_code_path", "python_model", "env"} & flavour.keys()


class Explosive:
    """A pickle that fails the test when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("name", ["model.safetensors", "record.json"])
def test_a_pickle_in_place_of_a_file_is_refused(trained: Trained, name: str) -> None:
    (trained.artifacts / name).write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(AblationError):
        _load(trained)


def test_weights_of_another_network_are_refused(trained: Trained) -> None:
    save_tensors(trained.artifacts / "model.safetensors", trained.network.state_dict(), node="another")
    with pytest.raises(AblationError, match="another node"):
        _load(trained)
