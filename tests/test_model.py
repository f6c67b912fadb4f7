"""From speech to a motion file: lengths, root, betas, variants, transcripts, saving, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

import maskmotion as mm
from maskmotion.motion.files import read_motion


@pytest.fixture(scope="module")
def model(quick_run):
    return mm.Model.from_pretrained(quick_run)


def wav(path, seconds: float, rate: int = 16000, channels: int = 1, subtype: str = "PCM_16", silent: bool = False):
    rng = np.random.default_rng(0)
    wave = (
        np.zeros((round(seconds * rate), channels))
        if silent
        else 0.1 * rng.standard_normal((round(seconds * rate), channels))
    )
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "subtype"),
    [(0.2, 16000, 1, "PCM_16"), (2.0, 44100, 2, "PCM_16"), (2.13, 8000, 1, "PCM_U8"), (5.0, 22050, 1, "FLOAT"),
     (4.4, 48000, 6, "PCM_24")],
)  # fmt: skip
def test_any_wav_gives_every_frame_of_the_original(model, tmp_path, seconds, rate, channels, subtype):
    path = wav(tmp_path / "a.wav", seconds, rate, channels, subtype)
    clip = model.generate(path)
    assert clip.frames == soundfile.info(path).frames * 30 // rate
    assert clip.motion.isfinite().all()


def test_silence_is_speech_too(model, tmp_path):
    assert model.generate(wav(tmp_path / "a.wav", 1.0, silent=True)).frames == 30


@pytest.mark.slow
def test_an_hour_loses_no_frame(model, tmp_path):
    assert model.generate(wav(tmp_path / "hour.wav", 3600)).frames == 108000


def test_a_clip_becomes_a_motion_file(model, speech_file, tmp_path):
    clip = model.generate(speech_file, speaker=0, rng=mm.seed(0))
    motion = read_motion(clip.save(tmp_path / "gesture.npz"))
    assert motion.poses.shape == (75, 165)
    assert np.abs(motion.trans[0, [0, 2]]).max() < 1e-6, "it starts at x = z = 0"


def test_the_users_betas_and_start_position_are_carried_through(model, speech_file, tmp_path):
    start = torch.tensor([3.0, 1.1, -2.0])
    clip = model.generate(speech_file, betas=torch.arange(10.0), start=start)
    motion = read_motion(clip.save(tmp_path / "gesture.npz"))
    assert motion.betas[:10].tolist() == list(range(10))
    assert motion.trans[0] == pytest.approx([3.0, 1.1, -2.0], abs=1e-5)


def test_in_place_stays_and_predicted_moves(model, speech_file):
    still = model.generate(speech_file, root="in_place").motion[:, 330:333]
    moving = model.generate(speech_file, root="predicted").motion[:, 330:333]
    assert still[:, 0].abs().max() == still[:, 2].abs().max() == 0
    assert moving[:, 0].abs().max() > 0
    with pytest.raises((ValueError, TypeError), match="walk"):  # a TypeError where annotations are checked, as here
        model.generate(speech_file, root="walk")


def test_variants_differ_and_repeat_under_a_seed(model, speech_file):
    one, two = model.variants(speech_file, 2, rng=mm.seed(5))
    assert not torch.equal(one.motion, two.motion)
    again = model.variants(speech_file, 2, rng=mm.seed(5))
    assert torch.equal(again[1].motion, two.motion)
    with pytest.raises(ValueError, match="at least one variant"):
        model.variants(speech_file, 0)


def test_a_transcript_may_be_given_and_is_never_required(tmp_path, quick_recipe, small_corpus, speech_file, quick_run):
    recipe = quick_recipe.but({"conditioners.words": "transcript"})
    told = mm.train(recipe, small_corpus, tmp_path / "run", tokenizer=quick_run)
    text = tmp_path / "words.txt"
    text.write_text("the first thing I like to do")
    assert told.generate(speech_file).frames == 75
    clip = told.generate(speech_file, text=text)
    assert [word.text for word in clip.words][:2] == ["the", "first"]


def test_saving_and_loading_is_exact(model, tmp_path, speech_file):
    again = mm.Model.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    assert again.recipe == model.recipe
    assert torch.equal(again.generate(speech_file).motion, model.generate(speech_file).motion)
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    assert json.loads((tmp_path / "saved" / "plugins.json").read_text()) == {}


def test_bad_speech(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.wav"):
        model.generate(tmp_path / "nowhere.wav")
    with pytest.raises(ValueError, match="at least 0.2 s"):
        model.generate(wav(tmp_path / "short.wav", 0.1))
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text\.wav"):
        model.generate(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="300 numbers"):
        model.generate(wav(tmp_path / "a.wav", 1.0), betas=torch.zeros(301))
    with pytest.raises(ValueError, match="speaker"):
        model.generate(tmp_path / "a.wav", speaker=99)


def test_bad_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="OWNER/NAME"):
        mm.Model.from_pretrained(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"has no recipe\.json"):
        mm.Model.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="hub did not give it"):
        mm.Model.from_pretrained("nobody/nothing", local_files_only=True)
