"""EMAGE's tokenizers, its container of them and their losses, number by number, on converted weights."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import arrays, emage_cases, present, present_file
from official_files import LAYERS, SIZES, emage_shapes
from recipe import emage_vq_weights, emage_weights

from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import axis_angle_to_6d, matrix_from_6d, matrix_to_6d
from maskmotion.tokenizers.root import RootPredictor, integrate
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS, central_velocity
from maskmotion.types import Batch

LATENT, DECODED, ROTATED, LOSS = 1e-4, 1e-5, 1e-3, 1e-5
PARTS = tuple(SIZES)
PARAMETERS = {"face": 2231168, "upper": 2172648, "hands": 2408472, "lower": 3714325, "global": 3648789}

VQ_INPUTS = ("x", "rand_index", "rand_latent")
VQ_OUTPUTS = (
    *("z_enc", "rec_pose", "index", "z_q", "embedding_loss", "perplexity"),
    *("decode_rand_index", "decode_from_latent"),
)
VQ = (
    *(f"{part}.{name}" for part in PARTS for name in (*VQ_INPUTS, *VQ_OUTPUTS)),
    *("global.x", "global.z_enc", "global.rec_pose"),
)


def network(tokenizers, part):
    return tokenizers.root.plain if part == "global" else tokenizers.body[part].network


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= tolerance


def learning(part_tokenizer):
    """A copy in training mode, where the loss moves the codes as well as the latents."""
    return copy.deepcopy(part_tokenizer).train()


@pytest.mark.parametrize(("size", "array"), emage_cases("vq", VQ))
@torch.no_grad()
def test_parity_of_an_emage_tokenizer(size, array, emage_tokenizers):
    file = f"emage/{size}_vq.npz"
    given = arrays(file)
    expected = present(given, array, file)
    assert array in VQ, f"{file} has an array that is not known"
    part, name = array.split(".")
    tokenizers = emage_tokenizers(size)
    if name in VQ_INPUTS:
        width = {"x": SIZES.get(part, 61), "rand_latent": tokenizers.body.dim, "rand_index": expected.shape[-1]}[name]
        assert expected.shape[-1] == width
        assert name != "rand_index" or 0 <= expected.min() <= expected.max() < tokenizers.body.codebook_size
        return
    latents = network(tokenizers, part).encode(given[f"{part}.x"])
    if name == "z_enc":
        return close(latents, expected, LATENT)
    if part == "global":
        return close(network(tokenizers, part).decode(latents), expected, DECODED)
    one = tokenizers.body[part]
    tokens = one.encode(given[f"{part}.x"])
    if name == "index":
        assert torch.equal(tokens.codes[..., 0], expected)
    elif name == "rec_pose":
        close(one.reconstruct(given[f"{part}.x"])[0], expected, DECODED)
    elif name == "z_q":
        close(tokens.latents, expected, LATENT)
    elif name == "embedding_loss":
        assert learning(one).encode(given[f"{part}.x"]).loss.item() == pytest.approx(expected.item(), rel=LOSS)
    elif name == "perplexity":
        assert tokens.perplexity.item() == pytest.approx(expected.item(), rel=LOSS)
    elif name == "decode_rand_index":
        vectors = one.quantizer.embed(given[f"{part}.rand_index"][..., None])
        close(one.decode(vectors.sum(2)), expected, DECODED)
    else:
        snapped = one.quantizer(given[f"{part}.rand_latent"]).latents
        close(one.decode(snapped), expected, DECODED)


DECODED_AS = ("expression", "all_motion4inference", "motion_axis_angle", "trans")
CONTAINER_INPUTS = ("axis_angle", "expression", "trans", "contact", "ref_trans")
CONTAINER = (
    *(*CONTAINER_INPUTS, "rot6d", *(f"split.{part}" for part in PARTS), *(f"index.{part}" for part in PARTS)),
    *(f"dec.{name}" for name in DECODED_AS),
    *(f"dec_upper_only.{name}" for name in DECODED_AS),
    *("lower_decoded", "global_rec_pose"),
)


def walk(tokenizers, lower, start):
    """The path as the release integrates it: its predictor is fed the lower body as decoded, translation and all."""
    predicted = tokenizers.root.plain.decode(tokenizers.root.plain.encode(lower))
    return integrate(predicted[..., 54:57], 30, start.expand(len(lower), 3))


@pytest.mark.parametrize(("size", "array"), emage_cases("container", CONTAINER))
@torch.no_grad()
def test_parity_of_emages_container(size, array, emage_tokenizers):
    file = f"emage/{size}_container.npz"
    given = arrays(file)
    expected = present(given, array, file)
    assert array in CONTAINER, f"{file} has an array that is not known"
    tokenizers = emage_tokenizers(size)
    body = tokenizers.body
    motion = torch.cat([given[name] for name in ("rot6d", "trans", "contact", "expression")], dim=-1)
    group, _, name = array.partition(".")
    if array in CONTAINER_INPUTS:
        wide = {"axis_angle": 165, "expression": 100, "contact": 4}
        assert expected.shape[-1] == wide.get(array, 3)
    elif array == "rot6d":
        close(axis_angle_to_6d(given["axis_angle"].unflatten(-1, (-1, 3))).flatten(-2), expected, DECODED)
    elif group == "split":
        assert torch.equal(body.layout.split(motion)[name], expected)
    elif group == "index":
        assert torch.equal(body.tokenize(motion)[name][..., 0], expected)
    elif array == "global_rec_pose":
        plain = tokenizers.root.plain
        close(plain.decode(plain.encode(given["lower_decoded"])), expected, DECODED)
    else:
        codes = {
            part: given[f"index.{part}"][..., None] for part in (["upper"] if group == "dec_upper_only" else PARTS)
        }
        decoded = body.detokenize(codes)
        lower = body.layout.split(decoded)["lower"]
        if array == "lower_decoded":
            close(lower, expected, DECODED)
        elif name == "trans":
            close(walk(tokenizers, lower, given["ref_trans"]), expected, DECODED)
        else:
            _same_motion(name, decoded, expected)


def _same_motion(name, decoded, expected):
    """EMAGE turns what it decodes into axis-angle and back, by a route that costs half the digits."""
    rotations = matrix_to_6d(matrix_from_6d(decoded[..., ROTATIONS].unflatten(-1, (-1, 6))))
    if name == "expression":
        close(decoded[..., EXPRESSIONS], expected, DECODED)
    elif name == "motion_axis_angle":
        close(rotations, axis_angle_to_6d(expected.unflatten(-1, (-1, 3))), ROTATED)
    else:
        close(rotations.flatten(-2), expected[..., ROTATIONS], ROTATED)
        close(decoded[..., TRANSLATION.start : CONTACTS.stop], expected[..., TRANSLATION.start :], DECODED)


TOTAL = "total_without_vertex_terms"
OURS = {
    **{"rec": "geodesic", "vel": "rotation_velocity", "acc": "rotation_acceleration", "com": "commitment"},
    **{"face": "expression", "face_vel": "expression_velocity", "face_acc": "expression_acceleration"},
    "contact": "contact",
}
OURS_OF_ROOT = {
    **{"contact": "contact", "trans_vel": "velocity", "v3": "velocity_change", "a3": "velocity_curvature"},
    **{"trans": "position", "v2": "position_change", "a2": "position_curvature"},
}
TERMS = dict.fromkeys(PARTS, ("rec", "vel", "acc", "com"))
TERMS |= {"face": (*TERMS["face"], "face", "face_vel", "face_acc"), "lower": (*TERMS["lower"], "contact")}
ROOT_INPUTS = ("x", "trans", "contact", "tar_vx", "tar_vz", "xyz")
LOSSES = (
    *(f"{part}.x" for part in PARTS),
    *(f"{part}.loss.{term}" for part in PARTS for term in (*TERMS[part], TOTAL)),
    *(f"global.{name}" for name in ROOT_INPUTS),
    *(f"global.loss.{term}" for term in (*OURS_OF_ROOT, TOTAL)),
)


@pytest.mark.parametrize(("size", "array"), emage_cases("vq_losses", LOSSES))
@torch.no_grad()
def test_parity_of_emages_tokenizer_losses(size, array, emage_tokenizers):
    file = f"emage/{size}_vq_losses.npz"
    given = arrays(file)
    expected = present(given, array, file)
    assert array in LOSSES, f"{file} has an array that is not known"
    part, name = array.split(".", 1)
    tokenizers = emage_tokenizers(size)
    if not name.startswith("loss."):
        return _loss_input(name, given, expected, tokenizers) if part == "global" else _width(expected, SIZES[part])
    term = name.removeprefix("loss.")
    if part == "global":
        losses = _root_losses(tokenizers, given)
        found = sum(losses.values()) if term == TOTAL else losses[OURS_OF_ROOT[term]] / ROOT_WEIGHTS[OURS_OF_ROOT[term]]
    else:
        losses = learning(tokenizers.body[part])(given[f"{part}.x"])
        assert set(losses) == {OURS[term] for term in TERMS[part]}, "the plan has the release's terms, and no others"
        found = sum(losses.values()) if term == TOTAL else losses[OURS[term]]
    assert float(found) == pytest.approx(expected.item(), rel=LOSS)


def _root_losses(tokenizers, given):
    """As the release trains its predictor: contacts and translation are zero to the network, and targets all the same."""
    plan = tokenizers.plan.root.model_copy(update={"contacts": False})
    root = RootPredictor(**plan.model_dump())
    root.load_state_dict(tokenizers.root.state_dict())
    motion = tokenizers.body.layout.join({"lower": given["global.x"]})
    motion[..., TRANSLATION], motion[..., CONTACTS] = given["global.trans"], given["global.contact"]
    return root(Batch(motion, torch.ones(motion.shape[:2], dtype=torch.bool)))


def _loss_input(name, given, expected, tokenizers):
    if name == "xyz":
        walked = walk(tokenizers, given["global.x"], given["global.trans"][:, 0])
        return close(walked, expected, DECODED)
    if name in ("tar_vx", "tar_vz"):
        axis = 0 if name == "tar_vx" else 2
        return close(central_velocity(given["global.trans"])[..., axis : axis + 1], expected, DECODED)
    _width(expected, {"x": 61, "trans": 3, "contact": 4}[name])
    return None


def _width(values, width):
    assert values.shape[-1] == width
    assert values.isfinite().all()


@pytest.mark.parametrize("part", LAYERS)
def test_parity_of_the_weight_recipe_with_emages_small_tokenizers(part):
    from safetensors.torch import load_file

    given = load_file(present_file(f"emage/small/emage_vq/{part}/model.safetensors"))
    drawn = emage_vq_weights(emage_shapes(part, width=32, codes=32), f"small/vq/{part}", part)
    for name, value in given.items():
        assert torch.equal(drawn[name], value), name


def test_parity_of_the_weight_recipe_with_emages_small_model():
    from safetensors.torch import load_file

    given = load_file(present_file("emage/small/model.safetensors"))
    drawn = emage_weights({name: tuple(value.shape) for name, value in given.items()}, "small/main", 0.1)
    assert set(given) - set(drawn) == {"position_embeddings.pe"}
    for name, value in drawn.items():
        assert torch.equal(value, given[name].to(value.dtype)), name


@pytest.mark.slow
@pytest.mark.parametrize("part", LAYERS)
def test_parity_of_the_size_of_emages_tokenizers(part, emage_tokenizers):
    """Counted on the release; needs no fixture."""
    tokenizers = emage_tokenizers("full")
    own = tokenizers.root if part == "global" else tokenizers.body[part]
    assert sum(parameter.numel() for parameter in own.parameters()) == PARAMETERS[part]
