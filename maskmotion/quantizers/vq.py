"""Vector quantization with one codebook (van den Oord et al., 2017)."""

from __future__ import annotations

from maskmotion.quantizers.codebook import Learning
from maskmotion.quantizers.rvq import RVQ


class VQ(RVQ):
    """One codebook: a residual quantizer of a single layer.

    EMAGE's: `learning="gradient"`, commitment 1, revive_below 0.

    Args:
        dim: C, given by the tokenizer. codebook_size: K.
        learning: "ema": codes are moving averages of their latents; "gradient": the loss moves them.
        decay: of the moving averages. commitment: weight of the pull of the latents towards their codes.
        temperature: of the random choice of codes in training; 0: the nearest.
        revive_below: average count per batch under which a code is put on a latent of the batch; 0: never.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 256,
        learning: Learning = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        temperature: float = 0.0,
        revive_below: float = 1.0,
    ) -> None:
        super().__init__(
            dim, codebook_size, 1,
            learning=learning, decay=decay, commitment=commitment, temperature=temperature, revive_below=revive_below,
        )  # fmt: skip
