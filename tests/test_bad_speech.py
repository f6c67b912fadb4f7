"""Speech that is short, silent, or heard by another HuBERT than the model was trained with: errors, or motion all the same."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hubert_folder import write_hubert

import maskmotion as mm
from maskmotion.conditioners.speech import HubertLayers
from maskmotion.data.windows import split_time
from maskmotion.errors import is_expected
from maskmotion.testing import example_batch
from maskmotion.training.runs import read_log

HEARING = ("tiny", "echomask", "echomask-release")
FEW = {f"training.{stage}.{field}": value for stage in ("tokenizer", "root", "generator")
       for field, value in (("steps", 2), ("batch_size", 4), ("checkpoint_every", 1))}  # fmt: skip


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    """The checkpoint that models are trained with; a test may change it and must put it back."""
    with torch.random.fork_rng():
        return write_hubert(tmp_path_factory.mktemp("checkpoint") / "mine", layers=4, size=64)


@pytest.fixture(scope="module")
def recipes(hubert, hear_with):
    """Preset -> its recipe at a few steps, hearing with `hubert`."""

    def recipe(name):
        if name == "tiny":
            own = mm.preset("tiny").but({"conditioners": {"speech": mm.Spec("speech", low=1)}})
        else:
            own = mm.preset(name, "tiny")
        heard = hear_with(own)
        changes = {path: str(hubert) for path in own.diff(heard) if path.endswith(".checkpoint")}
        return heard.but(changes | FEW)

    return {name: recipe(name) for name in HEARING}


@pytest.fixture(scope="module")
def saved(recipes, tmp_path_factory):
    """Preset -> folder of its model, saved untrained."""
    base = tmp_path_factory.mktemp("models")

    def folder(name):
        if not (base / name).exists():
            model, motion = mm.Model.build(recipes[name]), example_batch(frames=64).motion
            model.body.set_statistics(motion)
            model.body.train()(example_batch(frames=64))  # puts the codebooks on data
            model.root.set_statistics(list(motion))
            model.save_pretrained(base / name)
        return base / name

    return folder


@pytest.fixture(scope="module")
def odd(small_corpus):
    """Half a minute of silence, and clips that are shorter than a window."""
    first, second, *_ = small_corpus.train
    silent = replace(first, name="1_silent_0_1_1", audio=torch.zeros_like(first.audio))
    short = replace(split_time(second, 1.0)[0], name="1_short_0_1_1")
    return mm.Corpus("odd", train=[silent, short], validation=[short])


@pytest.fixture(scope="module")
def trained(recipes, odd, tmp_path_factory):
    """Preset -> its run on the odd corpus."""
    base = tmp_path_factory.mktemp("runs")

    def run(name):
        if not (base / name).exists():
            mm.train(recipes[name], odd, base / name, cache=base / "cache")
        return base / name

    return run


def wav(path, wave):
    soundfile.write(path, np.asarray(wave, dtype=np.float32), 16000)
    return path


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))


# ------------------------------------------------------------------------------------------------ short, silent


@pytest.mark.parametrize("name", HEARING[:2])
@pytest.mark.parametrize("seconds", [0.2, 0.5, 2.0])
def test_speech_shorter_than_a_window_gives_all_its_frames(saved, name, seconds, tmp_path):
    clip = mm.Model.from_pretrained(saved(name)).generate(wav(tmp_path / "short.wav", noise(seconds)))
    assert clip.frames == round(30 * seconds)
    assert clip.motion.isfinite().all()


def test_windows_as_released_need_speech_of_a_whole_one(saved, tmp_path):
    model = mm.Model.from_pretrained(saved("echomask-release"))
    with pytest.raises(ValueError, match=r'60 frames is too short for windows="release".*give longer speech, or'):
        model.generate(wav(tmp_path / "short.wav", noise(2)))


@pytest.mark.parametrize("name", HEARING)
def test_speech_of_less_than_a_fifth_of_a_second_is_refused(saved, name, tmp_path):
    with pytest.raises(ValueError, match="need at least 0.2 s"):
        mm.Model.from_pretrained(saved(name)).generate(wav(tmp_path / "short.wav", noise(0.19)))


@pytest.mark.parametrize("name", HEARING)
@pytest.mark.parametrize("silence", [np.zeros(48000), np.full(48000, 0.5)], ids=["zeros", "constant"])
def test_silence_gives_motion(saved, name, silence, tmp_path):
    clip = mm.Model.from_pretrained(saved(name)).generate(wav(tmp_path / "silence.wav", silence))
    assert clip.frames == (64 if name == "echomask-release" else 90)  # the release makes whole windows alone
    assert clip.motion.isfinite().all()


@pytest.mark.parametrize("samples", [0, 1, 3200, 48000])
def test_silence_is_heard_as_numbers(hubert, samples):
    assert HubertLayers(str(hubert), 1, -1)(torch.zeros(samples), 6, 30).isfinite().all()


@pytest.mark.parametrize("name", HEARING[:2])
def test_a_model_learns_from_silent_clips_and_from_clips_shorter_than_a_window(trained, name):
    rows = [row["validation"] for row in read_log(trained(name) / "log.jsonl") if row["stage"] == "generator"]
    assert len(rows) == 2 and all(np.isfinite(row["loss"]) for row in rows)
    assert all(bool(x.isfinite().all()) for x in mm.Model.from_pretrained(trained(name)).state_dict().values())


# ------------------------------------------------------------------------------------------------ another HuBERT


@pytest.fixture
def other_width(hubert, tmp_path):
    """The models' checkpoint is narrower while the test runs."""
    shutil.copytree(hubert, tmp_path / "kept")
    with torch.random.fork_rng():
        write_hubert(hubert, layers=4, size=48)
    yield
    shutil.copytree(tmp_path / "kept", hubert, dirs_exist_ok=True)


@pytest.mark.parametrize("name", ["tiny", "echomask"])
def test_a_checkpoint_of_another_width_than_the_saved_models_is_told_when_it_is_loaded(saved, name, request):
    folder = saved(name)
    mm.Model.from_pretrained(folder)
    request.getfixturevalue("other_width")
    with pytest.raises(
        mm.RunError, match=r"do not fit.* is \[.*48.*\] here and \[.*64.*\] there.*trained with"
    ) as caught:
        mm.Model.from_pretrained(folder)
    assert is_expected(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["tiny", "echomask"])
def test_a_run_whose_checkpoint_has_another_width_since_does_not_go_on(recipes, trained, odd, name, request):
    folder = trained(name)
    before = (folder / "model.safetensors").read_bytes()
    request.getfixturevalue("other_width")
    with pytest.raises(mm.RunError, match="do not fit.*name the one that they were trained with, or train again"):
        mm.train(recipes[name], odd, folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_released_speech_wants_as_many_channels_as_it_projects_to(recipes, hubert, tmp_path):
    with torch.random.fork_rng():
        narrow = write_hubert(tmp_path / "narrow", layers=4, size=16)
    path = "conditioners.speech.speech.checkpoint"
    assert recipes["echomask-release"].diff(recipes["echomask-release"].but({path: str(narrow)})) == {path: str(narrow)}
    model = mm.Model.build(recipes["echomask-release"].but({path: str(narrow)}))
    with pytest.raises(ValueError, match=r"released_speech\.dim=48: .* has 16 channels.*set dim to that or less"):
        model.generate(wav(tmp_path / "speech.wav", noise(1)))
