"""Vector quantization with one codebook (van den Oord et al., 2017)."""

from __future__ import annotations

from maskmotion.quantizers.rvq import RVQ


class VQ(RVQ):
    """One codebook learned by moving averages: a residual quantizer of a single layer.

    Args:
        dim: C, given by the tokenizer. codebook_size: K. decay: of the moving averages.
        commitment: weight of the pull of the latents towards their codes.
        revive_below: average count per batch under which a code is put on a latent of the batch.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 256,
        decay: float = 0.99,
        commitment: float = 0.25,
        revive_below: float = 1.0,
    ) -> None:
        super().__init__(dim, codebook_size, 1, decay, commitment, 0.0, revive_below)
