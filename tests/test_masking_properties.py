"""What masking is, from a masker's schedule and the teacher's attention to the gradient: laws, not examples.

The selection by itself is tested in test_selection.py.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

import maskmotion as mm
from maskmotion.conditioners import Mel
from maskmotion.generators import Tiny
from maskmotion.strategies import LossBased, Oracle, Random, Span, SpeechQueried, attention_scores
from maskmotion.testing import example_batch, example_generator
from maskmotion.training.ema import EMA

PARTS = ("face", "hands", "upper", "lower")


class Told(mm.Generator):
    """A teacher whose attention and token loss are given."""

    def __init__(self, attention=None, token_loss=None):
        nn.Module.__init__(self)
        self.told = {"attention": attention, "token_loss": token_loss}

    def forward(self, batch, *, teacher, progress, stage):
        raise NotImplementedError

    def generate(self, batch, hidden, rng=None, **sampling):
        raise NotImplementedError

    def teacher_attention(self, batch):
        return self.told["attention"]

    def teacher_token_loss(self, batch):
        return self.told["token_loss"]


def a_batch(lengths, frames, seed=0):
    rng = torch.Generator().manual_seed(seed)
    valid = torch.arange(frames) < torch.tensor(lengths)[:, None]
    semantic = (torch.rand(len(lengths), frames, generator=rng) > 0.7).float()
    return mm.Batch(motion=torch.zeros(len(lengths), frames, 437), valid=valid, labels={"semantic": semantic})


def a_teacher(rows, frames, seed=0):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(len(PARTS), rows, frames, frames, generator=rng)
    attention = dict(zip(PARTS, logits.softmax(-1)))
    return Told(attention, torch.rand(rows, frames, generator=rng))


def hide(masker, batch, teacher=None, progress=0.5, seed=0):
    return masker(mm.MaskContext(batch, {}, progress, torch.Generator().manual_seed(seed), teacher))


def rounded(share):
    return torch.floor(share + 0.5 + 1e-6).long()


shares = st.floats(0, 1)


@st.composite
def curricula(draw):
    """A ratio, and hard and soft shares at both ends of training that fit into it."""
    ratio = draw(shares)
    ends = []
    for _ in range(2):
        hard = draw(shares) * ratio
        ends.append((hard, draw(shares) * (ratio - hard)))
    (hard0, soft0), (hard1, soft1) = ends
    return {"ratio": ratio, "hard": mm.Linear(hard0, hard1), "soft": mm.Linear(soft0, soft1)}


windows = st.integers(1, 40).flatmap(
    lambda frames: st.tuples(st.just(frames), st.lists(st.integers(1, frames), min_size=1, max_size=4))
)


@given(curricula(), windows, shares, st.sampled_from([LossBased, SpeechQueried, Oracle]), st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_counts_are_exact_at_every_ratio_and_progress_and_padding_is_never_hidden(
    curriculum, window, progress, masker, seed
):
    frames, lengths = window
    batch = a_batch(lengths, frames, seed)
    mask = hide(masker(**curriculum), batch, a_teacher(len(lengths), frames, seed), progress, seed)
    assert torch.equal(mask.sum(1), rounded(curriculum["ratio"] * batch.valid.sum(1)))
    assert not (mask & ~batch.valid).any()


@given(shares, shares, windows, shares, st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_a_ratio_that_changes_over_training_is_met_at_every_step(start, end, window, progress, seed):
    frames, lengths = window
    batch = a_batch(lengths, frames, seed)
    for masker in (Random(mm.Linear(start, end)), Span(mm.Linear(start, end), length=5)):
        mask = hide(masker, batch, progress=progress, seed=seed)
        wanted = (start + (end - start) * progress) * batch.valid.sum(1)
        assert torch.equal(mask.sum(1), rounded(wanted))
        assert not (mask & ~batch.valid).any()


@given(windows, st.floats(0.05, 1), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_hard_hiding_is_the_top_of_what_speech_attends_to(window, ratio, seed):
    frames, lengths = window
    batch, teacher = a_batch(lengths, frames, seed), a_teacher(len(lengths), frames, seed)
    mask = hide(SpeechQueried(ratio), batch, teacher, seed=seed)
    received = sum(part.sum(1) for part in teacher.told["attention"].values())  # eq. 6, summed over parts
    for row, valid, hidden in zip(received, batch.valid, mask):
        count = int(rounded(ratio * valid.sum()))
        if 0 < count < valid.sum():
            assert row[hidden].min() >= row[valid & ~hidden].max() - 1e-5
        assert int(hidden.sum()) == count


ROWS, FRAMES = 6000, 8
COLUMNS = torch.tensor([0.4, 0.6, 0.8, 1.0, 1.1, 1.2, 1.4, 1.5])  # what each frame receives; rows of the map sum to 1


def one_frame_drawn(soft, progress):
    """How often each frame is hidden when one frame of eight is drawn softly, over many windows of one attention map."""
    attention = (COLUMNS / COLUMNS.sum()).expand(ROWS, FRAMES, FRAMES)
    assert torch.allclose(attention_scores({"body": attention})[0], COLUMNS)
    masker = SpeechQueried(ratio=1 / FRAMES, hard=0.0, soft=soft)
    mask = hide(masker, a_batch([FRAMES] * ROWS, FRAMES), Told({"body": attention}), progress)
    assert (mask.sum(1) == 1).all()
    return mask.sum(0).numpy()


def p_value(seen, law):
    assert (seen[law == 0] == 0).all()
    expected = (law.double() / law.double().sum() * seen.sum()).numpy()
    return chisquare(seen[law > 0], expected[law > 0]).pvalue


def test_a_soft_draw_follows_what_speech_attends_to():
    seen = one_frame_drawn(1 / FRAMES, progress=0.0)
    law = COLUMNS - COLUMNS.min()
    assert p_value(seen, law) > 1e-3
    for wrong in (law**2, law.sqrt(), law + 0.1 * (law > 0), torch.exp(COLUMNS) * (law > 0)):
        assert p_value(seen, wrong) < 1e-6, "the test would notice another law"


def test_a_draw_without_a_soft_share_does_not_look_at_the_scores():
    seen = one_frame_drawn(mm.Linear(1 / FRAMES, 0.0), progress=1.0)
    assert p_value(seen, torch.ones(FRAMES)) > 1e-3
    assert seen[0] > 0, "the frame that speech attends to least is drawn too"


@pytest.fixture(scope="module")
def pair():
    """A generator whose masks its teacher chooses, and the teacher."""
    torch.manual_seed(0)
    student = example_generator(Tiny)
    student.masker = SpeechQueried(ratio=0.5)
    return student.train(), EMA(student, 0.5)


def test_the_teacher_gets_no_gradient(pair):
    student, ema = pair
    for parameter in ema.model.parameters():
        parameter.requires_grad_(True)  # so that only the missing graph can keep the gradient away
    student.semantic = 1.0
    losses = student(example_batch(), teacher=ema.model, progress=0.5, stage="generator")
    assert {"speech/codes", "semantic"} <= set(losses)
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in ema.model.parameters())
    assert any(p.grad is not None and p.grad.any() for p in student.parameters())
    ema.model.requires_grad_(False)
    student.zero_grad()


def test_what_a_masker_sees_of_the_teacher_has_no_graph(pair):
    student, _ = pair
    context = mm.MaskContext(example_batch(), {}, teacher=student)  # a teacher whose weights do require gradients
    assert not any(part.requires_grad for part in context.attention.values())
    assert not context.token_loss.requires_grad


def test_masks_come_from_the_teacher_and_not_from_the_student(pair):
    student, ema = pair
    batch, progress = example_batch(), 1.0
    other = copy.deepcopy(student).eval()
    with torch.no_grad():
        for parameter in other.query.parameters():
            parameter.add_(torch.randn_like(parameter))

    def chosen(teacher):
        return student.masker(mm.MaskContext(batch, student.condition(batch), progress, None, teacher))

    assert torch.equal(chosen(ema.model), attention_top(ema.model, batch))
    assert not torch.equal(chosen(other), chosen(ema.model))


def attention_top(teacher, batch):
    """The half of the valid frames that this network's attention ranks first."""
    with torch.no_grad():
        scores = attention_scores(teacher.teacher_attention(batch)).masked_fill(~batch.valid, -torch.inf)
    count = rounded(0.5 * batch.valid.sum(1))
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < count[:, None]


