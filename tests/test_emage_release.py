"""EMAGE's released networks: what the options do, official folders, clips, and the blocks they share."""

from __future__ import annotations

import json

import pytest
import torch
from official_files import LAYERS, emage_shapes, random_weights, write_bin, write_emage_folder, write_safetensors
from torch import nn

import maskmotion as mm
from maskmotion.conditioners.waveform import OnsetAmplitude, Waveform, amplitude_of_2024
from maskmotion.conditioners.words import Words
from maskmotion.data.textgrid import word_id
from maskmotion.data.vocabulary import SPECIAL, UNK
from maskmotion.generators.emage_release_clip import released_windows
from maskmotion.generators.emage_release_parts import fit
from maskmotion.nn import linear as quick
from maskmotion.nn.post_norm import DecoderLayer
from maskmotion.nn.waveform import WaveformEncoder
from maskmotion.testing import example_batch
from maskmotion.training.convert import ConvertError, convert
from maskmotion.training.official import other_network
from maskmotion.training.official_emage import POSITIONS, emage_keys, names_of_2025
from maskmotion.types import Batch

CONFIG = {"model_type": "emage_audio", "architectures": ["EmageAudioModel"]}


def official(text: bool = False) -> dict[str, torch.Tensor]:
    """The network of a release, small, under the names of 2025, templates and table of positions included."""
    recipe = mm.preset("emage-2024-text" if text else "emage-release", "tiny")
    layers = {"generator.audio_layers": 8, "generator.face_layers": 4, "tokenizer.quantizer.codebook_size": 32}
    words = {f"conditioners.{branch}_words.count": 9 for branch in ("face", "body")} if text else {}
    state = mm.Model.build(recipe.but(layers | words)).generator.state_dict()
    keys = emage_keys({"at_attn_face.weight": 0} if text else {})
    tensors = {name: state[ours].clone() for name, ours in keys.items()}
    tensors["mask_embedding"] = tensors["mask_embedding"][None, None]
    for template, copied in (
        ("transformer_en_layer", "motion_self_encoder.layers.0"),
        ("audio_motion_cross_attn_layer", "audio_motion_cross_attn.layers.0"),
    ):
        tensors |= {
            n.replace(copied, template): v.clone() for n, v in list(tensors.items()) if n.startswith(f"{copied}.")
        }
    from maskmotion.nn.transformer import positions

    return tensors | {POSITIONS: positions(64, 64, torch.zeros(())).repeat(2, 1)[None].clone()}


def official_folder(folder, tensors):
    write_emage_folder(folder, {part: random_weights(emage_shapes(part, 32, 32)) for part in LAYERS})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    report = convert(official_folder(folder / "source", official()), folder / "model")
    return folder / "model", report


def test_an_official_folder_becomes_a_model_that_generates_from_a_wav(converted, speech_file):
    folder, report = converted
    model = mm.Model.from_pretrained(folder)
    clip = model.generate(speech_file)
    assert clip.motion.shape == (75, 437)
    assert bool(clip.motion.isfinite().all())
    assert mm.Tokenizers.from_pretrained(folder).body.parts == ("face", "upper", "hands", "lower")
    (network,) = [file for file in report.files if "audio model" in file.network]
    assert network.kept_in is None
    assert {name.split(".")[0] for name in network.ignored} == {
        *("transformer_en_layer", "audio_motion_cross_attn_layer", "position_embeddings")
    }
    assert json.loads((folder / "origin.json").read_text())["files"]


def test_a_converted_model_is_the_preset_with_its_flaws(converted):
    recipe = mm.Model.from_pretrained(converted[0]).recipe
    assert recipe.name == "emage-release"
    assert recipe.root.translation
    assert recipe.generator.arguments["windows"] == "release"
    assert not mm.Tokenizers.from_pretrained(converted[0]).plan.changes()["root"]["translation"]


