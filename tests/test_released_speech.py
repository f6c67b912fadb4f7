"""Speech as EchoMask's release hears it: each of its quirks by itself, and the frames a data set wants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hubert_folder import write_hubert

import maskmotion as mm
from maskmotion.conditioners import ReleasedSpeech
from maskmotion.conditioners import released_speech as module
from maskmotion.conditioners.hubert import Hubert
from maskmotion.conditioners.released_speech import projection
from maskmotion.testing import check, example_batch
from maskmotion.types import SAMPLE_RATE

FPS, DIM = 30, 8


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_hubert(tmp_path_factory.mktemp("checkpoint") / "small")


@pytest.fixture
def speech(small):
    return ReleasedSpeech(checkpoint=str(small), low=1, dim=DIM)


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_the_projection_is_the_releases():
    """Check values of the matrix that its data set was cached with."""
    matrix = projection(1024, 256)
    expected = [-0.061347, -0.044998, -0.026572, 0.062193, 0.024359, 0.039196]
    np.testing.assert_allclose(matrix[0, :6].numpy(), expected, atol=2e-6)
    assert float(matrix[1023, 255]) == pytest.approx(-0.040140, abs=2e-6)
    assert float(matrix.sum()) == pytest.approx(-1.87726, abs=1e-4)
    torch.testing.assert_close(matrix.mT @ matrix, torch.eye(256), atol=1e-5, rtol=0)


def test_chance_elsewhere_is_left_as_it_was():
    state = torch.get_rng_state()
    projection.cache_clear()
    projection(6, 2)
    assert torch.equal(torch.get_rng_state(), state)


def by_hand(folder, audio, low=1):
    """The scripts' features, from the model itself: [steps of 533 samples, 2 * DIM]."""
    import librosa
    import transformers

    sound = librosa.resample(audio.numpy(), orig_sr=16000, target_sr=22050)
    processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    values = processor(sound, sampling_rate=16000, return_tensors="pt").input_values
    model = transformers.HubertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(values, output_hidden_states=True)
    both = torch.stack([out.hidden_states[low][0], out.last_hidden_state[0]])
    count = len(audio) // 533
    even = torch.linspace(
        0, both.shape[1] - 1, count, dtype=torch.float64
    )  # the first and the last step stay where they are
    before = even.floor().long().clamp(max=both.shape[1] - 2)
    steps = torch.lerp(both[:, before], both[:, before + 1], (even - before)[None, :, None].float())
    return torch.cat(list(steps @ projection(16, DIM)), dim=-1)


