"""This module defines the base of all dynamic convolutions: K kernels, their geometry and their padding.

A kind of layer is a subclass that computes the attention. It may do more, by methods of this class that it overrides:
mix in its own way (`forward`), hold other parameters (`kernels`, `begin_as_static`), count its work (`multiply_adds`),
say what it cannot replace (`obstacle`) and join layers of a network (`connect`) or of a block (`connect_block`).
`dyconv.layers.kinds` is the registry of kinds.

Dimensions: B images, C input and O output channels, K kernels, h x w kernel size.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.base import DynamicLayer
from dyconv.errors import ArgumentError, ConversionError, ShapeError
from dyconv.functional import IntOrPair, dynamic_conv2d, pair
from dyconv.kernels.pooling import with_average

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class BlockHook:
    """A forward hook of a block that is part of what its layers compute.

    A module that is run without foreign hooks keeps these. Abstract: a subclass is callable as torch calls hooks.
    """


class ConvolutionLayer(DynamicLayer):
    """A 2-d convolution with K kernels. Abstract: a subclass computes the attention.

    Arguments are those of `nn.Conv2d`, then those of `DynamicLayer`. `weight` is (K, O, C / groups, h, w), `bias`
    (K, O) or None; a subclass draws them with `reset_parameters`.
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
        aggregation: str = "attention",
        attentions: tuple[str, ...] = ("kernel",),
        sums_to_one: tuple[str, ...] = (),
    ) -> None:
        super().__init__(num_kernels, aggregation, attentions, sums_to_one)
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
        reset_kernels(self.weight, self.bias)

    def kernels(self) -> Iterator[tuple[Tensor, Tensor | None, slice]]:
        """Yield each kernel (O', C / groups, h, w), its bias (O') or None, and the output channels that it computes.

        An initialiser fills these, each by itself.
        """
        for k, kernel in enumerate(self.weight):
            yield kernel, None if self.bias is None else self.bias[k], slice(None)

    def begin_as_static(self) -> float:
        """Make this layer, whose kernels are copies of one, compute what a static layer does; return their factor.

        Weights that sum to one need nothing and the factor 1. A kind with other weights makes its attention the same
        for every input, from where it learns.

        Raises:
            ConversionError: this kind does not say how.
        """
        if all(aggregator.sums_to_one for aggregator in self.aggregators.values()):
            return 1.0
        raise ConversionError(
            f"{type(self).__name__} does not say how it begins as a static layer: define begin_as_static, or use "
            "start='scratch'"
        )

    def bias_factor_as_static(self, kernel_factor: float) -> float:
        """Return the factor on the biases that goes with that on the kernels, of `begin_as_static`.

        It is the same where both are mixed alike.
        """
        return kernel_factor

    @classmethod
    def obstacle(cls, conv: nn.Conv2d) -> str | None:
        """Return the reason why this kind cannot replace a convolution, which then stays static; None if it can."""
        return None

    @classmethod
    def connect(cls, model: nn.Module, layers: Mapping[str, Self]) -> None:
        """Join the new `layers` of a converted `model`, by name; a kind whose layers share something overrides this."""

    @classmethod
    def connect_block(cls, block: nn.Module, in_channels: int, layers: Mapping[str, Self]) -> None:
        """Join the new layers of one residual block, by name; a kind whose layers share something there overrides this.

        `block` is the module that takes the block's input, which has `in_channels`. A layer that is used in several
        places is not among the `layers`.
        """

    def convolution_multiply_adds(self, output: Tensor) -> int:
        """Return the multiply-adds of the convolution itself for one image, as in a static layer."""
        # Each output number is a sum over the input channels of its group and the kernel's pixels.
        per_pixel = self.out_channels * self.in_channels // self.groups * math.prod(self.kernel_size)
        return per_pixel * math.prod(output.shape[2:])

    def mixing_multiply_adds(self) -> int:
        """Return the multiply-adds of mixing the K kernels: each number of kernel and bias is a sum over K."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

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
        return self.convolve(input, mixture)

    def convolve(self, input: Tensor, mixture: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images with kernels mixed by (B, K) weights."""
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
        # A tensor of one channel is contiguous in both formats; only its stride tells which one it has.
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


def reset_kernels(weight: Tensor, bias: Tensor | None) -> None:
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
