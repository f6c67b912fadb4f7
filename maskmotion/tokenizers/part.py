"""PartTokenizer: autoencoder and quantizer of one body part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.nn.convolution import shrink
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.autoencoder import Autoencoder
from maskmotion.tokenizers.losses import PartLosses
from maskmotion.types import Quantized

LOSSES: Mapping[str, float] = {"reconstruction": 1.0, "velocity": 0.5}


class PartTokenizer(nn.Module):
    """Columns of one part [B, T, D] <-> tokens [B, N, C], N = ceil(T / downsample).

    Motion is centred per column and scaled per kind of column (`set_statistics`), so that rotations, translation,
    contacts and expressions weigh alike and each kind keeps its own geometry. Without statistics it is read as it is, as
    the releases do.

    Args:
        columns: of the part in the motion tensor, in order; D of them.
        network: Autoencoder of D columns. quantizer: its `dim` is the width of the network's latents.
        losses: name -> weight, see `tokenizers.losses.TERMS`; those that need columns the part has not do not apply.
        difference: norm of the velocity and acceleration of rotations and expressions.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        columns: tuple[int, ...],
        network: Autoencoder,
        quantizer: Quantizer,
        losses: Mapping[str, float] = LOSSES,
        difference: Literal["l1", "l2"] = "l1",
    ) -> None:
        super().__init__()
        self.network, self.quantizer = network, quantizer
        self.losses = PartLosses(losses, columns, difference)
        self.register_buffer("mean", torch.zeros(len(columns)))
        self.register_buffer("scale", torch.ones(len(columns)))

    @property
    def downsample(self) -> int:
        """Frames a token."""
        return self.network.downsample

    def set_statistics(self, mean: Float[Tensor, " D"], scale: Float[Tensor, " D"]) -> None:
        """Centre and scale of the columns, from training data."""
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> dict[str, Tensor]:
        """Named, weighted losses of the part, and the quantizer's own as "commitment"."""
        return self.reconstruct(motion, valid)[1]

    def reconstruct(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], dict[str, Tensor], Quantized]:
        """Encode, quantize, decode: the motion that comes back, the named losses, the tokens."""
        quantized = self.encode(motion, valid)
        padded = None if valid is None else shrink(_pad(valid, self.downsample), self.downsample)
        decoded = self.network.decode(quantized.latents, padded)[:, : motion.shape[1]] * self.scale + self.mean
        losses = self.losses(decoded, motion, self.scale, valid)
        return decoded, losses | {"commitment": quantized.loss}, quantized

    def encode(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> Quantized:
        """Tokens of a motion. Frames are padded at the end (by the last one) to whole tokens; padding gets code -1."""
        x = _pad((motion - self.mean) / self.scale, self.downsample)
        if valid is None or bool(valid.all()):
            return self.quantizer(self.network.encode(x))
        valid = _pad(valid, self.downsample)
        latents = self.network.encode(x, valid)
        kept = shrink(valid, self.downsample)
        assert kept is not None
        some = self.quantizer(latents[kept][None])  # padding must not touch the codebooks
        whole = torch.zeros_like(latents).masked_scatter(kept[..., None], some.latents[0])
        codes = torch.full((*kept.shape, some.codes.shape[-1]), -1, device=latents.device)
        codes[kept] = some.codes[0]
        return Quantized(whole, codes, some.loss, some.perplexity, some.stats)

    def decode(self, latents: Float[Tensor, "B N C"]) -> Float[Tensor, "B T D"]:
        """Latents (the sum of the residual layers) -> N * downsample frames, in the motion's own units."""
        return self.network.decode(latents) * self.scale + self.mean


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last frame (or False for a validity mask) until T is a multiple."""
    missing = -x.shape[1] % multiple
    if missing == 0:
        return x
    last = x[:, -1:].expand(-1, missing, *x.shape[2:])
    return torch.cat([x, torch.zeros_like(last) if x.dtype == torch.bool else last], dim=1)
