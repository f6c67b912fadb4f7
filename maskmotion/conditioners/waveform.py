"""Speech as the releases of EMAGE hear it: a convolutional encoder of the waveform, or of its amplitude and onsets."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.nn.waveform import STRIDE, WaveformEncoder
from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, Batch, Condition

RELEASED = 533  # samples a motion frame as the releases count them: the whole part of 16000 / 30
_AHEAD, _HOP = 1024, 512


class OnsetAmplitude(Extractor):
    """Amplitude and onsets of every sample, frame t holding samples 533 t to 533 (t + 1) of both, interleaved.

    As in EMAGE's scripts of 2024 (specified in its section "audio features"): amplitude is the largest |y| of the 1024
    samples from here on, its last 1023 values repeat the one before them. Onsets are librosa's, but their frame numbers
    (hop 512) are taken for sample numbers, so all of them lie in the first 512th of the recording.
    """

    key = "onset-amplitude-v1"
    dim = 2 * RELEASED

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, 2 * 533]; zero beyond the waveform."""
        both = torch.stack([onsets_of_2024(audio), amplitude_of_2024(audio)], dim=-1)[: frames * RELEASED]
        return F.pad(both, (0, 0, 0, frames * RELEASED - len(both))).reshape(frames, self.dim)


def amplitude_of_2024(audio: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Largest |y| of the 1024 samples from each on; the last 1023 repeat the value before them."""
    loud = F.max_pool1d(F.pad(audio.abs(), (0, max(0, _AHEAD - len(audio))))[None], _AHEAD, 1)[0]
    return torch.cat([loud, loud[-1:].expand(max(0, len(audio) - len(loud)))])[: len(audio)]


def onsets_of_2024(audio: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """1 at librosa's onset frames (hop 512), taken for sample numbers."""
    import librosa

    found = librosa.onset.onset_detect(y=audio.numpy().astype(np.float32), sr=SAMPLE_RATE, hop_length=_HOP)
    onsets = torch.zeros_like(audio)
    onsets[torch.as_tensor(found[found < len(audio)], dtype=torch.long)] = 1.0
    return onsets


class Waveform(Conditioner):
    """Features that a convolutional network learns from the waveform itself (EMAGE's releases).

    Steps are about frames, but not as many: see `WaveformEncoder`. Sound of padded frames is silence.

    Args:
        dim: channels C, a multiple of 4.
        signal: what is encoded: the samples, or `OnsetAmplitude` as in the text model of 2024.
        samples_per_frame: how much sound a window of T frames hears; None: all of it. EMAGE's release: 533, which is a
            third of a sample short, so that sound lags by 37.5 ms after a minute.
    """

    def __init__(
        self,
        dim: int = 256,
        signal: Literal["samples", "onset_amplitude"] = "samples",
        samples_per_frame: int | None = None,
    ) -> None:
        super().__init__()
        if samples_per_frame is not None and samples_per_frame < 1:
            raise ValueError(f"samples_per_frame is at least 1, got {samples_per_frame}")
        self.dim, self.samples_per_frame = dim, samples_per_frame
        self.extractor = OnsetAmplitude() if signal == "onset_amplitude" else None
        self.extractors = () if self.extractor is None else (self.extractor,)
        self.reads_audio = self.extractor is None
        self.encoder = WaveformEncoder(dim, 1 if self.extractor is None else 2)

    def forward(self, batch: Batch) -> Condition:
        """Features [B, S, dim], S about T, zero where their frame is padded. ValueError without audio."""
        features = self.encoder(self._signal(batch))
        steps, frames = features.shape[1], batch.valid.shape[1]
        if steps == frames and bool(batch.valid.all()):
            return Condition(features, batch.valid)
        samples = self.samples_per_frame or SAMPLE_RATE / batch.fps
        frame = (torch.arange(steps, device=features.device) * STRIDE / samples).long().clamp(max=frames - 1)
        valid = batch.valid[:, frame]
        return Condition(features * valid[..., None], valid)

    def _signal(self, batch: Batch) -> Float[Tensor, "B N channels"]:
        frames = batch.valid.shape[1]
        if self.extractor is not None:
            both = self.extractor.read(batch) * batch.valid[..., None]
            return both.unflatten(-1, (RELEASED, 2)).flatten(1, 2)
        if batch.audio is None:
            raise ValueError("no audio in the batch: the conditioner waveform learns from batch.audio")
        audio = batch.audio
        if self.samples_per_frame is not None:
            wanted = frames * self.samples_per_frame
            audio = F.pad(audio[:, :wanted], (0, max(0, wanted - audio.shape[1])))
        if not bool(batch.valid.all()):
            frame = torch.arange(audio.shape[1], device=audio.device) * batch.fps // SAMPLE_RATE
            audio = torch.where(batch.valid[:, frame.clamp(max=frames - 1)], audio, 0.0)
        return audio[..., None]
