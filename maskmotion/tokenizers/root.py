"""RootPredictor: root translation from lower-body motion (EMAGE, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.motion.layout import CONTACTS, FOUR_PARTS, TRANSLATION, BodyLayout
from maskmotion.nn.convolution import Conv, ResidualConv
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.autoencoder import Plain
from maskmotion.tokenizers.root_losses import central_velocity, forward_velocity, integrate, root_losses
from maskmotion.types import Batch

_COLUMNS = BodyLayout.named(FOUR_PARTS).columns["lower"]  # 54 of rotations, 3 of translation, 4 of contacts
_MOVES, _TOUCHES = slice(54, 57), slice(57, 61)
LOSSES: Mapping[str, float] = {"velocity": 1.0, "height": 1.0, "position": 1.0}

__all__ = ["LOSSES", "RootPredictor", "integrate"]


class RootPredictor(nn.Module):
    """Lower-body rotations and contacts -> horizontal velocity (m/s) and height (m) of the pelvis, frame by frame.

    The network is trained without the translation. Velocities are learned as forward differences, which integrate back to the
    motion exactly; the releases learn central ones, which do not.

    Args:
        network: "residual": dilated convolutions to velocity and height alone, centred and scaled by their spread;
            "plain": the convolutional autoencoder of EMAGE's release in the motion's own units, whose outputs in place of
            the translation are read as velocity and height, and which predicts the contacts too.
        width: channels. layers: dilated residual blocks, or layers of the autoencoder (4 in the release).
        contacts: whether foot contacts are read. (The releases train with zeros and then feed decoded contacts.)
        translation: "plain" only: whether a clip's decoded translation is read after all, as EMAGE's audio release does
            with what nobody trained (specified in its section on the container); never in training.
        losses: name -> weight, see `root_losses`; `ROOT_WEIGHTS` are the releases'.
        velocity: which differences the velocity is learned from.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: Literal["residual", "plain"] = "residual",
        width: int = 64,
        layers: int = 2,
        contacts: bool = True,
        translation: bool = False,
        losses: Mapping[str, float] = LOSSES,
        velocity: Literal["forward", "central"] = "forward",
    ) -> None:
        super().__init__()
        self.contacts, self.translation, self.losses = contacts, translation, dict(losses)
        self.velocity = forward_velocity if velocity == "forward" else central_velocity
        self.plain = Plain(len(_COLUMNS), width, layers) if network == "plain" else None
        self.residual = None if network == "plain" else _Residual(width, layers)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))

    @torch.no_grad()
    def set_statistics(self, motions: list[Float[Tensor, "_ D"]], fps: int = 30) -> None:
        """Mean and spread of velocity and height over these motions; "plain" works in the motion's own units."""
        if self.plain is not None:
            return
        targets = torch.cat([self._targets(motion[None, :, TRANSLATION], fps=fps)[0] for motion in motions])
        self.mean.copy_(targets.mean(0))
        self.scale.copy_(targets.std(0).clamp(min=1e-3))

    def predict(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T 3"]:
        """Velocity x (m/s), height y (m), velocity z (m/s). Reads rotations and contacts, the translation where told to."""
        return self._both(motion, valid, self.translation)[0]

    def forward(
        self, batch: Batch, *, teacher: Any = None, progress: float = 0.0, stage: str = "root"
    ) -> dict[str, Tensor]:
        """Named losses; velocity and height count in units of their spread, positions in metres."""
        predicted, contacts = self._both(batch.motion, batch.valid)
        translation = batch.motion[..., TRANSLATION]
        return root_losses(
            predicted,
            translation,
            self.velocity(translation, batch.valid, batch.fps),
            contacts,
            batch.motion[..., CONTACTS],
            batch.valid,
            batch.fps,
            self.losses,
            self.scale,
        )

    def _both(self, motion: Tensor, valid: Tensor | None, moves: bool = False) -> tuple[Tensor, Tensor | None]:
        """Velocity and height, and contacts where the network has them."""
        lower = motion[..., list(_COLUMNS)]
        touches = lower[..., _TOUCHES] if self.contacts else torch.zeros_like(lower[..., _TOUCHES])
        rotations = lower[..., : _MOVES.start]
        if self.plain is None:
            assert self.residual is not None
            return self.residual(torch.cat([rotations, touches], dim=-1), valid) * self.scale + self.mean, None
        path = lower[..., _MOVES] if moves else torch.zeros_like(lower[..., _MOVES])
        out = self.plain.decode(self.plain.encode(torch.cat([rotations, path, touches], dim=-1), valid), valid)
        return out[..., _MOVES], out[..., _TOUCHES]

    def _targets(self, translation: Tensor, valid: Tensor | None = None, fps: int = 30) -> Tensor:
        velocity = self.velocity(translation, valid, fps)
        return torch.stack([velocity[..., 0], translation[..., 1], velocity[..., 2]], dim=-1)


class _Residual(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.enter = Conv(len(_COLUMNS) - 3, width, 5)
        self.blocks = nn.ModuleList(ResidualConv(width, 3**level) for level in range(layers))
        self.leave = Conv(width, 3)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = F.relu(self.enter(x, valid))
        for block in self.blocks:
            x = block(x, valid)
        return self.leave(x, valid)
