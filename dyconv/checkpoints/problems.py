"""This module collects what does not fit between a file and a network, and says it in one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dyconv.base import dynamic_layers
from dyconv.checkpoints.layouts import Layout
from dyconv.checkpoints.report import Shape
from dyconv.errors import CheckpointError

_LISTED = 5
"""The most keys of a kind that a message names."""


@dataclass(frozen=True)
class _Mismatch:
    source: str
    target: str
    source_shape: Shape
    shape: Shape

    def __str__(self) -> str:
        place = "the network's" if self.source == self.target else self.target
        return f"{self.source} {self.source_shape} for {place} {self.shape}"


@dataclass
class Problems:
    """The keys of a network that a file lacks, those of the file that nothing needs, and shapes that differ.

    `unused` are keys of the file under the names that they have by the layout.
    """

    model: nn.Module
    layout: Layout
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    mismatches: list[_Mismatch] = field(default_factory=list)
    wrong_types: list[str] = field(default_factory=list)

    def compare(self, source: str, target: str, tensor: Tensor, shape: Shape, dtype: torch.dtype) -> bool:
        """Return True if a tensor can become one of this shape and dtype, and record it if not."""
        if tuple(tensor.shape) != shape:
            self.mismatches.append(_Mismatch(source, target, tuple(tensor.shape), shape))
        # A change of precision only rounds; between integers, real and complex numbers it would lose something.
        elif tensor.is_floating_point() != dtype.is_floating_point or tensor.is_complex():
            self.wrong_types.append(f"{source} ({tensor.dtype} for {dtype})")
        else:
            return True
        return False

    def refuse(self) -> None:
        """Raise CheckpointError if there is a problem."""
        if not (self.missing or self.unused or self.mismatches or self.wrong_types):
            return
        lines = [f"the file has the layout {self.layout.name!r} ({self.layout.title}) and does not fit the network:"]
        lines += self._advice()
        lines += _listing("other shapes", [str(mismatch) for mismatch in self.mismatches])
        lines += _listing("other types", self.wrong_types)
        # Each list names the nearest of the other one, as a layer under another name is in both.
        lines += _listing("not in the file", self.missing, self.unused)
        lines += _listing("not in the network", self.unused, self.missing)
        lines.append("Nothing was loaded.")
        raise CheckpointError("\n".join(lines))

    def _advice(self) -> list[str]:
        """Return what is likely to be wrong, a sentence each."""
        count = sum(1 for _ in dynamic_layers(self.model))
        # With one side static nearly every key differs, and this one sentence explains them all.
        if not self.layout.is_dynamic and count:
            return [
                f"- the file is of a static network, and this one has {count} dynamic layers: load it into the static "
                "network, then make that dynamic with make_dynamic(model, start='static')"
            ]
        if self.layout.is_dynamic and not count:
            return [
                "- the file is of a dynamic network, and this one is static: build it with num_kernels, or adopt the "
                "layers that it has (dyconv.adopt)"
            ]
        return [*self._advice_on_placement(), *self._advice_on_sizes()]

    def _advice_on_placement(self) -> list[str]:
        """Return the layers that are dynamic on one side only: their kernels have an axis of kernels there."""
        static, dynamic = [], []
        for mismatch in self.mismatches:
            axes = len(mismatch.source_shape), len(mismatch.shape)
            if axes == (5, 4):
                static.append(mismatch.target.removesuffix(".weight"))
            elif axes == (4, 5):
                dynamic.append(mismatch.target.removesuffix(".weight"))
        return [
            *_listing("dynamic in the file and static in the network (see `where`)", static),
            *_listing("static in the file and dynamic in the network (see `where`)", dynamic),
        ]

    def _advice_on_sizes(self) -> list[str]:
        """Return the numbers of kernels and of hidden units that differ."""
        kernels: set[tuple[int, int]] = set()
        hidden = []
        for mismatch in self.mismatches:
            if len(mismatch.source_shape) == len(mismatch.shape) == 5:
                kernels.add((mismatch.source_shape[0], mismatch.shape[0]))
            if mismatch.target.endswith(".attention_branch.squeeze.weight"):
                hidden.append(f"{mismatch.source_shape[0]} for {mismatch.shape[0]} in {mismatch.target}")
        advice = []
        for in_file, in_network in sorted(kernels):
            if in_file != in_network:
                advice.append(f"- layers of the file have {in_file} kernels, and {in_network} in the network")
        return advice + _listing("other hidden units of attention branches (see `reduction`)", hidden)


def _listing(title: str, texts: Iterable[str], candidates: Iterable[str] = ()) -> list[str]:
    """Return a line with the first few texts, each with the names most like it among the candidates; none for none."""
    texts, candidates = list(texts), list(candidates)
    if not texts:
        return []
    listed = []
    for text in texts[:_LISTED]:
        nearest = difflib.get_close_matches(text, candidates, n=2, cutoff=0.6)
        shown = _printable(text)
        if nearest:
            shown += f" (nearest: {', '.join(map(_printable, nearest))})"
        listed.append(shown)
    if len(texts) > _LISTED:
        listed.append(f"and {len(texts) - _LISTED} more")
    return [f"- {title} ({len(texts)}): {'; '.join(listed)}"]


def _printable(text: str) -> str:
    """Return a text of a file without characters that would steer a terminal."""
    return text if text.isprintable() else repr(text)
