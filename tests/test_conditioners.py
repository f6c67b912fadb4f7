"""Conditioners: exact times, values against references, padding and caching."""

from __future__ import annotations

import json
import math
import shutil
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hubert_folder import write_hubert
from hypothesis import given, settings
from hypothesis import strategies as st

import maskmotion as mm
from maskmotion.conditioners import Mel, Rhythm, Speaker, Speech, Transcript
from maskmotion.conditioners import speech as speech_module
from maskmotion.conditioners.rhythm import AMPLITUDE, ENERGY, ONSET
from maskmotion.conditioners.signal import FFT_SIZE, FLOOR, WINDOW, log_mel, mel_filterbank
from maskmotion.conditioners.speech import HubertLayers
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


# ------------------------------------------------------------------------------------------------ speech


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """Writes small random HuBERTs as checkpoint folders."""

    def write(**options):
        return write_hubert(tmp_path_factory.mktemp("checkpoint") / "small", **options)

    return write


@pytest.fixture(scope="module")
def small(hubert):
    return hubert()


def test_speech_has_both_levels_at_the_motion_rate(small):
    speech = Speech(checkpoint=str(small), low=1)
    condition = speech(make_batch())
    assert speech.dim == 16
    assert condition.features.shape == condition.levels["low"].shape == (2, 24, 16)
    assert torch.equal(condition.features, condition.levels["high"])
    assert not torch.equal(condition.levels["low"], condition.levels["high"])


def test_speech_keeps_the_contract_of_conditioners(small):
    from maskmotion.testing import check

    check(Speech(checkpoint=str(small), low=1))


def test_a_model_trains_and_generates_on_hubert_features(
    small, quick_recipe, quick_run, small_corpus, speech_file, tmp_path
):
    import maskmotion as mm

    spec = {"conditioners": {"speech": mm.Spec("speech", checkpoint=str(small), low=1)}}
    mm.train(quick_recipe.but(spec), small_corpus, tmp_path / "run", tokenizer=quick_run, cache=tmp_path / "cache")
    assert mm.Model.from_pretrained(tmp_path / "run").generate(speech_file).frames == 75


def test_speech_is_no_part_of_the_saved_model(small):
    speech = Speech(checkpoint=str(small), low=1)
    speech(make_batch())
    assert speech.state_dict() == {}
    assert list(speech.parameters()) == []


@pytest.mark.parametrize("normalise", [True, False])
def test_speech_features_are_the_hidden_layers_of_the_processors_input(hubert, normalise):
    import transformers

    folder = hubert(normalise=normalise)
    audio = noise(SAMPLE_RATE, scale=0.02) + 0.01
    processor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    model = transformers.HubertModel.from_pretrained(folder).eval()
    outputs = {}
    for index, layer in enumerate(model.encoder.layers):
        layer.register_forward_hook(lambda *call, index=index: outputs.update({index + 1: call[2]}))
    with torch.no_grad():
        last = model(processor(audio.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values)
    low = outputs[2][0] if isinstance(outputs[2], tuple) else outputs[2]
    # 50 frames a second: frame t is centred at 320 t + 160 samples, step k at 320 k + 200
    ours = HubertLayers(str(folder), 2, -1)(audio, 49, 50)
    steps = torch.cat([low[0], last.last_hidden_state[0]], dim=1)
    expected = torch.lerp(steps[:-1], steps[1:], 7 / 8)
    torch.testing.assert_close(ours[1:], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours[0], steps[0], atol=1e-5, rtol=1e-4)


def test_long_speech_in_blocks_equals_one_pass_where_layers_look_nearby(small, monkeypatch):
    extractor = HubertLayers(str(small), 0, 0)  # layer 0 sees 16 steps around it, less than the context
    audio = noise(SAMPLE_RATE * 12)
    whole = extractor(audio, 360, FPS)
    monkeypatch.setattr(speech_module, "BLOCK", 97)
    monkeypatch.setattr(speech_module, "CONTEXT", 20)
    seen = []
    block = HubertLayers._block
    monkeypatch.setattr(HubertLayers, "_block", lambda self, *args: seen.append(args[1:]) or block(self, *args))
    torch.testing.assert_close(extractor(audio, 360, FPS), whole, atol=1e-5, rtol=1e-4)
    assert len(seen) == 7
    assert all(stop - start <= 97 for start, stop in seen)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 1000])
