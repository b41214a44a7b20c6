"""A network that was trained elsewhere is loaded whole or not at all, and nothing in its file is executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dyconv
from ablations.errors import CheckpointError
from ablations.files.checkpoint_file import read_checkpoint
from ablations.planning.nodes import NetworkNode
from ablations.spec.fingerprint import evaluation_fingerprint, network_fingerprint
from ablations.spec.inspected import CheckpointFile, NetworkSpec, resolve_network
from ablations.spec.parts import Intervention
from runners.state.nodes import NodeState
from runners.training.evaluation import evaluate
from runners.training.inspected import load_inspected, load_kept
from runners.training.network import build_network, open_source
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import TINY, Bench


def spec(**changes: Any) -> NetworkSpec:
    return resolve_network([TINY, {key.replace("__", "."): value for key, value in changes.items()}], {})


def network(seed: int = 3, **changes: Any) -> nn.Module:
    settings = spec(**changes)
    model = build_network(settings.model, settings.data.facts, seed)
    dyconv.set_temperature(model, 2.5)
    return model


def checkpoint(path: Path, temperature: float | None = None) -> CheckpointFile:
    return CheckpointFile(path=str(path), sha256=read_checkpoint(path).sha256, temperature=temperature)


def as_safetensors(model: nn.Module, path: Path) -> None:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


def as_archive(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


@pytest.mark.parametrize(("name", "write"), [("a.safetensors", as_safetensors), ("a.pth", as_archive)])
def test_all_weights_and_the_temperature_are_those_of_the_file(
    tmp_path: Path, name: str, write: Callable[[nn.Module, Path], None]
) -> None:
    trained = network()
    write(trained, tmp_path / name)
    model = network(seed=4)
    dyconv.set_temperature(model, 30.0)
    report = load_inspected(checkpoint(tmp_path / name), model)
    assert (report.temperature, report.temperature_given) == (2.5, False)
    expected = trained.state_dict()
    actual = model.state_dict()
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key
    assert {float(layer.temperature) for _, layer in dyconv.dynamic_layers(model)} == {2.5}


def test_a_file_that_has_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    file = checkpoint(path)
    as_archive(network(seed=5), path)
    with pytest.raises(CheckpointError, match=r"a\.pth has changed since this was planned: its SHA-256 is"):
        load_inspected(file, network())
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        load_inspected(file, network())


class Hostile:
    """Would make a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_hostile_file_is_refused_and_executes_nothing(tmp_path: Path, is_archive: bool) -> None:
    trace, path = tmp_path / "executed", tmp_path / "a.pth"
    content = {**network().state_dict(), "more": Hostile(trace)}
    if is_archive:
        torch.save(content, path)
    else:
        # The protocol that torch writes: of any other it would warn.
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError):
        load_inspected(checkpoint(path), network())
    assert not trace.exists()
    # It was hostile: whoever trusted it would have the folder.
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists()


@pytest.mark.parametrize("content", [b"no weights", b"PK\x03\x04", b"\x80\x02]", b"\x00" * 100])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            load_inspected(checkpoint(tmp_path / name), network())


