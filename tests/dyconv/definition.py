"""The definition in double precision, image by image, which compiled kernels are compared with."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dyconv.kernels import native

compiled = pytest.mark.skipif(not native.available(), reason="the kernels could not be compiled here")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def by_image(images: Tensor, weight: Tensor, attention: Tensor, **how: Any) -> Tensor:
    """The definition, in double precision: each image with its own kernel."""
    kernels = torch.einsum("bk,k...->b...", attention.double(), weight.double())
    return torch.cat([F.conv2d(images[b : b + 1].double(), kernels[b], **how) for b in range(len(images))])


def with_gradients(output: Tensor, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    seed = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output, *torch.autograd.grad(output, tensors, seed.to(output.dtype))]
