"""Beat constancy: does motion come to rest where speech has its beats.

Protocol `maskmotion-v1` is EMAGE eq. 13: the mean over *gesture* beats of a Gaussian of the distance to the nearest
audio beat. (The release averages over audio onsets instead, drops slow beats by a look-up that is 60 frames off, and
cuts two seconds off both ends; its numbers belong to other protocols.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskmotion.motion.skeleton import PART_JOINTS, joint
from maskmotion.shapes import Bool, Float
from maskmotion.types import SAMPLE_RATE

_SHIFTS = 8  # of the targets, for chance
SIGMA = 0.3  # seconds, BEAT's value in EMAGE's evaluation (0.5 for TalkSHOW's data)
REACH = 7 / 30  # seconds on both sides within which a beat is the slowest frame; EMAGE's 7 frames
PLANTED_SIGMA = 0.05  # seconds: planted times are exact
PLANTED_REACH = 4 / 30  # seconds: a stroke of 0.4 s rests at its ends, too, and 7 frames would let those win
UPPER_BODY = PART_JOINTS["upper"]  # the 13 upper joints without fingers
WRISTS = (joint("left_wrist"), joint("right_wrist"))


def joint_speeds(positions: Float[Tensor, "T J 3"], fps: int = 30) -> Float[Tensor, "T J"]:
    """Speed of every joint in metres a second, by central differences (one-sided at the ends). T >= 2."""
    if len(positions) < 2:
        raise ValueError(f"speed needs at least 2 frames, got {len(positions)}; leave the clip out")
    return torch.gradient(positions, spacing=1 / fps, dim=0)[0].norm(dim=-1)


def motion_beats(speeds: Float[Tensor, "T J"], fps: int = 30, reach: float = REACH) -> Bool[Tensor, "T J"]:
    """Gesture beats: frames where a joint is slower than at any other frame within `reach` seconds; never an end."""
    from scipy.signal import argrelmin

    beats = torch.zeros_like(speeds, dtype=torch.bool)
    frames, joints = argrelmin(speeds.detach().cpu().numpy(), axis=0, order=max(1, round(reach * fps)))
    beats[torch.from_numpy(frames), torch.from_numpy(joints)] = True
    return beats


def audio_beats(audio: Float[Tensor, " samples"], rate: int = SAMPLE_RATE) -> Float[Tensor, " onsets"]:
    """Onset times in seconds (librosa's detector with its defaults; hop 512, so 32 ms apart at best)."""
    import librosa

    times = librosa.onset.onset_detect(y=audio.detach().cpu().numpy(), sr=rate, hop_length=512, units="time")
    return torch.from_numpy(np.asarray(times, dtype=np.float64))


def closeness(times: Float[Tensor, " n"], targets: Float[Tensor, " m"], sigma: float = SIGMA) -> Float[Tensor, " n"]:
    """exp(-d^2 / (2 sigma^2)), d the distance in seconds of each time to the nearest target; 0 without any target."""
    times, targets = times.double(), targets.double().sort().values
    edges = torch.cat([times.new_full((1,), -torch.inf), targets, times.new_full((1,), torch.inf)])
    after = torch.searchsorted(edges, times)
    distance = torch.minimum(times - edges[after - 1], edges[after] - times)
    return torch.exp(-distance.square() / (2 * sigma**2))


@dataclass(frozen=True)
class BeatScore:
    """A beat measure with what it counted; `float(score)` is the number, NaN where there was no beat to average over.

    beats: beats averaged over. targets: beats they were compared with. chance: the same with the targets shifted in
    time, what the density of beats alone gives; a score means little unless it is above.
    """

    value: float
    chance: float
    beats: int
    targets: int

    def __float__(self) -> float:
        return self.value


def _pooled(times: Sequence[Tensor], targets: Sequence[Tensor], spans: Sequence[float], sigma: float) -> BeatScore:
    """Mean closeness over all times of all clips; chance from `_SHIFTS` shifts of the targets around each clip."""

    def mean(share: float) -> float:
        moved = ((there + share * span) % span if share else there for there, span in zip(targets, spans))
        scores = [closeness(here, there, sigma) for here, there in zip(times, moved)]
        return float(torch.cat(scores).mean()) if scores else float("nan")

    chance = float(np.mean([mean((k + 1) / (_SHIFTS + 2)) for k in range(_SHIFTS)]))
    return BeatScore(mean(0.0), chance, sum(map(len, times)), sum(map(len, targets)))


def _check(positions: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    if len(positions) != len(targets):
        raise ValueError(f"every clip needs its beats: {len(positions)} motions, {len(targets)} lists of beat times")


def beat_constancy(
    positions: Sequence[Float[Tensor, "_ J 3"]],
    onsets: Sequence[Float[Tensor, " _"]],
    fps: int = 30,
    sigma: float = SIGMA,
    joints: Sequence[int] = UPPER_BODY,
) -> BeatScore:
    """Beat constancy (EMAGE eq. 13), pooled over every gesture beat of every joint and clip; 1 when all coincide.

    A clip without audio beats scores 0, as the formula says; motion that never moves has no gesture beat and adds none.

    Args:
        positions: joint positions of each clip in metres, two frames at least.
        onsets: each clip's audio beats in seconds from its first frame, e.g. `audio_beats(clip.audio)`.
        sigma: width of the Gaussian in seconds.
        joints: whose beats count.

    Raises:
        ValueError: a clip without its list of beats, or shorter than two frames.
    """
    _check(positions, onsets)
    beats = [motion_beats(joint_speeds(clip[:, list(joints)], fps), fps).nonzero()[:, 0] / fps for clip in positions]
    spans = [len(clip) / fps for clip in positions]
    return _pooled([b.double().cpu() for b in beats], [o.double().cpu() for o in onsets], spans, sigma)


def beat_alignment(
    positions: Sequence[Float[Tensor, "_ J 3"]],
    planted: Sequence[Float[Tensor, " _"]],
    fps: int = 30,
    sigma: float = PLANTED_SIGMA,
    joints: Sequence[int] = WRISTS,
) -> BeatScore:
    """Are the planted beats met: mean over planted beats of the closeness of the nearest beat of the motion.

    A planted beat's apex turns the stroke around, so the hands' mean speed has a minimum there. The other direction
    from beat constancy: every planted beat must be met, and motion that pauses often is told by its high chance.

    Args:
        positions: joint positions of each clip in metres. planted: each clip's planted beats in seconds.
        joints: whose mean speed is looked at.
    """
    _check(positions, planted)
    speeds = [joint_speeds(clip[:, list(joints)], fps).mean(1, keepdim=True) for clip in positions]
    beats = [motion_beats(speed, fps, PLANTED_REACH).nonzero()[:, 0].double().cpu() / fps for speed in speeds]
    spans = [len(clip) / fps for clip in positions]
    return _pooled([p.double().cpu() for p in planted], beats, spans, sigma)
