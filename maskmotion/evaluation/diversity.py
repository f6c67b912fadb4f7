"""Diversity of motion as L1 distances of joint positions, in metres.

Protocol `maskmotion-v1` is `l1_diversity`, the formula of EMAGE's paper (eq. 12). The field's released code computes
`mean_absolute_deviation` under the same name: a different quantity (spread inside each clip), here under its own.
Positions come without global translation ("local") or with it ("global", Table 8 of EMAGE): the caller decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.shapes import Float


def windows(positions: Sequence[Float[Tensor, "_ J 3"]], length: int = 64) -> Float[Tensor, "N T J 3"]:
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
    ordered = clips.reshape(count, -1).double().sort(0).values
    weight = 2 * torch.arange(count, dtype=torch.float64, device=clips.device) - count + 1
    return float(2 * (weight @ ordered).sum() / frames / (2 * count * (count - 1)))


def mean_absolute_deviation(positions: Sequence[Float[Tensor, "_ J 3"]]) -> float:
    """Spread inside clips, what EMAGE's release calls L1div: |x - the clip's mean| summed over coordinates, mean over frames."""
    if not sum(map(len, positions)):
        raise ValueError("no frame of motion was given; give at least one clip")
    total = sum((clip.double() - clip.double().mean(0)).abs().sum() for clip in positions)
    return float(total / sum(map(len, positions)))
