"""Jerk: how smooth motion is."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.shapes import Float


class Jerk(Accumulator):
    """Mean length of the third derivative of joint positions, m/s^3, over joints and frames of all clips.

    Third differences of neighbouring frames (of 4 frames each). Neither small nor large is good: compare it with that of
    the ground truth. A clip of fewer than 4 frames adds nothing; NaN without any.
    """

    def __init__(self) -> None:
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    def update(self, positions: Float[Tensor, "T J 3"], fps: int = 30) -> None:
        """Add a clip of joint positions in metres."""
        if len(positions) < 4:
            return
        size = positions.diff(n=3, dim=0).norm(dim=-1)
        self.state = {"sums": self.state["sums"] + sums(fps**3 * size.double().sum(), size.numel())}

    def result(self) -> float:
        """The mean, m/s^3."""
        total, count = self.state["sums"].tolist()
        return total / count if count else float("nan")
