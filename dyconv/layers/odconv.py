"""This module defines ODConv's layer, with four attentions: over kernels, input and output channels, and positions.

Dimensions: B images, C input and O output channels, G groups, K kernels, h x w kernel size, T = h w positions, A hidden
units of the attention branch.
"""

from math import prod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv.base import DEFAULT_TEMPERATURE, checked_temperature
from dyconv.errors import ShapeError
from dyconv.functional import IntOrPair, pair
from dyconv.kernels.pooling import at_least_float32, average_pool, with_average
from dyconv.layers.convolution import ConvolutionLayer
from dyconv.layers.kinds import LayerOption, register_layer
from dyconv.layers.scaling import Scales, Steps, scaled_conv2d

_HIDDEN_RATIO = LayerOption("hidden_ratio", 0.0625, low=0.0, high=1.0)
_LEAST_HIDDEN = LayerOption("least_hidden", 16, low=1, high=4096)


class ODConvAttention(nn.Module):
    """The branch of four attentions: average pool, 1 x 1 convolution (to A), batch norm, ReLU, a convolution for each.

    Kernels get a softmax(z / temperature), all others a sigmoid(z / temperature) of each logit. An attention of width
    zero is left out. The names of the parts are those of the authors' code.

    Source: Li, Zhou, Yao 2022, ODConv, section 3.2 and figure 2.
    """

    def __init__(self, in_channels: int, hidden: int, widths: dict[str, int]) -> None:
        super().__init__()
        self.fc = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.names = tuple(widths)
        for name, width in widths.items():
            self.add_module(f"{name}_fc", nn.Conv2d(hidden, width, 1))
        for part in (self.fc, *self.heads()):
            reset_convolution(part.weight, part.bias)

    def forward(self, input: Tensor, temperature: Tensor) -> dict[str, Tensor]:
        """Return each attention by name, (B, its width) in float32 at least.

        `input` is (B, C, H, W) or its (B, C) average.

        Raises:
            ShapeError: one image in training, whose hidden units are no batch to normalise.
        """
        # Convolutions of one pixel are products of matrices, which take a third of the time.
        squeezed = F.linear(average_pool(input), self.fc.weight.flatten(1))[:, :, None, None]
        # Norms of other classes may know the batches of other processes.
        if type(self.bn) is nn.BatchNorm2d and self.bn.training and squeezed.shape[0] == 1:
            raise ShapeError(
                "a batch of one image cannot train ODConv, whose attention is normalised over the batch: train with "
                "at least two images per batch, or evaluate with eval()"
            )
        hidden = torch.relu(self.bn(squeezed)).flatten(1)
        # One product for all attentions, which are so small that a call costs more than its numbers.
        heads = self.heads()
        weight = torch.cat([head.weight for head in heads]).flatten(1)
        bias = torch.cat([head.bias for head in heads if head.bias is not None])
        logits = at_least_float32(F.linear(hidden, weight, bias))
        logits = logits / temperature.to(logits.dtype)
        attentions, widths = {}, [head.out_channels for head in heads]
        # The one softmax comes first if there is one; all others are sigmoids and can be computed together.
        if self.names[0] == "kernel":
            attentions["kernel"] = torch.softmax(logits[:, : widths[0]], dim=1)
            logits, widths = logits[:, widths[0] :], widths[1:]
        gates = torch.sigmoid(logits).split_with_sizes(widths, 1)
        # There is always a gate, that of the input channels: a slice from -0 would take every name.
        attentions.update(zip(self.names[-len(gates) :], gates, strict=True))
        return attentions

    def heads(self) -> list[nn.Conv2d]:
        """Return the convolutions that make the logits, in the order of `names`."""
        return [getattr(self, f"{name}_fc") for name in self.names]

    def begin_half_open(self) -> int:
        """Set every sigmoid to one half, from where its convolution learns; return the number of sigmoids."""
        # A softmax over copies of one kernel changes nothing, so that its convolution keeps its draws.
        gates = [head for name, head in zip(self.names, self.heads(), strict=True) if name != "kernel"]
        for gate in gates:
            nn.init.zeros_(gate.weight)
            if gate.bias is not None:
                nn.init.zeros_(gate.bias)
        return len(gates)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of all convolutions for one image: A times C and the widths."""
        return self.fc.weight.numel() + sum(head.weight.numel() for head in self.heads())


@final
@register_layer("odconv", title="OD-", options=(_HIDDEN_RATIO, _LEAST_HIDDEN))
class ODConv2d(ConvolutionLayer):
    """An omni-dimensional dynamic convolution: attention over kernels, input channels, output channels and positions.

    y = a_f * conv(a_c * x, a_s * sum_k a_wk W_k): "kernel" a_w (K), a softmax; "channel" a_c (C), "filter" a_f (O) and
    "spatial" a_s (h w), sigmoids that all kernels share. "filter" is left out where the layer is depthwise (C = O = G),
    "spatial" for 1 x 1 kernels and "kernel" for one kernel. The main attention is "kernel", or "channel" where that is
    left out. A bias is mixed by "kernel" and scaled by "filter" with the output.

    Arguments are those of `nn.Conv2d`, then `num_kernels` K, `temperature` (a buffer), `aggregation`, which every
    attention gets, and the hidden units of the branch: max(int(C `hidden_ratio`), `least_hidden`). Input and output are
    those of `DynamicConv2d`. Training needs two images in a batch, as there is a batch norm in the branch.

    The state has the names and shapes of the authors' code but for `attention.`, which is called `attention_branch.`
    here, and the buffer `temperature`, which that code keeps as a plain number.

    Raises:
        ArgumentError: a setting that cannot work.
        AggregationError: an unknown strategy.

    Source: Li, Zhou, Yao 2022, ODConv, equation 3.
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
        temperature: float = DEFAULT_TEMPERATURE,
        aggregation: str = "attention",
        hidden_ratio: float = 0.0625,
        least_hidden: int = 16,
    ) -> None:
        geometry = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        widths = _widths(in_channels, out_channels, kernel_size, groups, num_kernels)
        super().__init__(
            *geometry,
            num_kernels=num_kernels,
            aggregation=aggregation,
            attentions=tuple(widths),
            sums_to_one=("kernel",),
        )
        ratio, least = _HIDDEN_RATIO.checked(hidden_ratio), _LEAST_HIDDEN.checked(least_hidden)
        hidden = max(int(in_channels * float(ratio)), int(least))
        self.attention_branch = ODConvAttention(in_channels, hidden, widths)
        self.register_buffer("temperature", torch.tensor(checked_temperature(temperature)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each kernel kaiming normal by the fan out; biases are zero."""
        for kernel, bias, _ in self.kernels():
            reset_convolution(kernel, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W) images, each by its own attentions.

        A single image (C, H, W) gives (O, H', W').
        """
        if input.dim() == 3:
            return self.forward(input[None])[0]
        self._check_images(input)
        # Averaged before padding: attention reads the image itself.
        input, average = with_average(input)
        weights, aggregators = {}, self.aggregators
        for name, attention in self.all_attentions(average).items():
            weights[name] = aggregators[name](attention)
        scales = Scales(weights.get("channel"), weights.get("spatial"), weights.get("filter"))
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), (0, 0)
        steps = Steps(self.stride, padding, self.dilation, self.groups)
        return scaled_conv2d(input, self.weight, weights.get("kernel"), scales, self.bias, steps)

    def attention(self, input: Tensor) -> Tensor:
        """Return the weights of the main attention, before any strategy: (B, K), or (B, C) where K = 1.

        `input` is (B, C, H, W) or its (B, C) average; one image (C, H, W) gives (K,).
        """
        if input.dim() == 3:
            return self.attention(input[None])[0]
        return self.all_attentions(input)[self.attentions[0]]

    def all_attentions(self, input: Tensor) -> dict[str, Tensor]:
        """Return each attention by name before any strategy, (B, N), for (B, C, H, W) or its (B, C) average."""
        weights: dict[str, Tensor] = self.attention_branch(input, self.temperature)
        return weights

    def begin_as_static(self) -> float:
        """Begin with every sigmoid at one half, from where its convolution learns; return the factor on the kernels."""
        # Each gate at one half halves the output of the convolution, and the kernels make up for that.
        return 2.0 ** self.attention_branch.begin_half_open()

    def bias_factor_as_static(self, kernel_factor: float) -> float:
        # Of the sigmoids, only that of the output channels scales the bias.
        return 2.0 if "filter" in self.attentions else 1.0

    def multiply_adds(self, input: Tensor, output: Tensor) -> dict[str, int]:
        """Return the multiply-adds of one image by purpose.

        "aggregation" holds the mixing of K > 1 kernels, and a product per number that is scaled: "spatial" scales the
        mixed kernel, "channel" and "filter" scale that or their maps (C H W and O H' W'), whichever has fewer numbers.
        """
        kernel = self.weight[0].numel()
        aggregation = min(kernel, input[0].numel())
        if "filter" in self.attentions:
            aggregation += min(kernel, output[0].numel())
        if "spatial" in self.attentions:
            aggregation += kernel
        if self.num_kernels > 1:
            aggregation += self.mixing_multiply_adds()
        return {
            "convolution": self.convolution_multiply_adds(output),
            "pooling": input[0].numel(),
            "attention": self.attention_branch.multiply_adds,
            "aggregation": aggregation,
        }


def _widths(
    in_channels: int, out_channels: int, kernel_size: IntOrPair, groups: int, num_kernels: int
) -> dict[str, int]:
    """Return the number of weights of each attention that a layer has, the main one first."""
    widths = {}
    if num_kernels > 1:
        widths["kernel"] = num_kernels
    widths["channel"] = in_channels
    if not in_channels == out_channels == groups:
        widths["filter"] = out_channels
    positions = prod(pair(kernel_size, "kernel_size", 1))
    if positions > 1:
        widths["spatial"] = positions
    return widths


def reset_convolution(weight: Tensor, bias: Tensor | None) -> None:
    """Draw one kernel kaiming normal by the fan out; its bias is zero."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    if bias is not None:
        nn.init.zeros_(bias)
