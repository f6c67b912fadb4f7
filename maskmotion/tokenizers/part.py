"""PartTokenizer: encoder, quantizer and decoder of one body part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.nn.convolution import shrink
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.autoencoder import Decoder, Encoder
from maskmotion.types import Quantized


class PartTokenizer(nn.Module):
    """Columns of one part [B, T, D] <-> tokens [B, N, C], N = ceil(T / downsample).

    Motion is centred per column and scaled per kind of column (`set_statistics`), so that rotations, translation,
    contacts and expressions weigh alike and each kind keeps its own geometry.

    Args:
        dim: D. quantizer: its `dim` is the width of the latents. downsample: frames a token, a power of two.
        dilations: of the residual blocks at each rate. velocity: weight of the error of frame-to-frame differences.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        quantizer: Quantizer,
        downsample: int = 4,
        dilations: tuple[int, ...] = (3, 1),
        velocity: float = 0.5,
    ) -> None:
        super().__init__()
        width = quantizer.dim
        self.downsample, self.velocity = downsample, velocity
        self.encoder = Encoder(dim, width, downsample, dilations)
        self.quantizer = quantizer
        self.decoder = Decoder(dim, width, downsample, dilations)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def set_statistics(self, mean: Float[Tensor, " D"], scale: Float[Tensor, " D"]) -> None:
        """Centre and scale of the columns, from training data."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> dict[str, Tensor]:
        """Named losses: reconstruction and velocity in scaled columns, commitment."""
        target = (motion - self.mean) / self.scale
        quantized = self.encode(motion, valid)
        padded = None if valid is None else shrink(_pad(valid, self.downsample), self.downsample)
        error = self.decoder(quantized.latents, padded)[:, : target.shape[1]] - target
        change = error[:, 1:] - error[:, :-1]
        weight = torch.ones_like(error[..., :1]) if valid is None else valid[..., None].to(error)
        return {
            "reconstruction": _mean(error.square(), weight),
            "velocity": self.velocity * _mean(change.square(), weight[:, 1:]),
            "commitment": quantized.loss,
        }

    def encode(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Quantized:
        """Tokens of a motion. Frames are padded at the end (by the last one) to whole tokens; padding gets code -1."""
        x = _pad((motion - self.mean) / self.scale, self.downsample)
        if valid is None or bool(valid.all()):
            return self.quantizer(self.encoder(x))
        valid = _pad(valid, self.downsample)
        latents = self.encoder(x, valid)
        kept = shrink(valid, self.downsample)
        assert kept is not None
        some = self.quantizer(latents[kept][None])  # padding must not touch the codebooks
        whole = torch.zeros_like(latents).masked_scatter(kept[..., None], some.latents[0])
        codes = torch.full((*kept.shape, some.codes.shape[-1]), -1, device=latents.device)
        codes[kept] = some.codes[0]
        return Quantized(whole, codes, some.loss, some.perplexity)

    def decode(self, latents: Float[Tensor, "B N C"]) -> Float[Tensor, "B T D"]:
        """Latents (the sum of the residual layers) -> N * downsample frames, in the motion's own units."""
        return self.decoder(latents) * self.scale + self.mean


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last frame (or False for a validity mask) until T is a multiple."""
    missing = -x.shape[1] % multiple
    if missing == 0:
        return x
    last = x[:, -1:].expand(-1, missing, *x.shape[2:])
    return torch.cat([x, torch.zeros_like(last) if x.dtype == torch.bool else last], dim=1)


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    return (error * weight).sum() / (weight.sum() * error.shape[-1]).clamp(min=1)
