"""The two convolutional networks of motion tokenizers: `Dilated` (EchoMask, SemTalk) and `Plain` (EMAGE)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.convolution import Conv, LeakyResidual, ResidualConv, shrink
from maskmotion.shapes import Bool, Float

LEAK = 0.2  # slope of EMAGE's rectifiers below zero


class Autoencoder(nn.Module, ABC):
    """Motion columns of one part to latents and back, by convolutions over time.

    `encoder_reach` and `decoder_reach` say how far a token sees, in frames beyond its own and in tokens beyond its own:
    long motions are coded in pieces that overlap by as much, with the same result.
    """

    given: ClassVar[frozenset[str]] = frozenset({"dim", "width"})

    downsample: int  # frames a token
    encoder_reach: int
    decoder_reach: int

    @abstractmethod
    def encode(self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B N C"]:
        """[B, T, D] -> [B, T / downsample, width]; T is a multiple of downsample, padding never changes valid tokens."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "B N C"], valid: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B T D"]:
        """[B, N, width] -> [B, N * downsample, D]."""


class Dilated(Autoencoder):
    """Strided convolutions with stacks of dilated residual blocks: the tokenizer of RVQ motion models.

    A convolution, then per halving of the rate a strided convolution and a stack, then a convolution; the decoder is its
    mirror with nearest upsampling. EchoMask and SemTalk: width 256, downsample 4, dilations 9, 3, 1, dropout 0.2.

    Args:
        dim: D, given. width: C, given by the tokenizer.
        downsample: frames a token, a power of two; 1 keeps the rate and one stack.
        dilations: of the residual blocks of a stack, in order (the same order in encoder and decoder).
        dropout: inside the residual blocks.
    """

    def __init__(
        self, dim: int, width: int, downsample: int = 4, dilations: tuple[int, ...] = (3, 1), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if downsample < 1 or downsample & (downsample - 1):
            raise ValueError(f"downsample must be a power of two, got {downsample}")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations are one or more positive numbers, got {dilations}")
        self.downsample, halvings = downsample, downsample.bit_length() - 1

        def stacks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(ResidualConv(width, dilation, dropout) for dilation in dilations)
                for _ in range(max(1, halvings))
            )

        self.encoder = nn.ModuleDict(
            {
                "enter": Conv(dim, width),
                "shrinks": nn.ModuleList(Conv(width, width, 4, stride=2) for _ in range(halvings)),
                "stacks": stacks(),
                "leave": Conv(width, width),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "enter": Conv(width, width),
                "stacks": stacks(),
                "grows": nn.ModuleList(Conv(width, width) for _ in range(halvings)),
                "middle": Conv(width, width),
                "leave": Conv(width, dim),
            }
        )
        spread = sum(dilations)  # frames that a stack sees to each side, at its own rate
        rates = [2 ** (level + 1) for level in range(halvings)] or [1]  # frames a step of each stack
        down = sum(rate // 2 + spread * rate for rate in rates) if halvings else spread
        up = sum(spread * rate + rate // 2 for rate in rates) if halvings else spread
        self.encoder_reach = 1 + down + downsample
        self.decoder_reach = 1 - (-(up + 2) // downsample)

    def encode(self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B N C"]:
        """[B, T, D] -> [B, T / downsample, width]."""
        x = F.relu(self.encoder["enter"](x, valid))
        for level, stack in enumerate(self.encoder["stacks"].children()):
            if self.downsample > 1:
                x = self.encoder["shrinks"][level](x, valid)  # type: ignore[index]
                valid = shrink(valid, 2)
            for block in stack.children():
                x = block(x, valid)
        return self.encoder["leave"](x, valid)

    def decode(self, x: Float[Tensor, "B N C"], valid: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B T D"]:
        """[B, N, width] -> [B, N * downsample, D]."""
        x = F.relu(self.decoder["enter"](x, valid))
        for level, stack in enumerate(self.decoder["stacks"].children()):
            for block in stack.children():
                x = block(x, valid)
            if self.downsample > 1:
                x = x.repeat_interleave(2, dim=1)
                valid = None if valid is None else valid.repeat_interleave(2, dim=1)
                x = self.decoder["grows"][level](x, valid)  # type: ignore[index]
        x = F.relu(self.decoder["middle"](x, valid))
        return self.decoder["leave"](x, valid)


class Plain(Autoencoder):
    """Convolutions at the rate of the frames, one token a frame: EMAGE's VQ-VAEs and its global motion predictor.

    Encoder: `layers` times convolution, leaky rectifier, residual block. Decoder: two residual blocks, `layers` times
    convolution and leaky rectifier, the last of them with D channels, and a closing convolution from D to D.
    EMAGE: width 256, layers 2 (face, upper, hands) or 4 (lower, global motion).

    Args:
        dim: D, given. width: C, given by the tokenizer. layers: of encoder and decoder.
    """

    downsample = 1

    def __init__(self, dim: int, width: int, layers: int = 2) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.encoder = nn.ModuleList(
            nn.ModuleDict({"conv": Conv(width if level else dim, width), "block": LeakyResidual(width, LEAK)})
            for level in range(layers)
        )
        outs = [*[width] * (layers - 1), dim]
        self.decoder = nn.ModuleDict(
            {
                "blocks": nn.ModuleList(LeakyResidual(width, LEAK) for _ in range(2)),
                "convs": nn.ModuleList(Conv(width, out) for out in outs),
                "leave": Conv(dim, dim),
            }
        )
        self.encoder_reach, self.decoder_reach = 3 * layers, 4 + layers + 1
        self.apply(_xavier)

    def encode(self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """[B, T, D] -> [B, T, width]."""
        for level in self.encoder:
            x = F.leaky_relu(level["conv"](x, valid), LEAK)  # type: ignore[index]
            x = level["block"](x, valid)  # type: ignore[index]
        return x

    def decode(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        """[B, T, width] -> [B, T, D]."""
        for block in self.decoder["blocks"].children():
            x = block(x, valid)
        for conv in self.decoder["convs"].children():
            x = F.leaky_relu(conv(x, valid), LEAK)
        return self.decoder["leave"](x, valid)


def _xavier(module: nn.Module) -> None:
    """EMAGE's start: Xavier normal weights, zero biases."""
    if isinstance(module, nn.Conv1d):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
