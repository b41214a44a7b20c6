"""Checkpoints come back bit for bit; a torn or malicious one is never used."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablations.errors import CheckpointError
from ablations.spec import TrainSpec
from runners.checkpoint import CheckpointStore, Position, load_weights, save_tensors
from runners.optimization import make_optimizer


def _trained(optimizer: str, steps: int = 3, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    model = model.to(memory_format=torch.channels_last)
    spec = TrainSpec(optimizer="adamw") if optimizer == "adamw" else TrainSpec()
    chosen = make_optimizer(model, spec)
    for _ in range(steps):
        _step(model, chosen)
    return model, chosen


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    images = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


def _state(model: nn.Module) -> dict[str, Any]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_restored_training_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    model, optimizer = _trained(kind)
    store = CheckpointStore(tmp_path)
    store.save(model, optimizer, Position(3, {"loss": 1.25}))
    for _ in range(3):
        _step(model, optimizer)
    other, other_optimizer = _trained(kind, steps=0, seed=9)
    assert store.load(other, other_optimizer) == Position(3, {"loss": 1.25})
    for _ in range(3):
        _step(other, other_optimizer)
    for key, value in _state(model).items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_only_two_checkpoints_are_kept(tmp_path: Path) -> None:
    model, optimizer = _trained("sgd")
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3, 4):
        store.save(model, optimizer, Position(step, {}))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "checkpoint-000000003.safetensors",
        "checkpoint-000000004.safetensors",
    ]
    store.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "pickle"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, optimizer = _trained("sgd")
    store = CheckpointStore(tmp_path)
    store.save(model, optimizer, Position(1, {}))
    store.save(model, optimizer, Position(2, {}))
    _damage(tmp_path / "checkpoint-000000002.safetensors", damage, tmp_path / "touched")
    with caplog.at_level(logging.WARNING):
        position = store.load(*_trained("sgd", seed=5))
    assert position == Position(1, {})
    assert "checkpoint-000000002" in caplog.text
    assert not (tmp_path / "touched").exists()


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def _damage(path: Path, how: str, witness: Path) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[-5] ^= 1
        path.write_bytes(content)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(pickle.dumps(_Malicious(witness)))


def test_weights_that_are_a_pickle_are_refused_and_not_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "model.safetensors", tmp_path / "touched"
    path.write_bytes(pickle.dumps(_Malicious(witness)))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(path, nn.Linear(2, 2))
    assert not witness.exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, nn.Linear(2, 3).state_dict())
    with pytest.raises(CheckpointError, match="another network"):
        load_weights(path, nn.Linear(2, 2))
