"""This module finds the place in a network of each tensor of a file, and all that does not fit.

Nothing here changes the network: all problems are known before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dyconv.attention import AttentionBranch
from dyconv.base import DynamicLayer, dynamic_layers
from dyconv.checkpoints.layouts import Layout, fits
from dyconv.checkpoints.problems import Problems
from dyconv.checkpoints.report import LoadedTensor, Shape
from dyconv.errors import CheckpointError

_MAY_BE_MISSING = ("num_batches_tracked", "temperature")
"""Entries that a file may lack: the count of batches of a batch norm, as old files do, and a temperature not read."""


@dataclass(frozen=True)
class BranchSizes:
    """The sizes of an attention branch in a file: hidden units, and which of its two layers have a bias."""

    hidden: int
    squeeze_bias: bool
    excite_bias: bool

    def __str__(self) -> str:
        text = f"{self.hidden} hidden units"
        if not self.squeeze_bias:
            text += ", no bias in its squeeze"
        if not self.excite_bias:
            text += ", no bias in its excite"
        return text


@dataclass
class Assignment:
    """The place of each tensor of a file in a network, and what must be changed in the network first.

    `values` are the tensors by the network's keys, in its shapes and dtypes. `branches` and `biases` say by layer which
    attention branches get other sizes and which layers get a bias. `kept` are keys whose values stay as they are.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    tensors: list[LoadedTensor] = field(default_factory=list)
    branches: dict[str, BranchSizes] = field(default_factory=dict)
    biases: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def adapted(self) -> tuple[str, ...]:
        """Return a description of what changes in the network."""
        texts = [f"the attention branch of {layer} has {sizes}" for layer, sizes in self.branches.items()]
        texts += [f"the kernels of {layer} have biases" for layer in self.biases]
        return tuple(texts)


