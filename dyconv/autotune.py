"""`autotune`: measures the algorithms at the shapes of a network instead of trusting the cost model.

Nothing calls it by itself: the cost model depends on shapes alone, so that two runs of one configuration compute
alike. Who tunes keeps the table that comes back and hands it to `use_algorithms` where the run is repeated.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dyconv import algorithms
from dyconv.algorithms import Geometry
from dyconv.errors import ArgumentError

Table = dict[Geometry, str]
"""The algorithm that computes each shape."""


def autotune(
    model: nn.Module, images: Tensor, *, rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> Table:
    """Return the fastest algorithm, forward and backward, at each shape of a dynamic layer of `model` on `images`.

    `images` is a batch as the network will be trained on: size, memory format, dtype and device count. The algorithms
    take turns, `rounds` times after a warm-up, and the least median wins. The network is run once, without gradient and
    in evaluation mode, and left as it was. The table takes effect inside `use_algorithms`.

    Raises:
        ArgumentError: fewer than one round.
    """
    if rounds < 1:
        raise ArgumentError(f"rounds must be at least 1, got {rounds}")
    return {
        geometry: _fastest(geometry, images.dtype, images.device, rounds, clock)
        for geometry in _geometries(model, images)
    }


@contextmanager
def use_algorithms(table: Mapping[Geometry, str]) -> Iterator[None]:
    """Compute the shapes in `table` by its algorithms inside a block; other shapes are the cost model's business.

    Raises:
        ArgumentError: an algorithm that is unknown or cannot compute its shape.
    """
    for geometry, name in table.items():
        algorithms.choose(geometry, name)
    before = dict(algorithms.PINNED)
    algorithms.PINNED.update(table)
    try:
        yield
    finally:
        algorithms.PINNED.clear()
        algorithms.PINNED.update(before)


def _geometries(model: nn.Module, images: Tensor) -> list[Geometry]:
    """The shapes that one pass of the network asks to compute, each once."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), algorithms.recorded() as asked:
            model(images)
    finally:
        for module, training in was_training.items():
            module.training = training
    return list(dict.fromkeys(asked))


def _fastest(g: Geometry, dtype: torch.dtype, device: torch.device, rounds: int, clock: Callable[[], float]) -> str:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device)

    images = draw(g.batch, g.in_channels, *g.input_size).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = draw(g.num_kernels, g.out_channels, g.per_group, *g.kernel_size).requires_grad_()
    attention = torch.softmax(draw(g.batch, g.num_kernels), 1).requires_grad_()
    gradient = draw(g.batch, g.out_channels, *g.output_size).contiguous(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in algorithms.available_algorithms(g)}
    for _ in range(rounds + 1):
        for name, measured in seconds.items():
            _wait(device)
            start = clock()
            output = algorithms.choose(g, name).run(images, weight, attention, g)
            torch.autograd.grad(output, (images, weight, attention), gradient)
            _wait(device)
            measured.append(clock() - start)
    return min(seconds, key=lambda name: statistics.median(seconds[name][1:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
