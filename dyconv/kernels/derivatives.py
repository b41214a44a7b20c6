"""Gradients of a computation by torch's own operations, where a derivative that was written by hand steps aside."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_by_torch(
    compute: Callable[..., Tensor], tensors: Sequence[Tensor], grad: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradient of each of `tensors` that is `needed`, from that of `compute(*tensors)`.

    They can be differentiated again where a graph of them is asked for. Where none is, the tensors may have lost
    their own: hooks that pack what is saved return it without.
    """
    graph = torch.is_grad_enabled()
    needed = needed[: len(tensors)]
    if graph:
        # Of what is under each name alone: attention may have been made of the very images that it is applied to.
        tensors = [tensor.view_as(tensor) for tensor in tensors]
    else:
        tensors = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)]
    wanted = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
    with torch.enable_grad():
        found = iter(torch.autograd.grad(compute(*tensors), wanted, grad, create_graph=graph))
    return [next(found) if need else None for need in needed]
