from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from maskmotion.data.audio import load_audio, require_seconds


def tone(rate: int, seconds: float = 1.0, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)


def wav(path: Path, samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_becomes_16_khz_in_time_with_the_file(rate, tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", tone(rate), rate))
    assert audio.samples.shape == (16000,)
    assert (audio.source_samples, audio.source_rate) == (rate, rate)
    error = audio.samples.numpy() - tone(16000)
    assert np.abs(error[500:-500]).max() < 2e-3


@pytest.mark.parametrize(("subtype", "step"), [("PCM_U8", 1 / 64), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("FLOAT", 1e-6)])
def test_any_sample_type_is_read_at_full_scale_one(subtype, step, tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", tone(16000), subtype=subtype))
    assert audio.samples.dtype == torch.float32
    assert np.abs(audio.samples.numpy() - tone(16000)).max() < step


def test_channels_are_averaged(tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", np.stack([tone(16000), np.zeros(16000), np.zeros(16000)], axis=1)))
    assert np.abs(audio.samples.numpy() - tone(16000) / 3).max() < 1e-3


def test_flac_is_audio_too(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(16000), 16000)
    assert load_audio(tmp_path / "a.flac").samples.shape == (16000,)


def test_silence_is_a_valid_file(tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", np.zeros(4000)))
    assert audio.samples.shape == (4000,)
    assert not audio.samples.any()


@pytest.mark.parametrize("count", [1, 3199, 3200, 44100, 44101, 1_000_001])
def test_frames_are_counted_on_the_files_own_samples_and_the_waveform_covers_them(count, tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", np.zeros(count), 44100))
    frames = count * 30 // 44100
    assert audio.frames(30) == frames
    assert len(audio.samples) >= round(frames * 16000 / 30)
    assert abs(len(audio.samples) / 16000 - audio.seconds) < 1 / 16000 + 1e-9


def test_blocks_leave_no_seam(tmp_path):
    rate = 44100
    audio = load_audio(wav(tmp_path / "a.wav", tone(rate, 13.0), rate, "FLOAT"))
    error = audio.samples.numpy() - tone(16000, 13.0)
    assert np.abs(error[500:-500]).max() < 1e-4


def test_a_tenth_of_a_second_loads_but_is_too_short_to_generate_for(tmp_path):
    audio = load_audio(wav(tmp_path / "a.wav", np.zeros(1600)))
    with pytest.raises(ValueError, match=r"lasts 0\.100 s: need at least 0\.2 s"):
        require_seconds(audio, 0.2)
    just = load_audio(wav(tmp_path / "b.wav", np.zeros(3200)))
    assert require_seconds(just, 0.2) is just


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"speech\.wav: no such audio file"):
        load_audio(tmp_path / "speech.wav")


def test_empty_files_are_refused(tmp_path):
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(ValueError, match=r"nothing\.wav: an empty file"):
        load_audio(tmp_path / "nothing.wav")
    with pytest.raises(ValueError, match=r"header\.wav: an empty recording \(0 samples\)"):
        load_audio(wav(tmp_path / "header.wav", np.zeros(0)))


def test_what_is_not_audio_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound at all")
    with pytest.raises(ValueError, match=r"text\.wav: not an audio file"):
        load_audio(tmp_path / "text.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(value, tmp_path):
    samples = tone(16000).astype(np.float32)
    samples[1234] = value
    with pytest.raises(ValueError, match=r"a\.wav: sample 1234 is NaN or infinite"):
        load_audio(wav(tmp_path / "a.wav", samples, subtype="FLOAT"))


def test_a_long_stereo_file_needs_a_few_times_its_waveform(tmp_path):
    minutes, rate = 5, 44100
    second = np.repeat(tone(rate)[:, None], 2, axis=1)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 2, "PCM_16") as file:
        for _ in range(60 * minutes):
            file.write(second)
    tracemalloc.start()
    audio = load_audio(tmp_path / "long.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert audio.frames(30) == 60 * minutes * 30
    assert peak < 3 * audio.samples.nbytes + 16e6


def test_the_real_take_lasts_64_097_seconds():
    root = os.environ.get("MASKMOTION_BEAT2")
    if not root:
        pytest.skip("MASKMOTION_BEAT2 names no BEAT2 tree, so there is no real take to read")
    audio = load_audio(Path(root) / "wave16k" / "2_scott_0_1_1.wav")  # float32 samples, which python's wave cannot read
    assert audio.seconds == pytest.approx(64.097, abs=1e-3)
    assert audio.frames(30) == 1922
    assert 0.01 < float(audio.samples.std()) < 0.5
