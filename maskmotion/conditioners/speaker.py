"""Who speaks, as a learned vector."""

from __future__ import annotations

import torch
from torch import nn

from maskmotion.interfaces import Conditioner
from maskmotion.types import Batch, Condition


class Speaker(Conditioner):
    """One learned vector a speaker, the same in every frame. A batch that names no speaker gets the mean of all.

    A table of one row is everybody's (EMAGE's audio release).

    Args:
        dim: channels C.
        count: number of speakers; batch.speaker holds 0 .. count - 1 (BEAT2 has 25).
    """

    def __init__(self, dim: int = 32, count: int = 25) -> None:
        super().__init__()
        if dim < 1 or count < 1:
            raise ValueError(f"a speaker table needs dim >= 1 and count >= 1, got dim={dim}, count={count}")
        self.dim, self.count = dim, count
        self.table = nn.Embedding(count, dim)

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, dim], zero in padded frames. ValueError for a speaker outside the table."""
        rows, frames = batch.valid.shape
        if batch.speaker is None or self.count == 1:
            vectors = self.table.weight.mean(dim=0).expand(rows, -1)
        else:
            outside = batch.speaker[(batch.speaker < 0) | (batch.speaker >= self.count)]
            if len(outside):
                raise ValueError(
                    f"speaker {int(outside[0])} is not in the table: this model knows speakers 0 to {self.count - 1}; "
                    "choose one of them, name no speaker, or train with a larger conditioners.speaker.count"
                )
            vectors = self.table(batch.speaker)
        features = vectors[:, None].expand(rows, frames, self.dim)
        return Condition(torch.where(batch.valid[..., None], features, 0.0), batch.valid)
