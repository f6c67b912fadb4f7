"""Quantizers: a ten-line reference, error by layer, start-up, revival, dropout, statistics, exact continuation."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch

from maskmotion.quantizers import RVQ, VQ, Identity, Product
from maskmotion.quantizers.codebook import Codebook, perplexity
from maskmotion.training.checkpoint import read_tensors, write_tensors


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


OPTIONS = [
    dict(zip(("learning", "shared", "quantizer_dropout", "temperature"), values))
    for values in product(("ema", "gradient"), (False, True), (0.0, 0.4), (0.0, 0.7))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(str(value) for value in options.values()))
def test_training_continues_exactly_after_loading(options, tmp_path):
    def train(quantizer, optimizer, steps):
        quantizer.train()
        for step in steps:
            torch.manual_seed(step)
            out = quantizer(clusters(seed=step).view(30, 20, 6).requires_grad_())
            if optimizer:
                optimizer.zero_grad()
                out.loss.backward()
                optimizer.step()
        return out

    def build():
        quantizer = RVQ(6, 32, 3, **options)
        learned = list(quantizer.parameters())
        return quantizer, torch.optim.Adam(learned, 0.01) if learned else None

    torch.manual_seed(0)
    one, adam = build()
    train(one, adam, range(4))
    write_tensors(tmp_path / "half.safetensors", one.state_dict())
    two, again = build()
    two.load_state_dict(read_tensors(tmp_path / "half.safetensors")[0])
    if adam:
        again.load_state_dict(copy.deepcopy(adam.state_dict()))
    first, second = train(one, adam, range(4, 8)), train(two, again, range(4, 8))
    assert all(torch.equal(one.state_dict()[name], two.state_dict()[name]) for name in one.state_dict())
    assert torch.equal(first.codes, second.codes) and torch.equal(first.latents, second.latents)
    assert torch.equal(first.loss, second.loss) and torch.equal(first.stats["dead"], second.stats["dead"])
    assert any(not torch.equal(one.state_dict()[name], build()[0].state_dict()[name]) for name in one.state_dict())


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


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_product_with_one_group_is_vq(learning):
    torch.manual_seed(0)
    vq = VQ(6, 16, learning, temperature=0.3).train()
    torch.manual_seed(0)
    group = Product(6, 16, 1, learning, temperature=0.3).train()
    optimizers = [torch.optim.SGD(one.parameters(), 0.1) if learning == "gradient" else None for one in (vq, group)]

    def step(quantizer, optimizer, seed):
        torch.manual_seed(seed)
        latents = clusters(seed=seed).requires_grad_()
        out = quantizer(latents)
        (out.loss + out.latents.sin().sum()).backward()
        if optimizer and quantizer.training:
            optimizer.step()
        quantizer.zero_grad()
        return [out.latents, out.codes, out.loss, out.perplexity, *out.stats.values(), latents.grad]

    for seed in range(6):
        if seed == 5:
            vq.eval(), group.eval()
        pairs = zip(step(vq, optimizers[0], seed), step(group, optimizers[1], seed), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    states = zip(vq.state_dict().values(), group.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    codes = vq(clusters(seed=9)).codes
    assert torch.equal(vq.embed(codes), group.embed(codes))


def test_product_quantizes_groups_of_dimensions_on_their_own():
    quantizer, latents = trained(Product(6, 16, 3)), clusters(seed=9)
    out = quantizer(latents)
    vectors = quantizer.embed(out.codes)
    assert vectors.shape == (1, 600, 3, 6)
    assert torch.allclose(vectors.sum(2), out.latents, atol=1e-5)
    for number, (group, piece) in enumerate(zip(quantizer.groups, latents.chunk(3, -1))):
        alone = group(piece)
        assert torch.equal(out.codes[..., number], alone.codes[..., 0])
        assert torch.equal(vectors[:, :, number, 2 * number : 2 * number + 2], group.embed(alone.codes)[:, :, 0])
        assert (vectors[:, :, number] != 0).any(0).any(0).nonzero().flatten().tolist() == [2 * number, 2 * number + 1]
    losses = [group(piece).loss.item() for group, piece in zip(quantizer.groups, latents.chunk(3, -1))]
    assert out.loss.item() == pytest.approx(sum(losses) / 3)
    assert out.perplexity.shape == out.stats["error"].shape == out.stats["dead"].shape == (3,)
    with pytest.raises(ValueError, match="groups must divide the width of the latents, 6, got 4"):
        Product(6, 16, 4)


def test_perplexity_counts_codes_in_use():
    for codes, expected in (([3, 3, 3], 1), ([0, 0, 5, 5], 2), ([0, 1, 2, 3], 4), ([-1, -1, 2, 3], 2), ([-1], 1)):
        assert perplexity(torch.tensor(codes), 8).item() == pytest.approx(expected, rel=1e-5)
    uneven = torch.tensor([0, 0, 0, 1])
    assert perplexity(uneven, 8).item() == pytest.approx(4 / 27**0.25, rel=1e-5)


def planted(**options) -> RVQ:
    """Two layers that code 10 or -10, then 1 or -1."""
    quantizer = RVQ(1, 2, 2, **options)
    for book, codes in zip(quantizer.codebooks, ([10.0, -10.0], [1.0, -1.0])):
        book.codes.copy_(torch.tensor(codes)[:, None])
        book.sums.copy_(book.codes)
        book.started.fill_(True)
    return quantizer


def test_statistics_of_a_planted_case():
    latents = torch.tensor([11.5, 9.0, 11.0, -9.0])[None, :, None]
    out = planted().eval()(latents)
    assert out.codes[0].tolist() == [[0, 0], [0, 1], [0, 0], [1, 0]]
    assert out.latents.flatten().tolist() == [11.0, 9.0, 11.0, -9.0]
    assert out.stats["error"].tolist() == pytest.approx([(1.5**2 + 1 + 1 + 1) / 4, 0.5**2 / 4])
    assert out.perplexity.tolist() == pytest.approx([4 / 27**0.25] * 2)
    assert out.stats["dead"].tolist() == [0, 0], "evaluation revives nothing"


def test_dead_counts_the_codes_that_were_revived():
    latents = torch.tensor([11.0, 9.0, 10.5])[None, :, None]
    quantizer = planted(decay=0.5, revive_below=0.8).train()  # unchosen codes fall from 1 to 0.5
    before = quantizer.codebooks[0].codes[1].item()
    assert quantizer(latents).stats["dead"].tolist() == [1, 0]
    assert before == -10 and quantizer.codebooks[0].codes[1].item() in (11.0, 9.0, 10.5)
    assert quantizer.codebooks[0].counts.tolist() == pytest.approx([2.0, 0.8])
    quantizer = planted(decay=0.5, revive_below=0.0).train()
    for _ in range(20):
        assert quantizer(latents).stats["dead"].tolist() == [0, 0]
    assert quantizer.codebooks[0].counts[1] < 1e-5


BUILT = {
    "rvq": lambda: RVQ(6, 16, 3),
    "gradient": lambda: RVQ(6, 16, 3, learning="gradient"),
    "shared": lambda: RVQ(6, 16, 3, shared=True),
    "product": lambda: Product(6, 16, 2),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", BUILT)
def test_quantization_is_in_full_precision_under_autocast(name, training):
    quantizer, latents = trained(BUILT[name]()), 30 + clusters(seed=9)
    quantizer.train(training)
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}

    def run(given, half):
        quantizer.load_state_dict(state)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = quantizer(given)
        return out, {key: value.clone() for key, value in quantizer.state_dict().items()}

    (full, after), (half, after_half) = run(latents, False), run(latents, True)
    assert torch.equal(full.codes, half.codes) and torch.equal(full.latents, half.latents)
    assert full.loss.item() == pytest.approx(half.loss.item(), rel=1e-6)
    assert all(torch.equal(after[key], after_half[key]) for key in after)
    rough = latents.bfloat16()
    assert torch.equal(run(rough.float(), False)[0].codes, run(rough, True)[0].codes)
    assert run(rough, True)[0].latents.dtype == torch.bfloat16
