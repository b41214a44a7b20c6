"""Seeds are derived from the trial's seed and the purpose, and from nothing else."""

from __future__ import annotations

import hashlib

from runners.seeding import derive_seed


def test_a_seed_is_the_documented_hash() -> None:
    expected = int.from_bytes(hashlib.blake2b(b"int:3\x1fstr:batches\x1fint:7", digest_size=8).digest(), "little") >> 1
    assert derive_seed(3, "batches", 7) == expected


def test_seeds_differ_by_seed_purpose_and_type() -> None:
    seeds = [
        derive_seed(0, "a"),
        derive_seed(1, "a"),
        derive_seed(0, "b"),
        derive_seed(0, "a", 1),
        derive_seed(0, "a", "1"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
