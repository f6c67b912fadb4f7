"""1-D convolutions over time on [B, T, C] tensors, blind to padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.shapes import Bool, Float


class Conv(nn.Module):
    """A same-length (or strided) convolution over axis 1. Padded frames are zeroed first, as the border is.

    Args:
        dim: channels in. out: channels out. kernel: frames. stride: frames a step. dilation: spacing of the kernel.
    """

    def __init__(self, dim: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2 if stride == 1 else (kernel - stride) // 2
        self.conv = nn.Conv1d(dim, out, kernel, stride, padding, dilation)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B S E"]:
        """[B, T, C] -> [B, T / stride, out]."""
        if valid is not None:
            x = x * valid[..., None]
        return self.conv(x.mT).mT


class ResidualConv(nn.Module):
    """x + conv1(relu(conv3(relu(x)))), dilated, with dropout at the end: the residual unit of RVQ motion tokenizers."""

    def __init__(self, dim: int, dilation: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.wide = Conv(dim, dim, 3, dilation=dilation)
        self.point = Conv(dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """Same shape."""
        return x + self.dropout(self.point(F.relu(self.wide(F.relu(x), valid)), valid))


class LeakyResidual(nn.Module):
    """x + conv3(leaky(conv3(x))): the residual unit of EMAGE's convolutional networks."""

    def __init__(self, dim: int, leak: float) -> None:
        super().__init__()
        self.first, self.second = Conv(dim, dim), Conv(dim, dim)
        self.leak = leak

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """Same shape."""
        return x + self.second(F.leaky_relu(self.first(x, valid), self.leak), valid)


def shrink(valid: Bool[Tensor, "B T"] | None, factor: int) -> Bool[Tensor, "B N"] | None:
    """Validity at the token rate: a token is valid when any of its frames is. T must be a multiple of `factor`."""
    return None if valid is None else valid.unflatten(1, (-1, factor)).any(dim=2)