def test_the_average_shares_what_is_frozen_and_nothing_that_learns(pair):
    student, ema = pair
    frozen = {p.data_ptr() for p in student.parameters() if not p.requires_grad}
    learning = {p.data_ptr() for p in student.parameters() if p.requires_grad and p.numel()}
    average = {p.data_ptr() for p in ema.model.parameters()}
    assert frozen and frozen <= average, "the tokenizers are not copied"
    assert ema.model.body is student.body
    assert not learning & average
    mels = [one for generator in (student, ema.model) for one in generator.modules() if isinstance(one, Mel)]
    assert len(mels) == 2 and mels[0].extractors[0] is mels[1].extractors[0], "nor are extractors"


def test_the_average_moves_towards_what_learns_and_leaves_what_is_frozen(pair):
    student, _ = pair
    ema = EMA(student, 0.5)
    before = {name: p.clone() for name, p in ema.model.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    ema.update(student, step=1000)
    for name, parameter in ema.model.named_parameters():
        moved = 0.0 if name.startswith("body.") else 0.5
        assert torch.allclose(parameter, before[name] + moved, atol=1e-5), name


def test_the_oracle_hides_what_is_labelled_first():
    batch = a_batch([30, 20], 30)
    mask = hide(Oracle(ratio=0.2), batch)
    assert batch.labels["semantic"][mask].all(), "more frames are labelled than are hidden"
    every = hide(Oracle(ratio=0.9), batch)
    assert every[(batch.labels["semantic"] > 0) & batch.valid].all()


def test_the_oracle_needs_labels():
    with pytest.raises(ValueError, match="frame labels 'semantic'"):
        hide(Oracle(), mm.Batch(motion=torch.zeros(1, 4, 437), valid=torch.ones(1, 4, dtype=torch.bool)))
