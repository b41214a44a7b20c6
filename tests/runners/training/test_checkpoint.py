"""Checkpoints come back bit for bit; a torn, foreign or malicious one is never used, and that is said."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ablations.errors import CheckpointError
from ablations.spec.parts import TrainSpec
from runners.training.checkpoint import CheckpointStore, Position, Training, load_weights
from runners.training.optimizer import make_optimizer
from runners.training.sealed_tensors import load_tensors, save_tensors


def _trained(optimizer: str, steps: int = 3, seed: int = 0, channels: int = 4) -> Training:
    torch.manual_seed(seed)
    model: nn.Module = nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.Flatten(), nn.Linear(channels * 36, 2)
    )
    model = model.to(memory_format=torch.channels_last)
    spec = TrainSpec(optimizer="adamw") if optimizer == "adamw" else TrainSpec()
    training = Training(model, make_optimizer(model, spec), torch.amp.GradScaler("cpu", growth_interval=4))
    for _ in range(steps):
        _step(training)
    return training


def _step(training: Training) -> None:
    images = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    training.optimizer.zero_grad()
    training.scaler.scale(training.model(images).square().mean() / 100).backward()
    training.scaler.step(training.optimizer)
    training.scaler.update()


def _state(training: Training) -> dict[str, Any]:
    return {key: value.clone() for key, value in training.model.state_dict().items()}


def _never(message: str) -> None:
    pytest.fail(message)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_restored_training_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    training = _trained(kind)
    store, position = CheckpointStore(tmp_path), Position(3, {"loss": 1.25}, 2.5)
    store.save(training, position)
    for _ in range(3):
        _step(training)
    other = _trained(kind, steps=0, seed=9)
    assert store.load(other, _never) == position
    for _ in range(3):
        _step(other)
    for key, value in _state(training).items():
        assert torch.equal(value, other.model.state_dict()[key]), key


def test_the_scale_of_the_loss_comes_back_with_the_steps_since_it_grew(tmp_path: Path) -> None:
    training = _trained("sgd", steps=6)
    CheckpointStore(tmp_path).save(training, Position(6, {}))
    other = _trained("sgd", steps=0)
    assert other.scaler.state_dict() != training.scaler.state_dict()
    CheckpointStore(tmp_path).load(other, _never)
    assert other.scaler.state_dict() == training.scaler.state_dict()
    for one in (training, other):
        _step(one)
        _step(one)
    assert other.scaler.get_scale() == training.scaler.get_scale() == 2**18


def test_only_two_checkpoints_are_kept(tmp_path: Path) -> None:
    training, store = _trained("sgd"), CheckpointStore(tmp_path)
    for step in (1, 2, 3, 4):
        store.save(training, Position(step, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000000003.safetensors",
        "checkpoint-000000004.safetensors",
    ]
    (tmp_path / ".checkpoint-000000005.safetensors.77.tmp").write_bytes(b"half")
    store.clear()
    assert list(tmp_path.iterdir()) == []


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a bit of a weight": lambda path: _flip(path, -5),
    "a bit of the header": lambda path: _flip(path, 60),
    "a bit of the length": lambda path: _flip(path, 6),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(_Malicious(path.parent / "touched"))),
    "torch's pickle": lambda path: torch.save(_Malicious(path.parent / "touched"), path),
    "no seal": lambda path: save_file(load_tensors(path), path),
    "another network": lambda path: CheckpointStore(path.parent).save(_trained("sgd", channels=5), Position(2, {})),
    "no such parameter": lambda path: _forge(
        path, lambda t: t.update({"optimizer.999.momentum_buffer": torch.ones(1)})
    ),
    "no index": lambda path: _forge(path, lambda t: t.update({"optimizer.__class__.x": torch.ones(1)})),
    "another shape": lambda path: _forge(path, lambda t: t.update({"optimizer.0.momentum_buffer": torch.ones(7)})),
    "no position": lambda path: _forge(path, lambda t: t.pop("position.step")),
    "another step": lambda path: _forge(path, lambda t: t.update({"position.step": torch.tensor(-3)})),
    "a scale of two": lambda path: _forge(path, lambda t: t.update({"scaler.scale": torch.ones(2)})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_used_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    training, store, told = _trained("sgd"), CheckpointStore(tmp_path), []
    store.save(training, Position(1, {}))
    _step(training)
    store.save(training, Position(2, {}))
    DAMAGES[damage](tmp_path / "checkpoint-000000002.safetensors")
    restored = _trained("sgd", seed=5)
    assert store.load(restored, told.append) == Position(1, {})
    assert ["checkpoint-000000002" in message for message in told] == [True]
    assert not (tmp_path / "touched").exists()
    expected = load_tensors(tmp_path / "checkpoint-000000001.safetensors")
    assert all(torch.equal(value, expected[f"model.{key}"]) for key, value in _state(restored).items())


def test_the_torn_one_is_forgotten_and_never_passes_for_the_previous_one(tmp_path: Path) -> None:
    training, store = _trained("sgd"), CheckpointStore(tmp_path)
    for step in (4, 8):
        store.save(training, Position(step, {}))
    DAMAGES["truncated"](tmp_path / "checkpoint-000000008.safetensors")
    position = store.load(training, lambda message: None)
    assert position is not None
    store.forget_beyond(position.step)
    store.save(training, Position(5, {}))
    DAMAGES["truncated"](tmp_path / "checkpoint-000000005.safetensors")
    assert store.load(training, lambda message: None) == Position(4, {})


def test_with_no_checkpoint_left_the_network_is_as_it_was(tmp_path: Path) -> None:
    store, told = CheckpointStore(tmp_path), []
    store.save(_trained("sgd"), Position(2, {}))
    # A network that fits with an optimiser that does not: nothing of it may stay behind.
    DAMAGES["no such parameter"](tmp_path / "checkpoint-000000002.safetensors")
    fresh = _trained("sgd", steps=0, seed=5)
    before = _state(fresh)
    assert store.load(fresh, told.append) is None
    assert "starts anew" in told[-1]
    assert all(torch.equal(value, before[key]) for key, value in _state(fresh).items())


def _hostile(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


HOSTILE = {
    "length beyond the file": _hostile({}, length=2**40),
    "length beyond all numbers": _hostile({}, length=2**64 - 1),
    "nested a million deep": _hostile(b"[" * 1_000_000),
    "offsets beyond the file": _hostile(
        {"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 2**50]}}, bytes(16)
    ),
    "offsets backwards": _hostile({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 0]}}, bytes(16)),
    "a shape that overflows": _hostile(
        {"w": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 16]}}, bytes(16)
    ),
    "one tensor on another": _hostile(
        {
            "weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        },
        bytes(16),
    ),
    "an unknown type": _hostile({"w": {"dtype": "PYTHON", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
    "metadata that are no names": _hostile({"__metadata__": {"sha256": {"a": []}}}),
    "a pickle": pickle.dumps(_Malicious(Path("touched"))),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_and_not_run(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(path, nn.Linear(2, 2))
    assert not (tmp_path / "touched").exists()


def test_weights_in_which_a_bit_has_flipped_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    path, model = tmp_path / "model.safetensors", nn.Linear(2, 3)
    save_tensors(path, model.state_dict())
    load_weights(path, model)
    _flip(path, -1)
    with pytest.raises(CheckpointError, match=r"torn.*Remove the folder"):
        load_weights(path, model)


def test_weights_of_an_earlier_version_without_a_seal_are_read(tmp_path: Path) -> None:
    path, model = tmp_path / "model.safetensors", nn.Linear(2, 3)
    save_file(model.state_dict(), path)
    other = nn.Linear(2, 3)
    load_weights(path, other)
    assert torch.equal(other.weight, model.weight)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, nn.Linear(2, 3).state_dict())
    with pytest.raises(CheckpointError, match="another network"):
        load_weights(path, nn.Linear(2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_every_type_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"none": torch.zeros(0, 3), "one": torch.tensor(1), "many": torch.arange(24).reshape(2, 3, 4).mT}
    given = {key: value.to(dtype) for key, value in tensors.items()}
    save_tensors(tmp_path / "file.safetensors", given)
    found = load_tensors(tmp_path / "file.safetensors")
    assert all(torch.equal(value, found[key]) and found[key].dtype == dtype for key, value in given.items())
