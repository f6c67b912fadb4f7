"""Diversity of motion as L1 distances of joint positions, in metres.

Protocol `maskmotion-v1` is `l1_diversity`, the formula of EMAGE's paper (eq. 12). The field's released code computes
`mean_absolute_deviation` under the same name: a different quantity (spread inside each clip), here under its own.
Positions come without global translation ("local") or with it ("global", Table 8 of EMAGE): the caller decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.shapes import Float

LENGTH = 64  # frames of the windows that clips are cut into


def windows(positions: Sequence[Float[Tensor, "_ J 3"]], length: int = LENGTH) -> Float[Tensor, "N T J 3"]:
    """Clips of equal length for `l1_diversity`: every clip cut into windows of `length` frames without overlap.

    Raises:
        ValueError: no clip is that long.
    """
    cut = [clip.unfold(0, length, length).movedim(-1, 1) for clip in positions if len(clip) >= length]
    if not cut:
        raise ValueError(f"no clip has {length} frames; give longer clips or a smaller window")
    return torch.cat(cut)


def l1_diversity(clips: Float[Tensor, "N T J 3"]) -> float:
    """How different clips are from each other (EMAGE eq. 12): sum over ordered pairs of their L1 distance / (2 N (N-1)).

    The distance of two clips is summed over joints and coordinates and averaged over frames, so it does not grow with
    their length. By the factor 1/2 of the paper this is half the mean distance of two clips.

    Raises:
        ValueError: fewer than two clips.
    """
    count, frames = clips.shape[:2]
    if count < 2:
        raise ValueError(f"diversity compares clips with each other and needs at least 2, got {count}; see windows()")
    # sum over pairs of |a - b| = 2 sum_k (2 k - N + 1) x_(k) of the sorted values: no N x N distances
    ordered = clips.reshape(count, -1).sort(0).values.double()
    weight = 2 * torch.arange(count, dtype=torch.float64, device=clips.device) - count + 1
    return float(2 * (weight @ ordered).sum() / frames / (2 * count * (count - 1)))


class L1Diversity(Accumulator):
    """`l1_diversity` of the windows of all clips, which it keeps: 1.4 MB for every minute of 30 fps and 55 joints."""

    def __init__(self, length: int = LENGTH, joints: int = NUM_JOINTS) -> None:
        self.length = length
        self.state = {"windows": torch.zeros(0, length, joints, 3)}
        self._new: list[Tensor] = []

    def update(self, positions: Float[Tensor, "T J 3"]) -> None:
        """Add a clip of joint positions in metres; of what is left after the last whole window, nothing is seen."""
        if len(positions) >= self.length:
            self._new = [*self._new, windows([positions.detach().float().cpu()], self.length)]

    def merge(self, other: L1Diversity) -> None:
        """Add the clips that `other` has seen."""
        self._new = [*self._new, other.settled()["windows"]]

    def settled(self) -> dict[str, Tensor]:
        """All windows."""
        self.state, self._new = {"windows": torch.cat([self.state["windows"], *self._new])}, []
        return self.state

    def result(self) -> float:
        """Diversity in metres; NaN with fewer than two windows."""
        found = self.settled()["windows"]
        return l1_diversity(found) if len(found) > 1 else float("nan")


class Deviation(Accumulator):
    """`mean_absolute_deviation`: |x - the clip's mean| summed over coordinates, mean over the frames of all clips."""

    def __init__(self) -> None:
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    def update(self, positions: Float[Tensor, "T J 3"]) -> None:
        """Add a clip of joint positions in metres."""
        clip = positions.detach().double().cpu()
        self.state = {"sums": self.state["sums"] + sums((clip - clip.mean(0)).abs().sum(), len(clip))}

    def result(self) -> float:
        """Deviation in metres; NaN without a frame."""
        total, frames = self.state["sums"].tolist()
        return total / frames if frames else float("nan")


def mean_absolute_deviation(positions: Sequence[Float[Tensor, "_ J 3"]]) -> float:
    """Spread inside clips, what EMAGE's release calls L1div: |x - the clip's mean| summed over coordinates, mean over frames."""
    if not sum(map(len, positions)):
        raise ValueError("no frame of motion was given; give at least one clip")
    measure = Deviation()
    for clip in positions:
        measure.update(clip)
    return measure.result()
