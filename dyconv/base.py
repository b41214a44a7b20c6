"""This module defines `DynamicLayer`, the base of all dynamic layers, and functions for all such layers of a network.

The kinds of dynamic layer live in `layers`; each kind decides by itself where its attention comes from.

Dimensions: B inputs, K kernels.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from dyconv.aggregation import Aggregator, ForwardPass
from dyconv.attention import reads_temperature
from dyconv.errors import ArgumentError, ConversionError
from dyconv.kernels.tracing import is_ordinary
from dyconv.lineage import Lineage

M = TypeVar("M", bound=nn.Module)

DEFAULT_TEMPERATURE = 30.0


class DynamicLayer(nn.Module):
    """A layer that holds K kernels and mixes them into one per input, by attention and an aggregation strategy.

    Abstract: a subclass adds its parameters, computes the attention, and mixes with `mixture(x)` in its `forward`.

    A layer may have several attentions, such as one over kernels and one over channels. `attentions` names them, the
    main one first, and each has an aggregator, so that a strategy can be applied to each alone: `aggregators[name]`
    takes the (B, N) weights of an attention and returns those to use. `sums_to_one` names the attentions whose weights
    always sum to one, as those of a softmax do.

    Raises:
        ArgumentError: a number of kernels below one.
        AggregationError: an unknown strategy.
    """

    def __init__(
        self,
        num_kernels: int,
        aggregation: str,
        attentions: tuple[str, ...] = ("kernel",),
        sums_to_one: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        if num_kernels < 1:
            raise ArgumentError(f"num_kernels must be at least 1, got {num_kernels}")
        self.num_kernels = num_kernels
        self.attentions = attentions
        self.aggregator = Aggregator(aggregation, sums_to_one=attentions[0] in sums_to_one)
        if len(attentions) > 1:
            self.further_aggregators = nn.ModuleDict()
            for attention in attentions[1:]:
                self.further_aggregators[attention] = Aggregator(aggregation, sums_to_one=attention in sums_to_one)
            self.draw_from(ForwardPass(), "")
        # A plain attribute, neither parameter nor buffer: it is history of this object, not state to save.
        self._lineage = Lineage()

    @property
    def temperature(self) -> Tensor:
        """The softmax temperature, a buffer; set it with `set_temperature`.

        If a moving average wrote a mean into a copy of a layer, this is the temperature of the original layer.
        """
        buffer = self._buffers.get("temperature")
        if buffer is None:
            raise AttributeError(f"{type(self).__name__!r} has no temperature")
        # Nobody tells a copy that an average wrote into it, so each reading checks.
        if self._lineage.source is not None and is_ordinary(buffer):
            current = self._lineage.averaged_from(self, buffer)
            if current is not None:
                self.write_temperature(current)
        return buffer

    def write_temperature(self, value: float) -> None:
        """Set the temperature of this layer; it must have one."""
        buffer = self._buffers["temperature"]
        assert buffer is not None
        with torch.no_grad():
            buffer.fill_(value)
        self._lineage.set(self, buffer, value)

    def _record_temperature(self) -> None:
        """Record the value of the buffer as a temperature that was set."""
        buffer = self._buffers.get("temperature")
        # Only a number in memory can be read, not that of a fake or meta tensor.
        if buffer is not None and is_ordinary(buffer) and not buffer.is_meta:
            self._lineage.set(self, buffer, float(buffer))

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer as `nn.Module` does, and record the temperature if it is that."""
        super().register_buffer(name, tensor, persistent)
        if name == "temperature":
            self._record_temperature()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = None
        if "temperature" in self._buffers:
            before = self.temperature  # reading it undoes what an average wrote
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # `model.to(...)` may replace the buffer by a new tensor, which has no history of writes.
        if before is not None and self._buffers["temperature"] is not before:
            self._record_temperature()
        return self

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        if "temperature" in self._buffers:
            _ = self.temperature  # reading it undoes what an average wrote
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._record_temperature()

    def __prepare_scriptable__(self) -> None:
        """Raise ConversionError, when `torch.jit.script` comes to this layer."""
        raise ConversionError(
            f"TorchScript cannot compile a {type(self).__name__}: give dyconv.deployable(model) to "
            "torch.export.export, or to torch.onnx.export(…, dynamo=True)"
        )

    @property
    def aggregation(self) -> str:
        """The name of the aggregation strategy in use."""
        return self.aggregator.name

    @property
    def aggregators(self) -> dict[str, Aggregator]:
        """The aggregator of each attention by its name, the main one first."""
        aggregators = {self.attentions[0]: self.aggregator}
        for name in self.attentions[1:]:
            aggregators[name] = cast(Aggregator, self.further_aggregators[name])
        return aggregators

    def draw_from(self, forward_pass: ForwardPass, name: str) -> None:
        """Let random strategies draw from a count of forward passes and the name of this layer in its network."""
        for attention in self.attentions:
            self.draw_attention_from(attention, forward_pass, name)

    def draw_attention_from(self, attention: str, forward_pass: ForwardPass, name: str) -> None:
        """Let the strategy of one attention draw from a count of forward passes and the name of this layer."""
        # Further attentions of a layer draw for themselves; the main one has the name of the layer alone.
        label = name if attention == self.attentions[0] else f"{name}:{attention}"
        self.aggregators[attention].draw_from(forward_pass, label)

    @property
    def reads_temperature(self) -> bool:
        """True if attention depends on `temperature`, as a softmax does and a sigmoid does not."""
        return "temperature" in self._buffers

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights of the main attention, before any strategy."""
        raise NotImplementedError

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int] | None:
        """Return the multiply-adds of one image by purpose, the fields of `dyconv.cost.LayerCost`.

        None leaves counting to `dyconv.cost`, which traces the operations of torch. `input` and `output` are those of a
        forward pass.
        """
        return None

    def mixture(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that mix the kernels: the attention after the aggregation strategy."""
        return self.aggregator(self.attention(input))  # type: ignore[no-any-return]


