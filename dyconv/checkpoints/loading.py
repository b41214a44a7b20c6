"""`load_checkpoint` loads the weights of a network that was trained elsewhere into a network of this package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.attention import AttentionBranch
from dyconv.base import DynamicLayer, checked_temperature, dynamic_layers
from dyconv.checkpoints.assignment import Assignment, BranchSizes, assign
from dyconv.checkpoints.files import read_weights
from dyconv.checkpoints.layouts import Layout, available_layouts, get_layout, layouts
from dyconv.checkpoints.public_layouts import OURS, SAME_NAMES
from dyconv.checkpoints.report import LoadReport
from dyconv.errors import ArgumentError, CheckpointError


def load_checkpoint(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    temperature: float | None = None,
    layout: str | Layout | None = None,
    wrapper: str | None = None,
) -> LoadReport:
    """Load the weights in a file into `model`, static or dynamic, in place; return a report of what went where.

    The file is safetensors or by `torch.save`; code in it is never run. `layout` says how it names its layers: one of
    `available_layouts()` or a `Layout`; None recognises it by its keys. `temperature` is that of the trained network,
    where the file does not hold it. `wrapper` chooses among several dictionaries of weights in the file, such as
    "state_dict_ema". Weights are converted to the dtypes of `model`. Where the layout says so, attention branches are
    rebuilt to the hidden width in the file and kernels get biases; make an optimizer afterwards.

    Raises:
        CheckpointError: the file cannot be read or holds more than weights, its layout is not known, or keys or shapes
            do not fit. The network is unchanged then.
        ArgumentError: a temperature that is missing, is not a positive number, contradicts the file, or that nothing
            would read. The network is unchanged then.
    """
    weights = read_weights(path, model.state_dict().keys(), wrapper)
    chosen = _chosen_layout(model, weights.tensors, layout, str(path))
    assignment = assign(model, weights.tensors, chosen)
    # All checks are before the first change: a network is loaded wholly or not at all.
    given = _given_temperatures(model, assignment, temperature, chosen)
    assignment.values |= given
    _load(model, assignment)
    temperatures = {float(layer.temperature) for _, layer in dynamic_layers(model) if layer.reads_temperature}
    return LoadReport(
        path=str(weights.path),
        sha256=weights.sha256,
        layout=chosen.name,
        title=chosen.title,
        tensors=tuple(assignment.tensors),
        wrapper=weights.wrapper,
        other_wrappers=weights.other_wrappers,
        prefix=weights.prefix,
        temperatures=tuple(sorted(temperatures)),
        temperature_given=bool(given),
        adapted=assignment.adapted(),
        kept=tuple(assignment.kept),
        ignored=weights.ignored,
    )


def _chosen_layout(model: nn.Module, tensors: Mapping[str, Any], layout: str | Layout | None, path: str) -> Layout:
    """Return the layout that was given, or the one that recognises the keys of the file."""
    if isinstance(layout, Layout):
        return layout
    if layout is not None:
        return get_layout(layout)
    keys = list(tensors)
    own = model.state_dict().keys()
    for candidate in layouts():
        # A kind of a user's may have any names: a file of it has keys that static networks do not have.
        if candidate is OURS and _has_own_keys(model, keys):
            return candidate
        if candidate.recognises(keys):
            return candidate
    # With most keys in common it is a file of this network, and `assign` says in detail what does not fit.
    if 2 * sum(key in own for key in keys) > len(own):
        return OURS if any(dynamic_layers(model)) else SAME_NAMES
    raise CheckpointError(
        f"the layout of {path!r} is not known. Its keys begin with {_shown(keys)}; the network's with "
        f"{_shown(list(own))}. Known: {', '.join(available_layouts())}. Describe it with "
        "register_layout(Layout(...)), or choose one with layout=…"
    )


def _shown(keys: list[str]) -> str:
    return ", ".join(map(repr, keys[:5])) or "none"


def _has_own_keys(model: nn.Module, keys: Collection[str]) -> bool:
    """Return True if a file has keys that dynamic layers of the network have beside kernels and biases."""
    own = set()
    for name, layer in dynamic_layers(model):
        for key in layer.state_dict():
            if key not in ("weight", "bias"):
                own.add(f"{name}.{key}")
    return any(key in own for key in keys)


def _given_temperatures(
    model: nn.Module, assignment: Assignment, temperature: float | None, layout: Layout
) -> dict[str, Tensor]:
    """Return the temperatures to fill in for layers that read one, by key; check them against the file."""
    readers = {name: layer for name, layer in dynamic_layers(model) if layer.reads_temperature}
    if temperature is None:
        lacking = [name for name in readers if f"{name}.temperature" not in assignment.values]
        if lacking:
            raise ArgumentError(_missing_temperature(lacking, layout))
        return {}
    value = checked_temperature(temperature)
    if not readers:
        raise ArgumentError(f"no layer of this network reads a temperature, got {temperature!r}: leave it out")
    given: dict[str, Tensor] = {}
    for name, layer in readers.items():
        key = f"{name}.temperature"
        in_file = assignment.values.get(key)
        if in_file is None:
            given[key] = torch.full_like(layer.temperature, value, device="cpu")
        # In the precision of the file: 0.1 in float32 is another number than the 0.1 that was given.
        elif float(in_file) != float(torch.tensor(value, dtype=in_file.dtype)):
            raise ArgumentError(
                f"the file holds the temperature {float(in_file):g} for {name}, got temperature={value:g}: leave it "
                "out, and use intervene or set_temperature for another one"
            )
    return given


def _missing_temperature(lacking: list[str], layout: Layout) -> str:
    """Return the message for a temperature that is in neither the file nor the arguments."""
    never = []
    for candidate in layouts():
        if candidate.is_dynamic and candidate.reads_temperature and not candidate.saves_temperature:
            never.append(candidate.name)
    return (
        f"the file (layout {layout.name!r}) holds no temperature for {len(lacking)} layers that read one, such as "
        f"{lacking[0]!r}: give temperature=…, the one at the end of its training (1 where it was annealed as in the "
        f"paper). Layouts that never save it: {', '.join(sorted(never))}."
    )


def _load(model: nn.Module, assignment: Assignment) -> None:
    """Rebuild what the file has in other sizes, and copy all values."""
    layers = dict(dynamic_layers(model))
    # New sizes come first, so that the state that is copied below has every key and shape.
    for name, sizes in assignment.branches.items():
        branch = layers[name].attention_branch
        assert isinstance(branch, AttentionBranch)
        _rebuild(branch, sizes)
    for name in assignment.biases:
        _add_bias(layers[name], assignment.values[f"{name}.bias"])
    # Keys that a file may lack keep their values, and loading stays strict.
    state = dict(model.state_dict())
    state.update(assignment.values)
    model.load_state_dict(state)


def _rebuild(branch: AttentionBranch, sizes: BranchSizes) -> None:
    """Give an attention branch layers of other sizes, with the device, dtype and trainability of the present ones."""
    like = branch.squeeze.weight
    squeeze, excite = branch.squeeze, branch.excite
    # The weights are loaded over at once: drawing them would move the global generator.
    options = {"device": "meta", "dtype": like.dtype}
    new_squeeze = nn.Linear(squeeze.in_features, sizes.hidden, bias=sizes.squeeze_bias, **options)
    new_excite = nn.Linear(sizes.hidden, excite.out_features, bias=sizes.excite_bias, **options)
    for attribute, new in (("squeeze", new_squeeze), ("excite", new_excite)):
        new = new.to_empty(device=like.device).train(branch.training)
        setattr(branch, attribute, new.requires_grad_(like.requires_grad))


def _add_bias(layer: DynamicLayer, value: Tensor) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    # Its dtype is that of the kernels already: `assign` has converted it.
    bias = torch.zeros_like(value, device=weight.device)
    layer.bias = nn.Parameter(bias, requires_grad=weight.requires_grad)
