"""Which words are spoken, as learned vectors."""

from __future__ import annotations

import torch
from torch import nn

from maskmotion.interfaces import Conditioner
from maskmotion.types import Batch, Condition


class Transcript(Conditioner):
    """A learned vector for the word of each frame, from batch.labels["words"]; zeros where nobody speaks.

    Words share vectors when their ids fall into the same bucket, so any transcript in any language has vectors and
    no vocabulary file is needed. A batch without words gives zeros: a transcript is never required.

    Args:
        dim: channels C.
        buckets: number of word vectors.
    """

    def __init__(self, dim: int = 64, buckets: int = 4096) -> None:
        super().__init__()
        if dim < 1 or buckets < 1:
            raise ValueError(f"a word table needs dim >= 1 and buckets >= 1, got dim={dim}, buckets={buckets}")
        self.dim, self.buckets = dim, buckets
        self.table = nn.Embedding(buckets + 1, dim, padding_idx=0)

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, dim], zero in silent and padded frames."""
        words = batch.labels.get("words", torch.zeros_like(batch.valid, dtype=torch.long))
        bucket = torch.where((words == 0) | ~batch.valid, 0, words % self.buckets + 1)
        return Condition(self.table(bucket), batch.valid)
