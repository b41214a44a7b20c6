"""This module defines the dynamic layers, which hold K kernels and mix them into one per input.

A layer holds the parameters and puts together what others compute: the convolution is in `functional`, attention in
`attention`, the strategy in `aggregation`. `conversion` decides which layers of a network are dynamic.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size, P positions.
"""

import math
from collections.abc import Callable
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from dyconv.aggregation import is_plain_attention
from dyconv.attention import AttentionBranch, is_untouched
from dyconv.base import DEFAULT_TEMPERATURE, DynamicLayer, checked_temperature
from dyconv.errors import ArgumentError, ShapeError
from dyconv.functional import IntOrPair, as_image, attended_conv2d, dynamic_conv2d, dynamic_linear, pair
from dyconv.kernels import compiled, native
from dyconv.kernels.compiled import Branch
from dyconv.kernels.pooling import at_least_float32, average_pool, with_average

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _is_watched_globally() -> bool:
    """Return True if torch has global hooks, which it calls for every module."""
    # Such hooks would miss modules that a compiled step leaves out.
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


class ConvolutionLayer(DynamicLayer):
    """A 2-d convolution with K kernels. Abstract: a subclass computes the attention.

    `weight` is (K, O, C / groups, h, w), `bias` (K, O) or None; a subclass draws them with `reset_parameters`.
    """

    def __init__(  # noqa: PLR0917 - the order of nn.Conv2d
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair,
        padding: IntOrPair | str,
        dilation: IntOrPair,
        groups: int,
        bias: bool,
        padding_mode: str,
        num_kernels: int,
        aggregation: str,
    ) -> None:
        super().__init__(num_kernels, aggregation)
        _check_channels(in_channels, out_channels, groups)
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(f"padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.dilation = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
        self.padding = _checked_padding(padding, self.stride, padding_mode)
        self.padding_mode = padding_mode
        self.weight = nn.Parameter(torch.empty(num_kernels, out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Draw each kernel and bias as `nn.Conv2d` draws its own, from the global generator."""
        _reset(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel.

        A single image (C, H, W) gives (O, H', W').
        """
        if input.dim() == 3:
            return self.forward(input[None])[0]
        self._check_images(input)
        # Averaged before padding: attention reads the image itself.
        input, average = with_average(input)
        mixture = self.mixture(average)
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        return dynamic_conv2d(input, self.weight, mixture, self.bias, self.stride, padding, self.dilation, self.groups)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Make `model.to(memory_format=torch.channels_last)` work: it needs four dimensions, and the kernels have five.

        They stay stored kernel by kernel, the order in which aggregation reads them.
        """

        def per_kernel(tensor: Tensor) -> Tensor:
            if tensor.dim() != 5:
                return fn(tensor)
            # (K O, C / groups, h, w) is a shape that `fn` can put into channels-last; `contiguous` undoes it.
            return fn(tensor.flatten(0, 1)).contiguous().reshape(tensor.shape)

        super()._apply(per_kernel, recurse)
        return self

    def _check_images(self, input: Tensor) -> None:
        """Raise ShapeError unless the input is (B, C, H, W) with the channels of this layer."""
        if input.dim() != 4 or input.shape[1] != self.in_channels:
            raise ShapeError(
                f"the input must be (B, C, H, W), or (C, H, W) of one image, with C = {self.in_channels} channels, "
                f"got {tuple(input.shape)}"
            )

    def _padded(self, input: Tensor) -> Tensor:
        """Return the input padded with pixels instead of zeros, in the same memory format."""
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last) and input.stride(1) == 1
        padded = F.pad(input, self._sides(), mode=self.padding_mode)
        return padded.contiguous(memory_format=torch.channels_last) if is_channels_last else padded

    def _sides(self) -> list[int]:
        """Return left, right, top and bottom padding in pixels, in the order of `F.pad`."""
        if self.padding == "valid":
            return [0, 0, 0, 0]
        if isinstance(self.padding, str):
            # "same" pads by d (k - 1) in all; the odd pixel goes to the right and the bottom, as in `nn.Conv2d`.
            rows, columns = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        rows, columns = self.padding
        return [columns, columns, rows, rows]

    def extra_repr(self) -> str:
        settings = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        settings += [f"padding={self.padding!r}", f"num_kernels={self.num_kernels}"]
        if self.groups > 1:
            settings.append(f"groups={self.groups}")
        if self.bias is None:
            settings.append("bias=False")
        return ", ".join(settings)


Convolution = nn.Conv2d | ConvolutionLayer
"""A 2-d convolution, static or dynamic."""


@final
class DynamicConv2d(ConvolutionLayer):
    """A 2-d convolution that mixes its kernel from K kernels, by attention to its input.

    Arguments are those of `nn.Conv2d`, then `num_kernels` K, `reduction` of the attention branch, softmax `temperature`
    (a buffer: saved and loaded with the weights), `aggregation`, the name of a registered strategy, and `normalization`
    of the attention ("softmax", "sigmoid", "normalized_sigmoid"; only the first reads the temperature, the others keep
    the buffer so that their state has the same entries). `padding` may also be "tf_same": TensorFlow's, ceil(H /
    stride) pixels out, the odd pixel at the bottom right. Takes (B, C, H, W) and gives (B, O, H', W'), channels-last if
    the input is; takes (C, H, W) of one image as well, as `nn.Conv2d` does.

    `weight` is (K, O, C / groups, h, w), `bias` (K, O) or None. Each kernel is initialised as `nn.Conv2d` would.

    Raises:
        ArgumentError: a setting that cannot work, or a temperature that nothing would read.
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
        temperature: float = DEFAULT_TEMPERATURE,
        aggregation: str = "attention",
        normalization: str = "softmax",
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels, aggregation)
        self.attention_branch = AttentionBranch(in_channels, num_kernels, reduction, normalization)
        # A buffer, so that a checkpoint holds the temperature that its weights were trained at.
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))
        self.reset_parameters()

    @property
    def reads_temperature(self) -> bool:
        # Of the normalisations only the softmax has a temperature.
        return self.attention_branch.normalization == "softmax"

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each with its own kernel."""
        padding = self.padding
        # Attention and convolution in one compiled call, unless somebody hooks into or replaces what lies between.
        if self.bias is None and not _is_watched_globally() and self._mixes_by_attention():
            branch = self._branch()
            if branch is not None and self.padding_mode == "zeros" and not isinstance(padding, str):
                geometry = self.stride, padding, self.dilation, self.groups
                output = attended_conv2d(input, self.weight, branch, *geometry)
                # None: the compiled step does not know this type, layout or shape.
                if output is not None:
                    return output
        return super().forward(input)

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the kernels, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        if not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or _is_watched_globally()):
            # The compiled branch, which `forward` uses too.
            average, branch = average_pool(input), self._branch()
            if branch is not None and native.can_read(average, *branch) and average.shape[1] == self.in_channels:
                return compiled.attend(average, branch)
        return self.attention_branch(input, self.temperature)  # type: ignore[no-any-return]

    def _mixes_by_attention(self) -> bool:
        """Return True if the weights of the attention branch mix the kernels unchanged, and nobody watches that."""
        aggregator, kind = self.aggregator, type(self)
        if kind.attention is not _ATTENTION or kind.mixture is not _MIXTURE or not is_plain_attention(aggregator):
            return False
        return is_untouched(aggregator) and "attention" not in self.__dict__ and "mixture" not in self.__dict__

    def _branch(self) -> Branch | None:
        """Return the tensors of the attention branch; None if a hook or a replaced method changes or watches it."""
        layers = self.attention_branch.plain_layers()
        if layers is None:
            return None
        return Branch(*layers, self.temperature)


# Kept as they are on import, so that a patch of a class shows.
_ATTENTION, _MIXTURE = DynamicConv2d.attention, DynamicLayer.mixture


@final
class CondConv2d(ConvolutionLayer):
    """A conditionally parameterised convolution: K kernels ("experts") mixed by sigmoid(Linear(average pool)).

    Arguments are those of `nn.Conv2d`, then `num_kernels` K and `aggregation`. `routing` is the one Linear layer (C to
    K), of this layer alone. The weights lie in 0 to 1 without a sum of one; there is no temperature. Input and output
    are those of `DynamicConv2d`.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Yang et al. 2019, CondConv, section 3: W(x) = sum_k r_k(x) W_k, r(x) = sigmoid(R average_pool(x)).
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
        num_kernels: int = 8,
        aggregation: str = "attention",
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        super().__init__(*geometry, num_kernels, aggregation)
        self.routing = nn.Linear(in_channels, num_kernels)
        self.reset_parameters()

    @property
    def reads_temperature(self) -> bool:
        return False  # a sigmoid has none

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) routing weights, in float32 at least, before any strategy.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        return torch.sigmoid(at_least_float32(self.routing(average_pool(input))))


