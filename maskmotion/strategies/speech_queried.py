"""Speech-queried masking: scores are how much the speech attends to each frame (EchoMask, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskmotion.interfaces import MaskContext, Masker
from maskmotion.shapes import Float


class SpeechQueried(Masker):
    """Hide the frames that speech looks at.

    The teacher's cross-attention has speech steps as queries and motion frames as keys; a frame's score is what it
    receives from all queries, summed over the parts (eq. 6).
    """

    def scores(self, context: MaskContext) -> Float[Tensor, "B T"]:
        """[B, T]: column sums of the attention map."""
        return attention_scores(context.attention)


def attention_scores(attention: Mapping[str, Tensor]) -> Float[Tensor, "B T"]:
    """Part -> [B, S, T] attention, rows summing to 1 -> [B, T] frame scores (EchoMask, eq. 6), averaged over parts."""
    return torch.stack([part.sum(dim=1) for part in attention.values()]).mean(0)
