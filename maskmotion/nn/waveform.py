"""The convolutional waveform encoder of EMAGE's releases."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.linear import linear
from maskmotion.shapes import Float

KERNEL, LEAK = 15, 0.01
PADDING = 1600  # samples of silence that the first convolution adds on either side
STRIDE = 540  # samples a step: 5 * 6 * 6 * 3; a motion frame at 30 Hz has 533 1/3


class WaveformBlock(nn.Module):
    """Convolution, norm, leaky rectifier, convolution, norm; added to a convolution (or nothing) of the input.

    Args:
        dim: channels in. out: channels out. stride: samples a step. padding: of the strided convolutions.
        shortcut: whether the input is convolved before it is added.
    """

    def __init__(self, dim: int, out: int, stride: int = 1, padding: int = 0, shortcut: bool = True) -> None:
        super().__init__()
        self.enter, self.norm_enter = nn.Conv1d(dim, out, KERNEL, stride, padding), nn.BatchNorm1d(out)
        self.leave, self.norm_leave = nn.Conv1d(out, out, KERNEL, 1, KERNEL // 2), nn.BatchNorm1d(out)
        self.past = nn.Conv1d(dim, out, KERNEL, stride, padding) if shortcut else None
        self.norm_past = nn.BatchNorm1d(out) if shortcut else None

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B S E"]:
        """[B, N, dim] -> [B, N / stride, out], about."""
        if not self.training and not torch.is_grad_enabled():
            return self._folded(x)
        y = self.norm_leave(self.leave(F.leaky_relu(self.norm_enter(self.enter(x.mT)), LEAK)))
        past = x.mT if self.past is None or self.norm_past is None else self.norm_past(self.past(x.mT))
        return F.leaky_relu(y + past, LEAK).mT

    def _folded(self, x: Tensor) -> Tensor:
        """The same with the norms in the weights and channels last in memory, where convolutions are twice as fast."""
        y = F.leaky_relu_(_convolve(x, self.enter, self.norm_enter), LEAK)
        y = _convolve(y, self.leave, self.norm_leave)
        if self.past is not None and self.norm_past is not None:
            x = _convolve(x, self.past, self.norm_past)
        return F.leaky_relu_(y.add_(x), LEAK)


class WaveformEncoder(nn.Module):
    """A waveform, or several signals at its rate, to features: six residual blocks, one step in 540 samples.

    N samples give about N / 540 steps: for n frames of 533 samples one step more than frames up to 25 frames, one less
    from 103 on, so it is for windows and never for clips (the release's choice of strides).

    Args:
        dim: channels out. channels: signals in.
    """

    def __init__(self, dim: int, channels: int = 1) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"a waveform encoder's dim must be a multiple of 4, got {dim}")
        low, middle = dim // 4, dim // 2
        self.blocks = nn.Sequential(
            WaveformBlock(channels, low, 5, PADDING),
            WaveformBlock(low, low, 6),
            WaveformBlock(low, low, 1, KERNEL // 2, shortcut=False),
            WaveformBlock(low, middle, 6),
            WaveformBlock(middle, middle, 1, KERNEL // 2, shortcut=False),
            WaveformBlock(middle, dim, 3),
        )

    def forward(self, signal: Float[Tensor, "B N channels"]) -> Float[Tensor, "B S C"]:
        """[B, samples, channels] -> [B, steps, dim]."""
        return self.blocks(signal)


def _convolve(x: Tensor, convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> Tensor:
    """[B, N, C] -> [B, S, E]: a convolution and the norm after it, in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None and convolution.bias is not None
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = convolution.weight * gain[:, None, None]
    bias = (convolution.bias - norm.running_mean) * gain + norm.bias
    stride, padding = convolution.stride[0], int(convolution.padding[0])
    if x.shape[2] <= 2:  # so few channels that the kernel is read like a row of a matrix
        rows = F.pad(x, (0, 0, padding, padding)).unfold(1, KERNEL, stride).flatten(2)
        return linear(rows, weight.flatten(1), bias)
    image, kernel = (t[:, :, None].contiguous(memory_format=torch.channels_last) for t in (x.mT, weight))
    return F.conv2d(image, kernel, bias, (1, stride), (0, padding))[:, :, 0].mT
