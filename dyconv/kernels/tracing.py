"""This module detects the surroundings of a call: tracing, transforms, modes that see torch's operations, autocast.

All of these know torch's own operations only. Derivatives written by hand, and compiled code that reads the memory of a
tensor, step aside for them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_ANY_SIZE = 2**60
PLAIN = frozenset({Tensor, nn.Parameter})
"""The types of torch's own tensors."""


def is_traced() -> bool:
    """Return True if operations are compiled, exported, transformed, traced, counted or replaced, not just computed."""
    return torch.compiler.is_compiling() or _are_transforms_active() or _is_observed()


def _none_active() -> bool:
    return False


# Older torch has no such function.
_are_transforms_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", _none_active)


def is_transformed() -> bool:
    """Return True if `torch.func` transforms the call (`grad`, `vmap`, …)."""
    return not torch.compiler.is_compiling() and _are_transforms_active()


def is_exported() -> bool:
    """Return True if the call becomes a program that runs elsewhere, where torch's own operations alone are known."""
    if torch.compiler.is_compiling():
        # Older torch has one answer for compilers and exports.
        return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())
    return bool(torch._C._is_tracing())


def is_known(*sizes: int) -> bool:
    """Return True if these sizes are numbers; False if a compiler or an export leaves one open.

    Asking an open size anything else would fix it.
    """
    if not torch.compiler.is_compiling():
        # A loop, because a generator costs more: this is asked at every call of a layer.
        for size in sizes:  # noqa: SIM110
            if not isinstance(size, int):
                return False
        return True
    # Imported here, as it takes long and is loaded by every compiler anyway.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    # A compiler shows open sizes as ordinary integers; nothing is known of them, not even that they are below this.
    return all(statically_known_true(size < _ANY_SIZE) for size in sizes)


def is_ordinary(*tensors: Tensor) -> bool:
    """Return True if these are torch's own tensors in memory, of no subclass, and operations are just computed."""
    if is_traced():
        return False
    # A loop, because a generator costs more than all of these tests. A gradient that `torch.autograd.grad` batches
    # differs from an ordinary tensor only in that it has no storage.
    for tensor in tensors:  # noqa: SIM110
        if type(tensor) not in PLAIN or not torch._C._has_storage(tensor):
            return False
    return True


def _is_observed() -> bool:
    """Return True if a mode (fake tensors, `make_fx`, counters), `torch.jit` or forward mode sees each operation."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch._C._is_tracing() or forward_ad._current_level >= 0


def is_autocast(device: str) -> bool:
    """Return True if autocast changes dtypes on `device`; False on meta, for which torch would raise."""
    return device != "meta" and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Keep the dtypes of computations inside a block; entering costs next to nothing without autocast."""
    return torch.autocast(device, enabled=False) if is_autocast(device) else nullcontext()


P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its last 4096 results kept; arguments must be hashable.

    A compiler that traces the call cannot look into a cache, so it gets the function itself.
    """
    cached: Callable[..., R] = lru_cache(maxsize=4096)(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        return cached(*args, **kwargs)

    return call


def constant(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function`, whose result a compiler takes as a constant, without looking at how it comes about.

    Arguments must be constants. It is what `torch.compiler.assume_constant_result` does, which would load the compiler.
    """
    setattr(function, "_dynamo_marked_constant", True)  # noqa: B010 - functions have no such attribute
    return function
