"""Span masking: scores are smoothed noise, so hidden frames come in runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.interfaces import MaskContext, Masker
from maskmotion.schedules import Schedule
from maskmotion.shapes import Float


class Span(Masker):
    """Hide random runs of about `length` frames: the control for every strategy whose hidden frames are contiguous.

    Args:
        ratio: share of the frames hidden, exact.
        length: width in frames of the triangular window that smooths the noise; hidden runs are about as long.
    """

    def __init__(self, ratio: Schedule = 0.4, length: int = 12) -> None:
        super().__init__(ratio)
        if length < 1:
            raise ValueError(f"a span is at least 1 frame long, got length={length}")
        self.length = length

    def scores(self, context: MaskContext) -> Float[Tensor, "B T"]:
        """[B, T] noise, smoothed over `length` frames; rows are independent."""
        rows, frames = context.batch.valid.shape
        noise = torch.randn(rows, 1, frames + self.length - 1, generator=context.rng)
        window = 1 - torch.linspace(-1, 1, self.length + 2)[1:-1].abs()
        return F.conv1d(noise, (window / window.norm())[None, None])[:, 0].to(context.batch.valid.device)
