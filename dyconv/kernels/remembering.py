"""`remembered`: a cache of a pure function's results that steps aside while a network is compiled or exported."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch

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
