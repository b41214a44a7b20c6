"""This module reads pickled dictionaries of bytes, numbers and numpy's byte arrays, and lets a file execute nothing.

A pickle names the functions that rebuild its objects. Here the three names that a numpy array needs stand for objects
of our own, which record a shape and bytes; any other name is refused before it is looked up. Nothing of numpy or of any
other module is reachable from a file. Files may be written by Python 2 or 3, in any protocol.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
_BYTE_TYPES = (b"u1", "u1", b"|u1", "|u1")


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle holds more than plain data."""


class _Name(NamedTuple):
    """Stands for a global that an array's pickle calls; a file can call it and nothing else.

    A tuple, because a pickle can set attributes of the objects it names, and a tuple has none to set.
    """

    name: str

    def __call__(self, *arguments: Any) -> Any:
        # numpy's pickles call `_reconstruct(ndarray, ...)`, then set the state of its result.
        if self.name == "_reconstruct":
            return _Array()
        if self.name == "dtype" and arguments and arguments[0] in _BYTE_TYPES:
            return _ByteType()
        raise UnsafePickleError(f"{self.name}{arguments!r:.60} is not an array of unsigned bytes")


class _ByteType:
    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment, which single bytes do not have."""


class _Array:
    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        """Take numpy's (version, shape, type, whether by column, content)."""
        # Checked here, because nothing in a file can be trusted: sizes, type and length of the content.
        _, shape, kind, by_column, content = state
        sizes = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
        if not (sizes and isinstance(kind, _ByteType) and isinstance(content, bytes)):
            raise UnsafePickleError("an array is not made of a shape and unsigned bytes")
        if len(content) != math.prod(shape):
            raise UnsafePickleError(f"an array of shape {shape} has {len(content)} bytes")
        self.values: UInt8Array = np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if by_column else "C")


# The module of `_reconstruct` was renamed in numpy 2.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Name("_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"): _Name("_reconstruct"),
    ("numpy", "ndarray"): _Name("ndarray"),
    ("numpy", "dtype"): _Name("dtype"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _NAMES[module_name, global_name]
        except KeyError:
            raise UnsafePickleError(f"it names {module_name}.{global_name}, which plain data does not need") from None


def read_plain_pickle(content: bytes) -> dict[bytes, Any]:
    """Return the dictionary that `content` holds; byte strings stay bytes, arrays become numpy's.

    Raises:
        UnsafePickleError: It names any other function or class, or an array is not one of unsigned bytes.
        pickle.UnpicklingError: It is torn or no pickle of a dictionary.
    """
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a torn or made-up pickle raises whatever its bytes happen to lead to
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if not isinstance(loaded, dict):
        raise pickle.UnpicklingError(f"it holds a {type(loaded).__name__}, not a dictionary")
    return {key: value.values if isinstance(value, _Array) else value for key, value in loaded.items()}
