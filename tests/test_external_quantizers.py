"""Quantizers of vector-quantize-pytorch behind our interface: codes that give the latents back, losses, gradients, state."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

import maskmotion as mm
from maskmotion.quantizers import External
from maskmotion.quantizers.codebook import perplexity
from maskmotion.quantizers.external import KINDS, REFUSED
from maskmotion.testing import check
from maskmotion.training.checkpoint import read_tensors, write_tensors

library = pytest.importorskip("vector_quantize_pytorch")

BOOK, DEPTH = {"codebook_size": 16}, {"num_quantizers": 3}
VARIANTS = [
    ("FSQ", {"levels": [5, 5, 5], "num_codebooks": 3}, 3),
    ("FSQ", {"levels": [5, 5, 5, 5], "orthogonal_rotation": True}, 1),
    ("FSQ", {"levels": [4, 4], "keep_num_codebooks_dim": True}, 1),
    ("FSQ", {"levels": [3, 3, 3, 3, 3, 3, 3, 3]}, 1),
    ("LFQ", BOOK | {"num_codebooks": 2}, 2),
    ("LFQ", BOOK | {"spherical": True, "orthogonal_rotation": True}, 1),
    ("LatentQuantize", {"levels": [9, 11, 6]}, 1),
    ("LatentQuantize", {"levels": [9, 11], "num_codebooks": 2}, 2),
    ("SimVQ", BOOK | {"rotation_trick": False}, 1),
    ("VectorQuantize", BOOK | {"heads": 2, "separate_codebook_per_head": True}, 2),
    ("VectorQuantize", BOOK | {"heads": 2, "codebook_dim": 4, "separate_codebook_per_head": True}, 2),
    ("VectorQuantize", BOOK | {"codebook_dim": 4, "use_cosine_sim": True, "kmeans_init": True}, 1),
    ("ResidualVQ", BOOK | DEPTH | {"codebook_dim": 4, "quantize_dropout": True}, 3),
    ("ResidualVQ", BOOK | DEPTH | {"kmeans_init": True}, 3),
    ("ResidualVQ", BOOK | DEPTH | {"shared_codebook": True, "threshold_ema_dead_code": 2}, 3),
    ("ResidualVQ", BOOK | DEPTH | {"implicit_neural_codebook": True}, 3),
    ("ResidualFSQ", DEPTH | {"levels": [5, 5, 5], "quantize_dropout": True}, 3),
    ("ResidualLFQ", BOOK | DEPTH | {"quantize_dropout": True}, 3),
    ("ResidualSimVQ", BOOK | DEPTH, 3),
    ("GroupedResidualVQ", BOOK | DEPTH | {"groups": 4}, 12),
]
CASES = [*((kind, {}, None) for kind in KINDS), *VARIANTS]


def label(value) -> str:
    return "-".join(str(part) for part in value.values()) if isinstance(value, dict) else str(value)


every_case = pytest.mark.parametrize(("kind", "arguments", "layers"), CASES, ids=label)


def trained(kind: str, arguments: dict, steps: int = 3) -> External:
    torch.manual_seed(0)
    quantizer = External(8, kind, arguments).train()
    optimizer = torch.optim.Adam([p for p in quantizer.parameters() if p.requires_grad] or [torch.zeros(1)], 0.01)
    for step in range(steps):
        train_step(quantizer, optimizer, step)
    return quantizer.eval()


def train_step(quantizer, optimizer, seed: int):
    torch.manual_seed(seed)
    latents = torch.randn(4, 30, 8).requires_grad_()
    out = quantizer(latents)
    optimizer.zero_grad()
    (out.loss + out.latents.square().sum()).backward()
    optimizer.step()
    return out, latents


@every_case
def test_every_kind_keeps_the_contract(kind, arguments, layers):
    torch.manual_seed(0)
    quantizer = External(8, kind, arguments)
    assert layers in (None, quantizer.num_layers)
    check(quantizer)


@every_case
def test_codes_give_the_latents_back(kind, arguments, layers):
    quantizer = trained(kind, arguments)
    latents = 2 * torch.randn(3, 40, 8)
    with torch.no_grad():
        out = quantizer(latents)
        vectors = quantizer.embed(out.codes)
        assert torch.allclose(vectors.sum(2), out.latents, atol=1e-5, rtol=1e-5)
        assert torch.equal(out.codes, quantizer(latents).codes)
        dropped = out.codes.clone()
        dropped[..., -1] = -1
        assert torch.equal(quantizer.embed(dropped)[:, :, :-1], vectors[:, :, :-1]), "the others stay"
        assert (quantizer.embed(dropped)[:, :, -1] == 0).all()
        first, size = out.codes[..., 0], quantizer.codebook_size
        assert torch.allclose(out.perplexity[0], perplexity(first.flatten(), size))
    assert out.perplexity[0] > 2, "several codes are in use"
    assert vectors.std(dim=(0, 1)).amax(dim=1).min() > 0, "every layer says something"


@every_case
def test_the_latents_that_train_are_those_of_the_class(kind, arguments, layers):
    quantizer = External(8, kind, arguments).train()
    out, latents = train_step(quantizer, torch.optim.SGD([torch.zeros(1)], 0.1), seed=1)
    assert latents.grad.isfinite().all() and latents.grad.any()
    assert out.loss.ndim == 0 and out.loss.isfinite()
    used = (out.codes >= 0).all((0, 1))
    assert out.codes.dtype == torch.int64 and used[0]
    assert torch.equal(used, used.cummin(0).values), "dropout drops the last layers only"


@pytest.mark.parametrize("kind", ["ResidualVQ", "ResidualSimVQ", "ResidualLFQ", "GroupedResidualVQ"])
def test_the_loss_is_the_sum_of_all_that_the_class_asks_for(kind):
    torch.manual_seed(0)
    quantizer, latents = External(8, kind).train(), torch.randn(2, 30, 8)
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    torch.manual_seed(1)
    losses = quantizer.module(latents)[2]
    quantizer.load_state_dict(state)
    torch.manual_seed(1)
    assert losses.numel() == quantizer.num_layers
    assert quantizer(latents).loss.item() == pytest.approx(losses.sum().item(), rel=1e-6)


def test_a_commitment_weight_weighs():
    losses = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        losses.append(External(8, "VectorQuantize", {"commitment_weight": weight}).train()(torch.randn(2, 30, 8)).loss)
    assert losses[1].item() == pytest.approx(3 * losses[0].item(), rel=1e-5) and losses[0] > 0


def test_projections_of_residual_layers_telescope():
    quantizer = trained("ResidualVQ", BOOK | DEPTH | {"codebook_dim": 4})
    codes = quantizer(torch.randn(1, 20, 8)).codes
    vectors, module = quantizer.embed(codes), quantizer.module
    for depth in (1, 2, 3):
        short = codes.masked_fill(torch.arange(3) >= depth, -1)
        assert torch.allclose(vectors[:, :, :depth].sum(2), module.get_output_from_indices(short), atol=1e-6)
    assert module.project_out.bias.abs().min() > 0, "the bias is the first layer's"


def test_groups_go_layer_by_layer_each_in_its_own_dimensions():
    quantizer = trained("GroupedResidualVQ", BOOK | DEPTH | {"groups": 4})
    latents = torch.randn(2, 50, 8)
    out = quantizer(latents)
    indices = quantizer.module(latents)[1]  # [groups, B, N, Q]
    assert torch.equal(out.codes[..., 4:8], indices[..., 1].permute(1, 2, 0)), "the second layer of every group"
    vectors = quantizer.embed(out.codes)
    for number in range(12):
        group = number % 4
        wide = vectors[:, :, number].abs().amax((0, 1)).nonzero().flatten().tolist()
        assert wide == [2 * group, 2 * group + 1]
    coarse, fine = vectors[:, :, :4].square().mean(), vectors[:, :, 8:].square().mean()
    assert coarse > fine, "coarsest first"


@every_case
def test_training_continues_exactly_after_loading(kind, arguments, layers, tmp_path):
    one = trained(kind, arguments)
    write_tensors(tmp_path / "half.safetensors", one.state_dict())
    two = External(8, kind, arguments)
    two.load_state_dict(read_tensors(tmp_path / "half.safetensors")[0])
    for quantizer in (one.train(), two.train()):
        optimizer = torch.optim.SGD([p for p in quantizer.parameters() if p.requires_grad] or [torch.zeros(1)], 0.01)
        for seed in (5, 6):
            train_step(quantizer, optimizer, seed)
    latents = torch.randn(2, 30, 8)
    assert torch.equal(one.eval()(latents).codes, two.eval()(latents).codes)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("kind", ["FSQ", "LFQ", "VectorQuantize", "ResidualSimVQ"])
def test_quantization_is_in_full_precision_under_autocast(kind):
    quantizer, latents = trained(kind, {}), torch.randn(2, 60, 8)
    with torch.no_grad():
        full = quantizer(latents)
        with torch.autocast("cpu", torch.bfloat16):
            half = quantizer(latents)
        rough = quantizer(latents.bfloat16())
    assert torch.equal(full.codes, half.codes) and torch.equal(full.latents, half.latents)
    assert rough.latents.dtype == torch.bfloat16
    assert torch.equal(rough.codes, quantizer(latents.bfloat16().float()).codes)


def test_building_one_changes_no_random_numbers_and_starts_no_codebook():
    torch.manual_seed(0)
    library.VectorQuantize(dim=8, codebook_size=16, kmeans_init=True)
    plain = torch.randn(1)
    torch.manual_seed(0)
    quantizer = External(8, "VectorQuantize", BOOK | {"kmeans_init": True})
    assert torch.equal(torch.randn(1), plain)
    assert not quantizer.module._codebook.initted
    assert quantizer.training


def test_evaluation_starts_no_codebook():
    quantizer, latents = External(8, "ResidualVQ", BOOK | DEPTH | {"kmeans_init": True}), torch.randn(2, 40, 8)
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    out = quantizer.eval()(latents)
    assert torch.equal(out.codes, quantizer(latents).codes)
    assert all(torch.equal(state[name], value) for name, value in quantizer.state_dict().items())
    quantizer.train()(latents)
    assert all(layer._codebook.initted for layer in quantizer.module.layers)


def test_the_defaults_are_finite_scalars():
    quantizer = External(8)
    assert isinstance(quantizer.module, library.FSQ)
    assert (quantizer.codebook_size, quantizer.num_layers, quantizer.dim) == (1000, 1, 8)
    assert not quantizer.straight_through


def test_a_recipe_may_name_one():
    spec = mm.Spec("external", kind="ResidualLFQ", arguments={"codebook_size": 16, "num_quantizers": 2})
    recipe = mm.preset("tiny").but({"tokenizer.quantizer": spec})
    assert mm.Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    body = mm.Model.build(recipe).generator.body
    assert body.num_layers == 2 and body.codebook_size == 16


def test_an_unknown_kind_lists_those_that_work():
    with pytest.raises(ValueError, match="no quantizer 'FSK' that works here; choose one of FSQ") as error:
        External(8, "FSK")
    assert all(kind in str(error.value) for kind in KINDS)
    assert not set(KINDS) & set(REFUSED)


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_without_a_way_back_are_refused_with_the_reason(kind):
    assert hasattr(library, kind)
    with pytest.raises(ValueError, match=f"{kind} is no quantizer of ours: {re.escape(REFUSED[kind])}"):
        External(8, kind)


@pytest.mark.parametrize(
    ("kind", "arguments", "reason"),
    [
        ("FSQ", {"lvls": [3, 3]}, "does not take .*'lvls'"),
        ("FSQ", {"levels": [2, 2]}, "does not take .*preserve_symmetry"),
        ("GroupedResidualVQ", {"groups": 3}, "does not take .*assertion"),
        ("FSQ", {"channel_first": True}, "cannot be used on 8 dimensions"),
        ("FSQ", {"return_indices": False}, "cannot be used on 8 dimensions"),
        ("FSQ", {"dim": 9, "channel_first": True}, r"latents \[2, 9, 8\] became \[2, 9, 8\], codes \[2, 8, 1\]"),
        ("VectorQuantize", {"accept_image_fmap": True}, "cannot be used on 8 dimensions"),
        ("VectorQuantize", {"affine_param": True}, "not deterministic"),
        ("ResidualVQ", {"diveq": True}, "not deterministic"),
        ("ResidualLFQ", {"spherical": True}, "do not give its latents back"),
        ("ResidualFSQ", {"levels": [5, 5], "orthogonal_rotation": True}, "do not give its latents back"),
    ],
)
def test_arguments_that_break_the_interface_are_refused(kind, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        External(8, kind, arguments)


def test_codes_outside_the_codebook_are_refused():
    for wrong in (1000, -2):
        with pytest.raises(IndexError, match=r"from -1 \(dropped\) to 999"):
            External(8).embed(torch.full((1, 1, 1), wrong))


def test_the_library_is_imported_when_it_is_needed():
    code = """
import sys
import maskmotion.quantizers, maskmotion.builtin
assert "vector_quantize_pytorch" not in sys.modules
sys.modules["vector_quantize_pytorch"] = None  # as if it were not installed
maskmotion.quantizers.External(8)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "ImportError: the quantizer 'external' needs vector-quantize-pytorch: pip install maskmotion[vq]"
    )
