"""Official files become a folder of ours: the same codes and motion, nothing lost, nothing run, all or nothing."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from official_files import (
    LAYERS,
    SIZES,
    emage_shapes,
    other_weights,
    random_weights,
    rvq_shapes,
    write_bin,
    write_emage_folder,
    write_plain_bin,
    write_safetensors,
)

import maskmotion as mm
from maskmotion.evaluation.features import load_extractor
from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor
from maskmotion.motion.layout import SMPLX
from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training import convert as module
from maskmotion.training import official
from maskmotion.training.checkpoint import read_tensors
from maskmotion.training.conversion_source import sha256
from maskmotion.training.convert import ConvertError, convert
from maskmotion.training.official import OTHERS, other_network
from maskmotion.training.official_extractor import EXTRACTOR, extractor_names, extractor_tables
from maskmotion.training.stages import take_tokenizers

WIDTH, CODES, BOOKS = 8, 5, 3
DOCS = Path(__file__).parents[1] / "docs" / "convert.md"


def emage(part, seed=0):
    return random_weights(emage_shapes(part, WIDTH, CODES), seed)


def rvq(part, seed=0):
    return random_weights(rvq_shapes(part, WIDTH, CODES, BOOKS), seed)


def every(make):
    return {part: make(part, seed) for seed, part in enumerate(SIZES)}


def write_2024(folder, weights, **beside):
    """A folder of the 2024 scripts, under names that say nothing."""
    for number, tensors in enumerate(weights.values()):
        write_bin(folder / f"best_{number}.bin", tensors, **beside)
    return folder


def converted(source, tmp_path):
    report = convert(source, tmp_path / "converted")
    return Tokenizers.from_pretrained(tmp_path / "converted"), report


def conv(weights, name, x, **how):
    return F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how)


def leaky_block(weights, name, x):
    return x + conv(weights, f"{name}.2", F.leaky_relu(conv(weights, f"{name}.0", x, padding=1), 0.2), padding=1)


def emage_encode(weights, x, layers):
    x = x.mT
    for layer in range(layers):
        x = F.leaky_relu(conv(weights, f"encoder.main.{3 * layer}", x, padding=1), 0.2)
        x = leaky_block(weights, f"encoder.main.{3 * layer + 2}.model", x)
    return x.mT


def emage_decode(weights, x, layers):
    x = x.mT
    for block in range(2):
        x = leaky_block(weights, f"decoder.main.{block}.model", x)
    for layer in range(layers):
        x = F.leaky_relu(conv(weights, f"decoder.main.{2 + 2 * layer}", x, padding=1), 0.2)
    return conv(weights, f"decoder.main.{2 + 2 * layers}", x, padding=1).mT


def relu_stack(weights, name, x):
    for block, dilation in enumerate((9, 3, 1)):
        y = conv(weights, f"{name}.{block}.conv1", F.relu(x), padding=dilation, dilation=dilation)
        x = x + conv(weights, f"{name}.{block}.conv2", F.relu(y))
    return x


def rvq_encode(weights, x):
    x = F.relu(conv(weights, "encoder.model.0", x.mT, padding=1))
    for stage in (2, 3):
        x = conv(weights, f"encoder.model.{stage}.0", x, stride=2, padding=1)
        x = relu_stack(weights, f"encoder.model.{stage}.1.model", x)
    return conv(weights, "encoder.model.4", x, padding=1).mT


def rvq_decode(weights, x):
    x = F.relu(conv(weights, "decoder.model.0", x.mT, padding=1))
    for stage in (2, 3):
        x = relu_stack(weights, f"decoder.model.{stage}.0.model", x)
        x = conv(weights, f"decoder.model.{stage}.2", F.interpolate(x, scale_factor=2), padding=1)
    x = F.relu(conv(weights, "decoder.model.4", x, padding=1))
    return conv(weights, "decoder.model.6", x, padding=1).mT


def nearest(tables, latents):
    """Codes of residual layers, and the sum of their vectors."""
    codes, left = [], latents
    for table in tables:
        index = (left[..., None, :] - table).square().sum(-1).argmin(-1)
        codes.append(index)
        left = left - table[index]
    return torch.stack(codes, -1), latents - left


WRITERS = {
    "hub, safetensors": lambda folder, weights: write_emage_folder(folder, weights, write_safetensors),
    "hub, bin": lambda folder, weights: write_emage_folder(folder, weights, write_plain_bin),
    "2024": write_2024,
}


@pytest.mark.parametrize("layout", WRITERS)
@torch.no_grad()
def test_emages_tokenizers_give_the_codes_and_the_motion_that_their_weights_demand(layout, tmp_path):
    weights = every(emage) | {"global": emage("global", 9)}
    source = WRITERS[layout](tmp_path / "official", weights)
    tokenizers, report = converted(source / "emage_vq" if layout == "hub, bin" else source, tmp_path)
    assert tokenizers.body.parts == SMPLX.parts
    motion = torch.randn(2, 12, 437)
    codes = tokenizers.body.tokenize(motion)
    back = SMPLX.split(tokenizers.body.detokenize(codes))
    for part, columns in SMPLX.split(motion).items():
        latents = emage_encode(weights[part], columns, LAYERS[part])
        expected, vectors = nearest([weights[part]["quantizer.embedding.weight"]], latents)
        assert torch.equal(codes[part], expected)
        assert torch.allclose(back[part], emage_decode(weights[part], vectors, LAYERS[part]), atol=1e-5)
    lower = SMPLX.split(motion)["lower"].clone()
    lower[..., 54:57] = 0
    out = emage_decode(weights["global"], emage_encode(weights["global"], lower, 4), 4)
    assert torch.allclose(tokenizers.root.predict(motion), out[..., 54:57], atol=1e-5)
    assert len(report.files) == 5


@torch.no_grad()
def test_rvq_tokenizers_give_the_codes_and_the_motion_that_their_weights_demand(tmp_path):
    weights = every(rvq)
    tokenizers, _ = converted(write_2024(tmp_path / "official", weights | {"root": emage("global", 9)}), tmp_path)
    motion = torch.randn(2, 16, 437)
    codes = tokenizers.body.tokenize(motion)
    back = SMPLX.split(tokenizers.body.detokenize(codes))
    for part, columns in SMPLX.split(motion).items():
        tables = [weights[part][f"quantizer.layers.{book}.codebook"] for book in range(BOOKS)]
        expected, vectors = nearest(tables, rvq_encode(weights[part], columns))
        assert torch.equal(codes[part], expected)
        assert torch.allclose(back[part], rvq_decode(weights[part], vectors), atol=1e-5)


def test_every_tensor_of_the_tokenizers_comes_from_a_file(tmp_path):
    """Two conversions of different weights differ everywhere but in statistics, which no release has."""
    one, _ = converted(
        write_2024(tmp_path / "one", {p: rvq(p, 1) for p in SIZES} | {"root": emage("global", 1)}), tmp_path
    )
    (tmp_path / "converted").rename(tmp_path / "first")
    two, _ = converted(
        write_2024(tmp_path / "two", {p: rvq(p, 2) for p in SIZES} | {"root": emage("global", 2)}), tmp_path
    )
    same = {
        name.split(".")[-1] for name, value in one.state_dict().items() if torch.equal(value, two.state_dict()[name])
    }
    assert same == {"mean", "scale", "counts", "started"}


def test_the_plan_says_how_the_release_trained(tmp_path):
    plan = converted(write_2024(tmp_path / "emage", every(emage) | {"root": emage("global")}), tmp_path)[0].plan
    assert plan.body.parts == "four"
    assert plan.tokenizer.network.arguments == {"layers": 2}
    assert plan.tokenizer.by_part == {"face": {"difference": "l2"}, "lower": {"network.layers": 4}}
    assert plan.tokenizer.quantizer.arguments["learning"] == "gradient"
    assert plan.tokenizer.quantizer.arguments["revive_below"] == 0
    assert plan.tokenizer.quantizer.arguments["commitment"] == 1
    assert not plan.tokenizer.normalise
    assert (plan.root.network, plan.root.width, plan.root.layers, plan.root.velocity) == ("plain", WIDTH, 4, "central")
    assert plan.root.losses["velocity_change"] == 5
    convert(write_2024(tmp_path / "rvq", every(rvq)), tmp_path / "other")
    plan = Tokenizers.from_pretrained(tmp_path / "other").plan
    assert plan.tokenizer.network.arguments == {"downsample": 4, "dilations": (9, 3, 1), "dropout": 0.2}
    arguments = plan.tokenizer.quantizer.arguments
    assert (arguments["num_layers"], arguments["codebook_size"], arguments["temperature"]) == (BOOKS, CODES, 0.5)
    assert (arguments["commitment"], arguments["quantizer_dropout"]) == (1, 0)
    assert plan.tokenizer.by_part == {}
    assert plan.root is None


def test_the_hub_layout_tells_the_weight_of_the_commitment(tmp_path):
    source = write_emage_folder(tmp_path / "official", every(emage))
    for part, weight in (("face", 1.0), ("upper", 0.25), ("hands", 0.25), ("lower", 0.25)):
        config = source / "emage_vq" / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"vae_quantizer_lambda": weight}))
    plan = converted(source, tmp_path)[0].plan
    assert plan.tokenizer.for_part("face").quantizer.arguments["commitment"] == 1
    assert plan.tokenizer.for_part("hands").quantizer.arguments["commitment"] == 0.25


@pytest.mark.parametrize("make", [emage, rvq])
def test_training_goes_on_from_the_official_codes(make, tmp_path):
    """No release saves what its codebooks have counted: that is set so that they neither start anew nor jump."""
    torch.manual_seed(0)
    tokenizers, _ = converted(write_2024(tmp_path / "official", every(make)), tmp_path)
    body = tokenizers.body.train()
    books = [book for part in body.parts for book in body[part].quantizer.codebooks]
    before = [book.codes.clone() for book in books]
    for book in books:
        assert book.started and (book.counts == 1).all()
        assert make is emage or torch.equal(book.sums, book.codes)
        book.revive_below = 0.0
    motion = torch.randn(2, 16, 437)
    sum(loss for part, x in SMPLX.split(motion).items() for loss in body[part](x).values()).backward()
    moved = [(book.codes - old).abs().max() for book, old in zip(books, before)]
    assert all(move < 0.2 for move in moved)
    assert (sum(moved) == 0) == (make is emage), "EMAGE's are moved by the optimizer alone"
    assert all(p.grad is not None for p in body.parameters())


def test_a_recipe_takes_converted_tokenizers_over(tmp_path, quick_recipe):
    weights = every(rvq) | {"root": emage("global")}
    tokenizers, _ = converted(write_2024(tmp_path / "official", weights), tmp_path)
    model = mm.Model.build(quick_recipe.but(tokenizers.plan.changes()))
    take_tokenizers(model, tmp_path / "converted")
    ours = model.body.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in tokenizers.body.state_dict().items())


@pytest.mark.parametrize("part", SIZES)
def test_a_single_file_is_a_body_of_one_part(part, tmp_path):
    tokenizers, report = converted(write_bin(tmp_path / "x.bin", rvq(part)), tmp_path)
    assert tokenizers.body.parts == (part,)
    assert tokenizers.body.layout.columns[part] == SMPLX.columns[part]
    assert tokenizers.root is None
    absent = ", ".join(other for other in SIZES if other != part)
    assert f"no file holds {absent}: these tokenizers leave it at rest" in report.notes


def test_a_global_motion_predictor_alone_is_no_set_of_tokenizers(tmp_path):
    with pytest.raises(ConvertError, match="global motion predictor alone.*put it beside the tokenizers"):
        convert(write_bin(tmp_path / "x.bin", emage("global")), tmp_path / "converted")


@pytest.mark.parametrize("network", [one for one in OTHERS if one.file != EXTRACTOR], ids=lambda network: network.file)
def test_other_networks_are_kept_under_their_own_names(network, tmp_path):
    weights = other_weights(network)
    assert other_network(weights) is network, "the marks of another one come first"
    write_bin(tmp_path / "official" / "main.bin", weights)
    write_bin(tmp_path / "official" / "upper.bin", rvq("upper"))
    tokenizers, report = converted(tmp_path / "official", tmp_path)
    assert tokenizers.body.parts == ("upper",)
    kept, about = read_tensors(tmp_path / "converted" / f"{network.file}.safetensors")
    (told,) = [file for file in report.files if file.kept_in]
    assert set(kept) | set(told.ignored) == set(weights)
    assert len(told.ignored) == len(network.dead)
    assert all(torch.equal(value, weights[name]) for name, value in kept.items())
    assert about["licence"] == told.licence and about["sha256"] == told.sha256
    text = report.render()
    why = "a model needs the tokenizers of all its parts and its global motion predictor beside it"
    why = why if network.beside else "no network of this version reads it"
    assert f"kept under its own names in {network.file}.safetensors, {why}" in text
    for name in told.ignored:
        assert name.split(".")[0] in text


def official_extractor(seed=0):
    """The FGD extractor's tensors by official name, tables of bones as its network has them."""
    torch.manual_seed(seed)
    built = SkeletonExtractor()
    state = built.state_dict()
    tensors = {theirs: state[ours].clone() for theirs, ours in extractor_names().items()} | extractor_tables(built)
    dead = {f"{name}.{kind}": torch.zeros(240) for name in ("fc_mu", "fc_logvar") for kind in ("weight", "bias")}
    return built.eval(), {name: value.clone() for name, value in (tensors | dead).items()}


