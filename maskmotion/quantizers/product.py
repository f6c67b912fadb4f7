"""Product quantization: the latent in groups of dimensions, each with a codebook of its own (Jégou et al., 2011)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.quantizers.codebook import Learning
from maskmotion.quantizers.vq import VQ
from maskmotion.shapes import Float, Int
from maskmotion.types import Quantized


class Product(Quantizer):
    """`groups` plain quantizers side by side, as ProbTalk uses; with one group it is `vq`.

    A group stands where other quantizers have a layer: its code vector is C wide and zero outside its own dimensions, so
    that the code vectors of a token sum to its latent.

    Args:
        dim: C, given by the tokenizer; a multiple of `groups`.
        codebook_size: K of every group. groups: how many.
        learning: "ema": codes are moving averages of their latents; "gradient": the loss moves them.
        decay: of the moving averages. commitment: weight of the pull of the latents towards their codes.
        temperature: of the random choice of codes in training; 0: the nearest.
        revive_below: average count per batch under which a code is put on a latent of the batch; 0: never.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 256,
        groups: int = 2,
        learning: Learning = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        temperature: float = 0.0,
        revive_below: float = 1.0,
    ) -> None:
        super().__init__()
        if groups < 1 or dim % groups:
            raise ValueError(f"groups must divide the width of the latents, {dim}, got {groups}")
        self.dim, self.codebook_size, self.num_layers = dim, codebook_size, groups
        self.groups = nn.ModuleList(
            VQ(dim // groups, codebook_size, learning, decay, commitment, temperature, revive_below)
            for _ in range(groups)
        )

    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """[B, N, C] -> one code a group; loss is the mean over groups, stats as in `RVQ`, per group."""
        parts = [group(piece) for group, piece in zip(self.groups, latents.chunk(self.num_layers, dim=-1))]
        return Quantized(
            latents=torch.cat([part.latents for part in parts], dim=-1),
            codes=torch.cat([part.codes for part in parts], dim=-1),
            loss=torch.stack([part.loss for part in parts]).mean(),
            perplexity=torch.cat([part.perplexity for part in parts]),
            stats={name: torch.cat([part.stats[name] for part in parts]) for name in parts[0].stats},
        )

    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, Q] -> [B, N, Q, C]: each group's code vector in its own dimensions, zero in the others."""
        width = self.dim // self.num_layers
        vectors = [
            F.pad(group.embed(codes[..., g : g + 1]), (g * width, self.dim - (g + 1) * width))
            for g, group in enumerate(self._groups)
        ]
        return torch.cat(vectors, dim=-2)

    @property
    def _groups(self) -> list[VQ]:
        return [group for group in self.groups if isinstance(group, VQ)]
