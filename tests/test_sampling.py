"""Clips of any length: windows join without a jump, no frame is lost, latents are decoded once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskmotion as mm
from maskmotion.motion.layout import SMPLX
from maskmotion.rng import Rng
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.testing import example_generator


class Ramp(mm.Generator):
    """Says the frame number that the first seed frame tells, counting on: a generator whose output is known."""

    def forward(self, batch, *, teacher, progress, stage):
        return {}

    def generate(self, batch, hidden, rng=None, **sampling):
        start = batch.motion[:, :1, 330:331]
        count = start + torch.arange(batch.motion.shape[1])[None, :, None]
        return mm.Window(count.expand_as(batch.motion) * 1.0)


@pytest.fixture(scope="module")
def ramp():
    return example_generator(Ramp)


@given(st.integers(1, 700), st.integers(0, 12), st.integers(16, 64))
@settings(max_examples=60, deadline=None)
def test_windows_join_without_a_jump_and_no_frame_is_lost(frames, seed_frames, window):
    ramp = _ramp()
    seed_frames = max(seed_frames, 1)
    seed = torch.arange(float(seed_frames))[None, :, None].expand(1, -1, 437)
    motion = generate_clip(ramp, Speech(torch.tensor([frames])), seed, window).motion
    assert motion.shape == (1, frames, 437)
    assert torch.equal(motion[0, :, 330], torch.arange(float(frames)))


_RAMPS: list[mm.Generator] = []


def _ramp():
    if not _RAMPS:
        _RAMPS.append(example_generator(Ramp))
    return _RAMPS[0]


def test_a_window_of_speech_is_cut_at_exact_samples_and_padded():
    audio = torch.arange(40000.0)[None]
    speech = Speech(torch.tensor([75]), {"x": torch.arange(75.0)[None, :, None]}, audio, words=torch.arange(75)[None])
    batch = speech.window(60, torch.zeros(1, 64, 437))
    assert batch.audio.shape == (1, 34133)
    assert batch.audio[0, 0] == 32000
    assert batch.audio[0, 8000:].abs().max() == 0
    assert batch.valid[0].tolist() == [True] * 15 + [False] * 49
    assert batch.features["x"][0, :, 0].tolist() == [*map(float, range(60, 75)), *[0.0] * 49]
    assert batch.labels["words"][0, 14] == 74


def test_rows_of_different_length_do_not_touch_each_other():
    generator = example_generator()
    features = {e.key: torch.rand(2, 100, e.dim) for c in generator.conditioners.values() for e in c.extractors}
    seed = SMPLX.rest.expand(2, 4, -1)
    both = generate_clip(generator, Speech(torch.tensor([40, 100]), features), seed, 32).motion
    alone = {key: value[:1, :40] for key, value in features.items()}
    one = generate_clip(generator, Speech(torch.tensor([40]), alone), seed[:1], 32).motion
    # decoding sees a few tokens beyond the end of the shorter row, so its last frames differ by that context
    assert torch.allclose(one[0, :20], both[0, :20], atol=1e-4)
    assert both.isfinite().all()


def test_a_window_begins_with_rotations_whatever_was_decoded():
    """Losses of rotations leave the length of the decoded rows free; the next window must not be fed with it."""

    class Long(Ramp):
        def generate(self, batch, hidden, rng=None, **sampling):
            seeds.append(batch.motion[:, :4, :330].unflatten(-1, (-1, 2, 3)))
            return mm.Window(3 * SMPLX.rest.expand_as(batch.motion), {})

    seeds: list[torch.Tensor] = []
    generate_clip(example_generator(Long), Speech(torch.tensor([90])), SMPLX.rest.expand(1, 4, -1), 32)
    assert len(seeds) > 2
    for rows in seeds:
        assert torch.allclose(rows.norm(dim=-1), torch.ones(()), atol=1e-6)


def test_latents_are_decoded_once_over_the_whole_clip():
    generator = example_generator()
    features = {e.key: torch.rand(1, 100, e.dim) for c in generator.conditioners.values() for e in c.extractors}
    window = generate_clip(generator, Speech(torch.tensor([100]), features), SMPLX.rest.expand(1, 4, -1), 32)
    assert all(latents.shape[1] >= 25 for latents in window.latents.values())
    assert torch.equal(window.motion, generator.body.decode(window.latents, 100))


def test_streams_are_told_apart_by_seed_alone():
    one, two = Rng((3, 7)), Rng((7,))
    assert torch.equal(one.uniform(5)[1], two.uniform(5)[0])
    assert len(set(mm.seed(0).repeat(4).seeds)) == 4
    with pytest.raises(ValueError, match="at least one seed"):
        Rng(())


def test_gumbel_noise_samples_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0])
    draws = (logits + mm.seed(0).gumbel(20000, 3)[0]).argmax(-1)
    shares = torch.bincount(draws, minlength=3) / 20000
    assert torch.allclose(shares, logits.softmax(0), atol=0.015)
