"""The one selection behind every masker: exact counts, padding untouched, hard is top-k, soft follows the scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from maskmotion.strategies import select


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def cases(draw):
    rows, frames = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    lengths = torch.tensor([draw(st.integers(1, frames)) for _ in range(rows)])
    ratio = draw(st.floats(0, 1))
    hard = draw(st.floats(0, 1)) * ratio
    soft = draw(st.floats(0, 1)) * (ratio - hard)
    scores = torch.randn(rows, frames, generator=rng(draw(st.integers(0, 999))))
    return scores, torch.arange(frames) < lengths[:, None], ratio, hard, soft


def rounded(share: torch.Tensor) -> torch.Tensor:
    return torch.floor(share + 0.5 + 1e-6).long()


@given(cases())
@settings(max_examples=150, deadline=None)
def test_counts_are_exact_and_padding_is_never_hidden(case):
    scores, valid, ratio, hard, soft = case
    mask = select(scores, valid, ratio, hard, soft, rng())
    assert not (mask & ~valid).any()
    assert torch.equal(mask.sum(1), rounded(ratio * valid.sum(1)))


@given(cases())
@settings(max_examples=100, deadline=None)
def test_hard_frames_are_the_top_of_the_scores(case):
    scores, valid, ratio, hard, _ = case
    mask = select(scores, valid, ratio, hard, 0.0, rng())
    for row in range(len(scores)):
        count = min(int(rounded(hard * valid[row].sum())), int(mask[row].sum()))
        top = scores[row].masked_fill(~valid[row], -torch.inf).topk(count).indices
        assert mask[row, top].all()


@given(cases(), st.floats(-1e3, 1e3))
@settings(max_examples=60, deadline=None)
def test_what_stands_in_padding_never_changes_a_mask(case, junk):
    scores, valid, ratio, hard, soft = case
    other = torch.where(valid, scores, torch.full_like(scores, junk))
    assert torch.equal(select(scores, valid, ratio, hard, soft, rng()), select(other, valid, ratio, hard, soft, rng()))


def test_a_soft_draw_follows_score_minus_minimum():
    weight = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 6.0])
    rows = 4000
    scores = (weight - 5.0).expand(rows, -1)  # an offset must not matter
    mask = select(scores, torch.ones(rows, 6, dtype=torch.bool), 1 / 6, 0.0, 1 / 6, rng(1))
    seen = mask.sum(0).numpy()
    assert seen[0] == 0, "weight 0 is never drawn while others remain"
    expected = (weight / weight.sum() * rows).numpy()
    assert chisquare(seen[1:], expected[1:] * seen[1:].sum() / expected[1:].sum()).pvalue > 1e-3


def test_soft_draws_reach_every_frame_not_only_the_next_best():
    scores = torch.arange(1.0, 21.0).expand(500, -1)
    mask = select(scores, torch.ones(500, 20, dtype=torch.bool), 0.25, 0.0, 0.25, rng(2))
    assert (mask[:, 1:15].any(0)).all()  # the release would only ever take the top five; the lowest has weight 0


def test_random_hiding_is_uniform_whatever_the_scores():
    scores = torch.arange(10.0).expand(3000, -1)
    mask = select(scores, torch.ones(3000, 10, dtype=torch.bool), 0.3, 0.0, 0.0, rng(3))
    assert chisquare(mask.sum(0).numpy()).pvalue > 1e-3


def test_equal_scores_still_give_exact_soft_counts():
    mask = select(torch.zeros(4, 10), torch.ones(4, 10, dtype=torch.bool), 0.5, 0.0, 0.5, rng())
    assert mask.sum(1).tolist() == [5] * 4


def test_joints_within_frames():
    valid = torch.tensor([[True] * 6 + [False] * 2])
    mask = select(torch.rand(1, 8, 55, generator=rng()), valid, 0.4, 0.1, 0.2, rng())
    assert mask.shape == (1, 8, 55)
    assert int(mask.sum()) == round(0.4 * 6 * 55)
    assert not mask[:, 6:].any()


@pytest.mark.parametrize(("ratio", "hard", "soft"), [(0.4, 0.3, 0.2), (1.2, 0.0, 0.0), (0.5, -0.1, 0.0), (0.1, 0.2, 0)])
def test_impossible_shares_say_the_rule_and_the_values(ratio, hard, soft):
    with pytest.raises(ValueError, match=r"hard \+ soft <= ratio <= 1, got hard="):
        select(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), ratio, float(hard), float(soft), rng())


def test_scores_that_are_not_finite_are_refused():
    scores = torch.tensor([[0.0, float("nan"), 1.0]])
    with pytest.raises(ValueError, match="finite"):
        select(scores, torch.ones(1, 3, dtype=torch.bool), 0.5, 0.5, 0.0, rng())
    padded = torch.tensor([[True, False, True]])
    assert select(scores, padded, 0.5, 0.5, 0.0, rng()).sum() == 1  # NaN in padding harms nobody


def test_rows_do_not_depend_on_each_other():
    one, two = torch.rand(1, 12, generator=rng(5)), torch.rand(1, 12, generator=rng(6))
    valid = torch.ones(2, 12, dtype=torch.bool)
    first = select(torch.cat([one, two]), valid, 0.5, 0.2, 0.2, rng())
    second = select(torch.cat([one, -two]), valid, 0.5, 0.2, 0.2, rng())
    assert np.array_equal(first[0].numpy(), second[0].numpy())
