"""Seeds made from what they are for."""

import torch

from dyconv.randomness import derived_seed, seeded


def test_seeds_are_functions_of_all_their_parts() -> None:
    seeds = [derived_seed(*p) for p in [(0,), (1,), (0, 0), (0, "a"), (0, "b"), ("0", "a"), (0, "a", 1)]]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(0) == 5254295370254170289, "the same on every machine and in every process"
    assert all(0 <= s < 2**63 for s in seeds)


def test_the_global_generator_is_put_back() -> None:
    state = torch.random.get_rng_state()
    with seeded(3, "x"):
        first = torch.rand(2)
    with seeded(3, "y"):
        second = torch.rand(2)
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_a_seed_draws_are_the_global_generators() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded(None, "x"):
        assert torch.equal(torch.rand(2), expected)
