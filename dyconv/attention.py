"""The attention branch: squeeze and excitation from the input of a layer to one weight per kernel.

What is done with the weights is `aggregation`'s business; the temperature belongs to the layer, which hands it in.

Dimensions: B images, C channels, H x W pixels, P = H W, K kernels.
"""

import torch
from torch import Tensor, nn

from dyconv.errors import ArgumentError


class AttentionBranch(nn.Module):
    """Global average pool, Linear (C to C / reduction), ReLU, Linear (to K), softmax of z / temperature.

    Both Linear layers keep torch's default initialisation. In a new DY-MobileNetV2 x0.35 it gives a mean entropy of
    0.986 log K at temperature 1 (the largest weight up to 0.39 instead of 0.25) and 0.99998 log K at 30: uniform at
    the start where the paper wants it, visibly not uniform where it warns of it. The normal(0, 0.01) that
    torchvision gives a classifier would be uniform at any temperature.

    Raises:
        ArgumentError: a channel count, number of kernels or reduction below one.

    Source: Chen et al. 2020, section 3.2 and figure 3.
    """

    def __init__(self, in_channels: int, num_kernels: int, reduction: int = 4) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("num_kernels", num_kernels), ("reduction", reduction)):
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1, got {value}")
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Linear(in_channels, hidden)
        self.excite = nn.Linear(hidden, num_kernels)

    def logits(self, input: Tensor) -> Tensor:
        """Return the (B, K) logits z of a (B, C, H, W) input."""
        return self.excite(torch.relu(self.squeeze(_average_pool(input))))  # type: ignore[no-any-return]

    def forward(self, input: Tensor, temperature: Tensor) -> Tensor:
        """Return the (B, K) attention of a (B, C, H, W) input, in float32 at least; each row sums to one."""
        logits = self.logits(input)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return torch.softmax(logits / temperature.to(logits.dtype), dim=1)


def _average_pool(input: Tensor) -> Tensor:
    """Return the (B, C) mean over pixels.

    Dividing the sum keeps the division of the gradient to (B, C) numbers; `mean` would divide all of (B, C, H, W).
    """
    return input.sum((2, 3)) / (input.shape[2] * input.shape[3])
