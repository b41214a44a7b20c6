"""Measuring the algorithms: the fastest is found, used where it is asked for, and nowhere else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyconv import ArgumentError, autotune, make_dynamic, use_algorithms
from dyconv.base import dynamic_layers
from dyconv.kernels.algorithms import _ALGORITHMS, Geometry, available_algorithms


def network() -> nn.Module:
    """A static stem, then three dynamic layers around a batch norm."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 8, 1),
    )
    return make_dynamic(model)


class Watch:
    """A clock that moves only while an algorithm runs, by the seconds each is given."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.now, self.seconds, self.ran = 0.0, seconds, list[str]()

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, run: Any) -> Any:
        def timed(*arguments: Any) -> Tensor:
            self.ran.append(name)
            self.now += self.seconds.get(name, 5.0)
            return run(*arguments)  # type: ignore[no-any-return]

        return timed


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """The algorithms, each taking its time."""
    watch = Watch({"mix_output": 2.0, "taps": 1.0, "product": 3.0})
    for name, algorithm in list(_ALGORITHMS.items()):
        monkeypatch.setitem(_ALGORITHMS, name, replace(algorithm, run=watch.run(name, algorithm.run)))
    return watch


def test_the_fastest_is_found_and_used_inside_the_block_only(watch: Watch) -> None:
    model, images = network().train(), torch.randn(5, 4, 7, 7)
    model[2].eval()
    statistics = model[2].running_mean.clone()
    usual = model(images)
    watch.ran.clear()
    forward_pass = next(iter(dynamic_layers(model)))[1].aggregator.context.forward_pass
    passes, state = forward_pass.next_step, torch.get_rng_state()
    assert passes > 0
    table = autotune(model, images, rounds=2, clock=watch)
    assert list(table.values()) == ["mix_output", "taps", "mix_output"]
    for geometry in table:
        for name in available_algorithms(geometry):
            assert watch.ran.count(name) >= 3, "two rounds after a warm-up"
    assert (model.training, model[2].training) == (True, False)
    torch.testing.assert_close(model[2].running_mean, statistics)
    assert forward_pass.next_step == passes
    assert torch.equal(torch.get_rng_state(), state), "nothing drawn from the global generator"
    watch.ran.clear()
    with use_algorithms(table):
        tuned = model(images)
    assert watch.ran == ["mix_output", "taps", "mix_output"]
    torch.testing.assert_close(tuned, usual)
    watch.ran.clear()
    model(images)
    assert watch.ran != ["mix_output", "taps", "mix_output"], "the cost model's again"


def test_other_shapes_are_the_cost_models_business(watch: Watch) -> None:
    model = network()
    table = autotune(model, torch.randn(5, 4, 7, 7), rounds=1, clock=watch)
    other = torch.randn(3, 4, 7, 7)
    model(other)
    usual = watch.ran[-3:]
    with use_algorithms(table):
        model(other)
    assert watch.ran[-3:] == usual


def test_the_winner_is_measured_on_the_real_clock() -> None:
    table = autotune(network(), torch.randn(4, 4, 7, 7), rounds=1)
    assert len(table) == 3
    for geometry, name in table.items():
        assert name in available_algorithms(geometry)


@pytest.mark.parametrize("name", ["grouped_", "depthwise"])
def test_a_table_that_cannot_work_is_refused(name: str) -> None:
    geometry = Geometry(4, 4, 4, 6, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1)
    with pytest.raises(ArgumentError, match=name), use_algorithms({geometry: name}):
        pass
    with pytest.raises(ArgumentError, match="rounds"):
        autotune(network(), torch.randn(4, 4, 7, 7), rounds=0)
