"""Whether torch looks on: a compiler or exporter that traces, or `torch.func` that transforms.

They know torch's own operations only. Derivatives written by hand, and compiled code that is handed the address of a
tensor, step aside for them.
"""

import torch


def is_traced() -> bool:
    """Whether the call is being compiled, exported or transformed."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """Whether `torch.func` transforms the call (`grad`, `vmap`, …)."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return not torch.compiler.is_compiling() and active is not None and active()
