"""The convolutional encoder of masked motion in EMAGE's releases."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.convolution import Conv, LeakyResidual
from maskmotion.shapes import Bool, Float

LEAK = 0.2


class MotionEncoder(nn.Module):
    """Convolution, leaky rectifier, residual block, `layers` times: a frame sees 3 * layers frames to either side.

    Args:
        dim: motion columns. width: channels out. layers: how many times.
    """

    def __init__(self, dim: int, width: int, layers: int = 3) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(width if layer else dim, width) for layer in range(layers))
        self.blocks = nn.ModuleList(LeakyResidual(width, LEAK) for _ in range(layers))

    def forward(self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """[B, T, dim] -> [B, T, width]; padded frames are never read."""
        for conv, block in zip(self.convs, self.blocks, strict=True):
            x = block(F.leaky_relu(conv(x, valid), LEAK), valid)
        return x
