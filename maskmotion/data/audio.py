"""Waveforms from files of any rate, channel count and sample type (libsndfile reads them, soxr resamples)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE

_BLOCK = 1 << 18  # samples read at once: an hour of stereo never stands in memory at its own rate


@dataclass(frozen=True)
class Audio:
    """A mono waveform at 16 kHz, and how long the file it came from was.

    Args:
        samples: float32, as the file has them (full scale is 1).
        source_samples: samples per channel in the file.
        source_rate: the file's samples per second.
    """

    samples: Float[Tensor, " n"]
    source_samples: int
    source_rate: int

    @property
    def seconds(self) -> float:
        """Length of the file in seconds."""
        return self.source_samples / self.source_rate

    def frames(self, fps: int) -> int:
        """Motion frames that fit the file, counted on its own samples: source_samples * fps // source_rate."""
        return self.source_samples * fps // self.source_rate


def load_audio(path: str | Path) -> Audio:
    """Read an audio file as mono float32 at 16 kHz; channels are averaged. Silence (all zeros) is a valid file.

    The file is read, mixed and resampled in blocks: it needs about three times the memory of its
    16 kHz waveform (an hour: 0.7 GB), whatever its own rate and channels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: empty, not audio, or with samples that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: an empty file (0 bytes); give a recording with sound in it")
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate, count, blocks = int(file.samplerate), 0, []
            resample = _resampler(rate)
            for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
                mono = block.mean(axis=1)
                if not np.isfinite(mono).all():
                    first = count + int(np.argmin(np.isfinite(mono)))
                    raise ValueError(f"{path}: sample {first} is NaN or infinite; export the recording again")
                count += len(mono)
                blocks.append(resample(mono, False))
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: not an audio file that libsndfile can read ({error}); convert it to wav") from error
    if not count:
        raise ValueError(f"{path}: an empty recording (0 samples); give a recording with sound in it")
    blocks.append(resample(np.zeros(0, dtype=np.float32), True))
    samples = np.zeros(max(1, round(count * SAMPLE_RATE / rate)), dtype=np.float32)
    filled = np.concatenate(blocks)[: len(samples)]
    samples[: len(filled)] = filled  # the resampler's length may be off by a sample; frame times hang on it
    return Audio(torch.from_numpy(samples), count, rate)


def sample_of(frame: int, fps: int = 30) -> int:
    """The sample at which motion frame `frame` starts: round(frame * 16000 / fps), exact at any length."""
    return (2 * frame * SAMPLE_RATE + fps) // (2 * fps)


def require_seconds(audio: Audio, seconds: float | int = 0.2) -> Audio:
    """The same audio; ValueError when it is shorter than `seconds`, too short to generate motion for."""
    if audio.seconds < seconds:
        raise ValueError(f"the audio lasts {audio.seconds:.3f} s: need at least {seconds:g} s; give a longer recording")
    return audio


def _resampler(rate: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    if rate == SAMPLE_RATE:
        return lambda block, last: block
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    return lambda block, last: stream.resample_chunk(block, last=last)
