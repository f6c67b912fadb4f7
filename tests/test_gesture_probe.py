"""Gestures followed while a generator learns: the truth shows them, the truth played backwards does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import maskmotion as mm
from maskmotion.data.corpus import Corpus
from maskmotion.data.features import FeatureCache
from maskmotion.sampling.clip import generate_clip
from maskmotion.testing import example_generator
from maskmotion.training.gestures import GestureProbe
from maskmotion.types import NO_GESTURE


class Knows(mm.Generator):
    """Has seen the clips, and gives one of them back whatever it hears."""

    clips: torch.Tensor

    def forward(self, batch, *, teacher, progress, stage):
        return {}

    def generate(self, batch, hidden, rng=None, **sampling):
        raise AssertionError("clips are made at once")

    def generate_clip(self, speech, seed, window, rng, on_window, hints, **sampling):
        assert speech.frames == self.clips.shape[1]
        return mm.Window(3 * self.clips)  # rows of any length


@pytest.fixture(scope="module")
def corpus(small_corpus):
    """The test clips are held out instead: the validation clip of a corpus so small has hardly a gesture."""
    held_out = [small_corpus.test[number] for number in range(2)]
    return Corpus("small", list(small_corpus.train), held_out)


@pytest.fixture
def probe(corpus, quick_recipe, tmp_path):
    found = GestureProbe.of(mm.Model.build(quick_recipe), corpus, FeatureCache(tmp_path))
    assert found is not None
    return found


def test_the_truth_shows_its_gestures_and_played_backwards_does_not(probe, corpus):
    knows = example_generator(Knows)
    knows.clips = torch.stack([clip.motion for clip in corpus.validation])
    own = probe(knows)
    knows.clips = knows.clips.flip(1)
    backwards = probe(knows)
    assert own["gesture_accuracy"] > 0.8
    assert backwards["gesture_accuracy"] < 0.3
    assert set(own) == {"gesture_accuracy", "gesture_choice"}


def test_it_makes_what_a_model_generates(probe, corpus, quick_recipe, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "maskmotion.training.gestures.generate_clip", lambda *a, **k: seen.append(a) or generate_clip(*a, **k)
    )
    probe(mm.Model.build(quick_recipe).generator)
    ((_, speech, seed, window),) = seen
    assert window == quick_recipe.body.window
    assert speech.lengths.tolist() == [clip.frames for clip in corpus.validation]
    assert torch.equal(seed[1], corpus.validation[1].motion[: quick_recipe.body.seed_frames])


def test_what_is_heard_follows_the_model_to_where_it_learns(corpus, quick_recipe, tmp_path):
    model = mm.Model.build(quick_recipe)
    probe = GestureProbe.of(model, corpus, FeatureCache(tmp_path))
    model.to("meta")  # a device that every machine has
    speech, seed = probe.given
    assert seed.device.type == speech.speaker.device.type == "meta"


def test_without_meaning_or_sound_nothing_is_followed(corpus, quick_recipe, tmp_path):
    model = mm.Model.build(quick_recipe)
    clip = corpus.validation[0]
    still = {"gesture": torch.full_like(clip.labels["gesture"], NO_GESTURE)}
    for changes in ({"labels": {}}, {"labels": still}, {"audio": None}):
        plain = replace(clip, **changes)
        assert GestureProbe.of(model, Corpus("plain", corpus.train, [plain]), FeatureCache(tmp_path)) is None
