"""How loud speech is and where it sets in, at the motion rate, without weights."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.conditioners.signal import WINDOW, chunks, log_mel, read_valid, sample_at, segments
from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.shapes import Float, Int
from maskmotion.types import Batch, Condition

AMPLITUDE, ENERGY, ONSET = 0, 1, 2  # channels of `Rhythm`
_BANDS = 40
_PER_FRAME = 3  # spectral changes looked at per frame


class RhythmCurves(Extractor):
    """Amplitude, short-time energy and onset strength of each frame.

    Frame t is the samples from t / fps up to (t + 1) / fps. Onset strength is spectral flux: the mean rise of the
    mel bands' log power, in bel (10 dB), between 25 ms windows that end at successive thirds of the frame; the
    largest of the three. Windows end where they are stamped, so nothing is seen early and no lag needs correcting,
    and no value depends on the rest of the clip (librosa's `onset_strength` clips 80 dB below the clip's maximum).
    """

    key = "rhythm-v1"
    dim = 3

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, 3]."""
        edges = sample_at(torch.arange(frames + 1), fps)
        spans = zip(chunks(edges[:-1]), chunks(edges.diff()))
        loudness = torch.cat([_loudness(audio, starts, counts) for starts, counts in spans])
        return torch.cat([loudness, _onset(audio, frames, fps)[:, None]], dim=1)


def _loudness(
    audio: Float[Tensor, " samples"], starts: Int[Tensor, " n"], count: Int[Tensor, " n"]
) -> Float[Tensor, "n 2"]:
    """Largest |y| and root mean square of the `count` samples from each start."""
    length = int(count.max()) if len(count) else 0
    samples = segments(audio, starts, length) * (torch.arange(length) < count[:, None])
    return torch.stack([samples.abs().amax(dim=1), (samples.square().sum(dim=1) / count).sqrt()], dim=1)


def _onset(audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, " frames"]:
    ends = sample_at(torch.arange(frames * _PER_FRAME + 1), fps * _PER_FRAME)
    rise = log_mel(audio, ends - WINDOW, _BANDS).diff(dim=0).clamp(min=0).mean(dim=1)
    return rise.reshape(frames, _PER_FRAME).amax(dim=1)


class Rhythm(Conditioner):
    """Three channels: 0 amplitude (largest |y| in the frame), 1 short-time energy (RMS), 2 onset strength (bel)."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.extractor = RhythmCurves()
        self.extractors = (self.extractor,)

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, 3], zero in padded frames. ValueError without audio."""
        return Condition(read_valid(self.extractor, batch), batch.valid)
