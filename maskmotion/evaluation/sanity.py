"""Sanity rows: what measures give for motion whose worth is known. No table is printed without them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.motion.layout import CONTACTS
from maskmotion.motion.rotations import proper
from maskmotion.shapes import Float

TRUTH, HALVES, RECONSTRUCTION = "ground truth", "other half of the clips", "tokenizer reconstruction"
MEAN, FROZEN, NOISE = "mean pose", "frozen first frame", "noise on ground truth"
SANITY = (TRUTH, HALVES, RECONSTRUCTION, MEAN, FROZEN, NOISE)
NEEDED = (TRUTH, HALVES, MEAN, FROZEN, NOISE)  # of every table; reconstruction is there where there is a tokenizer


def motions_without_a_model(
    truth: Sequence[Float[Tensor, "_ D"]],
    mean: Float[Tensor, " D"] | None = None,
    scale: Float[Tensor, " D"] | None = None,
) -> dict[str, list[Tensor]]:
    """Row -> one motion a clip.

    Args:
        mean: pose of "mean pose"; None: that of these clips, standing. scale: spread of the noise; None: of these clips.
    """
    frames = torch.cat(list(truth))
    pose = mean_pose(frames) if mean is None else mean.cpu()
    spread = frames.std(0) if scale is None else scale.cpu()
    rng = torch.Generator().manual_seed(0)
    return {
        TRUTH: list(truth),
        MEAN: [pose.expand(len(motion), -1) for motion in truth],
        FROZEN: [motion[:1].expand(len(motion), -1) for motion in truth],
        NOISE: [frame_noise(motion, spread, rng) for motion in truth],
    }


def mean_pose(frames: Float[Tensor, "T D"]) -> Float[Tensor, " D"]:
    """The mean of the columns with rotations made whole again, both feet on the ground."""
    mean = proper(frames.mean(0))
    mean[CONTACTS] = 1.0
    return mean


def frame_noise(motion: Float[Tensor, "T D"], scale: Float[Tensor, " D"], rng: torch.Generator) -> Float[Tensor, "T D"]:
    """The motion with independent noise in every frame and column, as large as the columns' own spread."""
    return motion + scale.cpu() * torch.randn(motion.shape, generator=rng)


def halves(truth: Sequence[Float[Tensor, "_ D"]]) -> tuple[list[Tensor], list[Tensor]]:
    """Two sets of motion of about as many frames: every other clip, or the two halves of a single one."""
    if len(truth) == 1:
        middle = len(truth[0]) // 2
        return [truth[0][:middle]], [truth[0][middle:]]
    return list(truth[::2]), list(truth[1::2])
