"""EMAGE as in the paper: paths, masks, blocks, and the rows of Table 6 as recipe diffs that train."""

from __future__ import annotations

import json

import pytest
import torch

import maskmotion as mm
from maskmotion.generators import Emage
from maskmotion.motion.layout import SMPLX
from maskmotion.nn.content_rhythm import ContentRhythm
from maskmotion.nn.spatial import SpatialEncoder
from maskmotion.testing import example_batch, example_generator

SMALL = {"dim": 32, "spatial": 16, "audio_layers": 1, "face_layers": 1, "dropout": 0.0}
FEW = {
    f"training.{stage}.{field}": value
    for stage in ("tokenizer", "root", "generator")
    for field, value in (("steps", 2), ("batch_size", 6))
}
TABLE_6 = {
    "whole body": {"body.parts": "whole", "tokenizer.by_part": {}},
    "four": {},
    "without CRA": {"generator.cra": False},
    "without masked hints": {"masker": None, "generator.passes": [{"name": "seed", "mask": "seed"}]},
}


@pytest.fixture(scope="module", params=[{}, {"direct": True}], ids=["paper", "direct"])
def network(request) -> Emage:
    torch.manual_seed(0)
    network = example_generator(Emage, **SMALL, **request.param)
    assert isinstance(network, Emage)
    return network


def predict(network, batch, hidden, **options):
    return network.predict(batch.motion, hidden, batch.valid, network.condition(batch), **options)