@pytest.mark.parametrize("name", ["mask_embedding", "listen", "face_cls.fc1.bias"])
def test_a_network_without_a_weight_is_refused(name, tmp_path):
    tensors = official()
    name = "audio_motion_cross_attn.layers.3.norm3.bias" if name == "listen" else name
    left = {other: value for other, value in tensors.items() if other != name}
    with pytest.raises(ConvertError, match="608 tensors, this file 607|no network"):
        convert(official_folder(tmp_path / "source", left), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_network_with_a_foreign_weight_is_refused(tmp_path):
    tensors = official()
    tensors["face_cls.fc3.bias"] = tensors.pop("face_cls.fc1.bias")
    with pytest.raises(ConvertError, match="missing: face_cls.fc1.bias"):
        convert(official_folder(tmp_path / "source", tensors), tmp_path / "model")


def test_a_weight_of_another_shape_is_refused(tmp_path):
    tensors = official()
    tensors["face_cls.fc1.bias"] = torch.zeros(7)
    with pytest.raises(ConvertError, match=r"face_cls.fc1.bias is \(7,\)"):
        convert(official_folder(tmp_path / "source", tensors), tmp_path / "model")


def of_2024(tensors):
    """The same under the names of 2024."""
    from maskmotion.training.official_emage import NAMES_OF_2024

    back = {new: old for old, new in NAMES_OF_2024.items()} | {"audio_motion_cross_attn_layer": "transformer_de_layer"}

    def name(new):
        first, dot, rest = new.partition(".")
        return back.get(first, first) + dot + rest.replace("fc1.", "mlp.0.").replace("fc2.", "mlp.2.")

    return {name(new): value for new, value in tensors.items()}


@pytest.mark.parametrize("words", [True, False])
def test_a_text_model_of_2024_becomes_a_model(words, tmp_path, speech_file):
    tensors = of_2024(official(text=True))
    network = other_network(tensors)
    assert network is not None and network.file == "emage_text_2024"
    used = [names_of_2025(name) for name in tensors if not network.is_dead(name)]
    assert set(used) == {*emage_keys({"at_attn_face.weight": 0}), POSITIONS}
    source = tmp_path / "source"
    for part in LAYERS:
        write_bin(source / f"{part}.bin", random_weights(emage_shapes(part, 32, 32)))
    write_bin(source / "emage_240.bin", tensors)
    if words:
        (source / "vocab.json").write_text(json.dumps({"words": [*SPECIAL, "", "a", "b", "c", "d"]}))
    report = convert(source, tmp_path / "model")
    assert any("no word is known" in note for note in report.notes) != words
    model = mm.Model.from_pretrained(tmp_path / "model")
    transcript = tmp_path / "words.txt"
    transcript.write_text("a b unheard")
    assert model.generate(speech_file, text=transcript, speaker=3).motion.shape == (75, 437)


def test_words_are_rows_of_the_vocabulary():
    words = Words(dim=3, count=7)
    words.set_vocabulary([*SPECIAL, "", "hello", "you"])
    labels = torch.tensor([[word_id("you"), word_id("hello"), 0, word_id("nobody"), word_id("<PAD>")]])
    batch = Batch(torch.zeros(1, 5, 437), torch.ones(1, 5, dtype=torch.bool), labels={"words": labels})
    rows = [6, 5, 4, UNK, UNK]
    assert torch.equal(words(batch).features[0], words.table.weight[rows])
    words.set_vocabulary(None)
    assert torch.equal(words(batch).features[0], words.table.weight[[UNK] * 5])


def test_released_amplitude_is_the_loudest_of_what_comes():
    audio = torch.randn(5000)
    loud = amplitude_of_2024(audio)
    assert loud[0] == audio[:1024].abs().max()
    assert loud[3976] == audio[3976:].abs().max()
    assert bool((loud[3976:] == loud[3976]).all())
    assert amplitude_of_2024(audio[:10]).shape == (10,)


def test_released_onsets_lie_in_the_first_samples():
    clicks = torch.zeros(32000)
    clicks[::4000] = 1.0
    features = OnsetAmplitude()(clicks, 60, 30).unflatten(-1, (533, 2)).flatten(0, 1)
    assert features[:, 0].sum() > 0
    assert features[64:, 0].sum() == 0, "32000 / 512 = 62.5 frames of librosa's"


def test_release_windows_lose_short_tails_and_refuse_short_clips():
    assert [sum(one.keep for one in released_windows(n)) for n in (9, 63, 64, 68, 69, 128, 129)] == [
        *(9, 63, 60, 60, 69, 120, 129)
    ]
    with pytest.raises(ValueError, match="too short"):
        released_windows(8)


@pytest.mark.parametrize("windows", ["release", "library"])
def test_a_release_preset_generates_as_many_frames_as_its_windows_say(windows, speech_file):
    recipe = mm.preset("emage-release", "tiny").but({"generator.windows": windows, "body.window": 38})
    frames = mm.Model.build(recipe).generate(speech_file).frames
    assert frames == (68 if windows == "release" else 75)


OPTIONS = ("speaker_in_query", "query_in_residual", "place_in_refinement", "extra_sound", "cra", "slope", "snapped")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_difference_between_the_releases_changes_something(option):
    base = mm.preset("emage-2024-text", "tiny")
    values = {"slope": 0.9, "snapped": ("upper",), "cra": False}
    value = values.get(option, not base.generator.arguments.get(option))
    one, two = (mm.Model.build(base.but(changes)).eval() for changes in ({}, {f"generator.{option}": value}))
    shared = {k: v for k, v in one.state_dict().items() if k in two.state_dict()}
    two.load_state_dict(shared)
    batch = example_batch(frames=20)
    if option == "extra_sound":  # one step too many, in windows of 25 frames or less and without words
        base = mm.preset("emage-release", "tiny")
        one, two = (mm.Model.build(base.but({"generator.extra_sound": extra})).eval() for extra in (True, False))
    hidden = torch.ones_like(batch.motion, dtype=torch.bool)
    latents = [m.generator.generate(batch, hidden, decode="latents").latents["upper"] for m in (one, two)]
    chosen = [m.generator.generate(batch, hidden).latents["upper"] for m in (one, two)]
    first, second = chosen if option == "snapped" else latents
    assert not torch.allclose(first, second, atol=1e-6)


def test_all_passes_of_the_masker_hide_the_same():
    model = mm.Model.build(mm.preset("emage-2024-audio", "tiny"))
    batch, generator = example_batch(), model.generator
    rng = torch.Generator().manual_seed(3)
    rows = torch.arange(3)
    one, two = (generator.mask(p, batch, {}, rows, 0.5, rng, None) for p in generator.passes[1:])
    assert torch.equal(one, two)
    assert 0.3 < one[:2].float().mean() < 0.7


def test_the_released_ratio_hides_everything_from_the_first_iteration_on():
    ratio = mm.preset("emage-release").masker.arguments["ratio"]
    assert mm.value_at(ratio, 0.0) == 0.05
    assert mm.value_at(ratio, 1e-5) == pytest.approx(2.86, abs=0.01)


def test_the_quick_product_is_the_plain_one(monkeypatch):
    layer = quick.Linear(20, 30, slope=0.1)
    x = torch.randn(4, 7, 20)
    with torch.inference_mode():
        fast = layer(x)
        monkeypatch.setattr(quick, "_ONEDNN", None)
        assert torch.allclose(layer(x), fast, atol=1e-5)
    assert torch.allclose(layer(x), nn.functional.leaky_relu(nn.functional.linear(x, layer.weight, layer.bias), 0.1))
    assert layer(x).requires_grad


@torch.no_grad()
def test_a_decoder_layer_is_torchs():
    ours, theirs = DecoderLayer(16, 4).eval(), nn.TransformerDecoderLayer(16, 4, 32, batch_first=True).eval()
    for mine, other in ((ours.attention, theirs.self_attn), (ours.cross, theirs.multihead_attn)):
        mine.project.weight.copy_(other.in_proj_weight)
        mine.project.bias.normal_()
        other.in_proj_bias.copy_(mine.project.bias)
        mine.out.load_state_dict(other.out_proj.state_dict())
    ours.feed.enter.load_state_dict(theirs.linear1.state_dict())
    ours.feed.leave.load_state_dict(theirs.linear2.state_dict())
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    valid, real = torch.arange(5) < torch.tensor([[5], [3]]), torch.arange(7) < torch.tensor([[4], [7]])
    found = ours(x, ours.cross.remember(memory), valid, real)
    expected = theirs(x, memory, tgt_key_padding_mask=~valid, memory_key_padding_mask=~real)
    assert torch.allclose(found, expected, atol=1e-5)
    before = nn.Linear(6, 16)
    narrow = torch.randn(2, 7, 6)
    through = ours.cross.remember_through(narrow, before)
    assert torch.allclose(through, ours.cross.remember(before(narrow)), atol=1e-5)


def test_folded_waveform_encoder_is_the_trained_one():
    encoder = WaveformEncoder(16, channels=2)
    for _ in range(3):
        encoder(torch.randn(4, 6000, 2))
    encoder.eval()
    x = torch.randn(2, 10660, 2)
    with torch.no_grad():
        folded = encoder(x)
    assert folded.shape == (2, 21, 16), "one step more than the 20 frames"
    assert torch.allclose(folded, encoder(x), atol=1e-4)


def test_a_waveform_without_audio_is_an_error():
    batch = Batch(torch.zeros(1, 20, 437), torch.ones(1, 20, dtype=torch.bool))
    with pytest.raises(ValueError, match="no audio"):
        Waveform(16)(batch)


def test_short_sound_ends_with_its_last_steps_once_more():
    x = torch.arange(6)[None, :, None]
    assert fit(x, 8)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 5]
    assert fit(x, 4)[0, :, 0].tolist() == [0, 1, 2, 3]
