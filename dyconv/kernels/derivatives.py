"""This module computes gradients by torch's own operations, in place of derivatives that were written by hand."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_by_torch(
    compute: Callable[..., Tensor], tensors: Sequence[Tensor], grad: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradient of each of `tensors` that is `needed`, from `grad`, that of `compute(*tensors)`.

    With gradients enabled, the results have a graph and can be differentiated again. Without, the tensors may have lost
    their own graph: hooks that pack saved tensors return them without.
    """
    graph = torch.is_grad_enabled()
    needed = needed[: len(tensors)]
    if graph:
        # A view for each argument: attention may depend on the images, and a gradient of the images themselves would
        # then include the path through attention.
        tensors = [tensor.view_as(tensor) for tensor in tensors]
    else:
        tensors = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)]
    inputs = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
    with torch.enable_grad():
        gradients = iter(torch.autograd.grad(compute(*tensors), inputs, grad, create_graph=graph))
    return [next(gradients) if need else None for need in needed]