@final
class DynamicLinear(DynamicLayer):
    """The dynamic perceptron: a linear layer that mixes its matrix from K matrices, by attention to its input.

    Arguments are those of `nn.Linear`, then those of `DynamicConv2d`. Takes (in,), (B, in) or (B, ..., in) and gives
    (..., out): one mixture per first index, from attention to the mean over all P positions between the first and the
    last dimension, as a dynamic convolution has one per image. `weight` is (K, out, in), `bias` (K, out) or None, each
    initialised as `nn.Linear` would.

    Raises:
        ArgumentError: a setting that cannot work, or a temperature that nothing would read.
        AggregationError: an unknown strategy.

    Source: Chen et al. 2020, section 3.1: y = g(W(x)^T x + b(x)).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        num_kernels: int = 4,
        reduction: int = 4,
        temperature: float = DEFAULT_TEMPERATURE,
        aggregation: str = "attention",
        normalization: str = "softmax",
    ) -> None:
        super().__init__(num_kernels, aggregation)
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(num_kernels, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_features)) if bias else None
        self.attention_branch = AttentionBranch(in_features, num_kernels, reduction, normalization)
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature, normalization)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each matrix and bias as `nn.Linear` draws its own, from the global generator."""
        _reset(self.weight, self.bias)

    @property
    def reads_temperature(self) -> bool:
        # Of the normalisations only the softmax has a temperature.
        return self.attention_branch.normalization == "softmax"

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) weights that the attention branch gives the matrices, before any strategy.

        One input (in,) gives (K,).
        """
        if input.dim() == 1:
            return self.attention(input[None])[0]
        return self.attention_branch(as_image(input), self.temperature)  # type: ignore[no-any-return]

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, ..., out) product of (B, ..., in), each index of B with its own matrix; (out,) of (in,)."""
        if input.dim() == 1:
            return self.forward(input[None])[0]
        return dynamic_linear(input, self.weight, self.mixture(input), self.bias)

    def extra_repr(self) -> str:
        settings = f"{self.in_features}, {self.out_features}, num_kernels={self.num_kernels}"
        if self.bias is None:
            settings += ", bias=False"
        return settings


