"""`record_attention` records the attention of each dynamic layer while a network runs, by hooks.

Nothing in the network is changed or computed twice. Reports interpret the numbers; nothing here does.

Dimensions: N images seen while recording, K kernels.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.base import dynamic_layers
from dyconv.errors import ConversionError


class AttentionRecorder:
    """The attention of each dynamic layer, by layer name, over all images seen while recording."""

    def __init__(self) -> None:
        self._branch: dict[str, list[Tensor]] = defaultdict(list)
        self._used: dict[str, list[Tensor]] = defaultdict(list)
        self._calls: dict[str, int] | None = None

    def add(self, layer: str, branch: Tensor, used: Tensor) -> None:
        """Record one batch of `layer`: the (B, K) weights of its attention branch, and those that mixed its kernels.

        A layer that is called several times in one pass of its network counts once, with the mean over its calls.
        """
        calls = 0
        if self._calls is not None:
            calls = self._calls.get(layer, 0)
            self._calls[layer] = calls + 1
        _add_call(self._branch[layer], branch.detach().cpu(), calls)
        _add_call(self._used[layer], used.detach().cpu(), calls)

    def begin_pass(self) -> None:
        """Treat the calls that follow as those of one pass, until `end_pass`."""
        self._calls = {}

    def end_pass(self) -> None:
        """Treat each call that follows as a pass of its own."""
        self._calls = None

    @property
    def branch(self) -> dict[str, Tensor]:
        """Per layer the (N, K) weights that the attention branch gave, before any strategy."""
        return {layer: torch.cat(batches) for layer, batches in self._branch.items()}

    @property
    def used(self) -> dict[str, Tensor]:
        """Per layer the (N, K) weights that mixed the kernels, after the aggregation strategy."""
        return {layer: torch.cat(batches) for layer, batches in self._used.items()}

    def entropy(self, *, normalized: bool = False) -> dict[str, float]:
        """Return per layer the entropy of the branch's attention in nats, averaged over the N images.

        Weights that do not sum to one (a sigmoid's) are divided by their sum first: entropy says how evenly an
        image's weight is spread over the kernels, not how much there is of it. An image whose weights are all zero
        counts as 0. `normalized` divides by log K: 1 is uniform, 0 one kernel alone (and for K = 1, where both are
        the same, 1).
        """
        entropies = {}
        for layer, weights_NK in self.branch.items():
            entropy = attention_entropy(weights_NK).mean()
            if normalized:
                entropy = _relative_to_uniform(entropy, weights_NK.shape[1])
            entropies[layer] = float(entropy)
        return entropies


def _add_call(batches: list[Tensor], weights_BK: Tensor, earlier_calls: int) -> None:
    """Append a batch, or add it to the mean over the calls of one pass."""
    if earlier_calls and batches[-1].shape == weights_BK.shape:
        # A running mean: m + (x - m) / n.
        batches[-1] = batches[-1] + (weights_BK - batches[-1]) / (earlier_calls + 1)
    else:
        batches.append(weights_BK)


@contextmanager
def record_attention(model: nn.Module, attention: str | None = None) -> Iterator[AttentionRecorder]:
    """Record the attention of each dynamic layer of `model` inside the context; yield the recorder.

    Of a layer with several attentions, `attention` names the one to record; None is the main one. Layers that do not
    have it are left out.

    A layer that no pass reaches is left out, and one that is called several times in a pass counts with the mean over
    these calls.

    Raises:
        ConversionError: the network has no dynamic layer.
    """
    recorder = AttentionRecorder()
    with ExitStack() as stack:
        # Both hooks sit on the root. `always_call`: a pass that raises has ended, too.
        stack.callback(model.register_forward_pre_hook(lambda *_: recorder.begin_pass()).remove)
        stack.callback(model.register_forward_hook(lambda *_: recorder.end_pass(), always_call=True).remove)
        for name, layer in dynamic_layers(model):
            aggregator = layer.aggregators.get(attention or layer.attentions[0])
            if aggregator is not None:
                stack.callback(aggregator.register_forward_hook(_recording_hook(recorder, name)).remove)
        if not any(dynamic_layers(model)):
            raise ConversionError("this network has no dynamic layer to record: convert it with make_dynamic first")
        yield recorder


def _recording_hook(recorder: AttentionRecorder, name: str) -> Any:
    """Return a forward hook for the aggregator of a layer: its input is the attention, its output mixes the kernels."""

    def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        recorder.add(name, args[0], output)

    return record


def attention_entropy(weights_NK: Tensor) -> Tensor:
    """Return the entropy of each image's attention in nats, (N,); see `AttentionRecorder.entropy`."""
    # Of negative weights the magnitude counts: how much of the kernel there is.
    weights_NK = weights_NK.double().abs()
    # The least positive number keeps weights that are all zero from being divided by zero.
    shares_NK = weights_NK / weights_NK.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    entropy_N: Tensor = torch.special.entr(shares_NK).sum(1)
    return entropy_N


def normalized_entropy(weights_NK: Tensor) -> Tensor:
    """Return the entropy of each image's attention divided by log K, (N,): 0 is one-hot, 1 is uniform.

    One kernel alone is uniform: 1.
    """
    return _relative_to_uniform(attention_entropy(weights_NK), weights_NK.shape[1])


def _relative_to_uniform(entropy: Tensor, num_kernels: int) -> Tensor:
    # log 1 is zero, by which the entropy, zero too, cannot be divided.
    if num_kernels == 1:
        return torch.ones_like(entropy)
    return entropy / math.log(num_kernels)
