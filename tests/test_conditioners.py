"""Conditioners: exact times, values against references, padding and caching."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.conditioners import Mel, Rhythm, Speaker, Transcript
from maskmotion.conditioners.rhythm import AMPLITUDE, ENERGY, ONSET
from maskmotion.conditioners.signal import FFT_SIZE, FLOOR, WINDOW, log_mel, mel_filterbank
from maskmotion.types import SAMPLE_RATE, Batch

FPS = 30


def noise(samples, seed=0, scale=0.1):
    return scale * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def make_batch(rows=2, frames=24, valid=None, **fields):
    samples = frames * SAMPLE_RATE // FPS
    audio = torch.stack([noise(samples, seed) for seed in range(rows)])
    valid = torch.ones(rows, frames, dtype=torch.bool) if valid is None else valid
    words = torch.arange(rows * frames).reshape(rows, frames) * 7919 % 100_003
    given = {"audio": audio, "speaker": torch.arange(rows), "labels": {"words": words}}
    return Batch(motion=torch.zeros(rows, frames, 437), valid=valid, fps=FPS, **{**given, **fields})


def all_conditioners():
    torch.manual_seed(0)
    return [Mel(), Rhythm(), Speaker(dim=5), Transcript(dim=6, buckets=50)]


# ------------------------------------------------------------------------------------------------ every conditioner


@pytest.mark.parametrize("conditioner", all_conditioners(), ids=lambda c: type(c).__name__)
def test_features_are_frame_aligned_and_finite(conditioner):
    batch = make_batch()
    condition = conditioner(batch)
    assert condition.features.shape == (2, 24, conditioner.dim)
    assert condition.features.isfinite().all()
    assert condition.features.abs().sum() > 0
    assert torch.equal(condition.valid, batch.valid)


@pytest.mark.parametrize("conditioner", all_conditioners(), ids=lambda c: type(c).__name__)
@given(lengths=st.lists(st.integers(0, 12), min_size=2, max_size=2), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_padding_never_changes_valid_frames(conditioner, lengths, seed):
    frames = 12
    valid = torch.arange(frames) < torch.tensor(lengths)[:, None]
    batch = make_batch(2, frames, valid)
    covered = torch.arange(batch.audio.shape[1]) * FPS // SAMPLE_RATE
    other = replace(
        batch,
        audio=torch.where(valid[:, covered], batch.audio, noise(batch.audio.shape[1], seed, scale=9.0)),
        labels={"words": torch.where(valid, batch.labels["words"], seed + 1)},
    )
    expected, found = conditioner(batch).features, conditioner(other).features
    assert torch.equal(expected, found)
    assert (found[~valid] == 0).all()


@pytest.mark.parametrize("conditioner", [Mel(), Rhythm()], ids=lambda c: type(c).__name__)
def test_the_amount_of_padding_never_changes_a_row(conditioner):
    short = make_batch(1, 10)
    valid = torch.arange(17)[None] < 10
    long = make_batch(1, 17, valid)
    audio = long.audio.clone()
    audio[:, : short.audio.shape[1]] = short.audio
    alone = conditioner(replace(short, audio=audio[:, : math.ceil(10 * SAMPLE_RATE / FPS)])).features
    padded = conditioner(replace(long, audio=audio)).features
    torch.testing.assert_close(alone, padded[:, :10])


@pytest.mark.parametrize("conditioner", [Mel(), Rhythm()], ids=lambda c: type(c).__name__)
def test_cached_features_equal_features_of_the_audio(conditioner):
    batch = make_batch()
    (extractor,) = conditioner.extractors
    cached = {extractor.key: torch.stack([extractor(row, 24, FPS) for row in batch.audio])}
    from_cache = conditioner(replace(batch, audio=None, features=cached)).features
    assert torch.equal(from_cache, conditioner(batch).features)


@pytest.mark.parametrize("conditioner", [Mel(), Rhythm()], ids=lambda c: type(c).__name__)
def test_without_audio_or_cache_the_error_says_what_is_needed(conditioner):
    with pytest.raises(ValueError, match=r"need batch\.audio or batch\.features"):
        conditioner(make_batch(audio=None))


@pytest.mark.parametrize("conditioner", [Mel(), Rhythm()], ids=lambda c: type(c).__name__)
def test_a_window_of_a_long_recording_has_the_values_of_the_whole(conditioner):
    (extractor,) = conditioner.extractors
    audio, first = noise(SAMPLE_RATE * 700), 30 * 690  # 690 s is a whole number of samples and frames
    whole = extractor(audio, 30 * 700, FPS)[first : first + 60]
    part = extractor(audio[690 * SAMPLE_RATE :], 60, FPS)
    torch.testing.assert_close(whole[1:], part[1:])  # frame 0 of the part lacks the samples before it


@pytest.mark.parametrize("conditioner", [Mel(), Rhythm()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("samples", [0, 1, 100, 5000])
def test_what_the_waveform_does_not_cover_is_silence(conditioner, samples):
    (extractor,) = conditioner.extractors
    features = extractor(noise(samples), 20, FPS)
    assert features.shape == (20, extractor.dim)
    torch.testing.assert_close(features[13:], torch.zeros(7, extractor.dim), atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------------ mel


@pytest.mark.parametrize("bands", [20, 40, 80, 128])
def test_mel_filterbank_is_librosas(bands):
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT_SIZE, n_mels=bands, htk=True, norm=None)
    np.testing.assert_allclose(mel_filterbank(bands).numpy(), expected, atol=1e-5)


def test_mel_values_are_librosas():
    librosa = pytest.importorskip("librosa")
    audio = noise(SAMPLE_RATE)
    power = librosa.feature.melspectrogram(
        y=audio.numpy(), sr=SAMPLE_RATE, n_fft=WINDOW, hop_length=160, center=False, n_mels=20, htk=True, norm=None
    )
    fine = log_mel(audio, torch.arange(power.shape[1]) * 160, 20)
    scale = (2 / torch.hann_window(WINDOW).sum()) ** 2
    # librosa's spectrum has 201 bins, ours 513 of the same window: as many times the bins add up in a band
    ours = (10 ** fine.double() - FLOOR) / scale * (WINDOW / FFT_SIZE)
    wide = slice(8, None)  # bands with many bins, where the two sums agree
    np.testing.assert_allclose(ours.T.numpy()[wide], power[wide], rtol=0.35)
    np.testing.assert_allclose(ours.T.numpy()[wide].mean(), power[wide].mean(), rtol=0.01)


def test_mel_finds_a_tone_burst_at_its_time_after_ten_minutes():
    audio = torch.zeros(600 * SAMPLE_RATE)
    frame, offset = 17_491, 0.5  # the middle window of the frame
    centre = round((frame + offset) / FPS * SAMPLE_RATE)
    audio[centre - 20 : centre + 20] = 1.0
    spectra = Mel(bands=20, per_frame=3).extractor(audio, 600 * FPS, FPS).reshape(-1, 20).sum(dim=1)
    assert int(spectra.argmax()) == 3 * frame + 1


def test_a_full_scale_sine_is_about_one_and_silence_is_zero():
    time = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    loud = Mel().extractor(torch.sin(2 * math.pi * 440 * time), 30, FPS)
    assert 0.95 < float(loud[5:25].max()) < 1.15
    assert float(Mel().extractor(torch.zeros(SAMPLE_RATE), 30, FPS).abs().max()) < 1e-6


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"bands": 400}, {"per_frame": 0}])
def test_mel_refuses_sizes_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Mel(**wrong)


# ------------------------------------------------------------------------------------------------ rhythm


def test_onsets_of_a_click_train_lie_in_their_frames_over_ten_minutes():
    frames = torch.arange(7, 600 * FPS - 1, 41)
    audio = torch.zeros(600 * SAMPLE_RATE)
    centres = ((2 * frames + 1) * SAMPLE_RATE) // (2 * FPS)
    for shift in range(32):  # a click of 2 ms
        audio[centres + shift] = 0.5
    onset = Rhythm().extractor(audio, 600 * FPS, FPS)[:, ONSET]
    around = torch.stack([onset[frames + shift] for shift in range(-3, 4)], dim=1)
    assert (around.argmax(dim=1) == 3).all()
    assert (around[:, :3] == 0).all()  # nothing is seen early
    assert (onset > 0).sum() <= 2 * len(frames)


def test_amplitude_and_energy_of_a_sine_are_its_own():
    time = torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    features = Rhythm().extractor(0.3 * torch.sin(2 * math.pi * 500 * time), 60, FPS)
    torch.testing.assert_close(features[:, AMPLITUDE], torch.full((60,), 0.3), atol=1e-3, rtol=0)
    torch.testing.assert_close(features[:, ENERGY], torch.full((60,), 0.3 / math.sqrt(2)), atol=2e-3, rtol=0)
    assert float(features[2:, ONSET].max()) < 0.02  # a steady tone sets in once


@given(fps=st.integers(10, 120), frame=st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_a_single_loud_sample_belongs_to_exactly_one_frame(fps, frame):
    sample = -(-frame * SAMPLE_RATE // fps)  # the first sample not before frame / fps
    audio = torch.zeros(sample + 1)
    audio[sample] = 1.0
    amplitude = Rhythm().extractor(audio, frame + 3, fps)[:, AMPLITUDE]
    assert amplitude.nonzero().flatten().tolist() == [frame]


def test_silence_has_no_rhythm():
    assert (Rhythm().extractor(torch.zeros(SAMPLE_RATE), 30, FPS) == 0).all()


# ------------------------------------------------------------------------------------------------ speaker, transcript


def test_a_speaker_has_the_same_vector_in_every_frame_and_none_has_the_mean():
    speaker = Speaker(dim=4, count=3)
    features = speaker(make_batch(speaker=torch.tensor([2, 0]))).features
    torch.testing.assert_close(features[0], speaker.table.weight[2].expand(24, 4))
    mean = speaker(make_batch(speaker=None)).features
    torch.testing.assert_close(mean[1], speaker.table.weight.mean(dim=0).expand(24, 4))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_unknown_speaker_is_named_with_the_known_ones(index):
    with pytest.raises(ValueError, match=f"speaker {index} is not in the table.*0 to 2"):
        Speaker(count=3)(make_batch(speaker=torch.tensor([0, index])))


def test_words_have_their_buckets_vector_and_silence_none():
    transcript = Transcript(dim=4, buckets=10)
    identity = zlib.crc32(b"hello")
    words = torch.tensor([[0, identity, identity + 10, identity + 1]])
    features = transcript(make_batch(1, 4, labels={"words": words})).features[0]
    assert (features[0] == 0).all()
    assert torch.equal(features[1], transcript.table.weight[identity % 10 + 1])
    assert torch.equal(features[1], features[2])
    assert not torch.equal(features[1], features[3])


def test_a_transcript_is_never_required():
    assert (Transcript(dim=4)(make_batch(labels={})).features == 0).all()


@pytest.mark.parametrize("make", [Speaker, Transcript])
def test_tables_need_a_size(make):
    with pytest.raises(ValueError, match="dim >= 1"):
        make(dim=0)
