"""What else is going on around a call: a compiler or exporter that traces, `torch.func` that transforms, autocast.

The first two know torch's own operations only. Derivatives written by hand, and compiled code that is handed the
address of a tensor, step aside for them.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def is_traced() -> bool:
    """Whether the call is being compiled, exported or transformed."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """Whether `torch.func` transforms the call (`grad`, `vmap`, …)."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return not torch.compiler.is_compiling() and active is not None and active()


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Keep the dtypes of what is computed inside a block; entering costs next to nothing where they are kept anyway."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
