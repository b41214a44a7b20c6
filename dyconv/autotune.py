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

from dyconv.errors import ArgumentError
from dyconv.kernels import algorithms
from dyconv.kernels.folding import is_channels_last
from dyconv.kernels.geometry import Geometry
from dyconv.networks.description import undisturbed

Table = dict[Geometry, str]
"""The algorithm that computes each shape."""


def autotune(
    model: nn.Module, images: Tensor, *, rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> Table:
    """Return the fastest algorithm, forward and backward, at each shape of a dynamic layer of `model` on `images`.

    `images` is a batch as the network will be trained on: its size, dtype, device and memory format count. The
    algorithms take turns on random images, `rounds` times after a warm-up, and the least median wins. Network and
    global generator are left as they were. The table takes effect inside `use_algorithms`.

    Raises:
        ArgumentError: fewer than one round.
    """
    if rounds < 1:
        raise ArgumentError(f"rounds must be at least 1, got {rounds}")
    with undisturbed(model), algorithms.recorded() as asked:
        model(images)
    return {geometry: _fastest(geometry, images, rounds, clock) for geometry in dict.fromkeys(asked)}


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


def _fastest(g: Geometry, like: Tensor, rounds: int, clock: Callable[[], float]) -> str:
    generator = torch.Generator(like.device).manual_seed(0)
    memory_format = torch.channels_last if is_channels_last(like) else torch.contiguous_format

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=like.dtype, device=like.device, generator=generator)

    images = draw(g.batch, g.in_channels, *g.input_size).contiguous(memory_format=memory_format).requires_grad_()
    weight = draw(g.num_kernels, g.out_channels, g.per_group, *g.kernel_size).requires_grad_()
    attention = torch.softmax(draw(g.batch, g.num_kernels), 1).requires_grad_()
    gradient = draw(g.batch, g.out_channels, *g.output_size).contiguous(memory_format=memory_format)
    seconds: dict[str, list[float]] = {name: [] for name in algorithms.available_algorithms(g)}
    for _ in range(rounds + 1):
        for name, measured in seconds.items():
            _wait(like.device)
            start = clock()
            output = algorithms.choose(g, name).run(images, weight, attention, g)
            torch.autograd.grad(output, (images, weight, attention), gradient)
            _wait(like.device)
            measured.append(clock() - start)
    return min(seconds, key=lambda name: statistics.median(seconds[name][1:]))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
