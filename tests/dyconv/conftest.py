"""Shared by the tests of dyconv: the oracle, and one seed and one thread, so that every run of a test is alike."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Oracle = Callable[..., Tensor]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """The same weights and images in each run, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture
def oracle() -> Oracle:
    """The definition, written as slowly as possible: aggregate, then convolve, image by image."""

    def per_image(x: Tensor, weight: Tensor, attention: Tensor, bias: Tensor | None = None, **settings: Any) -> Tensor:
        images = []
        for b in range(x.shape[0]):
            kernel = sum(attention[b, k] * weight[k] for k in range(weight.shape[0]))
            mixed = None if bias is None else sum(attention[b, k] * bias[k] for k in range(weight.shape[0]))
            images.append(F.conv2d(x[b : b + 1], kernel, mixed, **settings))
        return torch.cat(images)

    return per_image
