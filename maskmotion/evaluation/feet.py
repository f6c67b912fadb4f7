"""How far feet slide while they stand: by the motion's own contacts, and by height alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.skeleton import FEET
from maskmotion.shapes import Float

HEIGHT = 0.025  # metres above its lowest place at which a foot no longer counts as standing
LOWEST = 0.05  # share of the frames that may lie below a foot's ground: tracking dips under the floor


def world_positions(motion: Float[Tensor, "T D"]) -> Float[Tensor, "T 55 3"]:
    """Joint positions in metres with global orientation and translation, by the library's own skeleton."""
    return forward_kinematics(motion[:, ROTATIONS].unflatten(-1, (-1, 6)), motion[:, TRANSLATION])


def _feet(positions: Float[Tensor, "T J 3"]) -> Float[Tensor, "T 4 3"]:
    feet = torch.tensor(FEET, device=positions.device)
    return positions.index_select(1, feet)  # a fifth of the time of positions[:, list(FEET)]


class FootSliding(Accumulator):
    """Mean speed (cm/s) of the feet, in the world, in frames that the motion itself says they are on the ground.

    A foot counts from one frame to the next where its contact is on in both. NaN when no foot ever stands.
    """

    def __init__(self) -> None:
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    def update(self, positions: Float[Tensor, "T J 3"], contacts: Float[Tensor, "T 4"], fps: int = 30) -> None:
        """Add a clip: world positions in metres, contacts of the joints `FEET`."""
        on = contacts > 0.5
        standing = on[1:] & on[:-1]
        moved = _feet(positions).diff(dim=0).norm(dim=-1)
        total = (100 * fps * moved[standing].double()).sum()
        self.state = {"sums": self.state["sums"] + sums(total, standing.sum())}

    def result(self) -> float:
        """The mean, cm/s."""
        total, steps = self.state["sums"].tolist()
        return total / steps if steps else float("nan")


class FootSkating(Accumulator):
    """Mean horizontal speed (cm/s) of the feet, weighted by how near the ground they are; contacts are not asked.

    The weight is 2 - 2^(h / H), 1 on the ground and 0 from H = 2.5 cm on (Zhang et al., 2018, "Mode-adaptive neural
    networks for quadruped motion control"). A foot's ground is the height that it goes below in 5 % of the
    clip's frames, as recordings have no floor of their own. NaN without two frames.
    """

    def __init__(self) -> None:
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    def update(self, positions: Float[Tensor, "T J 3"], fps: int = 30) -> None:
        """Add a clip: world positions in metres, y up."""
        feet = _feet(positions).double()
        if len(feet) < 2:
            return
        height = feet[..., 1] - feet[..., 1].quantile(LOWEST, dim=0)
        weight = 2 - torch.exp2((height[1:] / HEIGHT).clamp(0, 1))
        step = feet.diff(dim=0)
        speed = 100 * fps * torch.hypot(step[..., 0], step[..., 2])
        self.state = {"sums": self.state["sums"] + sums((weight * speed).sum(), weight.sum())}

    def result(self) -> float:
        """The mean, cm/s."""
        total, weight = self.state["sums"].tolist()
        return total / weight if weight else float("nan")


def foot_sliding(motions: Sequence[Float[Tensor, "_ D"]], fps: int = 30) -> float:
    """`FootSliding` of several clips [T, 437], joints by the library's own skeleton."""
    measure = FootSliding()
    for motion in motions:
        measure.update(world_positions(motion), motion[:, CONTACTS], fps)
    return measure.result()
