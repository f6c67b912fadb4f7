"""Masked generation: hidden values are hidden, padding is padding, speech is heard, losses count what is hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskmotion as mm
from maskmotion.generators.passes import token_errors
from maskmotion.losses import code_losses, layer_weights, semantic_loss
from maskmotion.motion.layout import SMPLX
from maskmotion.strategies import Random, attention_scores
from maskmotion.testing import example_batch, example_generator


@pytest.fixture(scope="module")
def generator():
    return example_generator()


def everything_but_the_seed(batch) -> torch.Tensor:
    return SMPLX.expand((torch.arange(batch.motion.shape[1]) >= 4) & batch.valid)


@given(st.integers(5, 40), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_padding_never_changes_a_prediction(frames, extra, seed):
    generator = example_generator()
    frames -= frames % generator.body.downsample or 0
    frames = max(frames, 8)
    batch = example_batch(rows=2, frames=frames, seed=seed)
    batch = replace(batch, valid=torch.ones(2, frames, dtype=torch.bool))
    hidden = everything_but_the_seed(batch)
    with torch.no_grad():
        conditions = generator.condition(batch)
        alone = generator.predict(batch.motion, hidden, batch.valid, conditions)
        pad = torch.nn.functional.pad
        longer = {
            name: mm.Condition(pad(c.features, (0, 0, 0, extra), value=7.0), pad(c.valid, (0, extra)))
            for name, c in conditions.items()
        }
        longer = {name: replace(c, features=c.features * c.valid[..., None]) for name, c in longer.items()}
        motion = pad(batch.motion, (0, 0, 0, extra), value=9.0)
        padded = generator.predict(motion, pad(hidden, (0, 0, 0, extra)), pad(batch.valid, (0, extra)), longer)
    tokens = frames // generator.body.downsample
    for part in SMPLX.parts:
        assert torch.allclose(padded.logits[part][:, :tokens], alone.logits[part], atol=1e-4)
    assert torch.allclose(padded.attention["body"][:, :frames, :frames], alone.attention["body"], atol=1e-5)


def test_attention_rows_sum_to_one_over_valid_frames(generator):
    batch = example_batch()
    attention = generator.teacher_attention(batch)["body"]
    assert torch.allclose(attention.sum(-1)[batch.valid], torch.ones(int(batch.valid.sum())), atol=1e-5)
    assert attention.masked_select(~batch.valid[:, None, :].expand_as(attention)).abs().max() == 0
    scores = attention_scores({"body": attention})
    assert scores.shape == batch.valid.shape


def test_attend_is_the_attention_of_predict(generator):
    batch = example_batch()
    conditions = generator.condition(batch)
    nothing = torch.zeros_like(batch.motion, dtype=torch.bool)
    full = generator.predict(batch.motion, nothing, batch.valid, conditions).attention["body"]
    assert torch.allclose(generator.attend(batch.motion, batch.valid, conditions)["body"], full, atol=1e-6)


def test_speech_changes_the_prediction_only_when_it_may_be_heard(generator):
    batch = example_batch()
    other = generator.condition(replace(batch, audio=batch.audio.flip(1)))
    same, hidden = generator.condition(batch), everything_but_the_seed(batch)

    def logits(conditions, speech):
        return generator.predict(batch.motion, hidden, batch.valid, conditions, speech=speech).logits["upper"]

    assert not torch.allclose(logits(same, True), logits(other, True))
    assert torch.equal(logits(same, False), logits(other, False))


def test_a_token_counts_by_the_share_of_it_that_is_hidden(generator):
    hidden = torch.zeros(1, 8, 437, dtype=torch.bool)
    hidden[:, 4:6] = True  # half of the second token
    weights = generator._token_weights(hidden, torch.ones(1, 8, dtype=torch.bool))
    assert weights["upper"].tolist() == [pytest.approx([0.1, 0.5], rel=1e-5)]
    joint = torch.zeros(1, 8, 437, dtype=torch.bool)
    joint[..., list(SMPLX.columns["hands"])] = True
    weights = generator._token_weights(joint, torch.tensor([[True] * 4 + [False] * 4]))
    assert weights["hands"].tolist() == [pytest.approx([1.0, 0.0], rel=1e-5)]
    assert weights["face"].tolist() == [[pytest.approx(0.1), 0.0]]


def test_losses_of_perfect_predictions_are_zero(generator):
    batch = example_batch()
    targets = generator.body.encode(batch.motion, batch.valid)
    prediction = mm.Prediction(
        logits={p: 50.0 * torch.nn.functional.one_hot(t.codes.clamp(min=0), 16).float() for p, t in targets.items()},
        latents={p: generator.body[p].quantizer.embed(t.codes) for p, t in targets.items()},
    )
    for part, target in targets.items():
        for name, error in token_errors(prediction, target, part).items():
            assert error.max() < 1e-3, (part, name)


def test_dropped_codes_carry_no_class_loss():
    losses = code_losses(torch.randn(1, 2, 3, 5), torch.tensor([[[1, -1, -1], [0, 2, -1]]]))
    assert ((losses == 0) == torch.tensor([[[False, True, True], [False, False, True]]])).all()
    assert layer_weights(3, losses).tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_the_semantic_loss_reads_the_scale_of_beat2():
    labels = torch.tensor([[0.0, 0.1, 0.2, 1.0]])
    valid = torch.tensor([[True, True, True, True]])
    right = torch.tensor([[-9.0, -9.0, 9.0, 9.0]])
    assert semantic_loss(right, labels, valid) < 1e-3
    assert semantic_loss(-right, labels, valid) > 8
    half = torch.tensor([[True, True, False, False]])
    assert semantic_loss(torch.tensor([[-9.0, -9.0, -9.0, -9.0]]), labels, half) < 1e-3


def test_l_sem_is_absent_without_labels():
    generator = example_generator(semantic=1.0).train()
    batch = example_batch()
    step = {"teacher": generator, "progress": 0.0, "stage": "generator"}
    assert "semantic" in generator(batch, **step)
    assert "semantic" not in generator(replace(batch, labels={"words": batch.labels["words"]}), **step)


def test_l_sem_learns_which_frames_carry_meaning():
    torch.manual_seed(0)
    generator = example_generator(semantic=1.0).train()
    batch = example_batch(rows=8, frames=32)
    motion = batch.motion.clone()
    motion[..., 96:102] += 2.0 * (batch.labels["semantic"] > 0.15)[..., None]
    batch = replace(batch, motion=motion)
    optimizer = torch.optim.Adam([p for p in generator.parameters() if p.requires_grad], 3e-3)
    for _ in range(40):
        losses = generator(batch, teacher=generator, progress=0.0, stage="generator")
        losses["semantic"].backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = attention_scores(generator.teacher_attention(batch))
    meant = (batch.labels["semantic"] > 0.15) & batch.valid
    assert scores[meant].mean() > 1.3 * scores[~meant & batch.valid].mean()


def test_passes_share_the_batch_and_their_names_stand_in_the_losses():
    passes = (
        mm.Pass("seed", "seed", share=0.25),
        mm.Pass("speech", share=0.5),
        mm.Pass("self", speech=False, weight=2.0),
    )
    generator = example_generator(passes=passes).train()
    losses = generator(example_batch(rows=8), teacher=generator, progress=0.5, stage="generator")
    assert set(losses) == {f"{one}/{loss}" for one in ("seed", "speech", "self") for loss in ("codes", "latents")}
    with pytest.raises(ValueError, match="sum to at most 1"):
        example_generator(passes=(mm.Pass("a", "seed", share=0.7), mm.Pass("b", "seed", share=0.7))).train()(
            example_batch(), teacher=generator, progress=0.0, stage="generator"
        )


def test_a_masker_is_needed_only_by_passes_that_use_one():
    from maskmotion.generators import Tiny

    one = example_generator()
    given = {"body": one.body, "conditioners": dict(one.conditioners)}
    Tiny(**given, passes=(mm.Pass("seed", "seed"),))
    with pytest.raises(ValueError, match='a pass with mask="masker" needs a masker'):
        Tiny(**given)


def test_temperature_draws_and_streams_are_independent_of_batch_mates(generator):
    batch, hidden = example_batch(), everything_but_the_seed(example_batch())
    hot = {"temperature": 1.0}
    both = generator.generate(batch, hidden, mm.Rng((1, 2, 3)), **hot).latents["upper"]
    assert torch.equal(both, generator.generate(batch, hidden, mm.Rng((1, 2, 3)), **hot).latents["upper"])
    last = generator.generate(batch.rows(torch.tensor([1])), hidden[1:2], mm.Rng((2,)), **hot).latents["upper"]
    assert torch.allclose(last[0], both[1], atol=1e-5)
    assert not torch.equal(both, generator.generate(batch, hidden, mm.Rng((4, 5, 6)), **hot).latents["upper"])
    cold = generator.generate(batch, hidden).latents["upper"]
    assert not torch.equal(cold, both)


def test_sampling_options_are_checked(generator):
    batch, hidden = example_batch(), everything_but_the_seed(example_batch())
    with pytest.raises(TypeError, match=r"no sampling option \['stpes'\]; Tiny has: temperature, decode"):
        generator.generate(batch, hidden, stpes=3)
    with pytest.raises(ValueError, match="needs an rng"):
        generator.generate(batch, hidden, temperature=1.0)
    smooth = generator.generate(batch, hidden, decode="latents").motion
    assert not torch.equal(smooth, generator.generate(batch, hidden).motion)


def test_a_generator_without_attention_says_so():
    class Deaf(mm.MaskedGenerator):
        def predict(self, motion, hidden, valid, conditions, *, speech=True):
            return mm.Prediction({}, {})

    deaf = example_generator(Deaf)
    with pytest.raises(ValueError, match="predicts no attention"):
        deaf.teacher_attention(example_batch())
    context = mm.MaskContext(example_batch(), {}, teacher=None)
    with pytest.raises(ValueError, match=r"reads context.attention.*use a generator with"):
        _ = context.attention


def test_the_random_masker_never_runs_the_teacher(generator):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"the teacher was asked for {name}")

    context = mm.MaskContext(example_batch(), {}, teacher=Untouchable())
    assert Random(0.5)(context).any()
