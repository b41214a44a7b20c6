"""This module holds the textbook dynamic convolution, as public implementations have it, to compare ours with.

It writes one aggregated kernel per image to memory and folds the batch into the groups of one convolution.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dyconv import DynamicConv2d
from dyconv.base import dynamic_layers


class TextbookDynamicConv2d(nn.Module):
    """`DynamicConv2d` with zero padding computed the textbook way, with the parameters of one of ours."""

    def __init__(self, ours: DynamicConv2d) -> None:
        super().__init__()
        self.ours = copy.deepcopy(ours)

    def forward(self, input: Tensor) -> Tensor:
        """Return the (B, O, H', W') convolution of (B, C, H, W)."""
        ours, batch = self.ours, input.shape[0]
        pooled = F.adaptive_avg_pool2d(input, 1).flatten(1)
        logits = ours.attention_branch.excite(torch.relu(ours.attention_branch.squeeze(pooled)))
        attention = torch.softmax(logits / ours.temperature, dim=1)
        kernels = (attention @ ours.weight.flatten(1)).reshape(-1, *ours.weight.shape[2:])
        # Images become groups: one image of B C channels, one group of kernels for each.
        folded = input.reshape(1, -1, *input.shape[2:])
        output = F.conv2d(folded, kernels, None, ours.stride, ours.padding, ours.dilation, groups=batch * ours.groups)
        output = output.reshape(batch, -1, *output.shape[2:])
        return output if ours.bias is None else output + (attention @ ours.bias)[:, :, None, None]


def as_textbook(model: nn.Module) -> nn.Module:
    """Return a copy of a network whose dynamic convolutions are computed the textbook way."""
    model = copy.deepcopy(model)
    for name, layer in list(dynamic_layers(model)):
        assert isinstance(layer, DynamicConv2d)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, TextbookDynamicConv2d(layer))
    return model
