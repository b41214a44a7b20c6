"""Sealed files of weights: equal weights are known by their digests, whatever order the library wrote metadata in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ablations.spec.parts import ModelSpec
from runners.training.sealed_tensors import file_digests, load_tensors, save_tensors

WEIGHTS = {"b": torch.arange(5.0), "a": torch.ones(2, 3, dtype=torch.int64)}


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Writes weights as a training does."""
    save_tensors(path, tensors, node="n" * 64, model=ModelSpec())
    return path


def test_equal_weights_have_their_digests_in_common(tmp_path: Path) -> None:
    digests = file_digests(saved(tmp_path / "first", WEIGHTS))
    # Three entries of metadata have six orders.
    assert len(digests) == 6
    contents = {saved(tmp_path / str(number), WEIGHTS).read_bytes() for number in range(40)}
    # Forty files that happen to be in one order would prove nothing: that is one case in 6 ** 39.
    assert len(contents) > 1
    for content in contents:
        assert hashlib.sha256(content).hexdigest() in digests
    assert load_tensors(tmp_path / "first")["b"].tolist() == [0, 1, 2, 3, 4]


def test_other_weights_have_none_of_them(tmp_path: Path) -> None:
    one_bit = {**WEIGHTS, "b": torch.nextafter(WEIGHTS["b"], torch.tensor(9.0))}
    assert not file_digests(saved(tmp_path / "a", WEIGHTS)) & file_digests(saved(tmp_path / "b", one_bit))
