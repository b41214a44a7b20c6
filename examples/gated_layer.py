"""A layer kind of one's own, as a plug-in: K kernels, mixed by gates that look at the image and need not sum to one.

`examples/own_layer.py` puts it through a study; the command line does with `--plugin gated_layer` and
`--set model.layer=gated`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dyconv


@dyconv.register_layer("gated", options=[dyconv.LayerOption("sharpness", 1.0, low=0.1, high=10.0)])
class GatedConv2d(dyconv.ConvolutionLayer):
    """A convolution whose kernel is Σ σ(s · g_k(x)) W_k: each gate g_k is linear in the average of the image."""

    def __init__(
        self,
        *geometry: Any,
        num_kernels: int = 4,
        aggregation: str = "attention",
        sharpness: float = 1.0,
        **convolution: Any,
    ) -> None:
        super().__init__(*geometry, num_kernels=num_kernels, aggregation=aggregation, **convolution)
        self.gates = nn.Linear(self.in_channels, num_kernels)
        self.sharpness = sharpness
        self.reset_parameters()

    def attention(self, input: Tensor) -> Tensor:
        """Return the (B, K) gates of an image (B, C, H, W), or of its average (B, C)."""
        return torch.sigmoid(self.sharpness * self.gates(dyconv.average_pool(input)))