def test_the_fgd_extractor_becomes_one_that_evaluation_reads(tmp_path, monkeypatch):
    built, tensors = official_extractor()
    file = write_bin(tmp_path / "AESKConv_240_100.bin", tensors)
    monkeypatch.setitem(official.KNOWN, sha256(file), ("AESKConv_240_100.bin", official.EMAGE_2024))
    report = convert(file, tmp_path / "converted")
    found = load_extractor(tmp_path / "converted")
    motion = SMPLX.rest.repeat(70, 1) + 0.1 * torch.randn(70, 437)
    assert torch.equal(found.features([motion]), built.features([motion]))
    assert (found.about["name"], found.about["sha256"]) == ("AESKConv_240_100.bin", sha256(file))
    assert sorted(path.name for path in (tmp_path / "converted").iterdir()) == [
        "extractor.json",
        "extractor.safetensors",
    ]
    (told,) = report.files
    assert set(told.mapped) | set(told.ignored) == set(tensors) and len(told.ignored) == 4
    assert any(f"evaluate --extractor {tmp_path / 'converted'}" in note for note in report.notes)
    assert "nothing of this version loads it" not in report.render()


def test_the_fgd_extractor_may_lie_beside_tokenizers(tmp_path):
    write_bin(tmp_path / "official" / "a.bin", official_extractor()[1])
    write_bin(tmp_path / "official" / "b.bin", rvq("upper"))
    tokenizers, _ = converted(tmp_path / "official", tmp_path)
    assert tokenizers.body.parts == ("upper",)
    assert load_extractor(tmp_path / "converted").about["name"] == "a.bin, not the published file"
    write_bin(tmp_path / "official" / "c.bin", official_extractor(1)[1])
    with pytest.raises(ConvertError, match="2 files hold an FGD extractor: a.bin, c.bin"):
        convert(tmp_path / "official", tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder.layers.0.0.residual.0.mask": None, "x": torch.zeros(2)},
            "missing: encoder.layers.0.0.residual.0.mask",
        ),
        (
            {"decoder.main.14.bias": torch.zeros(3)},
            r"decoder.main.14.bias is \(3,\) torch.float32, needed \(330,\) floats",
        ),
        ({"encoder.layers.1.0.common.0.weight": torch.ones(120, 210)}, "says other bones than SMPL-X's skeleton"),
        ({"encoder.layers.0.0.shortcut.mask": torch.ones(330, 330, 1)}, "says other bones than SMPL-X's skeleton"),
    ],
)
def test_an_fgd_extractor_of_another_shape_or_skeleton_is_refused(change, message, tmp_path):
    tensors = official_extractor()[1] | change
    path = write_bin(tmp_path / "x.bin", {name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(ConvertError, match=message):
        convert(path, tmp_path / "converted")


def test_several_networks_of_a_kind_are_counted(tmp_path):
    for name in ("a", "b"):
        write_bin(
            tmp_path / "official" / f"{name}.bin", {k: v + ord(name) for k, v in other_weights(OTHERS[0]).items()}
        )
    report = convert(tmp_path / "official", tmp_path / "converted")
    assert [file.kept_in for file in report.files] == ["emage_audio.safetensors", "emage_audio-2.safetensors"]
    assert sorted(path.name for path in (tmp_path / "converted").iterdir()) == [
        "emage_audio-2.safetensors",
        "emage_audio.safetensors",
    ]
    assert any("nothing of this version loads it" in note for note in report.notes)
    first = read_tensors(tmp_path / "converted" / "emage_audio.safetensors")[0]
    second = read_tensors(tmp_path / "converted" / "emage_audio-2.safetensors")[0]
    assert all(torch.equal(first[name] + 1, second[name]) for name in first)


def test_an_incomplete_network_is_not_kept(tmp_path):
    weights = other_weights(OTHERS[1])
    weights.popitem()
    with pytest.raises(ConvertError, match="EchoMask has 2553 tensors, this file 2552"):
        convert(write_bin(tmp_path / "x.bin", weights), tmp_path / "converted")


def refuses(source, tmp_path, *messages):
    """Every message is in the error, and nothing was written."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ConvertError) as caught:
        convert(source, tmp_path / "converted")
    for message in messages:
        assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("make", [emage, rvq])
def test_a_missing_weight_is_named(make, tmp_path):
    for name in make("upper"):
        if name == f"quantizer.layers.{BOOKS - 1}.codebook":
            continue  # what is left is a whole tokenizer of one layer less; see below
        left = {other: value for other, value in make("upper").items() if other != name}
        with pytest.raises(ConvertError) as caught:
            convert(write_bin(tmp_path / "x.bin", left), tmp_path / "converted")
        assert name in str(caught.value), "every one of them"
        assert "missing" in str(caught.value) or "unknown" in str(caught.value)
    assert not (tmp_path / "converted").exists()


def test_a_last_codebook_is_missed(tmp_path):
    source = write_2024(tmp_path / "official", every(rvq))
    _, report = converted(source, tmp_path)
    assert f"best_1.bin has {BOOKS} residual layers, the releases have 6" in report.notes
    left = {name: value for name, value in rvq("face").items() if f".{BOOKS - 1}.codebook" not in name}
    write_bin(source / "best_0.bin", left)
    with pytest.raises(ConvertError, match="need the same kind, width and codes, got best_0.bin: face.* 2 x 5 codes"):
        convert(source, tmp_path / "again")
    six = random_weights(rvq_shapes("face", WIDTH, CODES, 6))
    assert not any(
        "residual layers" in note for note in convert(write_bin(tmp_path / "x.bin", six), tmp_path / "six").notes
    )


def test_unknown_weights_are_named(tmp_path):
    weights = emage("face") | {"decoder.main.17.weight": torch.zeros(3), "odd": torch.zeros(1)}
    refuses(write_bin(tmp_path / "x.bin", weights), tmp_path, "unknown: decoder.main.17.weight, odd")


def test_all_problems_of_all_files_are_told_at_once(tmp_path):
    weights = every(emage)
    del weights["upper"]["encoder.main.0.bias"]
    weights["hands"]["odd"] = torch.zeros(1)
    refuses(
        write_2024(tmp_path / "official", weights),
        tmp_path,
        "best_1.bin (upper: EMAGE's VQ-VAE, 2 layers, width 8, 5 codes): missing: encoder.main.0.bias",
        "best_2.bin (hands: EMAGE's VQ-VAE, 2 layers, width 8, 5 codes): unknown: odd",
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "decoder.main.0.model.0.weight",
            torch.zeros(8, 8, 5),
            "decoder.main.0.model.0.weight is (8, 8, 5) torch.float32, needed (8, 8, 3)",
        ),
        ("encoder.main.3.bias", torch.zeros(8, dtype=torch.int64), "(8,) torch.int64, needed (8,) torch.float32"),
        ("quantizer.embedding.weight", torch.zeros(5, 9), "(5, 9) torch.float32, needed (5, 8)"),
        ("encoder.main.0.weight", torch.zeros(8, 77, 3), "77 motion columns, which no part has (face 106, upper 78"),
        ("encoder.main.0.weight", torch.zeros(8), "encoder.main.0.weight is (8,), which is no convolution"),
    ],
)
def test_a_weight_of_another_shape_is_told(name, value, message, tmp_path):
    refuses(write_bin(tmp_path / "x.bin", emage("upper") | {name: value}), tmp_path, "x.bin", message)


def test_half_precision_weights_are_taken(tmp_path):
    weights = {name: value.half() for name, value in emage("upper").items()}
    tokenizers, _ = converted(write_bin(tmp_path / "x.bin", weights), tmp_path)
    codes = tokenizers.body["upper"].quantizer.codebooks[0].codes
    assert torch.equal(codes, weights["quantizer.embedding.weight"].float())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": emage("upper"), "b": emage("upper", 1)}, "2 files hold upper: a.bin, b.bin"),
        ({"a": emage("upper"), "b": rvq("face")}, "the parts of one body need the same kind, width and codes"),
        ({"a": rvq("upper"), "b": random_weights(rvq_shapes("face", 8, 6, 3))}, "need the same kind, width and codes"),
        (
            {"a": {"some.weight": torch.zeros(2)}},
            "a.bin is no network of EMAGE, SemTalk or EchoMask that is known here",
        ),
        ({}, "holds no .bin and no .safetensors file to convert"),
    ],
)
def test_files_that_make_no_set_are_refused(files, message, tmp_path):
    (tmp_path / "official").mkdir()
    for name, weights in files.items():
        write_bin(tmp_path / "official" / f"{name}.bin", weights)
    refuses(tmp_path / "official", tmp_path, message)


def test_the_hub_layout_must_not_contradict_its_weights(tmp_path):
    source = write_emage_folder(tmp_path / "official", every(emage))
    config = source / "emage_vq" / "face" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vae_layer": 4, "vae_codebook_size": 256}))
    (source / "emage_vq" / "hands").rename(source / "other")
    (source / "emage_vq" / "upper").rename(source / "emage_vq" / "hands")
    refuses(
        source,
        tmp_path,
        "config.json says vae_layer 4, the weights 2",
        "config.json says vae_codebook_size 256, the weights 5",
        "it lies in the folder of 'hands', but its weights are those of 'upper'",
    )


def test_a_lower_body_that_lost_its_codes_is_no_global_motion_predictor(tmp_path):
    weights = emage("lower")
    source = write_emage_folder(tmp_path / "official", {"upper": emage("upper"), "lower": weights})
    del weights["quantizer.embedding.weight"]
    write_safetensors(source / "emage_vq" / "lower" / "model.safetensors", weights)
    refuses(source, tmp_path, "model_type 'emage_vqvaeconv', the weights 'emage_vaeconv'")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["beside the weights", "instead of the weights", "a bare pickle"])
def test_code_in_a_file_is_never_run(kind, tmp_path):
    source, trap = tmp_path / "official.bin", tmp_path / "trap"
    if kind == "a bare pickle":
        source.write_bytes(pickle.dumps(Bomb(trap)))
    elif kind == "beside the weights":
        write_bin(source, emage("upper"), extra=Bomb(trap))
    else:
        torch.save(Bomb(trap), source)
    refuses(source, tmp_path, "official.bin holds more than weights, or is damaged, and was not opened")
    assert not trap.exists()
    with open(source, "rb") as file:
        torch.load(file, weights_only=False) if kind != "a bare pickle" else pickle.load(file)
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("damage", [b"", b"text", None])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_damaged_file_is_told(damage, suffix, tmp_path):
    source = tmp_path / f"x{suffix}"
    (write_bin if suffix == ".bin" else write_safetensors)(source, emage("upper"))
    source.write_bytes(source.read_bytes()[:-300] if damage is None else damage)
    refuses(source, tmp_path, f"x{suffix}", "get it again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"model_state": {}}, "holds no state dict"),
        ({"weight": torch.zeros(1), "epoch": 3}, "these entries are no tensors: epoch"),
    ],
)
def test_what_is_no_state_dict_is_told(content, message, tmp_path):
    torch.save(content, tmp_path / "x.bin")
    refuses(tmp_path / "x.bin", tmp_path, message)


def test_what_lies_beside_the_weights_is_told(tmp_path):
    _, report = converted(write_bin(tmp_path / "x.bin", emage("upper"), epoch=3, seed=1), tmp_path)
    assert "not weights, left out: epoch, seed" in report.render()


def test_a_vocabulary_is_copied_and_its_pickle_never_opened(tmp_path, monkeypatch):
    source = write_2024(tmp_path / "official", every(rvq))
    (source / "weights").mkdir()
    (source / "weights" / "vocab.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "trap")))
    words = {"words": ["<PAD>", "<SOS>", "<EOS>", "<UNK>", "", "naïve"]}
    (source / "weights" / "vocab.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    real = open

    def guarded(file, *rest, **more):
        assert not str(file).endswith(".pkl"), "opened"
        return real(file, *rest, **more)

    monkeypatch.setattr("builtins.open", guarded)
    monkeypatch.setattr("io.open", guarded)
    report = convert(source, tmp_path / "converted")
    assert json.loads((tmp_path / "converted" / "vocab.json").read_text(encoding="utf-8")) == words
    assert any("vocab.pkl is a pickled object" in note and "docs/convert.md" in note for note in report.notes)
    with pytest.raises(ConvertError, match="docs/convert.md has the lines"):
        convert(source / "weights" / "vocab.pkl", tmp_path / "other")
    assert not (tmp_path / "trap").exists()


def test_a_vocabulary_that_is_none_stops_the_conversion(tmp_path):
    source = write_2024(tmp_path / "official", every(rvq))
    (source / "vocab.json").write_text('{"words": ["a"]}')
    refuses(source, tmp_path, "vocab.json: a vocabulary begins with <PAD>, <SOS>, <EOS>, <UNK>")
    (source / "vocab.json").unlink()
    for place in ("a", "b"):
        (source / place).mkdir()
        (source / place / "vocab.json").write_text('{"words": ["<PAD>", "<SOS>", "<EOS>", "<UNK>"]}')
    refuses(source, tmp_path, "one vocab.json at most")


def test_the_lines_of_the_docs_write_a_vocabulary(tmp_path, monkeypatch):
    """Run on an object with the attributes of the official one, which has no entries for the special words."""
    (code,) = [part.split("```")[0] for part in DOCS.read_text().split("```py\n")[1:]]

    class Vocab:
        word2index = {"hello": 4, "": 6, "world": 5}  # noqa: RUF012

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickle, "load", lambda file: Vocab)
    Path("vocab.pkl").write_bytes(b"")
    exec(compile(code, "docs/convert.md", "exec"), {})
    assert mm.data.vocabulary.Vocabulary.read("vocab.json").words[3:] == ("<UNK>", "hello", "world", "")


def test_a_target_that_exists_is_left_alone(tmp_path):
    source = write_2024(tmp_path / "official", every(rvq))
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "mine.txt").write_text("mine")
    refuses(source, tmp_path, "exists already")
    assert [path.name for path in (tmp_path / "converted").iterdir()] == ["mine.txt"]


def test_a_crash_while_writing_leaves_nothing(tmp_path, monkeypatch):
    source = write_2024(tmp_path / "official", every(rvq) | {"main": other_weights(OTHERS[0])})

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_tensors", crash)
    with pytest.raises(OSError, match="disk full"):
        convert(source, tmp_path / "new" / "converted")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_converted_folder_is_not_converted_again(tmp_path):
    source = write_2024(tmp_path / "official", every(rvq))
    convert(source, source / "converted")
    convert(source, tmp_path / "again")  # what lies below is ours and left out
    refuses(source / "converted", tmp_path, "holds no .bin and no .safetensors file")


def test_the_same_weights_twice_are_read_once_and_other_files_are_mentioned(tmp_path):
    source = write_emage_folder(tmp_path / "official", every(emage))
    (source / "emage_vq" / "upper" / "pytorch_model.bin").write_bytes(b"never read")
    (source / ".cache").mkdir()
    (source / ".cache" / "x.bin").write_bytes(b"never read")
    for name in ("a.npz", "b.npy", *(f"c{number}.mp4" for number in range(6))):
        (source / name).write_bytes(b"")
    report = convert(source, tmp_path / "converted")
    assert (
        "emage_vq/upper/pytorch_model.bin is not read: model.safetensors beside it holds the same weights"
        in report.notes
    )
    assert "not read: a.npz, b.npy, c0.mp4, c1.mp4, c2.mp4, c3.mp4 and 2 more" in report.notes


def test_the_report_names_known_files_and_licences(tmp_path, monkeypatch):
    source = write_2024(tmp_path / "official", {"upper": emage("upper"), "root": emage("global")})
    known = sha256(source / "best_1.bin")
    monkeypatch.setitem(official.KNOWN, known, ("last_1700_foot.bin", official.EMAGE_2024))
    tokenizers, report = converted(source, tmp_path)
    text = report.render()
    assert f"sha256 {known}: last_1700_foot.bin" in text
    assert f"sha256 {sha256(source / 'best_0.bin')}: unknown file" in text
    assert "licence: CC BY-NC 4.0" in text
    assert "mapped: 27 (encoder 12, quantizer 1, decoder 14)" in text
    assert "the global motion predictor: 4 layers, width 8" in text
    origin = tokenizers.plan.origin
    assert [file["name"] for file in origin["files"]] == [None, "last_1700_foot.bin"]
    assert all("if that is where it is from" in file["licence"] for file in origin["files"] if file["name"] is None)


def test_known_files_are_those_of_the_documentation():
    text = DOCS.read_text()
    for digest, (name, _) in official.KNOWN.items():
        assert f"| `{name}` | `{digest}` |" in text


def test_a_hub_id_is_downloaded_without_what_is_not_needed(tmp_path, monkeypatch):
    source = write_emage_folder(tmp_path / "snapshot", every(emage))
    asked = {}

    def download(name, **how):
        asked.update(name=name, **how)
        return str(source)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    report = convert("someone/emage", tmp_path / "converted")
    assert asked == {"name": "someone/emage", "allow_patterns": ["*.json", "*.bin", "*.safetensors"]}
    assert report.origin["source"] == "someone/emage"
    assert Tokenizers.from_pretrained(tmp_path / "converted").plan.origin == report.origin


def test_a_source_that_is_nowhere(tmp_path, monkeypatch):
    def download(name, **how):
        raise RuntimeError("404")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(FileNotFoundError, match="no file or folder nowhere; give one, or a hub id as OWNER/NAME"):
        convert("nowhere", tmp_path / "converted")
    with pytest.raises(FileNotFoundError, match=r"the hub did not give it \(RuntimeError: 404\)"):
        convert("someone/nothing", tmp_path / "converted")


def test_the_command_prints_the_report_and_tells_problems_in_a_sentence(tmp_path, monkeypatch, capsys):
    from maskmotion.cli import main

    source = write_2024(tmp_path / "official", every(rvq))
    monkeypatch.setattr("sys.argv", ["maskmotion", "convert", str(source), str(tmp_path / "converted")])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (None, 0)
    out = capsys.readouterr().out
    assert "RVQ-VAE of EchoMask and SemTalk" in out and f"Written: {tmp_path / 'converted'}" in out
    with pytest.raises(SystemExit) as failed:
        main()
    assert failed.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'converted'} exists already")