def _reset(weight: Tensor, bias: Tensor | None) -> None:
    """Fill K kernels and biases as `nn.Conv2d` and `nn.Linear` fill one: uniform, by the fan in."""
    # One by one, because the fan in of the stacked tensor would be wrong; sqrt(5) is the constant of `nn.Conv2d`.
    for kernel in weight:
        nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight[0, 0].numel())
        nn.init.uniform_(bias, -bound, bound)


def _check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    if in_channels < 1:
        raise ArgumentError(f"in_channels must be at least 1, got {in_channels}")
    if groups < 1 or out_channels < 1 or in_channels % groups or out_channels % groups:
        raise ArgumentError(
            f"{in_channels} input and {out_channels} output channels must both be positive multiples of groups={groups}"
        )


def _checked_padding(padding: IntOrPair | str, stride: tuple[int, int], mode: str) -> tuple[int, int] | str:
    if not isinstance(padding, str):
        return pair(padding, "padding", 0)
    if padding not in ("same", "valid", "tf_same"):
        raise ArgumentError(f"padding must be 'same', 'valid', 'tf_same' or integers, got {padding!r}")
    if padding == "same" and stride != (1, 1):
        raise ArgumentError(
            f"padding='same' needs stride 1, got {stride}: give the padding in pixels, or 'tf_same' for TensorFlow's"
        )
    if padding == "tf_same" and mode != "zeros":
        raise ArgumentError(f"padding='tf_same' pads with zeros, got padding_mode={mode!r}: give it in pixels")
    return padding
