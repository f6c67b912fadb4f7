"""How far feet slide while they stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.skeleton import FEET
from maskmotion.shapes import Float


def foot_sliding(motions: Sequence[Float[Tensor, "_ D"]], fps: int = 30) -> float:
    """Mean speed (cm/s) of the feet, in the world, in frames that the motion itself says they are on the ground.

    A foot counts from one frame to the next where its contact is on in both. Joints by the library's own skeleton. NaN
    when no foot ever stands.
    """
    distance, steps = 0.0, 0
    for motion in motions:
        positions = forward_kinematics(motion[:, ROTATIONS].unflatten(-1, (-1, 6)), motion[:, TRANSLATION])
        on = motion[:, CONTACTS] > 0.5
        standing = on[1:] & on[:-1]
        moved = positions[:, list(FEET)].diff(dim=0).norm(dim=-1)
        distance += float(moved[standing].sum(dtype=torch.float64))
        steps += int(standing.sum())
    return 100 * fps * distance / steps if steps else float("nan")
