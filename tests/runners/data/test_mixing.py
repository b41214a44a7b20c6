"""Mixing batches: mixup and CutMix by hand, evenly chosen where both are asked for, and drawn by the lent generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ablations.spec.parts import DataSpec
from runners.data.mixing import mix
from runners.seeding import seeded

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def mixed(seed: int = 0, **data: float) -> tuple[Tensor, Tensor]:
    with seeded(seed):
        return mix(IMAGES.clone(), LABELS, DataSpec(**data), 4)  # type: ignore[arg-type]


def test_nothing_is_mixed_unasked() -> None:
    images, labels = mixed()
    assert torch.equal(images, IMAGES)
    assert labels is LABELS


def share(targets: Tensor) -> float:
    """Returns λ, how much of itself the image at position 2, of class 2, has kept (its neighbour is of class 1)."""
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert float(targets[2, 2] + targets[2, 1]) == pytest.approx(1)
    return float(targets[2, 2])


def is_mixup(images: Tensor, targets: Tensor) -> bool:
    kept = share(targets)
    return torch.allclose(images, kept * IMAGES + (1 - kept) * IMAGES.roll(1, 0), atol=1e-6)


def is_cutmix(images: Tensor, targets: Tensor) -> bool:
    own, other = (images == IMAGES).all(1), (images == IMAGES.roll(1, 0)).all(1)
    whole = bool((own | other).all()) and torch.equal(own, own[:1].expand_as(own))
    return whole and float(own[0].float().mean()) == pytest.approx(share(targets), abs=1e-6)


def test_mixup_is_the_formula() -> None:
    found = [mixed(seed, mixup=0.5) for seed in range(8)]
    assert all(is_mixup(*batch) for batch in found)
    assert len({share(targets) for _, targets in found}) == 8


def test_cutmix_takes_one_rectangle_from_the_neighbour() -> None:
    found = [mixed(seed, cutmix=1.0) for seed in range(8)]
    assert all(is_cutmix(*batch) for batch in found)
    assert len({share(targets) for _, targets in found}) >= 5


def test_of_both_each_batch_gets_one_about_as_often() -> None:
    found = [mixed(seed, mixup=0.5, cutmix=0.5) for seed in range(60)]
    kinds = [(is_mixup(*batch), is_cutmix(*batch)) for batch in found]
    assert all(any(kind) for kind in kinds)
    # Sixty fair draws have standard deviation 3.9; a few batches are hardly mixed and count as both.
    assert 15 < sum(mixup and not cutmix for mixup, cutmix in kinds) < 45


def test_the_same_seed_draws_the_same() -> None:
    for data in ({"mixup": 0.5}, {"cutmix": 0.5}, {"mixup": 0.5, "cutmix": 0.5}):
        (one, targets), (again, same) = mixed(3, **data), mixed(3, **data)
        assert torch.equal(one, again)
        assert torch.equal(targets, same)