def test_speech_of_any_length_gives_every_frame(small, samples):
    assert HubertLayers(str(small), 0, -1)(noise(samples), 6, FPS).isfinite().all()


def test_padding_and_caching_of_speech(small):
    speech = Speech(checkpoint=str(small), low=1)
    valid = torch.arange(24) < torch.tensor([[24], [9]])
    batch = make_batch(valid=valid)
    noisy = batch.audio.clone()
    noisy[1, 9 * SAMPLE_RATE // FPS :] = 5.0
    expected = speech(batch)
    found = speech(replace(batch, audio=noisy))
    assert torch.equal(expected.levels["low"], found.levels["low"])
    assert torch.equal(expected.features, found.features)
    assert (found.features[1, 9:] == 0).all()
    cached = {speech.extractor.key: torch.cat([expected.levels["low"], expected.features], dim=2)}
    assert torch.equal(speech(replace(batch, audio=None, features=cached)).features, expected.features)


def test_the_key_tells_checkpoints_and_layers_apart(hubert, small):
    key = HubertLayers(str(small), 1, -1).key
    assert key == HubertLayers(str(small), -3, 3).key
    assert key != HubertLayers(str(small), 2, -1).key
    assert key != HubertLayers(str(hubert(layers=2)), 1, -1).key
    assert key != HubertLayers(str(hubert(normalise=False)), 1, -1).key


def test_a_model_warns_when_another_encoder_of_the_same_name_hears(tmp_path):
    folder = write_hubert(tmp_path / "speech")
    saved = mm.Model.build(
        mm.preset("tiny").but({"conditioners.speech": mm.Spec("speech", checkpoint=str(folder), low=1, high=-1)})
    )
    saved.save_pretrained(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mm.Model.from_pretrained(tmp_path / "model")
    write_hubert(folder, seed=5)
    with pytest.warns(UserWarning, match="was saved with speech heard by hubert-v1-speech-.* train it again"):
        mm.Model.from_pretrained(tmp_path / "model")


def test_the_key_changes_with_the_weights_of_the_same_name_and_size(hubert, small):
    assert HubertLayers(str(small), 1, -1).key != HubertLayers(str(hubert(seed=5)), 1, -1).key


@pytest.mark.parametrize("layers", [{"low": 4}, {"low": 0, "high": -5}])
def test_a_layer_that_does_not_exist_is_refused_with_those_that_do(small, layers):
    with pytest.raises(ValueError, match="hidden layers 0 to 3"):
        Speech(checkpoint=str(small), **layers)


def test_a_missing_checkpoint_says_how_to_give_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"Give the path of a folder with config\.json"):
        Speech(checkpoint=str(tmp_path / "absent" / "deep" / "folder"))
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        Speech(checkpoint=str(tmp_path))


def test_pickled_weights_are_refused_with_the_way_out(small, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((small / "config.json").read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    speech = Speech(checkpoint=str(folder), low=1)
    with pytest.raises(FileNotFoundError, match="no safetensors weights"):
        speech(make_batch())


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 4, "num_hidden_layers": 1}))
    with pytest.raises(ValueError, match="is no HuBERT"):
        Speech(checkpoint=str(tmp_path))


def test_a_checkpoint_in_the_hubs_cache_is_known_by_its_commit(small, tmp_path, monkeypatch):
    from huggingface_hub import constants

    model = tmp_path / "models--someone--small"
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(small, model / "snapshots" / commit)
    (model / "refs").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    keys = set()
    for commit in ("a" * 40, "b" * 40):
        (model / "refs" / "main").write_text(commit)
        extractor = HubertLayers("someone/small", 1, -1)
        assert extractor.hubert.normalises
        keys.add(extractor.key)
    assert len(keys) == 2
