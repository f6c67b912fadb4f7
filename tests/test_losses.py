"""The contrastive loss against its formula, and what it must not see."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from maskmotion.losses import info_nce


def pair(rows=3, steps=5, dim=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, steps, dim, generator=rng), torch.randn(rows, steps, dim, generator=rng)


def by_hand(query, keys, own, temperature):
    """One query's share, as eq. 5 writes it."""
    logits = torch.stack([F.cosine_similarity(query, key, dim=0) for key in keys]) / temperature
    return float(logits.exp().sum().log() - logits[own])


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_a_clips_negatives_are_its_own_tokens(temperature):
    queries, keys = pair()
    wanted = [by_hand(queries[b, n], keys[b], n, temperature) for b in range(3) for n in range(5)]
    assert float(info_nce(queries, keys, temperature=temperature)) == pytest.approx(sum(wanted) / 15, rel=1e-5)


def test_a_batchs_negatives_are_the_valid_tokens_of_all_clips():
    queries, keys = pair()
    valid = torch.arange(5) < torch.tensor([[5], [2], [0]])
    asked, held = queries[valid], keys[valid]
    wanted = [by_hand(query, held, place, 0.1) for place, query in enumerate(asked)]
    assert float(info_nce(queries, keys, valid, negatives="batch")) == pytest.approx(sum(wanted) / 7, rel=1e-5)


@pytest.mark.parametrize("negatives", ["clip", "batch"])
def test_what_is_not_valid_is_neither_query_nor_key(negatives):
    queries, keys = pair()
    valid = torch.arange(5) < torch.tensor([[5], [3], [0]])
    other = [torch.where(valid[..., None], x, 100.0 + x) for x in (queries, keys)]
    held = [x.clone().requires_grad_() for x in (queries, keys)]
    loss = info_nce(*held, valid, negatives=negatives)
    assert torch.equal(info_nce(*other, valid, negatives=negatives), loss)
    loss.backward()
    for one in held:
        assert one.grad[valid].any(dim=-1).all()
        assert not one.grad[~valid].any()


@pytest.mark.parametrize("negatives", ["clip", "batch"])
def test_no_valid_token_is_no_loss(negatives):
    queries, keys = pair()
    assert info_nce(queries, keys, torch.zeros(3, 5, dtype=torch.bool), negatives=negatives) == 0


def test_equal_tokens_are_chance_and_own_tokens_are_sure():
    same = torch.ones(2, 7, 4)
    assert float(info_nce(same, same)) == pytest.approx(math.log(7), rel=1e-6)
    assert float(info_nce(same, same, negatives="batch")) == pytest.approx(math.log(14), rel=1e-6)
    apart = torch.eye(7)[None]
    assert float(info_nce(apart, apart, temperature=0.01)) == pytest.approx(0.0, abs=1e-6)
    assert float(info_nce(same[:1, :1], same[:1, :1])) == 0.0


def test_the_loss_knows_directions_only_and_which_side_asks():
    queries, keys = pair()
    torch.testing.assert_close(info_nce(3 * queries, 0.2 * keys), info_nce(queries, keys))
    assert not torch.isclose(info_nce(queries, keys), info_nce(keys, queries))


def test_zero_vectors_give_neither_nan_nor_infinite_gradients():
    queries, keys = (torch.zeros(2, 4, 3, requires_grad=True) for _ in range(2))
    loss = info_nce(queries, keys)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(4))
    assert queries.grad.isfinite().all()
    assert keys.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="above 0"):
        info_nce(*pair(), temperature=temperature)


def test_mixed_precision_changes_nothing():
    queries, keys = pair(2, 30, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(queries, keys)
    assert found.dtype == torch.float32
    assert torch.equal(found, info_nce(queries, keys))