def dynamic_layers(model: nn.Module) -> Iterator[tuple[str, DynamicLayer]]:
    """Yield the name and module of each dynamic layer of `model`, in the order of their definition.

    The inside of a dynamic layer is not searched, so that a trainer can afford this at every step.
    """
    yield from outermost(model, (DynamicLayer,), "", set())


def outermost(
    module: nn.Module, kinds: tuple[type[M], ...], name: str, seen: set[nn.Module]
) -> Iterator[tuple[str, M]]:
    """Yield the name and module of each module of some `kinds` in a module called `name`, without those inside it."""
    # A module that is used in two places counts once, under its first name.
    if module in seen:
        return
    seen.add(module)
    if isinstance(module, kinds):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from outermost(child, kinds, f"{name}.{child_name}" if name else child_name, seen)


def set_temperature(model: nn.Module, temperature: float) -> int:
    """Set the softmax temperature of every dynamic layer that reads one; return the number of these layers.

    Layers whose attention is a plain sigmoid (CondConv's, or by `normalization`) read none and stay as they are. So
    does a static network.

    Raises:
        ArgumentError: the temperature is not a positive number.
    """
    value = checked_temperature(temperature)
    layers = [layer for _, layer in dynamic_layers(model) if layer.reads_temperature]
    for layer in layers:
        layer.write_temperature(value)
    return len(layers)


def set_forward_step(model: nn.Module, step: int) -> int:
    """Make `step` the number of the next forward pass, from which random strategies draw; return the number of layers.

    A trainer that calls this before each step with its global step draws, after a resume, as an uninterrupted run
    would. Without it, a hook on the network that `make_dynamic` was given counts the passes from 0.

    Raises:
        ArgumentError: the step is negative.
    """
    if step < 0:
        raise ArgumentError(f"a forward step is counted from 0, got {step}")
    layers = [layer for _, layer in dynamic_layers(model)]
    for layer in layers:
        layer.aggregator.context.forward_pass.set(step)
    return len(layers)


def set_forward_seed(model: nn.Module, seed: int) -> int:
    """Let random strategies draw from `seed` instead of the one the network was built from; return their layers.

    The number of dynamic layers is returned, as by `set_forward_step`; the number of the next pass stays.
    """
    layers = [layer for _, layer in dynamic_layers(model)]
    for layer in layers:
        for aggregator in layer.aggregators.values():
            aggregator.context.forward_pass.seed = seed
    return len(layers)


def checked_temperature(value: float, normalization: str = "softmax") -> float:
    """Return `value` as a float.

    Raises:
        ArgumentError: it is not a positive finite number, or not the default where nothing would read it.
    """
    # True is an int in Python, and 0 < nan is false.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ArgumentError(f"temperature must be a positive number (1 is a plain softmax, 30 is flat), got {value!r}")
    if not reads_temperature(normalization) and value != DEFAULT_TEMPERATURE:
        raise ArgumentError(f"normalization={normalization!r} reads no temperature, got {value!r}: leave it out")
    return float(value)
