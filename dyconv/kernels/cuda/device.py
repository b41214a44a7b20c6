"""This module says which tensors the Triton programs take.

It neither imports Triton nor starts CUDA, so that machines without either can ask.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from dyconv.kernels.tracing import constant, is_exported, remembered

_DTYPES = frozenset({torch.float32, torch.float16, torch.bfloat16})


def is_on_device(tensor: Tensor) -> bool:
    """Return True for a tensor on a CUDA device, also one without memory."""
    return tensor.is_cuda


@remembered
@constant
def has_triton() -> bool:
    """Return True if Triton is installed: with torch for CUDA on Linux it is, on Windows and macOS it is not."""
    # An AMD device is called "cuda" as well; nothing here was compiled for one.
    return find_spec("triton") is not None and torch.version.hip is None


def computes(*tensors: Tensor) -> bool:
    """Return True if the programs compute with tensors of this dtype on this device.

    It asks for nothing that a tensor without memory could not say.
    """
    dtype = tensors[0].dtype
    if dtype not in _DTYPES or not has_triton():
        return False
    for tensor in tensors:
        if not is_on_device(tensor) or tensor.dtype is not dtype or tensor.layout is not torch.strided:
            return False
    return not is_exported()
