"""1-D convolutional encoder and decoder of a part tokenizer."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.convolution import Conv, ResidualConv, shrink
from maskmotion.shapes import Bool, Float


def _halvings(downsample: int) -> int:
    steps = int(math.log2(downsample))
    if 2**steps != downsample:
        raise ValueError(f"downsample must be a power of two, got {downsample}")
    return steps


class Encoder(nn.Module):
    """Motion columns [B, T, D] -> latents [B, T / downsample, width].

    A convolution, then per halving of the rate a strided convolution and residual blocks of the given dilations, then a
    convolution: the shape of the RVQ tokenizers of EchoMask and SemTalk (width 256, dilations 9, 3, 1 there).
    """

    def __init__(self, dim: int, width: int, downsample: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = Conv(dim, width)
        self.shrinks = nn.ModuleList(Conv(width, width, 4, stride=2) for _ in range(_halvings(downsample)))
        self.stacks = nn.ModuleList(
            nn.ModuleList(ResidualConv(width, dilation) for dilation in dilations)
            for _ in range(max(1, len(self.shrinks)))
        )
        self.leave = Conv(width, width)

    def forward(self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B N C"]:
        """T must be a multiple of downsample; padding never changes what valid frames become."""
        x = F.relu(self.enter(x, valid))
        for level, stack in enumerate(self.stacks):
            if level < len(self.shrinks):
                x = self.shrinks[level](x, valid)
                valid = shrink(valid, 2)
            for block in stack:  # type: ignore[attr-defined]  # an nn.ModuleList of blocks
                x = block(x, valid)
        return self.leave(x, valid)


class Decoder(nn.Module):
    """Latents [B, N, width] -> motion columns [B, N * downsample, D]: the encoder mirrored, nearest upsampling."""

    def __init__(self, dim: int, width: int, downsample: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = Conv(width, width)
        self.grows = nn.ModuleList(Conv(width, width) for _ in range(_halvings(downsample)))
        self.stacks = nn.ModuleList(
            nn.ModuleList(ResidualConv(width, dilation) for dilation in dilations)
            for _ in range(max(1, len(self.grows)))
        )
        self.middle, self.leave = Conv(width, width), Conv(width, dim)

    def forward(self, x: Float[Tensor, "B N C"], valid: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B T D"]:
        """[B, N, C] -> [B, N * downsample, D]."""
        x = F.relu(self.enter(x, valid))
        for level, stack in enumerate(self.stacks):
            for block in stack:  # type: ignore[attr-defined]
                x = block(x, valid)
            if level < len(self.grows):
                x = x.repeat_interleave(2, dim=1)
                valid = None if valid is None else valid.repeat_interleave(2, dim=1)
                x = self.grows[level](x, valid)
        return self.leave(F.relu(self.middle(x, valid)), valid)
