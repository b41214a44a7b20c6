"""Dynamic convolutions as other projects save them, in plain torch and image by image, and networks made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dyconv

SETTINGS: dict[str, Any] = {"width": 0.35, "depth": 0.4, "in_channels": 1}
"""A small MobileNetV2."""
SIZE = (1, 32, 32)
Geometry = dict[str, Any]


def geometry_of(conv: nn.Conv2d) -> Geometry:
    return {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation, "groups": conv.groups}


def mixed_by_image(x: Tensor, weight: Tensor, bias: Tensor | None, weights: Tensor, geometry: Geometry) -> Tensor:
    """Sum the kernels of one image, then convolve that image alone."""
    outputs = []
    for image, row in zip(x, weights, strict=True):
        kernel = torch.zeros_like(weight[0])
        for share, own in zip(row, weight, strict=True):
            kernel = kernel + share * own
        mixed_bias = None if bias is None else (row[:, None] * bias).sum(0)
        outputs.append(F.conv2d(image[None], kernel, mixed_bias, **geometry))
    return torch.cat(outputs)


def drawn_kernels(conv: nn.Conv2d, num_kernels: int) -> nn.Parameter:
    return nn.Parameter(conv.weight.detach() * (0.6 + 0.8 * torch.rand(num_kernels, *conv.weight.shape)))


class AttentionConvolutions(nn.Module):
    """`attention.fc1` without bias and `attention.fc2`, both 1 x 1 convolutions, int(C / 4) + 1 hidden channels."""

    def __init__(self, conv: nn.Conv2d, num_kernels: int, *, bias: bool = False, last_bias: bool = True) -> None:
        super().__init__()
        hidden = int(conv.in_channels * 0.25) + 1
        self.attention = nn.Module()
        self.attention.fc1 = nn.Conv2d(conv.in_channels, hidden, 1, bias=False)
        self.attention.fc2 = nn.Conv2d(hidden, num_kernels, 1, bias=last_bias)
        self.weight = drawn_kernels(conv, num_kernels)
        self.register_parameter("bias", nn.Parameter(torch.randn(num_kernels, conv.out_channels)) if bias else None)
        self.geometry, self.temperature = geometry_of(conv), 34.0

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        logits = self.attention.fc2(F.relu(self.attention.fc1(pooled))).flatten(1)
        weights = torch.softmax(logits / self.temperature, 1)
        return mixed_by_image(x, self.weight, self.bias, weights, self.geometry)


class AttentionScores(nn.Module):
    """`attention.to_scores` of two Linear layers around a ReLU, `kernels_weights` and `kernels_bias`."""

    def __init__(self, conv: nn.Conv2d, num_kernels: int, *, bias: bool = False, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(1, conv.in_channels // reduction)
        self.attention = nn.Module()
        first, last = nn.Linear(conv.in_channels, hidden), nn.Linear(hidden, num_kernels)
        self.attention.to_scores = nn.Sequential(first, nn.ReLU(), last)
        self.kernels_weights = drawn_kernels(conv, num_kernels)
        own_bias = nn.Parameter(torch.randn(num_kernels, conv.out_channels)) if bias else None
        self.register_parameter("kernels_bias", own_bias)
        self.geometry, self.temperature = geometry_of(conv), 34.0

    def forward(self, x: Tensor) -> Tensor:
        scores = self.attention.to_scores(x.mean((2, 3)))
        weights = torch.softmax(scores / self.temperature, -1)
        return mixed_by_image(x, self.kernels_weights, self.kernels_bias, weights, self.geometry)


class ODConv(nn.Module):
    """y = a_f * conv(a_c * x, a_s * sum_k a_wk W_k), with the parts of its attention under the authors' names."""

    def __init__(self, conv: nn.Conv2d, num_kernels: int) -> None:
        super().__init__()
        hidden = max(int(conv.in_channels / 16), 16)
        positions = conv.kernel_size[0] * conv.kernel_size[1]
        attention: Any = nn.Module()
        attention.fc = nn.Conv2d(conv.in_channels, hidden, 1, bias=False)
        attention.bn = nn.BatchNorm2d(hidden)
        attention.channel_fc = nn.Conv2d(hidden, conv.in_channels, 1)
        if not conv.in_channels == conv.out_channels == conv.groups:
            attention.filter_fc = nn.Conv2d(hidden, conv.out_channels, 1)
        if positions > 1:
            attention.spatial_fc = nn.Conv2d(hidden, positions, 1)
        if num_kernels > 1:
            attention.kernel_fc = nn.Conv2d(hidden, num_kernels, 1)
        self.attention, self.weight = attention, drawn_kernels(conv, num_kernels)
        self.geometry, self.temperature = geometry_of(conv), 1.0

    def gate(self, hidden: Tensor, name: str) -> Tensor | None:
        """Return the sigmoids of one attention, None if the layer does not have it."""
        last = getattr(self.attention, name, None)
        return None if last is None else torch.sigmoid(last(hidden).flatten(1) / self.temperature)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.attention.bn(self.attention.fc(x.mean((2, 3), keepdim=True))))
        gates = [self.gate(hidden, name) for name in ("channel_fc", "filter_fc", "spatial_fc")]
        kernel_fc = getattr(self.attention, "kernel_fc", None)
        outputs = []
        for b, image in enumerate(x):
            channel, filters, spatial = (None if gate is None else gate[b] for gate in gates)
            kernel = self.weight[0]
            if kernel_fc is not None:
                logits = kernel_fc(hidden[b : b + 1]).flatten()
                kernel = torch.einsum("k,koihw->oihw", torch.softmax(logits / self.temperature, 0), self.weight)
            if spatial is not None:
                kernel = kernel * spatial.view(kernel.shape[2:])
            assert channel is not None
            output = F.conv2d((channel[:, None, None] * image)[None], kernel, **self.geometry)
            outputs.append(output if filters is None else filters[:, None, None] * output)
        return torch.cat(outputs)


Make = Callable[[nn.Conv2d], nn.Module]


def images(batch: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    noise = torch.randn(batch, *SIZE, generator=generator)
    return noise + 2 * torch.randn(batch, 1, 1, 1, generator=generator)


def foreign_network(make: Make, *, classes: int = 10, seed: int = 0) -> nn.Module:
    """Return a MobileNetV2 with foreign layers in place of all convolutions but the stem, as if trained."""
    torch.manual_seed(seed)
    model = dyconv.build_model("mobilenet_v2", classes, **SETTINGS)
    stem = True
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                if not stem:
                    setattr(parent, name, make(child))
                stem = False
    return with_statistics(model)


def with_statistics(model: nn.Module) -> nn.Module:
    """Give all batch norms the statistics of some images, and weights of their own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(images(32))
    return model.eval()


def at_temperature(model: nn.Module, temperature: float) -> nn.Module:
    """Set the plain attribute in which foreign layers keep their temperature."""
    for module in model.modules():
        if "temperature" in vars(module):
            vars(module)["temperature"] = temperature
    return model


def outputs(model: nn.Module) -> Tensor:
    """Return the outputs in double precision, so that rounding cannot hide a mistake."""
    with torch.no_grad():
        return model.double().eval()(images().double())  # type: ignore[no-any-return]


def own_network(**settings: Any) -> nn.Module:
    """Return a fresh MobileNetV2 of ours, with other weights than the foreign one."""
    return dyconv.build_model("mobilenet_v2", 10, **{**SETTINGS, "num_kernels": 4, "seed": 99, **settings})
