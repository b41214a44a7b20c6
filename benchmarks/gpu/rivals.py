"""This module builds the implementations that are compared, from one dynamic layer or one network.

static: an ordinary convolution, the least that a dynamic one could cost. textbook: aggregate the kernels, then one
convolution grouped by image, as public implementations do. timm: its `CondConv2d`, with the routing of its networks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu.setting import Setting
from benchmarks.textbook import TextbookDynamicConv2d, as_textbook
from benchmarks.timing import Step
from dyconv import DynamicConv2d, build_model


class TimmCondConv(nn.Module):
    """timm's layer with sigmoid routing by the average of the input, as its EfficientNets do it."""

    def __init__(self, channels: tuple[int, int], num_kernels: int, settings: dict[str, Any]) -> None:
        super().__init__()
        from timm.layers.cond_conv2d import CondConv2d  # an optional dependency

        self.routing = nn.Linear(channels[0], num_kernels)
        self.convolution: nn.Module = CondConv2d(*channels, num_experts=num_kernels, **settings)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W)."""
        routing = torch.sigmoid(self.routing(F.adaptive_avg_pool2d(input, 1).flatten(1)))
        output: Tensor = self.convolution(input, routing)
        return output


def layers(
    channels: tuple[int, int], num_kernels: int, settings: dict[str, Any], setting: Setting
) -> dict[str, nn.Module]:
    """Return the layer of each implementation, on the device; timm's only where timm is installed."""
    ours = DynamicConv2d(*channels, num_kernels=num_kernels, **settings)
    built: dict[str, nn.Module] = {
        "static": nn.Conv2d(*channels, **settings),
        "ours": ours,
        "textbook": TextbookDynamicConv2d(ours),
    }
    with suppress(ImportError):
        built["timm"] = TimmCondConv(channels, num_kernels, settings)
    return {name: _placed(layer, setting) for name, layer in built.items()}


def networks(name: str, options: dict[str, Any], setting: Setting) -> dict[str, nn.Module]:
    """Return the network of each implementation, on the device."""
    ours = build_model(name, num_kernels=4, **options)
    built = {"static": build_model(name, **options), "ours": ours, "textbook": as_textbook(ours)}
    return {name: _placed(model, setting) for name, model in built.items()}


def _placed(module: nn.Module, setting: Setting) -> nn.Module:
    return module.to(setting.device).to(memory_format=torch.channels_last)


def compiled(built: dict[str, nn.Module], setting: Setting) -> dict[str, nn.Module]:
    """Return `torch.compile` of the static implementation and of ours, compiled when they are first called."""
    # On the CPU a C compiler would take minutes; a dry run stops before, when the program is known.
    backend = "eager" if setting.tiny else "inductor"
    named = {f"{name}, compiled": torch.compile(built[name], backend=backend) for name in ("static", "ours")}
    # Types come with functions, not with modules.
    return {name: module for name, module in named.items() if isinstance(module, nn.Module)}


def training_step(module: nn.Module, images: Tensor, setting: Setting) -> Step:
    """Return forward and backward in mixed precision as one step; it drops the gradients first, as a training does."""

    def step() -> None:
        for parameter in module.parameters():
            parameter.grad = None
        with setting.autocast():
            loss = module(images).float().square().mean()
        torch.autograd.backward(loss)

    return step


def looking(module: nn.Module, images: Tensor, setting: Setting) -> Step:
    """Return a forward pass in mixed precision without gradients as one step."""

    def step() -> None:
        with torch.no_grad(), setting.autocast():
            module(images)

    return step