@pytest.mark.parametrize("row", TABLE_6)
def test_the_rows_of_table_6_are_recipe_diffs_that_train(row, small_corpus, speech_file, tmp_path):
    recipe = mm.preset("emage", "tiny").but(TABLE_6[row] | FEW)
    model = mm.train(recipe, small_corpus, tmp_path / "run")
    clip = mm.Model.from_pretrained(tmp_path / "run").generate(speech_file)
    assert clip.frames == 75
    assert model.body.parts == (("body",) if row == "whole body" else ("face", "upper", "hands", "lower"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    named = set().union(*(row["validation"] for row in rows if "validation" in row and row["stage"] == "generator"))
    assert {"seed/codes", "seed/latents"} <= named


def test_every_term_of_the_papers_losses_has_a_name():
    model = mm.Model.build(mm.preset("emage", "tiny"))
    batch = example_batch(rows=6, frames=64)
    model.body.set_statistics(batch.motion)
    vq = set(model.body.train()(batch))
    for part in SMPLX.parts:  # eq. 4: reconstruction, velocity, acceleration, and both pulls of codes and latents
        assert {
            f"{part}/{term}" for term in ("geodesic", "rotation_velocity", "rotation_acceleration", "commitment")
        } <= vq
    losses = set(model.generator.train()(batch, teacher=model.generator, progress=0.5, stage="generator"))
    assert losses == {"seed/codes", "seed/latents", "a2g/codes", "a2g/latents", "mg2g/latents"}
    assert {"velocity", "position", "contact"} <= set(model.root(batch))


def test_the_preset_hides_joints_and_frames_from_0_to_95_percent():
    masker = mm.Model.build(mm.preset("emage", "tiny")).generator.masker
    batch = example_batch(rows=4, frames=64)
    for progress, share in ((0.0, 0.0), (0.5, 0.475), (1.0, 0.95)):
        mask = masker(mm.MaskContext(batch, {}, progress))
        assert mask.shape == (4, 64, 55)
        assert mask[batch.valid].float().mean().item() == pytest.approx(share, abs=0.01)


def test_the_masked_gesture_path_does_not_hear(network):
    batch = example_batch()
    hidden = SMPLX.expand(torch.zeros_like(batch.valid))
    other = type(batch)(**{**vars(batch), "audio": batch.audio.flip(1)})
    for part in ("upper", "hands", "lower"):
        one, two = (predict(network, b, hidden, speech=False).latents[part] for b in (batch, other))
        assert torch.equal(one, two)
        one, two = (predict(network, b, hidden, speech=True).latents[part] for b in (batch, other))
        assert not torch.allclose(one, two, atol=1e-4)


def test_only_direct_speech_bears_time(network, monkeypatch):
    """Eq. 9 adds positions to what asks, not to the speech that is asked: its frames may come in any order."""
    batch = example_batch()
    order = torch.randperm(batch.valid.shape[1], generator=torch.Generator().manual_seed(0))
    hidden, valid = SMPLX.expand(torch.ones_like(batch.valid)), torch.ones_like(batch.valid)
    conditions, hear = network.condition(batch), network._hear
    base = network.predict(batch.motion, hidden, valid, conditions).logits["hands"]
    monkeypatch.setattr(network, "_hear", lambda *given: {one: x[:, order] for one, x in hear(*given).items()})
    shuffled = network.predict(batch.motion, hidden, valid, conditions).logits["hands"]
    assert torch.allclose(base, shuffled, atol=1e-5) != bool(network.direct)


def test_hidden_joints_leave_no_trace_and_visible_ones_do(network):
    batch = example_batch()
    joints = torch.zeros(*batch.valid.shape, 55, dtype=torch.bool)
    joints[..., 20] = True
    hidden = SMPLX.expand(joints)
    base = predict(network, batch, hidden).latents["hands"]
    for joint, changes in ((20, False), (21, True)):
        motion = batch.motion.clone()
        motion[..., 6 * joint : 6 * joint + 6] += 0.5
        other = type(batch)(**{**vars(batch), "motion": motion})
        assert torch.allclose(predict(network, other, hidden).latents["hands"], base, atol=1e-5) != changes


def test_the_last_spatial_layer_reads_the_class_token_alone():
    """What is computed for the class token alone is what a whole layer says there."""
    torch.manual_seed(0)
    encoder = SpatialEncoder(16, heads=2, dropout=0.0).eval()
    motion = example_batch(rows=1, frames=3).motion
    hidden = torch.zeros_like(motion, dtype=torch.bool)
    whole = torch.nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True).eval()
    read = encoder.read
    weights = torch.cat([read.query.weight, read.key_value.weight]), torch.cat([read.query.bias, read.key_value.bias])
    names = {
        "self_attn.in_proj_weight": weights[0], "self_attn.in_proj_bias": weights[1],
        "self_attn.out_proj.weight": read.out.weight, "self_attn.out_proj.bias": read.out.bias,
        "linear1.weight": encoder.feed[0].weight, "linear1.bias": encoder.feed[0].bias,
        "linear2.weight": encoder.feed[3].weight, "linear2.bias": encoder.feed[3].bias,
        "norm1.weight": encoder.norm_read.weight, "norm1.bias": encoder.norm_read.bias,
        "norm2.weight": encoder.norm_feed.weight, "norm2.bias": encoder.norm_feed.bias,
    }  # fmt: skip
    whole.load_state_dict(names)
    deep = SpatialEncoder(16, heads=2, layers=2, dropout=0.0).eval()
    deep.load_state_dict({**encoder.state_dict(), **{f"layers.0.{name}": value for name, value in names.items()}})
    tokens = []
    deep.layers[0].register_forward_hook(lambda module, inputs, output: tokens.append((inputs[0], output)))
    with torch.no_grad():
        deep(motion, hidden)
        expected = tokens[0][1][:, 0]
        assert torch.allclose(encoder(motion, hidden)[0], expected, atol=1e-5)


def test_content_rhythm_attention_weighs_channel_by_channel():
    torch.manual_seed(0)
    block = ContentRhythm(3, 5, 8)
    rhythm, content, valid = torch.randn(2, 9, 3), torch.randn(2, 9, 5), torch.ones(2, 9, dtype=torch.bool)
    with torch.no_grad():
        block.gate[2].weight.zero_()
        block.gate[2].bias.copy_(torch.cat([torch.full((8,), 30.0), torch.zeros(8)]))
        heard = block(rhythm, content, valid)
        assert torch.allclose(heard, block(rhythm, torch.randn(2, 9, 5), valid), atol=1e-5), "all weight on rhythm"
        block.gate[2].bias.copy_(torch.cat([torch.zeros(8), torch.full((8,), 30.0)]))
        assert torch.allclose(block(rhythm, content, valid), block.content(content), atol=1e-5), "all weight on content"


def test_without_words_it_hears_the_rhythm_alone():
    recipe = mm.preset("emage", "tiny")
    conditioners = {name: spec for name, spec in recipe.conditioners.items() if name != "transcript"}
    model = mm.Model.build(recipe.but({"conditioners": conditioners}))
    assert model.generator.hear["body"].content is None
    with pytest.raises(ValueError, match="a conditioner for the rhythm of speech, got only speaker"):
        mm.Model.build(recipe.but({"conditioners": {"speaker": "speaker"}}))


def test_scales_are_named():
    sizes = [sum(p.numel() for p in mm.Model.build(mm.preset("emage", s)).parameters()) for s in ("tiny", "small")]
    assert sizes[0] < 3e6 < sizes[1] < 3e7
    with pytest.raises(mm.RecipeError, match="no scale 'huge'; it has: full, small, tiny"):
        mm.preset("emage", "huge")
    with pytest.raises(mm.RecipeError, match="tiny has no scale 'small'; it has: one size"):
        mm.preset("tiny", "small")
