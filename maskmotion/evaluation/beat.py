"""Beat measures: does motion come to rest where speech has its beats.

Protocol `maskmotion-v1` is EMAGE eq. 13: the mean over *gesture* beats of a Gaussian of the distance to the nearest
audio beat. The releases average over audio onsets instead, drop slow beats by a look-up that is 60 frames off, and cut
two seconds off both ends: `released_beat`, in the protocols of theirs. AsynFusion's BA is `BeatAlignment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import roma
import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.motion.layout import rotation_columns
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.motion.skeleton import PART_JOINTS, joint
from maskmotion.shapes import Bool, Float
from maskmotion.types import SAMPLE_RATE

SIGMA = 0.3  # seconds, BEAT's value in EMAGE's evaluation (0.5 for TalkSHOW's data)
REACH = 7 / 30  # seconds on both sides within which a beat is the slowest frame; EMAGE's 7 frames
PLANTED_SIGMA = 0.05  # seconds: planted times are exact
PLANTED_REACH = 4 / 30  # seconds: a stroke of 0.4 s rests at its ends, too, and 7 frames would let those win
ALIGNMENT_REACH = 2 / 15  # seconds: 2 frames of BEAT at 15 fps
UPPER_BODY = PART_JOINTS["upper"]  # the 13 upper joints without fingers
WRISTS = (joint("left_wrist"), joint("right_wrist"))
_RIGHT_WRIST = list(rotation_columns(WRISTS[1:]))
_SHIFTS = 8  # of the targets, for chance
_SHARES = tuple((k + 1) / (_SHIFTS + 2) for k in range(_SHIFTS))  # of the clip


def joint_speeds(positions: Float[Tensor, "T J 3"], fps: int = 30) -> Float[Tensor, "T J"]:
    """Speed of every joint in metres a second, by central differences (one-sided at the ends). T >= 2."""
    if len(positions) < 2:
        raise ValueError(f"speed needs at least 2 frames, got {len(positions)}; leave the clip out")
    return torch.gradient(positions, spacing=1 / fps, dim=0)[0].norm(dim=-1)


def turning_speed(rotations: Float[Tensor, "T 6"], fps: int = 30) -> Float[Tensor, "T 1"]:
    """Angular speed of a joint in radians a second, frame to frame; the last frame repeats the one before. T >= 2."""
    if len(rotations) < 2:
        raise ValueError(f"speed needs at least 2 frames, got {len(rotations)}; leave the clip out")
    matrices = matrix_from_6d(rotations)
    turned = fps * roma.rotmat_geodesic_distance(matrices[:-1], matrices[1:])
    return torch.cat([turned, turned[-1:]])[:, None]


def motion_beats(speeds: Float[Tensor, "T J"], fps: int = 30, reach: float = REACH) -> Bool[Tensor, "T J"]:
    """Gesture beats: frames where a joint is slower than at any other frame within `reach` seconds; never an end."""
    from scipy.signal import argrelmin

    beats = torch.zeros_like(speeds, dtype=torch.bool)
    frames, joints = argrelmin(speeds.detach().cpu().numpy(), axis=0, order=max(1, round(reach * fps)))
    beats[torch.from_numpy(frames), torch.from_numpy(joints)] = True
    return beats


def audio_beats(
    audio: Float[Tensor, " samples"], rate: int = SAMPLE_RATE, backtrack: bool = False
) -> Float[Tensor, " onsets"]:
    """Onset times in seconds (librosa's detector with its defaults; hop 512, so 32 ms apart at best).

    backtrack: move each onset back to where the loudness before it is lowest, as BEAT's alignment score does.
    """
    import librosa

    wave = audio.detach().cpu().numpy()
    how = {"backtrack": True, "energy": librosa.feature.rms(y=wave, hop_length=512)[0]} if backtrack else {}
    times = librosa.onset.onset_detect(y=wave, sr=rate, hop_length=512, units="time", **how)
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


class Closeness(Accumulator):
    """Mean closeness of times to targets, pooled over the times of all clips, and what chance gives.

    Chance is the mean over shifts of the targets around their clip.
    """

    def __init__(self, sigma: float = SIGMA) -> None:
        self.sigma = sigma
        self.state = {"sums": torch.zeros(3 + _SHIFTS, dtype=torch.float64)}  # times, targets, closeness, by chance

    def add(self, times: Float[Tensor, " n"], targets: Float[Tensor, " m"], span: float) -> None:
        """Add a clip of `span` seconds."""
        times, targets = times.double().cpu(), targets.double().cpu()
        shifted = [targets, *((targets + share * span) % span for share in _SHARES)]
        found = [closeness(times, there, self.sigma).sum() for there in shifted]
        self.state = {"sums": self.state["sums"] + sums(len(times), len(targets), *found)}

    def result(self) -> BeatScore:
        """The mean; NaN without any time."""
        beats, targets, own, *chance = self.state["sums"].tolist()
        values = [value / beats if beats else float("nan") for value in (own, sum(chance) / _SHIFTS)]
        return BeatScore(values[0], values[1], int(beats), int(targets))


class BeatConstancy(Closeness):
    """Beat constancy (EMAGE eq. 13), pooled over every gesture beat of every joint and clip; 1 when all coincide.

    A clip without audio beats scores 0, as the formula says; motion that never moves has no gesture beat and adds none.
    """

    def __init__(self, sigma: float = SIGMA, joints: Sequence[int] = UPPER_BODY) -> None:
        super().__init__(sigma)
        self.joints = list(joints)

    def update(self, positions: Float[Tensor, "T J 3"], onsets: Float[Tensor, " n"], fps: int = 30) -> None:
        """Add a clip: joint positions in metres, two frames at least; audio beats in seconds from its first frame."""
        beats = motion_beats(joint_speeds(positions[:, self.joints], fps), fps)
        self.add(beats.nonzero()[:, 0] / fps, onsets, len(positions) / fps)


class BeatAlignment(Closeness):
    """AsynFusion's BA, by the definition of BEAT: is there a rest of the right wrist at each audio beat.

    Mean over audio beats (`audio_beats(backtrack=True)`), the other direction from beat constancy. The paper names the
    metric only. BEAT looks at minima of the wrist's angular speed, 2 frames to both sides at 15 fps; here as many
    seconds, and the speed is that of the local rotation.
    """

    def update(self, motion: Float[Tensor, "T D"], onsets: Float[Tensor, " n"], fps: int = 30) -> None:
        """Add a clip: its motion [T, 437] (or the 330 rotation columns), and its audio beats in seconds."""
        rests = motion_beats(turning_speed(motion[:, _RIGHT_WRIST], fps), fps, ALIGNMENT_REACH)
        self.add(onsets, rests.nonzero()[:, 0] / fps, len(motion) / fps)


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
    """Beat constancy (`BeatConstancy`) of several clips.

    Args:
        positions: joint positions of each clip in metres, two frames at least.
        onsets: each clip's audio beats in seconds from its first frame, e.g. `audio_beats(clip.audio)`.
        sigma: width of the Gaussian in seconds.
        joints: whose beats count.

    Raises:
        ValueError: a clip without its list of beats, or shorter than two frames.
    """
    _check(positions, onsets)
    score = BeatConstancy(sigma, joints)
    for clip, there in zip(positions, onsets):
        score.update(clip, there, fps)
    return score.result()


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
    score = Closeness(sigma)
    for clip, there in zip(positions, planted):
        speed = joint_speeds(clip[:, list(joints)], fps).mean(1, keepdim=True)
        rests = motion_beats(speed, fps, PLANTED_REACH)
        score.add(there, rests.nonzero()[:, 0] / fps, len(clip) / fps)
    return score.result()
