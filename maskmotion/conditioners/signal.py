"""What the audio conditioners share: samples at exact times, log-mel spectra, and reading features without padding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from maskmotion.interfaces import Extractor
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import SAMPLE_RATE, Batch

WINDOW = SAMPLE_RATE // 40  # samples of one spectrum: 25 ms
FFT_SIZE = 1024  # zero-padded, so that the narrow low bands of 40 .. 128 mel filters own a bin
FLOOR = 1e-8  # power below which everything is silence: 80 dB under a full-scale sine's peak
_CHUNK = 8192  # segments held in memory at once


def sample_at(step: Int[Tensor, " steps"], steps_per_second: int) -> Int[Tensor, " steps"]:
    """First sample that is not before step / steps_per_second, in integers: no drift at any length."""
    return (step * SAMPLE_RATE + steps_per_second - 1) // steps_per_second


def segments(audio: Float[Tensor, " samples"], starts: Int[Tensor, " steps"], length: int) -> Float[Tensor, "steps n"]:
    """`length` samples from each start; what lies outside the waveform is silence."""
    if not len(audio):
        return audio.new_zeros(len(starts), length)
    index = starts[:, None] + torch.arange(length)
    inside = (index >= 0) & (index < len(audio))
    return torch.where(inside, audio[index.clamp(0, len(audio) - 1)], 0.0)


def chunks(steps: Int[Tensor, " steps"]) -> Iterator[Tensor]:
    """The steps in runs that fit into memory, so that an hour of speech does too."""
    return iter(steps.split(_CHUNK))


def mel_filterbank(bands: int) -> Float[Tensor, "bands bins"]:
    """Triangular filters with peak 1, equally spaced from 0 to 8000 Hz on the HTK mel scale 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(
    audio: Float[Tensor, " samples"], starts: Int[Tensor, " steps"], bands: int
) -> Float[Tensor, "steps bands"]:
    """log10 of the mel power (+ FLOOR) of the 25 ms Hann windows from `starts` on; a full-scale sine is about 0."""
    window = torch.hann_window(WINDOW)
    filters = mel_filterbank(bands).T
    power = [
        torch.fft.rfft(segments(audio, part, WINDOW) * (2 * window / window.sum()), FFT_SIZE).abs().square() @ filters
        for part in chunks(starts)
    ]
    return torch.log10(torch.cat(power) + FLOOR)


def read_valid(extractor: Extractor, batch: Batch) -> Float[Tensor, "B T C"]:
    """The extractor's features of the batch, from the cache or from its waveforms; zero in padded frames.

    A waveform is silenced in padded frames and ends with the row's last valid frame, so neither what stands in the
    padding nor how much of it there is changes a valid frame.
    """
    keep = batch.valid[..., None]
    if extractor.key in batch.features or batch.audio is None:
        return torch.where(keep, extractor.read(batch), 0.0)
    features = [
        extractor.read(replace(batch.rows(row), audio=_spoken(batch.audio[row][0], batch.valid[row][0], batch.fps)))
        for row in torch.arange(len(batch.valid), device=batch.valid.device)[:, None]
    ]
    return torch.where(keep, torch.cat(features), 0.0)


def _spoken(audio: Float[Tensor, " samples"], valid: Bool[Tensor, " T"], fps: int) -> Float[Tensor, "1 spoken"]:
    frame = torch.arange(len(audio), device=audio.device) * fps // SAMPLE_RATE
    inside = valid.to(audio.device)[frame.clamp(max=len(valid) - 1)]
    last = int(inside.nonzero().max()) + 1 if bool(inside.any()) else 0
    return torch.where(inside, audio, 0.0)[None, :last]
