"""What measures look at: generated motion beside the recording it is held against, and the joints and faces of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskmotion.data.audio import sample_of
from maskmotion.evaluation.features import MotionFeatures
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import EXPRESSIONS, IDENTITY_6D, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.motion.skeleton import NUM_JOINTS, joint
from maskmotion.shapes import Float
from maskmotion.types import Clip

if TYPE_CHECKING:
    from maskmotion.motion.body_model import BodyModel

_FACE_FRAMES = 128  # meshes that are in memory at once
_JAW = joint("jaw")
_HEAD = (_JAW, joint("left_eye"), joint("right_eye"))
Hearing = Callable[[Tensor, int], Tensor]


class Reference:
    """A recording that motion is measured against. Onsets and features, slow to come by, are kept for the next row.

    Args:
        clip: motion, sound and labels of the recording.
        sound: gives the whole waveform at 16 kHz, also what outlasts the motion; None: the clip's own.
    """

    def __init__(self, clip: Clip, sound: Callable[[], Tensor] | None = None) -> None:
        self.clip = clip
        self._sound = sound
        self._onsets: dict[tuple[Hearing, int], Tensor] = {}
        self._features: dict[tuple[str, int, int | None], Tensor] = {}

    @cached_property
    def sound(self) -> Tensor | None:
        """The whole waveform, or None for a recording without sound."""
        return self.clip.audio if self._sound is None else self._sound()

    def onsets(self, hear: Hearing, frames: int) -> Float[Tensor, " n"]:
        """Onsets in seconds, as `hear(whole waveform, frames of the motion)` finds them. ValueError without sound."""
        if self.sound is None:
            raise ValueError(f"{self.clip.name} has no sound")
        if (hear, frames) not in self._onsets:
            self._onsets[hear, frames] = hear(self.sound, frames)
        return self._onsets[hear, frames]

    def features(self, extractor: MotionFeatures, frames: int, multiple: int | None) -> Float[Tensor, "n C"]:
        """Features of the first `frames` frames of the recorded motion."""
        key = (extractor.fingerprint, frames, multiple)
        if key not in self._features:
            self._features[key] = extractor.features([self.clip.motion[:frames]], multiple)
        return self._features[key]


@dataclass(frozen=True)
class Pair:
    """One generated motion beside its recording, both cut to the shorter; what several measures need is computed once."""

    whole: Float[Tensor, "_ D"]
    reference: Reference

    @property
    def frames(self) -> int:
        """Frames that are compared."""
        return min(len(self.whole), self.reference.clip.frames)

    @property
    def generated(self) -> Float[Tensor, "T D"]:
        """The generated motion."""
        return self.whole[: self.frames]

    @property
    def clip(self) -> Clip:
        """The recording, with motion, sound and labels of the frames that are compared."""
        clip, frames = self.reference.clip, self.frames
        if frames == clip.frames:
            return clip
        audio = None if clip.audio is None else clip.audio[: sample_of(frames, clip.fps)]
        labels = {key: label[:frames] for key, label in clip.labels.items()}
        return replace(clip, motion=clip.motion[:frames], audio=audio, labels=labels)

    @cached_property
    def local(self) -> Float[Tensor, "T 55 3"]:
        """Generated joints without global orientation and translation, by the library's own skeleton."""
        return local_positions(self.generated)

    @cached_property
    def world(self) -> Float[Tensor, "T 55 3"]:
        """Generated joints in the world, by the library's own skeleton."""
        root = matrix_from_6d(self.generated[:, :6])
        pelvis = self.local[:, :1]
        turned = (self.local - pelvis) @ root.mT
        return turned + pelvis + self.generated[:, None, TRANSLATION]

    def smplx(self, body: BodyModel, root: bool, recorded: bool = False) -> Float[Tensor, "T 55 3"]:
        """SMPL-X joints in the recording's body shape: no translation, expression, jaw or eyes; `root`: with orientation."""
        motion = self.clip.motion if recorded else self.generated
        still = [] if root else [0]
        return body.joints(_at_rest(motion, [*still, *_HEAD]), self.reference.clip.betas)

    def faces(self, body: BodyModel) -> Iterator[tuple[Tensor, Tensor]]:
        """(generated, recorded) vertices [n, 10475, 3] of jaw and expression alone, in the recording's body shape."""
        rest = [number for number in range(NUM_JOINTS) if number != _JAW]
        betas = self.reference.clip.betas
        for motions in zip(self.generated.split(_FACE_FRAMES), self.clip.motion.split(_FACE_FRAMES)):
            first, second = (body(_at_rest(motion, rest), motion[:, EXPRESSIONS], betas)[0] for motion in motions)
            yield first, second


def local_positions(motion: Float[Tensor, "T D"]) -> Float[Tensor, "T 55 3"]:
    """Joint positions in metres without global orientation and translation, as the field's metrics take them."""
    return forward_kinematics(_at_rest(motion, [0]), motion.new_zeros(len(motion), 3))


def _at_rest(motion: Float[Tensor, "T D"], joints: list[int]) -> Float[Tensor, "T 55 6"]:
    """Rotations of a motion, those of some joints replaced by the identity."""
    rotations = motion[:, ROTATIONS].unflatten(-1, (-1, 6)).clone()
    rotations[:, joints] = torch.tensor(IDENTITY_6D).to(rotations)
    return rotations
