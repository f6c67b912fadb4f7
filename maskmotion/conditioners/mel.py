"""The light default: log-mel spectra at the motion rate, without weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from maskmotion.conditioners.signal import FLOOR, WINDOW, log_mel, mel_filterbank, read_valid
from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, Batch, Condition

SPEECH_LEVEL, SPEECH_SPREAD = 0.5, 0.13  # of a band in recorded speech, on the extractor's scale of 0 to 1


class MelSpectrum(Extractor):
    """Log-mel spectra of 25 ms windows centred at (t + (k + 0.5) / per_frame) / fps, k = 0 .. per_frame - 1.

    Values are fixed functions of the power (0: silence, 1: a full-scale sine), never of the clip, so a stream gives
    what the whole recording gives. The last window of a frame reaches 12.5 ms past its centre.
    """

    def __init__(self, bands: int, per_frame: int) -> None:
        self.bands, self.per_frame = bands, per_frame
        self.dim = bands * per_frame
        self.key = f"mel-v1-{bands}x{per_frame}"

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, per_frame * bands]; the windows of a frame in the order of time."""
        steps = torch.arange(frames * self.per_frame)
        half_steps_per_second = 2 * fps * self.per_frame
        twice = 2 * (2 * steps + 1) * SAMPLE_RATE  # centres in samples, times 2 * half_steps_per_second
        centres = (twice + half_steps_per_second) // (2 * half_steps_per_second)
        spectra = log_mel(audio, centres - WINDOW // 2, self.bands)
        return (1 - spectra / math.log10(FLOOR)).reshape(frames, self.dim)


class Mel(Conditioner):
    """Log-mel spectra, several a frame, scaled so that speech has about zero mean and unit spread.

    The scale is fixed, never the clip's, so that a stream gives what the whole recording gives. (Without it a network
    needs several times the steps to hear anything.)

    Args:
        bands: mel bands from 0 to 8 kHz, 1 to 128.
        per_frame: spectra a motion frame; their bands are the channels.
    """

    def __init__(self, bands: int = 40, per_frame: int = 3) -> None:
        super().__init__()
        if bands < 1 or (mel_filterbank(bands).amax(dim=1) <= 0).any():
            raise ValueError(f"bands: every mel band needs a frequency bin of its own, so 1 to 128; got {bands}")
        if per_frame < 1:
            raise ValueError(f"per_frame: at least one spectrum a frame, got {per_frame}")
        self.extractor = MelSpectrum(bands, per_frame)
        self.extractors = (self.extractor,)
        self.dim = self.extractor.dim

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, bands * per_frame], zero in padded frames. ValueError without audio."""
        spectra = (read_valid(self.extractor, batch) - SPEECH_LEVEL) / SPEECH_SPREAD
        return Condition(spectra * batch.valid[..., None], batch.valid)
