"""A source-filter synthesiser: a sawtooth and noise, shaped in the short-time spectrum by each phone's envelope.

Everything is vectorised over samples or short-time frames; a minute of speech takes about 0.1 s on one core.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from maskmotion.data.planted.lexicon import PHONES
from maskmotion.data.planted.script import Script
from maskmotion.types import SAMPLE_RATE

HOP, WINDOW = 128, 512  # 8 ms and 32 ms
PITCH = (112.0, 196.0, 128.0, 214.0)  # Hz, by speaker
TRACT = (1.0, 0.87, 1.06, 0.9)  # vocal tract length by speaker: formants scale with its inverse
_VOICING = np.array([phone.voicing for phone in PHONES] + [0.0], dtype=np.float32)  # last row: silence
_LOUDNESS = np.array([phone.loudness for phone in PHONES] + [0.0], dtype=np.float32)
_PLOSIVE = np.array([phone.plosive for phone in PHONES] + [False])


@dataclass(frozen=True)
class _Prosody:
    """Per short-time frame: phone (24 = silence), progress inside the phone, stress, progress in the phrase."""

    phone: np.ndarray
    inside: np.ndarray
    stress: np.ndarray
    phrase: np.ndarray


def _prosody(script: Script, samples: int) -> _Prosody:
    times = np.arange(samples // HOP + 1) * (HOP / SAMPLE_RATE)
    table = script.phone_table
    row = np.clip(np.searchsorted(table[:, 1], times, side="right") - 1, 0, None)
    start, end = table[row, 1], table[row, 2]
    speaking = (start <= times) & (times < end)
    spans = np.array(script.phrases)
    which = np.clip(np.searchsorted(spans[:, 0], times, side="right") - 1, 0, None)
    phrase = (times - spans[which, 0]) / (spans[which, 1] - spans[which, 0])
    return _Prosody(
        phone=np.where(speaking, table[row, 0].astype(int), len(PHONES)),
        inside=np.where(speaking, (times - start) / (end - start), 0.0),
        stress=np.where(speaking, table[row, 3], 0.0),
        phrase=np.where((phrase >= 0) & (phrase <= 1), phrase, 0.0),
    )


def _envelopes(speaker: int) -> np.ndarray:
    """[phones + 1, bins] amplitude over frequency; silence last. The source already falls by 6 dB per octave."""
    hertz = np.arange(WINDOW // 2 + 1) * (SAMPLE_RATE / WINDOW) * TRACT[speaker]
    table = np.zeros((len(PHONES) + 1, len(hertz)), dtype=np.float32)
    for index, phone in enumerate(PHONES):
        for centre, width, gain in phone.peaks:
            table[index] += gain / (1 + ((hertz - centre) / width) ** 2)
    return table


def _loudness(prosody: _Prosody, rng: np.random.Generator) -> np.ndarray:
    """Amplitude of every short-time frame: phone, stress, phrase and, in plosives, closure and burst."""
    burst = np.where(prosody.inside < 0.6, 0.08, np.exp(-4 * (prosody.inside - 0.6)))
    level = _LOUDNESS[prosody.phone] * np.where(_PLOSIVE[prosody.phone], burst, 1.0)
    level = level * (1 + 0.6 * prosody.stress) * (1 - 0.35 * prosody.phrase)
    drift = ndimage.gaussian_filter1d(rng.standard_normal(len(level)), 40) * 8  # about 0.7 standard deviations
    return ndimage.gaussian_filter1d(level * np.exp(0.25 * drift), 1.0)


def _source(prosody: _Prosody, speaker: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Sawtooth at the pitch contour mixed with noise by voicing, [samples] float32."""
    wander = ndimage.gaussian_filter1d(rng.standard_normal(len(prosody.phone)), 25) * 9
    accent = ndimage.gaussian_filter1d(prosody.stress, 5)
    pitch = PITCH[speaker] * np.exp(0.12 - 0.25 * prosody.phrase + 0.22 * accent + 0.06 * wander)
    at = np.arange(samples, dtype=np.float64) / HOP
    frames = np.arange(len(pitch))
    phase = np.cumsum(np.interp(at, frames, pitch / SAMPLE_RATE))
    voicing = np.interp(at, frames, ndimage.gaussian_filter1d(_VOICING[prosody.phone], 0.7)).astype(np.float32)
    saw = (2 * (phase - np.floor(phase)) - 1).astype(np.float32)
    return voicing * saw + (1 - voicing) * 0.35 * rng.standard_normal(samples, dtype=np.float32)


def _shape(source: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Multiply the short-time spectrum of `source` [samples] by `gains` [frames, bins] and add the frames up again."""
    window = np.sqrt(np.hanning(WINDOW + 1)[:-1]).astype(np.float32)
    padded = np.pad(source, (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(gains)]
    shaped = fft.irfft(fft.rfft(frames * window, axis=1) * gains, axis=1) * (window / 2)  # four windows overlap: sum 2
    blocks = shaped.reshape(len(gains), WINDOW // HOP, HOP)
    out = np.zeros((len(gains) + WINDOW // HOP, HOP), dtype=np.float32)
    for block in range(WINDOW // HOP):
        out[block : block + len(gains)] += blocks[:, block]
    return out.reshape(-1)[WINDOW // 2 :][: len(source)]


def synthesise(script: Script, seconds: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The recording of a script, [seconds * 16000] int16, with background noise of `noise` times the speech's rms."""
    samples = seconds * SAMPLE_RATE
    prosody = _prosody(script, samples)
    gains = _envelopes(script.speaker)[prosody.phone] * _loudness(prosody, rng)[:, None].astype(np.float32)
    gains = ndimage.uniform_filter1d(gains, 3, axis=0)  # neighbouring phones blend over 24 ms
    speech = _shape(_source(prosody, script.speaker, samples, rng), gains)
    speech *= 0.07 / np.sqrt(np.mean(speech**2))
    hiss = rng.standard_normal(samples, dtype=np.float32)
    hiss[1:] += 0.8 * hiss[:-1]  # rooms hum more than they hiss
    speech += hiss * np.float32(0.07 * noise / np.sqrt(1.64))
    return np.clip(np.round(speech * 32767), -32768, 32767).astype(np.int16)
