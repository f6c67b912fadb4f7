"""Residual vector quantization: each layer codes what the layers before it left over (Zeghidour et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.quantizers.codebook import Codebook, embed_codes, perplexity
from maskmotion.shapes import Float, Int
from maskmotion.types import Quantized


class RVQ(Quantizer):
    """Q residual layers with a codebook each, learned by moving averages.

    Args:
        dim: C, given by the tokenizer.
        codebook_size: K of every layer. num_layers: Q.
        decay: of the codebooks' moving averages.
        commitment: weight of the pull of the latents towards their codes.
        quantizer_dropout: share of the rows that, in training, use only a random number of the first layers; their
            further codes are -1. (EchoMask states 0.2; its release has the code that drops layers commented out.)
        revive_below: average count per batch under which a code is put on a latent of the batch.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 256,
        num_layers: int = 6,
        decay: float = 0.99,
        commitment: float = 0.25,
        quantizer_dropout: float = 0.0,
        revive_below: float = 1.0,
    ) -> None:
        super().__init__()
        if codebook_size < 2 or num_layers < 1:
            raise ValueError(f"need codebook_size >= 2 and num_layers >= 1, got {codebook_size} and {num_layers}")
        if not 0 <= quantizer_dropout <= 1:
            raise ValueError(f"quantizer_dropout is a share of the rows, 0 to 1, got {quantizer_dropout}")
        self.dim, self.codebook_size, self.num_layers = dim, codebook_size, num_layers
        self.commitment, self.quantizer_dropout = commitment, quantizer_dropout
        self.layers = nn.ModuleList(Codebook(dim, codebook_size, decay, revive_below) for _ in range(num_layers))

    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """[B, N, C] -> codes and their sum, with a straight-through gradient; training also moves the codebooks."""
        flat = latents.flatten(0, 1)
        kept = self._kept_layers(latents)  # [B * N]
        total, distance = torch.zeros_like(flat), flat.new_zeros(())
        codes, used = [], []
        for number, layer in enumerate(self.codebooks):
            residual, active = flat.detach() - total, kept > number
            index = self._code(layer, residual, active)
            codes.append(index.masked_fill(~active, -1))
            total = total + embed_codes(layer.codes, codes[-1])
            # the gradient reaches the encoder through `flat` alone: codes move by averages, not by this loss
            distance = distance + ((flat - total).square().mean(-1) * active).sum() / active.sum().clamp(min=1)
            used.append(perplexity(codes[-1], self.codebook_size))
        quantized = flat + (total - flat).detach()
        return Quantized(
            latents=quantized.view_as(latents),
            codes=torch.stack(codes, dim=-1).view(*latents.shape[:2], self.num_layers),
            loss=self.commitment * distance / self.num_layers,
            perplexity=torch.stack(used),
        )

    @property
    def codebooks(self) -> list[Codebook]:
        """One a layer, coarsest first."""
        return [layer for layer in self.layers if isinstance(layer, Codebook)]

    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, Q] -> [B, N, Q, C], one code vector per layer (code -1: zero); sum over Q to decode."""
        return torch.stack([embed_codes(layer.codes, codes[..., q]) for q, layer in enumerate(self.codebooks)], dim=-2)

    def _kept_layers(self, latents: Tensor) -> Tensor:
        """How many layers each token keeps: all of them, but for the rows that quantizer dropout shortens."""
        rows, tokens, _ = latents.shape
        kept = torch.full((rows,), self.num_layers, device=latents.device)
        if self.training and self.quantizer_dropout > 0:
            shorter = torch.randint(1, self.num_layers + 1, (rows,), device=latents.device)
            kept = torch.where(torch.rand(rows, device=latents.device) < self.quantizer_dropout, shorter, kept)
        return kept.repeat_interleave(tokens)

    def _code(self, layer: Codebook, residual: Tensor, active: Tensor) -> Tensor:
        if not self.training:
            return layer.nearest(residual)
        chosen = residual if bool(active.all()) else residual[active]
        layer.start(chosen)
        index = layer.nearest(residual)
        layer.update(chosen, index if chosen is residual else index[active])
        return index
