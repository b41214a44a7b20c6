"""This module reads the tensors of a weight file, and never runs code that a file holds.

A file is safetensors or what `torch.save` wrote, told apart by its first bytes. Trainings wrap a state dict into
dictionaries and put prefixes before its keys; both are taken off here.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dyconv.errors import CheckpointError, unknown_name

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "state_dict_ema", "model_ema", "ema")
"""Entries of a file that may hold the weights, in the order in which they are looked for."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that wrappers of a network leave: data parallelism and averaging, `torch.compile`, training frameworks."""
_COUNTERS = frozenset({"n_averaged"})
"""Keys beside those of the network: the number of networks in an average."""


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file by key, and the way to them.

    `wrapper` is the path of the dictionary that held them ("" if the file is one itself), `other_wrappers` are those
    that could have been taken instead. `prefix` was removed from all keys. `ignored` are keys that are not weights.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    wrapper: str = ""
    other_wrappers: tuple[str, ...] = ()
    prefix: str = ""
    ignored: tuple[str, ...] = ()


def read_weights(path: str | PathLike[str], model_keys: Collection[str], wrapper: str | None = None) -> WeightFile:
    """Return the weights in a file, on the CPU, in the dtypes of the file.

    A prefix is kept if keys of the network (`model_keys`) have it too. `wrapper` chooses among several dictionaries.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors and plain values, or holds no weights.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the weight file {str(path)!r} cannot be read: {error.strerror or error}") from error
    values = _loaded(path, content)
    taken, state, others = _state_dict(path, values, wrapper)
    # The counter has no prefix, and would hide the one that all other keys share.
    ignored = tuple(sorted(_COUNTERS & set(state)))
    prefix, tensors = _without_prefix({key: state[key] for key in state if key not in ignored}, model_keys)
    for key, tensor in tensors.items():
        _check_plain(path, key, tensor)
    return WeightFile(path, hashlib.sha256(content).hexdigest(), tensors, taken, others, prefix, ignored)


def _loaded(path: Path, content: bytes) -> Any:
    # The hash is of these bytes, so they are parsed too: the file could be another one by now.
    try:
        # After 8 bytes for its size, a safetensors file has a JSON header; a pickle or zip has none.
        if content[8:9] == b"{":
            return safetensors.torch.load(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # A hostile file can make the parser fail in any way.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{str(path)!r} is no safetensors file and no file of plain tensors by torch.save; nothing in it was run. "
            f"Only weights are loaded: save model.state_dict(). The reader said: {_shortened(' '.join(reason))}"
        ) from error


def _shortened(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _state_dict(path: Path, values: Any, wrapper: str | None) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
    """Return the wrapper that is taken, the state dict in it, and the other wrappers of the file."""
    if wrapper is None and _is_state_dict(values):
        return "", values, ()
    wrapped: dict[str, Mapping[str, Any]] = {}
    if isinstance(values, Mapping):
        wrapped = _wrapped(values)
    if wrapper is not None:
        if wrapper not in wrapped:
            raise CheckpointError(f"{str(path)!r}: {unknown_name('wrapper of weights', wrapper, wrapped)}")
        names = [wrapper]
    else:
        # Usual names first, and of those plain weights before averaged ones; else the first in the file.
        names = [name for name in _WRAPPERS if name in wrapped] or list(wrapped)
    if not names:
        content = type(values).__name__
        if isinstance(values, Mapping):
            content = f"the entries {', '.join(map(repr, list(values)[:10])) or 'none'}"
        raise CheckpointError(f"{str(path)!r} holds no state dict (tensors under names), but {content}")
    others = tuple(name for name in wrapped if name != names[0])
    return names[0], wrapped[names[0]], others


def _wrapped(values: Mapping[Any, Any], path: str = "") -> dict[str, Mapping[str, Any]]:
    """Return the state dicts inside a dictionary by their path: "state_dict", or "model.state_dict" two levels down."""
    wrapped: dict[str, Mapping[str, Any]] = {}
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Mapping):
            continue
        if _is_state_dict(value):
            wrapped[path + name] = value
        # Only from the top, so that the recursion ends however deep a hostile file is nested.
        elif not path:
            wrapped |= _wrapped(value, f"{name}.")
    return wrapped


def _is_state_dict(values: Any) -> bool:
    """Return True if a value is a dictionary of names with a weight of a layer in it."""
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        return False
    # An optimizer's state has tensors too, under numbers.
    return any(isinstance(value, Tensor) and key.endswith("weight") for key, value in values.items())


def _without_prefix(state: Mapping[str, Any], model_keys: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the prefixes that all keys have in common and the network's do not, and the values without them."""
    removed, remaining = "", dict(state)
    prefix = _common_prefix(remaining, model_keys)
    # Wrappers lie in one another: a compiled network inside data parallelism leaves two prefixes.
    while prefix:
        remaining = {key.removeprefix(prefix): value for key, value in remaining.items()}
        removed += prefix
        prefix = _common_prefix(remaining, model_keys)
    return removed, remaining


def _common_prefix(keys: Collection[str], model_keys: Collection[str]) -> str:
    for prefix in _PREFIXES:
        is_common = keys and all(key.startswith(prefix) for key in keys)
        if is_common and not any(key.startswith(prefix) for key in model_keys):
            return prefix
    return ""


def _check_plain(path: Path, key: str, value: Any) -> None:
    """Raise CheckpointError unless a value is an ordinary tensor."""
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{str(path)!r}: {key!r} is no tensor, but {type(value).__name__}: remove it")
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise CheckpointError(
            f"{str(path)!r}: {key!r} is a sparse, quantised or empty (meta) tensor: save ordinary weights"
        )
