"""What else is going on around a call: who traces, transforms, counts or replaces operations of torch, and autocast.

All of these know torch's own operations only. Derivatives written by hand, and compiled code that is handed the
address of a tensor, step aside for them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_PLAIN = frozenset({Tensor, nn.Parameter})


def is_traced() -> bool:
    """Whether operations are more than computed: compiled, exported, transformed, traced, counted or replaced."""
    return torch.compiler.is_compiling() or is_transformed() or _is_observed()


def is_transformed() -> bool:
    """Whether `torch.func` transforms the call (`grad`, `vmap`, …)."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return not torch.compiler.is_compiling() and active is not None and active()


def is_ordinary(*tensors: Tensor) -> bool:
    """Whether these are torch's own tensors, in memory and of no subclass, and operations are computed and no more."""
    if is_traced():
        return False
    # A loop, because a generator costs more than all that is asked here. A gradient that `torch.autograd.grad` batches
    # looks like any other but for its storage.
    for tensor in tensors:  # noqa: SIM110
        if type(tensor) not in _PLAIN or not torch._C._has_storage(tensor):
            return False
    return True


def _is_observed() -> bool:
    """Whether a mode sees each operation (fake tensors, `make_fx`, counters), or `torch.jit` or forward mode does."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch._C._is_tracing() or forward_ad._current_level >= 0


def is_autocast(device: str) -> bool:
    """Whether autocast changes dtypes on `device`; it knows no meta device, and torch raises where it is asked."""
    return device != "meta" and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Keep the dtypes of what is computed inside a block; entering costs next to nothing where they are kept anyway."""
    return torch.autocast(device, enabled=False) if is_autocast(device) else nullcontext()


P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its last 4096 results kept; arguments must be hashable.

    A compiler that traces the call cannot look into a cache, so it is given the function itself.
    """
    cached = lru_cache(maxsize=4096)(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        known: Callable[..., R] = function if torch.compiler.is_compiling() else cached
        return known(*args, **kwargs)

    return call
