"""Residual quantization against another library, plain autograd and the laws it is made by."""

from __future__ import annotations

import pytest
import torch
from test_quantizers import clusters, trained

from maskmotion.quantizers import RVQ, VQ


def motion_like(rows: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Latents [1, rows, dim] with a few strong directions, as encoders give them."""
    rng = torch.Generator().manual_seed(seed)
    rank = min(dim, 24)
    directions = torch.randn(rank, dim, generator=torch.Generator().manual_seed(99)) / rank**0.5
    strength = torch.linspace(3, 0.2, rank)
    low = (strength * torch.randn(rows, rank, generator=rng)) @ directions
    return (0.5 + low + 0.1 * torch.randn(rows, dim, generator=rng))[None]


def random_codebooks(quantizer: RVQ, latents: torch.Tensor) -> RVQ:
    """Untrained codebooks of as many scales as there are layers."""
    for number, book in enumerate(quantizer.codebooks):
        book.codes.copy_(latents.std() * 0.6**number * torch.randn(book.codes.shape))
        book.started.fill_(True)
    return quantizer.eval()


def learned_codebooks(quantizer: RVQ, dim: int) -> RVQ:
    for step in range(12):
        quantizer.train()(motion_like(2048, dim, seed=step))
    return quantizer.eval()


def unequal_beyond_rounding(
    tables: list[torch.Tensor], latents: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor
):
    """Tokens whose first different code is no tie: best distances more than 1e-5 apart, in double precision."""
    residual, same = latents[0].double(), torch.ones(len(latents[0]), dtype=torch.bool)
    wrong = torch.zeros_like(same)
    for number, table in enumerate(tables):
        best = torch.cdist(residual, table.double(), compute_mode="donot_use_mm_for_euclid_dist").topk(2, largest=False)
        apart = (best.values[:, 1] - best.values[:, 0]) / best.values[:, 0] > 1e-5
        differs = ours[0, :, number] != theirs[0, :, number]
        wrong |= same & apart & (differs | (ours[0, :, number] != best.indices[:, 0]))
        same &= ~differs & apart  # what follows a tie has another residual
        residual = residual - table.double()[ours[0, :, number]]
    return wrong


@pytest.mark.parametrize("learned", [False, True], ids=["random", "learned"])
@pytest.mark.parametrize(("dim", "size", "layers"), [(4, 16, 2), (64, 128, 4), (512, 256, 6)])
def test_codes_are_those_of_vector_quantize_pytorch(dim, size, layers, learned):
    library = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(dim)
    latents = motion_like(4096, dim, seed=77)
    ours = RVQ(dim, size, layers)
    ours = learned_codebooks(ours, dim) if learned else random_codebooks(ours, latents)
    tables = [book.codes for book in ours.codebooks]
    theirs = library.ResidualVQ(dim=dim, codebook_size=size, num_quantizers=layers).eval()
    for layer, table in zip(theirs.layers, tables):
        layer.codebook = table
    with torch.no_grad():
        mine, (quantized, codes, _) = ours(latents), theirs(latents)
    if learned:
        assert (mine.stats["error"].diff() < 0).all(), "residuals shrink layer by layer"
    assert not unequal_beyond_rounding(tables, latents, mine.codes, codes).any()
    equal = (mine.codes == codes).all(-1)
    assert equal.float().mean() > 0.99
    assert torch.allclose(mine.latents[equal], quantized[equal], atol=1e-5, rtol=1e-5)


def plain_losses(latents: torch.Tensor, tables: list[torch.Tensor], codes: torch.Tensor):
    """The commitment of the latents and the codebooks' own loss as they are defined, with autograd's gradient."""
    residual, commitment, codebook = latents.flatten(0, 1), [], []
    for table, index in zip(tables, codes.flatten(0, 1).unbind(1)):
        kept = index >= 0
        chosen = table[index[kept]]
        commitment.append((residual[kept] - chosen.detach()).square().mean())
        codebook.append((chosen - residual[kept].detach()).square().mean())
        residual = residual.index_put((kept.nonzero()[:, 0],), residual[kept] - chosen.detach())
    return torch.stack(commitment).mean(), torch.stack(codebook).mean()


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("dropout", [0.0, 0.7])
@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_the_gradients_are_those_of_plain_autograd(learning, dropout, shared):
    torch.manual_seed(0)
    quantizer = RVQ(6, 16, 4, shared, learning, commitment=0.3, quantizer_dropout=dropout, decay=0.5, revive_below=30.0)
    quantizer.train()
    quantizer(clusters(seed=1))
    before = [book.codes.detach().clone() for book in quantizer.layers]
    latents, other = clusters(640).view(32, 20, 6).requires_grad_(), clusters(640).view(32, 20, 6).requires_grad_()
    weight = torch.randn(32, 20, 6)
    out = quantizer(latents)
    (2 * out.loss + (weight * out.latents).sum()).backward()
    assert (out.stats["dead"] > 0).any(), "codes that are revived meanwhile change no gradient"

    tables = [table.requires_grad_() for table in before]
    commitment, codebook = plain_losses(other, tables * 4 if shared else tables, out.codes)
    loss = 0.3 * commitment + (codebook if learning == "gradient" else 0.0)
    (2 * loss).backward()
    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert torch.allclose(latents.grad, other.grad + weight, atol=1e-6)
    assert (other.grad.norm(dim=-1) > 0).all()
    for book, table in zip(quantizer.layers, tables):
        if learning == "gradient":
            assert torch.allclose(book.codes.grad, table.grad, atol=1e-6)
            assert (book.codes.grad.abs().sum(1) > 0).sum() > 3
        else:
            assert not book.codes.requires_grad


def test_the_loss_of_a_gradient_codebook_is_that_of_the_paper():
    torch.manual_seed(0)
    quantizer = VQ(6, 16, "gradient", commitment=1.0, revive_below=0.0).train()
    latents = clusters().requires_grad_()
    out = quantizer(latents)
    chosen = quantizer.codebooks[0].codes[out.codes[..., 0]]
    loss = (chosen - latents.detach()).square().mean() + (chosen.detach() - latents).square().mean()
    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    table = quantizer.codebooks[0].codes
    mine, plain = (torch.autograd.grad(value, (latents, table)) for value in (out.loss, loss))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(mine, plain))


def test_gradient_codebooks_learn():
    torch.manual_seed(0)
    quantizer = RVQ(6, 32, 3, learning="gradient").train()
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
    for step in range(80):
        optimizer.zero_grad()
        quantizer(clusters(seed=step % 5)).loss.backward()
        optimizer.step()
    error = quantizer.eval()(clusters(seed=4)).stats["error"]
    assert (error.diff() < 0).all()
    assert error[-1] < 0.15 * clusters(seed=4).square().mean()


def test_codes_are_moving_averages_of_their_latents():
    torch.manual_seed(0)
    quantizer, latents = VQ(6, 8, decay=0.9, revive_below=0.0).train(), clusters(seed=3)
    quantizer(clusters(seed=1))
    (book,) = quantizer.codebooks
    counts, sums = book.counts.clone(), book.sums.clone()
    index = quantizer(latents).codes.flatten()
    chosen = torch.nn.functional.one_hot(index, 8).float()
    counts = 0.9 * counts + 0.1 * chosen.sum(0)
    sums = 0.9 * sums + 0.1 * chosen.T @ latents[0]
    assert torch.allclose(book.counts, counts, atol=1e-4)
    assert torch.allclose(book.codes, sums / counts[:, None], atol=1e-4)


def test_a_shared_codebook_learns_from_all_layers():
    torch.manual_seed(0)
    quantizer = RVQ(6, 16, 3, shared=True, decay=0.0, revive_below=0.0).train()
    quantizer(clusters(seed=1))
    assert [name for name in quantizer.state_dict() if name.endswith("codes")] == ["layers.0.codes"]
    table, latents = quantizer.codebooks[0].codes.clone(), clusters(seed=2)
    codes = quantizer(latents).codes[0]
    residuals, left = [], latents[0]
    for index in codes.unbind(1):
        residuals.append(left)
        left = left - table[index]
    chosen = torch.nn.functional.one_hot(codes.T.flatten(), 16).float()
    means = chosen.T @ torch.cat(residuals) / chosen.sum(0)[:, None]
    used = chosen.sum(0) > 0
    assert used.sum() > 8
    assert torch.equal(quantizer.codebooks[0].counts, chosen.sum(0))
    assert torch.allclose(quantizer.codebooks[0].codes[used], means[used], atol=1e-4)


@pytest.mark.parametrize("learning", ["ema", "gradient"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_error_falls_with_each_layer_of_a_shared_codebook(learning, dropout):
    torch.manual_seed(0)
    quantizer = RVQ(6, 64, 4, shared=True, learning=learning, quantizer_dropout=dropout).train()
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05) if learning == "gradient" else None
    for step in range(60):
        loss = quantizer(clusters(seed=step % 5).view(30, 20, 6)).loss
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    latents = clusters(seed=9)
    vectors = quantizer.eval().embed(quantizer(latents).codes)
    errors = [(latents - vectors[:, :, :depth].sum(2)).square().mean().item() for depth in range(5)]
    assert all(after < before for before, after in zip(errors, errors[1:]))
    assert quantizer(latents).stats["error"].tolist() == pytest.approx(errors[1:], rel=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_codes_are_drawn_in_proportion_to_their_likelihood(temperature):
    stats = pytest.importorskip("scipy.stats")
    torch.manual_seed(0)
    quantizer = VQ(3, 8, temperature=temperature, revive_below=0.0).train()
    (book,) = quantizer.codebooks
    book.codes.copy_(0.5 * torch.randn(8, 3))
    book.started.fill_(True)
    table, latent = book.codes.clone(), torch.tensor([0.3, -0.2, 0.1])
    drawn = quantizer(latent.expand(1, 40000, 3)).codes.flatten()
    likelihood = torch.softmax(-(table - latent).double().square().sum(1) / temperature, 0)
    assert likelihood.min() * len(drawn) > 5, "enough of each to count"
    counts = torch.bincount(drawn, minlength=8)
    assert stats.chisquare(counts.numpy(), (likelihood * len(drawn)).numpy()).pvalue > 0.01
    assert stats.chisquare(counts.numpy(), [len(drawn) / 8] * 8).pvalue < 1e-6, "the test can tell"


def test_evaluation_takes_the_nearest_code_at_any_temperature():
    warm, cold = trained(RVQ(6, 16, 3, temperature=5.0)), RVQ(6, 16, 3).eval()
    cold.load_state_dict(warm.state_dict())
    assert torch.equal(warm(clusters(seed=9)).codes, cold(clusters(seed=9)).codes)
    assert not torch.equal(warm.train()(clusters(seed=9)).codes, cold(clusters(seed=9)).codes)


def test_the_output_uses_the_codes_from_before_the_batch():
    quantizer = trained(RVQ(6, 16, 3, decay=0.5)).train()
    before, latents = [book.codes.clone() for book in quantizer.codebooks], clusters(seed=9)
    out = quantizer(latents)
    old = sum(table[index] for table, index in zip(before, out.codes[0].unbind(1)))
    assert torch.allclose(out.latents[0], old, atol=1e-5)
    assert not torch.allclose(quantizer.codebooks[0].codes, before[0], atol=1e-3)
