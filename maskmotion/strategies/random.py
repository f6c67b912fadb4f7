"""Random masking: scores are noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from maskmotion.interfaces import MaskContext, Masker
from maskmotion.motion.layout import SMPLX
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.schedules import Schedule, value_at
from maskmotion.shapes import Bool, Float


class Random(Masker):
    """Hide a random share of the frames, of the frames x joints (EMAGE's paper), or of the frames x columns.

    Args:
        ratio: share hidden.
        unit: what is hidden as one: a whole frame, a joint in a frame, or a column in a frame.
        exact: True hides exactly round(ratio * units) of each row; False tosses an independent coin for every unit, as
            the releases of EMAGE and SemTalk do (with unit="column").
    """

    def __init__(
        self, ratio: Schedule = 0.4, unit: Literal["frame", "joint", "column"] = "frame", exact: bool = True
    ) -> None:
        super().__init__(ratio)
        self.unit, self.exact = unit, exact

    def scores(self, context: MaskContext) -> Float[Tensor, "*score"]:
        """Uniform noise: [B, T], [B, T, 55] or [B, T, D]."""
        units = {"frame": (), "joint": (NUM_JOINTS,), "column": (SMPLX.dim,)}[self.unit]
        valid = context.batch.valid
        return torch.rand(*valid.shape, *units, generator=context.rng).to(valid.device)

    def forward(self, context: MaskContext) -> Bool[Tensor, "*mask"]:
        """Bool, True = hidden, the shape of the scores."""
        if self.exact:
            return super().forward(context)
        scores = self.scores(context)
        valid = context.batch.valid.view(*context.batch.valid.shape, *[1] * (scores.ndim - 2))
        return (scores < value_at(self.ratio, context.progress)) & valid
