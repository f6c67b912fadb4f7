"""Part and body tokenizers: shapes, padding, statistics; the root network and its integration."""

from __future__ import annotations

import pytest
import torch

from maskmotion.motion.layout import SMPLX
from maskmotion.nn.convolution import Conv, ResidualConv
from maskmotion.quantizers import RVQ, Identity
from maskmotion.testing import example_batch, example_generator
from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer, RootPredictor
from maskmotion.tokenizers.root import integrate

UPPER = SMPLX.columns["upper"]


def upper(quantizer):
    return PartTokenizer(UPPER, Dilated(len(UPPER), quantizer.dim), quantizer)


@pytest.mark.parametrize("downsample", [1, 2, 4, 8])
@pytest.mark.parametrize("frames", [16, 17, 30])
def test_no_frame_is_lost_at_any_rate(downsample, frames):
    tokenizer = PartTokenizer(UPPER, Dilated(78, 8, downsample), Identity(8)).eval()
    latents = tokenizer.encode(torch.randn(2, frames, 78)).latents
    assert latents.shape == (2, -(-frames // downsample), 8)
    assert tokenizer.decode(latents).shape[1] >= frames


def test_padding_never_changes_tokens():
    generator = example_generator()
    motion = torch.randn(1, 24, 437)
    padded = torch.cat([motion, torch.randn(1, 8, 437)], dim=1)
    valid = torch.arange(32)[None] < 24
    alone, together = generator.body.encode(motion), generator.body.encode(padded, valid)
    for part in SMPLX.parts:
        assert torch.equal(together[part].codes[:, :6], alone[part].codes)
        assert (together[part].codes[:, 6:] == -1).all()


def test_padding_never_moves_a_codebook():
    torch.manual_seed(0)
    tokenizer = upper(RVQ(8, 4, 2)).train()
    motion, valid = torch.randn(2, 16, 78), torch.ones(2, 16, dtype=torch.bool)
    valid[1, 8:] = False
    states = []
    for junk in (0.0, 50.0):
        torch.manual_seed(1)
        fresh = upper(RVQ(8, 4, 2)).train()
        fresh.load_state_dict(tokenizer.state_dict())
        losses = fresh(torch.where(valid[..., None], motion, torch.full_like(motion, junk)), valid)
        states.append((fresh.quantizer.state_dict(), {name: loss.item() for name, loss in losses.items()}))
    assert all(torch.equal(states[0][0][name], states[1][0][name]) for name in states[0][0])
    assert states[0][1] == pytest.approx(states[1][1])


def test_convolutions_are_blind_to_padding():
    x, valid = torch.randn(1, 12, 4), torch.arange(12)[None] < 8
    for block in (Conv(4, 4, 5), ResidualConv(4, 3)):
        short = block(x[:, :8])
        assert torch.allclose(block(x, valid)[:, :8], short, atol=1e-6)


def test_statistics_centre_columns_and_scale_kinds():
    body = example_generator().body
    batch = example_batch(rows=4, frames=64, seed=3)
    body.set_statistics(batch.motion)
    scaled = body.normalise(batch.motion)
    assert scaled.mean((0, 1)).abs().max() < 1e-3
    expressions = scaled[..., SMPLX.columns["face"][6:]]
    assert expressions.square().mean().item() == pytest.approx(1.0, rel=0.05)
    hands = body["hands"]
    assert len(hands.scale.unique()) == 1, "rotations of a part share one scale: their geometry is kept"
    decoded = body.decode({part: torch.zeros(1, 4, body.dim) for part in body.parts})
    assert decoded.shape == (1, 16, 437)


def test_training_a_tokenizer_lowers_its_error():
    torch.manual_seed(0)
    tokenizer = upper(RVQ(16, 32, 2)).train()
    time = torch.arange(64) / 30
    waves = torch.sin(torch.tensor([2.0, 3.0, 5.0]) * time[:, None])  # motion is low-rank
    motion = waves @ torch.randn(4, 3, 78)
    tokenizer.set_statistics(motion.mean((0, 1)), motion.std() * torch.ones(78))
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    errors = []
    for _ in range(60):
        losses = tokenizer(motion)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(losses["reconstruction"].item())
    assert errors[-1] < 0.5 * errors[0]


def test_a_body_needs_one_tokenizer_a_part():
    with pytest.raises(ValueError, match="one tokenizer a part"):
        BodyTokenizer({"upper": upper(Identity(4))})


def test_integration_starts_at_zero_and_follows_the_velocity():
    predicted = torch.zeros(1, 31, 3)
    predicted[..., 0], predicted[..., 1] = 0.6, 1.2
    path = integrate(predicted, 30)
    assert path[0, 0].tolist() == pytest.approx([0.0, 1.2, 0.0])
    assert path[0, -1].tolist() == pytest.approx([0.6, 1.2, 0.0])


def test_root_targets_integrate_back_to_the_motion():
    root, batch = RootPredictor(), example_batch()
    motion = batch.motion.clone()
    motion[..., 330:333] = torch.randn(3, 32, 3).cumsum(1) * 0.01
    again = integrate(root._targets(motion[..., 330:333], fps=30), 30)
    moved = motion[..., 330:333] - motion[:, :1, 330:333] * torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(again, moved, atol=1e-5)
    losses = root(batch)
    assert set(losses) == {"velocity", "height", "position"}


def test_the_root_network_never_reads_translation():
    root, batch = RootPredictor(), example_batch()
    other = batch.motion.clone()
    other[..., 330:333] += 5.0
    assert torch.equal(root.predict(batch.motion), root.predict(other))
