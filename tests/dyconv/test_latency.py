"""Latency with a clock that the test winds: what is timed, in which order, and what is left behind."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyconv import ArgumentError, ShapeError, build_model, compare_latency


class Timed(nn.Module):
    """Takes the next of `seconds` of made-up time per pass."""

    def __init__(self, name: str, seconds: list[float], clock: "Clock") -> None:
        super().__init__()
        self.name, self.seconds, self.clock = name, iter(seconds), clock
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape == (1, 3, 4, 5)
        assert x.dtype == torch.float64
        assert not self.training
        assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 2
        self.clock.passes.append(self.name)
        self.clock.now += next(self.seconds)
        return x


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.passes: list[str] = []

    def __call__(self) -> float:
        return self.now


def test_the_median_of_each_in_turn_after_the_warm_up() -> None:
    clock = Clock()
    fast, slow = Timed("fast", [99, 1, 3, 2], clock).train(), Timed("slow", [99, 10, 1000, 20], clock)
    measured = compare_latency({"a": fast, "b": slow}, (3, 4, 5), repeats=3, warmup=1, threads=2, clock=clock)
    assert measured == {"a": 2.0, "b": 20.0}
    assert clock.passes == ["fast", "slow"] * 4
    assert fast.training


def test_the_number_of_threads_is_put_back() -> None:
    clock = Clock()
    torch.set_num_threads(1)
    with pytest.raises(StopIteration):
        compare_latency({"a": Timed("a", [1], clock)}, (3, 4, 5), threads=2, clock=clock)
    assert torch.get_num_threads() == 1


def test_a_real_network_takes_time() -> None:
    models = {"resnet": build_model("resnet10", 10, num_kernels=2)}
    assert 0 < compare_latency(models, (3, 16, 16), repeats=3, warmup=1)["resnet"] < 10


@pytest.mark.parametrize(
    "bad", [{"repeats": 0}, {"warmup": -1}, {"threads": 0}, {"models": {}}], ids=lambda bad: next(iter(bad))
)
def test_bad_settings_are_errors(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="no model" if "models" in bad else next(iter(bad))):
        compare_latency(**({"models": {"a": nn.Identity()}, "input_size": (1, 2, 2)} | bad))
    with pytest.raises(ShapeError, match="input_size"):
        compare_latency({"a": nn.Identity()}, (1, 2))  # type: ignore[arg-type]
