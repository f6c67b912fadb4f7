"""Loss-based masking: scores are the teacher's token loss."""

from __future__ import annotations

from torch import Tensor

from maskmotion.interfaces import MaskContext, Masker
from maskmotion.shapes import Float


class LossBased(Masker):
    """Hide the frames that the teacher reconstructs worst (the "loss-based" row of EchoMask, Table 2).

    The loss is the class loss of the teacher when everything but the seed frames is hidden; see `MaskContext.token_loss`.
    """

    def scores(self, context: MaskContext) -> Float[Tensor, "B T"]:
        """[B, T] cross-entropy in nats."""
        return context.token_loss
