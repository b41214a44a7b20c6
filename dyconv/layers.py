"""Dynamic layers: modules that hold K kernels and mix one per input.

The computation is `functional`'s, the attention `attention`'s, the strategy `aggregation`'s; a layer holds the
parameters and puts these together. Which layers of a network are dynamic is decided in `conversion`.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

import math
from collections.abc import Callable, Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.aggregation import Aggregator
from dyconv.attention import AttentionBranch
from dyconv.errors import ArgumentError
from dyconv.functional import IntOrPair, dynamic_conv2d, pair

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class DynamicLayer(nn.Module):
    """What all dynamic layers share: K, the attention branch, its temperature, and the aggregation strategy.

    Abstract: a layer of this kind adds its parameters and its `forward`, and mixes with `mixture(x)`.
    """

    temperature: Tensor

    def __init__(
        self, in_channels: int, num_kernels: int, reduction: int, temperature: float, aggregation: str
    ) -> None:
        super().__init__()
        self.num_kernels = num_kernels
        self.attention_branch = AttentionBranch(in_channels, num_kernels, reduction)
        self.aggregator = Aggregator(aggregation)
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature)))

    @property
    def aggregation(self) -> str:
        """The name of the aggregation strategy in use."""
        return self.aggregator.name

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the kernels, before any strategy."""
        return self.attention_branch(input, self.temperature)  # type: ignore[no-any-return]

    def mixture(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that mix the kernels: the attention after the aggregation strategy."""
        return self.aggregator(self.attention(input))  # type: ignore[no-any-return]


class DynamicConv2d(DynamicLayer):
    """A 2-d convolution whose kernel is mixed from K kernels by attention to its input.

    Arguments as `nn.Conv2d`'s, then `num_kernels` K, `reduction` of the attention branch, softmax `temperature`
    (a buffer: saved and loaded with the weights) and `aggregation`, the name of a registered strategy. Takes
    (B, C, H, W) and gives (B, O, H', W'), channels-last if the input is.

    `weight` is (K, O, C / groups, h, w), `bias` (K, O) or None. Each kernel is initialised as `nn.Conv2d` would.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Chen et al. 2020, section 3.
    """

    def __init__(  # noqa: PLR0917 - the order of nn.Conv2d
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        aggregation: str = "attention",
    ) -> None:
        super().__init__(in_channels, num_kernels, reduction, temperature, aggregation)
        _check_channels(in_channels, out_channels, groups)
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(f"padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.dilation = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
        self.padding = _checked_padding(padding, self.stride)
        self.padding_mode = padding_mode
        self.weight = nn.Parameter(torch.empty(num_kernels, out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each kernel and bias as `nn.Conv2d` draws its own, from the global generator."""
        for kernel in self.weight:
            nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0, 0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel."""
        mixture = self.mixture(input)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        return dynamic_conv2d(input, self.weight, mixture, self.bias, self.stride, padding, self.dilation, self.groups)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let `model.to(memory_format=torch.channels_last)` pass: it asks for four dimensions, the kernels have five.

        They stay stored kernel by kernel, which is the order that aggregating them reads.
        """

        def per_kernel(tensor: Tensor) -> Tensor:
            if tensor.dim() != 5:
                return fn(tensor)
            return fn(tensor.flatten(0, 1)).contiguous().reshape(tensor.shape)

        super()._apply(per_kernel, recurse)  # type: ignore[no-untyped-call]
        return self

    def _padded(self, input: Tensor) -> Tensor:
        """Pad with pixels instead of zeros, keeping the memory format."""
        last = input.is_contiguous(memory_format=torch.channels_last) and input.stride(1) == 1
        padded = F.pad(input, self._sides(), mode=self.padding_mode)
        return padded.contiguous(memory_format=torch.channels_last) if last else padded

    def _sides(self) -> list[int]:
        """Left, right, top and bottom padding in pixels."""
        if self.padding == "valid":
            return [0, 0, 0, 0]
        if isinstance(self.padding, str):
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            return [n for total in reversed(totals) for n in (total // 2, total - total // 2)]
        return [n for p in reversed(self.padding) for n in (p, p)]

    def extra_repr(self) -> str:
        """Return what `print` shows of this layer."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding!r}", f"num_kernels={self.num_kernels}"]
        parts += [f"groups={self.groups}"] if self.groups > 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


def dynamic_layers(model: nn.Module) -> Iterator[tuple[str, DynamicLayer]]:
    """Yield the name and module of each dynamic layer of `model`, in the order of their definition."""
    for name, module in model.named_modules():
        if isinstance(module, DynamicLayer):
            yield name, module


def set_temperature(model: nn.Module, temperature: float) -> int:
    """Set the softmax temperature of every dynamic layer; return how many there are (none in a static network).

    Raises:
        ArgumentError: the temperature is not a positive number.
    """
    value = checked_temperature(temperature)
    layers = [layer for _, layer in dynamic_layers(model)]
    with torch.no_grad():
        for layer in layers:
            layer.temperature.fill_(value)
    return len(layers)


def set_forward_step(model: nn.Module, step: int) -> int:
    """Make `step` the number of the next forward pass, from which random strategies draw; return how many layers.

    A trainer that calls this before each step with its global step resumes with the draws of an uninterrupted
    run. Without it, passes are counted from 0 by a hook on the network that `make_dynamic` was given.

    Raises:
        ArgumentError: the step is negative.
    """
    if step < 0:
        raise ArgumentError(f"a forward step is counted from 0, got {step}")
    layers = [layer for _, layer in dynamic_layers(model)]
    for layer in layers:
        layer.aggregator.context.forward_pass.set(step)
    return len(layers)


def checked_temperature(value: float) -> float:
    """Return `value` as a float, or raise ArgumentError if it is not a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ArgumentError(f"temperature must be a positive number (1 is a plain softmax, 30 is flat), got {value!r}")
    return float(value)


def _check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    if groups < 1 or out_channels < 1 or in_channels % groups or out_channels % groups:
        raise ArgumentError(
            f"{in_channels} input and {out_channels} output channels must both be positive multiples of groups={groups}"
        )


def _checked_padding(padding: IntOrPair | str, stride: tuple[int, int]) -> tuple[int, int] | str:
    if not isinstance(padding, str):
        return pair(padding, "padding", 0)
    if padding not in ("same", "valid"):
        raise ArgumentError(f"padding must be 'same', 'valid' or integers, got {padding!r}")
    if padding == "same" and stride != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got {stride}: give the padding in pixels")
    return padding
