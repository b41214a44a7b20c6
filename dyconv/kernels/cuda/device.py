"""This module says which tensors the Triton programs take.

It neither imports Triton nor starts CUDA, so that machines without either can ask.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from shutil import which

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
    """Return True if Triton is installed and can start programs: with torch for CUDA on Linux it usually can.

    On Windows and macOS it is not there, and without a C compiler it cannot build what starts a program.
    """
    # An AMD device is called "cuda" as well; nothing here was compiled for one.
    if find_spec("triton") is None or torch.version.hip is not None:
        return False
    return any(map(which, (os.environ.get("CC", "gcc"), "clang")))


@remembered
@constant
def is_recent(index: int | None) -> bool:
    """Return True for a device of compute capability 8.0 and above, the Ampere of an A100, whose products are used.

    An absent device is taken for one: tensors without memory may be on it.
    """
    return not torch.cuda.is_available() or torch.cuda.get_device_capability(index) >= (8, 0)


def computes(*tensors: Tensor) -> bool:
    """Return True if the programs compute with tensors of this dtype on this device.

    It asks for nothing that a tensor without memory could not say.
    """
    dtype = tensors[0].dtype
    if dtype not in _DTYPES or not has_triton() or not is_recent(tensors[0].device.index):
        return False
    for tensor in tensors:
        if not is_on_device(tensor) or tensor.dtype is not dtype or tensor.layout is not torch.strided:
            return False
    return not is_exported()
