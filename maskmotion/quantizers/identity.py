"""No codes: continuous latents pass through (AsynFusion, ablations)."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.interfaces import Quantizer
from maskmotion.shapes import Float, Int
from maskmotion.types import Quantized


class Identity(Quantizer):
    """Latents as they are, with no codebook: codes are [B, N, 0]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.num_layers = dim, 0, 0

    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """The same latents, no codes, no loss."""
        codes = torch.zeros(*latents.shape[:2], 0, dtype=torch.long, device=latents.device)
        return Quantized(latents, codes, latents.new_zeros(()), latents.new_zeros(0))

    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, 0] -> [B, N, 0, C]. ValueError when there are codes: nothing was quantized."""
        if codes.shape[-1]:
            raise ValueError(f"identity has no codes, got {codes.shape[-1]} a token")
        return torch.zeros(*codes.shape, self.dim, device=codes.device)
