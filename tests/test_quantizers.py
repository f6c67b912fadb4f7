"""Quantizers: agreement with a ten-line reference, error by layer, start-up, revival, dropout, exact continuation."""

from __future__ import annotations

import pytest
import torch

from maskmotion.quantizers import RVQ, VQ, Identity
from maskmotion.quantizers.codebook import Codebook


def clusters(count: int = 600, dim: int = 6, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(20, dim, generator=rng)
    return (centres[torch.randint(20, (count,), generator=rng)] + 0.3 * torch.randn(count, dim, generator=rng))[None]


def trained(quantizer, steps: int = 30):
    torch.manual_seed(0)
    quantizer.train()
    for step in range(steps):
        quantizer(clusters(seed=step % 5))
    return quantizer.eval()


def reference_codes(latents: torch.Tensor, codebooks: list[torch.Tensor]) -> torch.Tensor:
    residual, codes = latents[0], []
    for table in codebooks:
        index = torch.cdist(residual, table).argmin(1)
        codes.append(index)
        residual = residual - table[index]
    return torch.stack(codes, -1)[None]


def test_codes_are_those_of_a_ten_line_reference():
    quantizer, latents = trained(RVQ(6, 16, 3)), clusters(seed=9)
    out = quantizer(latents)
    assert torch.equal(out.codes, reference_codes(latents, [layer.codes for layer in quantizer.codebooks]))


def test_the_error_falls_with_each_layer():
    quantizer, latents = trained(RVQ(6, 16, 4)), clusters(seed=9)
    vectors = quantizer.embed(quantizer(latents).codes)
    errors = [(latents - vectors[:, :, :depth].sum(2)).square().mean().item() for depth in range(5)]
    assert all(after < before for before, after in zip(errors, errors[1:]))
    assert errors[4] < 0.1 * errors[0]


def test_the_codebooks_start_on_data():
    torch.manual_seed(0)
    book, latents = Codebook(6, 16), clusters()[0]
    book.start(latents)
    assert all((code == latents).all(1).any() for code in book.codes)
    first = book.codes.clone()
    book.start(latents + 1)
    assert torch.equal(book.codes, first), "start-up happens once"


def test_fewer_latents_than_codes_start_it_all_the_same():
    torch.manual_seed(0)
    book = Codebook(6, 16)
    book.start(clusters()[0][:3])
    assert book.codes.isfinite().all()
    assert len(book.codes.unique(dim=0)) == 16


def test_dead_codes_are_revived():
    torch.manual_seed(0)
    quantizer = VQ(6, 16)
    quantizer.train()(clusters())
    quantizer.codebooks[0].codes[3:] = 1e3  # far from any latent
    quantizer.codebooks[0].sums[3:] = 1e3
    for step in range(200):
        out = quantizer(clusters(seed=step % 5))
    assert quantizer.codebooks[0].codes.abs().max() < 100
    assert out.perplexity.item() > 8


def test_quantizer_dropout_drops_the_last_layers_only():
    torch.manual_seed(0)
    quantizer = RVQ(6, 16, 4, quantizer_dropout=1.0).train()
    codes = quantizer(clusters(640).view(64, 10, 6)).codes
    used = (codes >= 0).sum(-1)
    assert used.min() >= 1
    assert len(used[:, 0].unique()) == 4, "every depth occurs"
    assert torch.equal(used, used[:, :1].expand_as(used)), "a row keeps one depth"
    assert torch.equal(codes >= 0, torch.arange(4) < used[..., None])
    assert (quantizer.eval()(clusters()).codes >= 0).all(), "evaluation drops nothing"


def test_training_continues_exactly_after_loading():
    torch.manual_seed(0)
    one = RVQ(6, 16, 3, quantizer_dropout=0.3).train()
    for step in range(5):
        one(clusters(seed=step))
    two = RVQ(6, 16, 3, quantizer_dropout=0.3).train()
    two.load_state_dict(one.state_dict())
    for quantizer in (one, two):
        torch.manual_seed(1)
        for step in range(5, 10):
            quantizer(clusters(seed=step))
    assert all(torch.equal(one.state_dict()[name], two.state_dict()[name]) for name in one.state_dict())


def test_commitment_pulls_latents_to_their_codes():
    quantizer = trained(VQ(6, 16, commitment=1.0))
    latents = clusters(seed=9).requires_grad_()
    out = quantizer(latents)
    out.loss.backward()
    assert out.loss.item() == pytest.approx((latents - out.latents).square().mean().item(), rel=1e-4)
    moved = latents - 1.0 * latents.grad * latents.numel()
    assert (moved - out.latents).norm() < (latents - out.latents).norm() * 1.01 + 1e-3


def test_vq_is_one_layer_of_rvq():
    torch.manual_seed(0)
    vq = VQ(6, 16).train()
    torch.manual_seed(0)
    rvq = RVQ(6, 16, 1).train()
    for step in range(3):
        torch.manual_seed(step)
        a = vq(clusters(seed=step))
        torch.manual_seed(step)
        b = rvq(clusters(seed=step))
        assert torch.equal(a.codes, b.codes)


def test_identity_passes_through():
    latents = clusters()
    assert torch.equal(Identity(6)(latents).latents, latents)
    with pytest.raises(ValueError, match="no codes"):
        Identity(6).embed(torch.zeros(1, 2, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codebook_size": 1}, "codebook_size >= 2"),
        ({"num_layers": 0}, "num_layers >= 1"),
        ({"quantizer_dropout": 1.5}, "share of the rows"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RVQ(6, **arguments)


def test_codes_outside_the_codebook_are_refused():
    with pytest.raises(IndexError, match=r"from -1 \(dropped\) to 15"):
        RVQ(6, 16, 2).embed(torch.full((1, 1, 2), 16))