def assign(model: nn.Module, tensors: Mapping[str, Tensor], layout: Layout) -> Assignment:
    """Return the place of each tensor of a file that has a layout.

    The temperature of a layer that reads one may be missing: it is in neither `values` nor `kept` then.

    Raises:
        CheckpointError: keys that are missing or left over, or shapes that do not fit; the message lists them with the
            nearest names and says what is likely to be wrong.
    """
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    shapes: dict[str, Shape] = {key: tuple(value.shape) for key, value in own.items()}
    dtypes = {key: value.dtype for key, value in own.items()}
    sources, placed = _placed(tensors, layout, shapes)
    layers = dict(dynamic_layers(model))
    assignment = Assignment()
    # Both change `shapes`, so that the loop below compares with the network as it will be.
    if layout.adapts:
        _adapt_branches(assignment, layers, placed, shapes, layout)
        _adapt_biases(assignment, layers, placed, shapes)
    problems = Problems(model, layout)
    for target, shape in shapes.items():
        if target in placed:
            source, tensor = sources[target], placed[target]
            # What the network does not have yet gets the dtype of its kernels.
            dtype = dtypes.get(target) or _dtype_of_kernels(target, dtypes)
            if not problems.compare(source, target, tensor, shape, dtype):
                continue
            assignment.values[target] = tensor.to(dtype)
            before = tuple(tensors[source].shape)
            names = _name(tensor.dtype), _name(dtype)
            assignment.tensors.append(LoadedTensor(source, target, before, shape, *names))
        # Neither missing nor kept: the caller fills it in, or refuses the file.
        elif _is_read_temperature(target, layers):
            continue
        elif target.rpartition(".")[2] in _MAY_BE_MISSING:
            assignment.kept.append(target)
        else:
            problems.missing.append(target)
    for target, source in sources.items():
        if target not in shapes:
            problems.unused.append(target if source == target else f"{target} ({source} in the file)")
    problems.refuse()
    return assignment


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _placed(
    tensors: Mapping[str, Tensor], layout: Layout, shapes: Mapping[str, Shape]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return by the network's keys the keys of the file, and its tensors in the network's order of dimensions."""
    sources: dict[str, str] = {}
    placed: dict[str, Tensor] = {}
    for source, tensor in tensors.items():
        target, rule = layout.place_of(source)
        if target in sources:
            raise CheckpointError(
                f"{sources[target]!r} and {source!r} of the file both go to {target!r} by layout {layout.name!r}: "
                "one of its rules means too much, or the file holds two layers as one"
            )
        if rule is not None:
            tensor = rule.reshaped(tensor, shapes.get(target, ()))
        sources[target], placed[target] = source, tensor
    return sources, placed


def _dtype_of_kernels(key: str, dtypes: Mapping[str, torch.dtype]) -> torch.dtype:
    layer = key.rpartition(".")[0].partition(".attention_branch")[0]
    return dtypes[f"{layer}.weight"]


def _lacks(key: str, layout: Layout, placed: Mapping[str, Tensor]) -> bool:
    """Return True if a file lacks a key of the network as all layers of its layout may."""
    # A file that lacks the bias of one layer alone is a damaged one.
    patterns = [pattern for pattern in layout.may_lack if fits(pattern, key)]
    present = [pattern for pattern in patterns if any(fits(pattern, other) for other in placed)]
    return len(present) < len(patterns)


def _adapt_branches(
    assignment: Assignment,
    layers: Mapping[str, DynamicLayer],
    placed: Mapping[str, Tensor],
    shapes: dict[str, Shape],
    layout: Layout,
) -> None:
    """Plan attention branches of the hidden width that the file has, and give `shapes` their sizes."""
    for name, layer in layers.items():
        branch, prefix = getattr(layer, "attention_branch", None), f"{name}.attention_branch"
        if not isinstance(branch, AttentionBranch):
            continue
        squeeze, excite = placed.get(f"{prefix}.squeeze.weight"), placed.get(f"{prefix}.excite.weight")
        # Left to the comparison of keys and shapes, which reports it.
        if squeeze is None or excite is None or squeeze.dim() != 2:
            continue
        hidden, inputs, outputs = squeeze.shape[0], branch.squeeze.in_features, branch.excite.out_features
        # Other channels or another number of kernels are another network, and a mismatch.
        if tuple(squeeze.shape) != (hidden, inputs) or tuple(excite.shape) != (outputs, hidden):
            continue
        squeeze_bias = not _lacks(f"{prefix}.squeeze.bias", layout, placed)
        excite_bias = not _lacks(f"{prefix}.excite.bias", layout, placed)
        sizes = BranchSizes(hidden, squeeze_bias, excite_bias)
        present = branch.squeeze, branch.excite
        if sizes == BranchSizes(present[0].out_features, present[0].bias is not None, present[1].bias is not None):
            continue
        assignment.branches[name] = sizes
        shapes[f"{prefix}.squeeze.weight"], shapes[f"{prefix}.squeeze.bias"] = (hidden, inputs), (hidden,)
        shapes[f"{prefix}.excite.weight"], shapes[f"{prefix}.excite.bias"] = (outputs, hidden), (outputs,)
        if not squeeze_bias:
            del shapes[f"{prefix}.squeeze.bias"]
        if not excite_bias:
            del shapes[f"{prefix}.excite.bias"]


def _adapt_biases(
    assignment: Assignment,
    layers: Mapping[str, DynamicLayer],
    placed: Mapping[str, Tensor],
    shapes: dict[str, Shape],
) -> None:
    """Plan biases of kernels where the file has them and the layer has none."""
    for name in layers:
        key, kernels = f"{name}.bias", shapes[f"{name}.weight"][:2]
        # A bias of another shape is not planned, so that it is reported as left over.
        if key in placed and key not in shapes and tuple(placed[key].shape) == kernels:
            assignment.biases.append(name)
            shapes[key] = kernels


def _is_read_temperature(key: str, layers: Mapping[str, DynamicLayer]) -> bool:
    layer, _, attribute = key.rpartition(".")
    return attribute == "temperature" and layer in layers and layers[layer].reads_temperature
