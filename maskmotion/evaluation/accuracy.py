"""How near generated motion is to the recorded one: face vertices (MSE, LVD) and joints where meaning is (SRGR)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.shapes import Float

RADIUS = 0.1  # metres within which a joint is recalled
_SCORE_2025 = 0.165  # by which the tools divide semantic scores
Form = Literal["paper", "tools", "scripts"]


class FaceError(Accumulator):
    """MSE and LVD of face vertices, mean over frames, vertices and coordinates, weighted by frames over clips.

    MSE: mean squared difference, in square metres. LVD: mean absolute difference of what vertices do from one frame to
    the next, in metres a frame (landmark velocity difference, TalkSHOW).

    Args:
        form: "paper": as that. "tools": the tools of 2025 divide the T - 1 differences by T. "scripts": the scripts of
            2024 subtract the recorded frame before from both, so that a difference of *positions* is left.
    """

    def __init__(self, form: Form = "paper") -> None:
        self.form = form
        self.state = {"sums": torch.zeros(4, dtype=torch.float64)}  # squares, LVD, and what to divide each by

    def update(self, chunks: Iterable[tuple[Float[Tensor, "_ *coordinates"], Float[Tensor, "_ *coordinates"]]]) -> None:
        """Add a clip: (generated, recorded) vertices in metres, whole or in chunks of consecutive frames."""
        frames, size = 0, 1
        squares, moved, placed = (torch.zeros((), dtype=torch.float64) for _ in range(3))
        before: Tensor | None = None
        for generated, recorded in chunks:
            difference = (generated.double() - recorded.double()).flatten(1)
            frames, size = frames + len(difference), difference.shape[1]
            squares += difference.square().sum().cpu()
            since = difference if before is None else torch.cat([before, difference])
            moved += since.diff(dim=0).abs().sum().cpu()
            placed += since[1:].abs().sum().cpu()
            before = difference[-1:]
        steps = size * max(frames - 1, 0)
        if self.form == "paper":
            lvd, divisor = moved, steps
        elif self.form == "tools":
            lvd, divisor = moved, size * frames
        else:
            lvd, divisor = placed * (frames / max(frames - 1, 1)), size * frames
        self.state = {"sums": self.state["sums"] + sums(squares, lvd, size * frames, divisor)}

    def result(self) -> tuple[float, float]:
        """(MSE, LVD); NaN without a frame, or for LVD without two."""
        squares, lvd, count, divisor = self.state["sums"].tolist()
        return squares / count if count else float("nan"), lvd / divisor if divisor else float("nan")


class SemanticRecall(Accumulator):
    """SRGR (Liu et al., 2022, BEAT): share of joints within 10 cm of the recorded ones, where meaning weighs more.

    Args:
        form: "paper": the mean over frames weighted by their semantic score, in [0, 1]. "tools": the tools of 2025 take
            the mean of share x score / 0.165 over all frames, which can pass 1. "scripts": the same for the sum of the
            three coordinates' errors instead of the distance.
    """

    def __init__(self, form: Form = "paper", radius: float = RADIUS) -> None:
        self.form, self.radius = form, radius
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    def update(
        self,
        generated: Float[Tensor, "T J 3"],
        recorded: Float[Tensor, "T J 3"],
        scores: Float[Tensor, " T"] | None = None,
    ) -> None:
        """Add a clip: joint positions in metres, semantic score of each frame (None: 1 each, plainly the share)."""
        order = 1 if self.form == "scripts" else 2
        error = torch.linalg.vector_norm(generated.double() - recorded.double(), ord=order, dim=-1)
        share = (error < self.radius).double().mean(1).cpu()
        if scores is None:
            weight = torch.ones_like(share)
        else:
            weight = scores.double().cpu() / (1 if self.form == "paper" else _SCORE_2025)
        count = weight.sum() if self.form == "paper" else len(share)
        self.state = {"sums": self.state["sums"] + sums((weight * share).sum(), count)}

    def result(self) -> float:
        """The share; NaN without frames, or without any meaning."""
        total, count = self.state["sums"].tolist()
        return total / count if count else float("nan")
