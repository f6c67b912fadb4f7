"""RootPredictor: root translation from lower-body motion (EMAGE, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.motion.layout import CONTACTS, TRANSLATION, rotation_columns
from maskmotion.motion.skeleton import PART_JOINTS
from maskmotion.nn.convolution import Conv, ResidualConv
from maskmotion.shapes import Bool, Float
from maskmotion.types import Batch

_COLUMNS = rotation_columns(PART_JOINTS["lower"]) + tuple(range(CONTACTS.start, CONTACTS.stop))


class RootPredictor(nn.Module):
    """Lower-body rotations and contacts -> horizontal velocity (m/s) and height (m) of the pelvis, frame by frame.

    The translation is supervised as velocity and as integrated position. (In the releases no loss reaches the
    translation of the lower tokenizer, and the predictor's contact inputs differ between training and use.)

    Args:
        width: channels. layers: dilated residual blocks.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.enter = Conv(len(_COLUMNS), width, 5)
        self.blocks = nn.ModuleList(ResidualConv(width, 3**level) for level in range(layers))
        self.leave = Conv(width, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))

    @torch.no_grad()
    def set_statistics(self, motions: list[Float[Tensor, "_ D"]], fps: int = 30) -> None:
        """Mean and spread of velocity and height over these motions."""
        targets = torch.cat([self._targets(motion[None], fps)[0] for motion in motions])
        self.mean.copy_(targets.mean(0))
        self.scale.copy_(targets.std(0).clamp(min=1e-3))

    def predict(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T 3"]:
        """Velocity x (m/s), height y (m), velocity z (m/s). Reads rotations and contacts only."""
        x = F.relu(self.enter(motion[..., list(_COLUMNS)], valid))
        for block in self.blocks:
            x = block(x, valid)
        return self.leave(x, valid) * self.scale + self.mean

    def forward(
        self, batch: Batch, *, teacher: Any = None, progress: float = 0.0, stage: str = "root"
    ) -> dict[str, Tensor]:
        """Named losses: velocity and height (scaled), and position over the window after integration (metres)."""
        valid = batch.valid
        predicted, target = self.predict(batch.motion, valid), self._targets(batch.motion, batch.fps)
        error = (predicted - target) / self.scale
        weight = valid[..., None].to(error)
        path = integrate(predicted, batch.fps) - integrate(target, batch.fps)
        count = weight.sum().clamp(min=1)
        return {
            "velocity": (error[..., 0::2].abs() * weight).sum() / (2 * count),
            "height": (error[..., 1:2].abs() * weight).sum() / count,
            "position": (path.abs() * weight).sum() / (3 * count),
        }

    def _targets(self, motion: Tensor, fps: int) -> Tensor:
        """Forward differences of x and z (the last one repeated), and y as it is."""
        translation = motion[..., TRANSLATION]
        velocity = (translation[:, 1:] - translation[:, :-1]) * fps
        velocity = torch.cat([velocity, velocity[:, -1:]], dim=1)
        return torch.stack([velocity[..., 0], translation[..., 1], velocity[..., 2]], dim=-1)


def integrate(predicted: Float[Tensor, "B T 3"], fps: int) -> Float[Tensor, "B T 3"]:
    """Velocity x, height y, velocity z -> positions (m) that start at x = z = 0; the last velocity is unused."""
    steps = F.pad(predicted[:, :-1, 0::2], (0, 0, 1, 0)) / fps
    path = steps.cumsum(dim=1)
    return torch.stack([path[..., 0], predicted[..., 1], path[..., 1]], dim=-1)