@pytest.mark.parametrize("normalise", [True, False])
def test_features_are_the_scripts_on_sound_of_one_block(tmp_path, normalise):
    folder = write_hubert(tmp_path / "one", normalise=normalise)
    audio = noise(3 * SAMPLE_RATE + 77) + 0.02
    expected = by_hand(folder, audio)
    assert len(expected) == 90
    speech = ReleasedSpeech(checkpoint=str(folder), low=1, dim=DIM)
    torch.testing.assert_close(speech.extractor(audio, 90, FPS), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("beyond", [-400, -80, 0, 79, 80, 399, 400, 2000])
def test_blocks_take_80_samples_more_and_what_is_left_is_one_where_it_can_be(speech, beyond, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    samples = 2 * 10 * 320 + beyond
    sound = noise(samples)
    heard = []

    def hear(self, piece):
        heard.append(piece)
        return torch.ones((len(piece) - 400) // 320 + 1, 2 * self.size)

    monkeypatch.setattr(Hubert, "hear", hear)
    steps = speech.extractor._steps(sound)
    assert len(steps) == (samples - 80) // 320
    starts = [0, 3200] if beyond < 400 else [0, 3200, 6400]
    for piece, start in zip(heard, starts, strict=True):
        assert torch.equal(piece, sound[start : start + 3280])
    made = sum((len(piece) - 400) // 320 + 1 for piece in heard)
    assert abs(made - len(steps)) <= 1
    assert int((steps == 0).all(dim=1).sum()) == max(0, len(steps) - made)


@pytest.mark.parametrize("frames", [1, 30, 59, 60, 61, 75])
def test_a_data_set_gets_as_many_steps_as_it_has_frames(speech, frames):
    audio = noise(2 * SAMPLE_RATE)
    whole = speech.extractor(audio, 60, FPS)
    found = speech.extractor(audio, frames, FPS)
    assert found.shape == (frames, 2 * DIM)
    assert torch.equal(found[:60], whole[:frames])
    assert (found[60:] == whole[-1]).all(), "motion that outlasts the sound repeats its last step"


def test_steps_lie_533_samples_apart_so_that_a_minute_has_1801(speech, monkeypatch):
    """What HuBERT hears is replaced by a ramp: the first and the last step stay, and all between lie evenly."""
    monkeypatch.setattr(module, "projection", lambda size, dim: torch.eye(size)[:, :dim])
    count = 0

    def hear(self, piece):
        nonlocal count
        steps = (len(piece) - 400) // 320 + 1
        ramp = torch.arange(count, count + steps, dtype=torch.float32)[:, None].expand(-1, 2 * self.size)
        count += steps
        return ramp

    monkeypatch.setattr(Hubert, "hear", hear)
    features = speech.extractor(torch.zeros(60 * SAMPLE_RATE), 2000, FPS)[:, 0]
    steps = (60 * 22050 - 80) // 320
    torch.testing.assert_close(features[:1801], torch.linspace(0, steps - 1, 1801), atol=1e-2, rtol=0)
    assert (features[1801:] == steps - 1).all()


@pytest.mark.parametrize("samples", [0, 1, 289, 291, 532, 1000])
def test_the_shortest_sound_gives_finite_frames(speech, samples):
    features = speech.extractor(noise(samples), 6, FPS)
    assert features.shape == (6, 2 * DIM)
    assert features.isfinite().all()


def test_silence_gives_finite_frames(speech):
    assert speech.extractor(torch.zeros(SAMPLE_RATE), 30, FPS).isfinite().all()


def test_nothing_is_read_before_somebody_listens(tmp_path):
    speech = ReleasedSpeech(checkpoint=str(tmp_path / "absent"))
    assert (speech.dim, speech.levels) == (256, ("low", "high"))
    assert speech.state_dict() == {}
    with pytest.raises(FileNotFoundError, match=r"Give the path of a folder"):
        _ = speech.extractor.key


def test_levels_are_low_then_high_and_features_the_high_one(speech):
    batch = example_batch()
    condition = speech(batch)
    both = speech.extractor(batch.audio[0], 32, FPS)
    torch.testing.assert_close(condition.levels["low"][0], both[:, :DIM])
    torch.testing.assert_close(condition.features[0], both[:, DIM:])
    assert torch.equal(condition.features, condition.levels["high"])


def test_the_contract_of_conditioners(speech, small):
    check(speech)
    check(ReleasedSpeech, checkpoint=str(small), low=1, dim=DIM)


def test_the_key_tells_apart_what_hears_otherwise(speech, small):
    others = [
        ReleasedSpeech(checkpoint=str(small), low=2, dim=DIM),
        ReleasedSpeech(checkpoint=str(small), low=1, dim=DIM - 1),
        mm.lookup("conditioner", "speech")(checkpoint=str(small), low=1),
    ]
    keys = {one.extractor.key for one in (speech, *others)}
    assert len(keys) == 4
    assert speech.extractor.key == ReleasedSpeech(checkpoint=str(small), low=-3, high=3, dim=DIM).extractor.key


def test_more_channels_than_the_checkpoint_has_are_refused(small):
    with pytest.raises(ValueError, match="dim=17: .* has 16 channels"):
        ReleasedSpeech(checkpoint=str(small), low=1, dim=17)(example_batch())
    with pytest.raises(ValueError, match="at least 1"):
        ReleasedSpeech(dim=0)


def test_it_is_heard_at_a_higher_rate_than_it_has(speech):
    """A tone of 200 Hz is taken for one of 145 Hz: the layers hear 22 050 samples a second as 16 000."""
    time = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    sound = module._upsampled(torch.sin(2 * math.pi * 200 * time))
    assert len(sound) == 22050
    spectrum = torch.fft.rfft(sound[:16000] * torch.hann_window(16000)).abs()
    assert int(spectrum.argmax()) == round(200 * 16000 / 22050)
    assert F.cosine_similarity(sound[:100], torch.sin(2 * math.pi * 200 * torch.arange(100) / 22050), dim=0) > 0.99