@pytest.mark.parametrize("changes", [{"model__num_kernels": 3}, {"model__width": 0.5}, {"model__layer": "static"}])
def test_another_architecture_is_refused_before_anything_is_loaded(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    model = network(seed=4, **changes)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_inspected(checkpoint(path), model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def described(bench: Bench, path: Path) -> NetworkNode:
    settings, file = spec(), checkpoint(path)
    node = NetworkNode(network_fingerprint(settings, file), settings, file)
    bench.states[node.fingerprint].describe(node)
    return node


def run(bench: Bench, fingerprint: str) -> NodeState:
    run_node(Task(bench.root, fingerprint, "cpu"))
    return bench.states[fingerprint]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench with an empty state store."""
    return Bench(tmp_path / "state")


def test_it_is_measured_like_the_training_that_made_it(bench: Bench, tmp_path: Path) -> None:
    trial = bench.trial(seed=1, train__temperature__start=1.0)
    trained = run(bench, trial.fingerprint)
    average = Intervention(aggregation="average")
    expected = run(bench, bench.evaluation(trial, average).fingerprint)

    path = tmp_path / "exported.safetensors"
    path.write_bytes(trained.weights_file.read_bytes())
    node = described(bench, path)
    state = run(bench, node.fingerprint)
    assert state.result() is not None, state.failure()
    # The metrics of the training on the test split, to the last bit, and nothing of its epochs but the temperature.
    assert state.result()["metrics"] == {**trained.result()["metrics"], "temperature": 1.0}
    assert state.events() == []
    evaluation = bench.evaluation(node, average)
    assert evaluation.fingerprint == evaluation_fingerprint(node.fingerprint, average)
    # The evaluation takes the weights from the state folder: the file may be gone by now.
    path.unlink()
    assert run(bench, evaluation.fingerprint).result()["metrics"] == expected.result()["metrics"]


def test_a_described_network_comes_back_the_same(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    node = described(bench, path)
    read = bench.states[node.fingerprint].node()
    assert (read, read.file) == (node, node.file)
    average = Intervention(aggregation="average")
    evaluation = bench.evaluation(node, average)
    read = bench.states[evaluation.fingerprint].node()
    assert (read, read.training.file) == (evaluation, node.file)
    about = bench.states[evaluation.fingerprint].about()
    assert about is not None
    assert "train" not in about["spec"]


@pytest.mark.parametrize("change", ["sha256", "temperature", "spec"])
def test_a_description_with_another_file_is_another_node(bench: Bench, tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    node = described(bench, path)
    state = bench.states[node.fingerprint]
    if change == "spec":
        other = replace(node, spec=spec(data__test_images=20))
    else:
        value: Any = "0" * 64 if change == "sha256" else 3.0
        other = replace(node, file=node.file.model_copy(update={change: value}))
    assert state.foreign() is None
    state.describe(other)
    foreign = state.foreign()
    assert foreign is not None
    assert "another fingerprint" in str(foreign)
    # Where the file lay is no part of it.
    state.describe(replace(node, file=node.file.model_copy(update={"path": "/elsewhere/b.pth"})))
    assert state.foreign() is None


def test_a_changed_file_fails_the_node_with_the_reason(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    node = described(bench, path)
    as_archive(network(seed=8), path)
    state = run(bench, node.fingerprint)
    failure = state.failure()
    assert failure is not None
    assert failure["kind"] == "CheckpointError"
    assert "has changed since this was planned" in failure["message"]
    assert not state.weights_file.exists()


def foreign(path: Path) -> None:
    """Writes a network under the names of another project: wider branches without biases, and no temperature."""
    generator = torch.Generator().manual_seed(1)
    model = network()
    layers = dict(dyconv.dynamic_layers(model))
    tensors: dict[str, torch.Tensor] = {}
    for key, value in model.state_dict().items():
        if "attention_branch" not in key and not key.endswith("temperature"):
            tensors[f"module.{key}"] = value
    for name, layer in layers.items():
        hidden, inputs = layer.attention_branch.squeeze.weight.shape
        kernels = layer.attention_branch.excite.out_features
        fc1 = torch.randn(hidden + 3, inputs, 1, 1, generator=generator)
        fc2 = torch.randn(kernels, hidden + 3, 1, 1, generator=generator)
        bias = torch.randn(kernels, generator=generator)
        tensors |= {f"module.{name}.attention.fc1.weight": fc1, f"module.{name}.attention.fc2.weight": fc2}
        tensors[f"module.{name}.attention.fc2.bias"] = bias
    torch.save({"epoch": 300, "state_dict": tensors}, path)


def test_a_network_of_another_layout_keeps_its_sizes_for_its_evaluations(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    foreign(path)
    settings = spec()
    with pytest.raises(CheckpointError, match=r"holds no temperature.*--set inspect\.temperature"):
        load_inspected(checkpoint(path), network())
    file = checkpoint(path, temperature=2.0)
    node = NetworkNode(network_fingerprint(settings, file), settings, file)
    bench.states[node.fingerprint].describe(node)
    state = run(bench, node.fingerprint)
    assert state.result() is not None, state.failure()
    evaluation = bench.evaluation(node, Intervention(aggregation="max"))
    evaluated = run(bench, evaluation.fingerprint)
    assert evaluated.result() is not None, evaluated.failure()

    model = network(seed=9)
    dyconv.load_checkpoint(model, path, temperature=2.0)
    source = open_source(settings, torch.device("cpu"), torch.channels_last)
    model = model.to(memory_format=torch.channels_last)
    direct = evaluate(model, source.evaluation("test"), 10)
    metrics = state.result()["metrics"]
    assert (metrics["test/top1"], metrics["test/loss"]) == (direct.top1, direct.loss)
    assert metrics["temperature"] == 2.0
    with dyconv.intervene(model, aggregation="max"):
        changed = evaluate(model, source.evaluation("test"), 10)
    assert evaluated.result()["metrics"]["test/top5"] == changed.top5 != direct.top5
    assert "Adapted: the attention branch" in state.log_file.read_text(encoding="utf-8")


def test_kept_weights_that_are_torn_are_loaded_from_the_file_again(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    as_archive(network(), path)
    node = described(bench, path)
    state = bench.states[node.fingerprint]
    state.weights_file.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="the weights cannot be used"):
        load_kept(state.weights_file, network())
    assert run(bench, node.fingerprint).result() is not None
