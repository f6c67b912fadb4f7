"""Beat constancy as EMAGE's scripts of 2024 and the tools of 2025 compute it, with their flaws: numbers of protocols.

Both average over audio onsets, not over gesture beats, and leave out two seconds at both ends. Both keep a gesture beat
where the speed is above a threshold 60 frames *earlier*: the beat's number counts from frame 60, the look-up from 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.evaluation.beat import SIGMA, UPPER_BODY, audio_beats, closeness, joint_speeds
from maskmotion.shapes import Bool, Float
from maskmotion.types import SAMPLE_RATE

CUT = 60  # frames that are left out at both ends
ORDER = 7  # frames on both sides within which a beat is the slowest
TOOLS_THRESHOLD, SCRIPTS_THRESHOLD = 0.1, 0.3  # of the speed, in units of the joint's mean speed
_RATE_2024 = 22050  # at which the scripts of 2024 load the sound before they resample it
_FPS = 30


def onsets_of_tools(audio: Float[Tensor, " samples"], frames: int) -> Float[Tensor, " onsets"]:
    """Onsets in seconds after frame 60, of the sound up to 60 frames before the end of the motion (16 kHz)."""
    return audio_beats(audio[CUT * SAMPLE_RATE // _FPS : int((frames - CUT) / _FPS * SAMPLE_RATE)])


def onsets_of_scripts(
    audio: Float[Tensor, " samples"], frames: int, rate: int | None = _RATE_2024
) -> Float[Tensor, " onsets"]:
    """Onsets in seconds after frame 60 as the scripts of 2024 hear them.

    The sound ends with the motion or two seconds before its own end, whichever comes first.

    Args:
        audio: the whole recording at 16 kHz, also what outlasts the motion. rate: it goes through this rate and back.
    """
    if rate is not None:
        import librosa

        there = librosa.resample(audio.detach().cpu().numpy(), orig_sr=SAMPLE_RATE, target_sr=rate)
        audio = torch.from_numpy(librosa.resample(there, orig_sr=rate, target_sr=SAMPLE_RATE))
    end = int((len(audio) / SAMPLE_RATE * _FPS - CUT) / _FPS * SAMPLE_RATE)
    return audio_beats(audio[: int(frames / _FPS * SAMPLE_RATE)][CUT * SAMPLE_RATE // _FPS : max(end, 0)])


def released_beats(
    positions: Float[Tensor, "T J 3"], mean_speed: Float[Tensor, " J"] | None, threshold: float
) -> Bool[Tensor, "N J"]:
    """The gesture beats that are kept, of the T - 120 frames from frame 60 on.

    mean_speed: of each joint over the data set, m/s; without it the fastest joint's fastest frame of the clip, as the tools do.
    """
    from scipy.signal import argrelmin

    speeds = joint_speeds(positions.double(), _FPS)
    speeds = speeds / (speeds.max() if mean_speed is None else mean_speed.to(speeds))
    beats = torch.zeros(len(positions) - 2 * CUT, positions.shape[1], dtype=torch.bool)
    frames, joints = (torch.from_numpy(index) for index in argrelmin(speeds[CUT:-CUT].numpy(), axis=0, order=ORDER))
    kept = speeds[frames, joints] > threshold  # the release's flaw: `frames` counts from frame 60, `speeds` from 0
    beats[frames[kept], joints[kept]] = True
    return beats


def released_scores(
    beats: Bool[Tensor, "N J"], onsets: Float[Tensor, " n"], sigma: float = SIGMA
) -> Float[Tensor, " J"]:
    """Score of each joint: mean over onsets of the closeness to its nearest beat, 0 without a beat; NaN without onsets."""
    if not len(onsets):
        return torch.full((beats.shape[1],), torch.nan, dtype=torch.float64)
    spacing = len(beats) / _FPS + float(onsets.max()) + 60 * sigma
    joint = (
        torch.arange(beats.shape[1], dtype=torch.float64) * spacing
    )  # one time axis for all: no joint sees another's
    found = beats.T.nonzero().double()
    targets = found[:, 1] / _FPS + joint[found[:, 0].long()]
    return closeness((onsets.double() + joint[:, None]).flatten(), targets, sigma).view(len(joint), -1).mean(1)


class ReleasedBeatConstancy(Accumulator):
    """Beat constancy of the releases: mean over 13 joints of the upper body, clips weighted by their frames but 120.

    A clip without onsets makes it NaN, as there; one of 120 frames or less is left out.

    Args:
        mean_speed: [55] m/s, `weights/mean_vel_smplxflame_30.npy` of BEAT2; None: the tools' way out.
        threshold: `TOOLS_THRESHOLD` or `SCRIPTS_THRESHOLD`.
        rectified: take |position - the clip's mean| for positions, as the scripts of 2024 do: their diversity overwrites
            the array that beats are then looked for in.
    """

    def __init__(
        self, mean_speed: Float[Tensor, " J"] | None, threshold: float, sigma: float = SIGMA, rectified: bool = False
    ) -> None:
        self.mean_speed, self.threshold, self.sigma, self.rectified = mean_speed, threshold, sigma, rectified
        self.state = {"sums": torch.zeros(2, dtype=torch.float64)}

    @staticmethod
    def reaches(frames: int) -> bool:
        """Whether a clip is long enough to be heard at all."""
        return frames > 2 * CUT

    def update(self, positions: Float[Tensor, "T J 3"], onsets: Float[Tensor, " n"]) -> None:
        """Add a clip: positions of the 55 joints in metres at 30 fps; onsets in seconds after frame 60."""
        weight = len(positions) - 2 * CUT
        if weight <= 0:
            return
        clip = positions.detach().double().cpu()
        clip = (clip - clip.mean(0)).abs() if self.rectified else clip
        beats = released_beats(clip, self.mean_speed, self.threshold)[:, list(UPPER_BODY)]
        score = released_scores(beats, onsets, self.sigma).mean()
        self.state = {"sums": self.state["sums"] + sums(weight * score, weight)}

    def result(self) -> float:
        """The score; NaN without a clip of more than 120 frames."""
        total, weight = self.state["sums"].tolist()
        return total / weight if weight else float("nan")
