"""An official folder of EchoMask becomes a model that generates: every weight in its place, or an error that names it."""

from __future__ import annotations

import json

import pytest
import torch
from echomask_files import echomask_weights, write_echomask_folder
from hubert_folder import write_hubert
from official_files import write_bin

import maskmotion as mm
from maskmotion.training.checkpoint import read_tensors
from maskmotion.training.convert import ConvertError, convert
from maskmotion.training.official_echomask import TABLES, as_ours, echomask_keys, official_shape

UNUSED = {
    *("wordhints_decoder", "transformer_de_layer", "transformer_en_layer", "transformer_de_fu_layer"),
    *("MAM.transformer_de_layer", "MAM.transformer_en_layer", "hubert_encoder", "hubert_encoder_body"),
    *("face_cons_mlp", "hands_cons_mlp", "at_attn_face", "at_attn_body", "joint_dim_reducer"),
    *("audio_pre_encoder_face", "audio_pre_encoder_body"),
    *(f"predict_res_{part}.cross_layer" for part in ("face", "upper", "hands", "lower")),
}


@pytest.fixture(scope="module")
def weights():
    return echomask_weights()


@pytest.fixture(scope="module")
def converted(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("echomask")
    report = convert(write_echomask_folder(folder / "official", weights), folder / "model")
    return folder / "model", report


def test_an_official_folder_becomes_a_model_that_generates_from_a_wav(converted, speech_file, tmp_path):
    folder = converted[0]
    model = mm.Model.from_pretrained(folder)
    assert model.recipe.name == "echomask-release"
    hubert = write_hubert(tmp_path / "hubert", layers=12)
    model.generator.conditioners["speech"].speech.extractor.checkpoint = str(hubert)
    clip = model.generate(speech_file, speaker=2)
    assert clip.motion.shape == (64, 437), "the release drops what fills no window"
    assert bool(clip.motion.isfinite().all())
    assert mm.Tokenizers.from_pretrained(folder).body.parts == ("face", "upper", "hands", "lower")
    assert json.loads((folder / "origin.json").read_text())["files"]


def test_sizes_are_told_from_shapes(converted):
    recipe = mm.Model.from_pretrained(converted[0]).recipe
    generator = recipe.generator.arguments
    sizes = {name: generator[name] for name in ("dim", "features", "feed", "residual_feed")}
    assert sizes == {"dim": 16, "features": 8, "feed": 24, "residual_feed": 32}
    assert recipe.conditioners["face_speaker"].arguments == {"dim": 16, "count": 3}
    assert recipe.conditioners["speech"].arguments["speech"].arguments["dim"] == 8
    assert generator["windows"] == "release"


def test_every_weight_is_where_it_belongs(converted, weights):
    state = mm.Model.from_pretrained(converted[0]).generator.state_dict()
    learned = {name for name in state if not name.startswith(("body.", "semantic_affine"))}
    assert learned == set(echomask_keys().values()), "nothing of the network is left to chance"
    for official, ours in echomask_keys().items():
        assert torch.equal(state[ours], as_ours(ours, weights[official])), official
        assert official_shape(ours, tuple(state[ours].shape)) == tuple(weights[official].shape)


def test_the_report_tells_what_was_taken_and_what_is_never_used(converted, weights):
    (network,) = [file for file in converted[1].files if file.network == "EchoMask"]
    assert network.kept_in is None
    assert set(network.mapped) == set(echomask_keys())
    groups = {name if name in TABLES else _group(name) for name in network.ignored}
    assert groups == UNUSED | set(TABLES)
    assert {*network.mapped, *network.ignored} == set(weights)
    text = converted[1].render()
    assert "no network of this version reads it" not in text
    assert "wordhints_decoder 144" in text


def _group(name: str) -> str:
    first, second = name.split(".")[:2]
    return f"{first}.{second}" if first == "MAM" or first.startswith("predict_res_") else first


@pytest.mark.slow
def test_a_hub_id_becomes_a_model(tmp_path, weights, monkeypatch):
    source = write_echomask_folder(tmp_path / "snapshot" / "weights", weights).parent
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **how: str(source))
    report = convert("X-Zhang/EchoMask", tmp_path / "model")
    assert report.origin["source"] == "X-Zhang/EchoMask"
    assert mm.Model.from_pretrained(tmp_path / "model").recipe.name == "echomask-release"


def test_a_network_without_its_tokenizers_is_kept(tmp_path, weights):
    source = write_echomask_folder(tmp_path / "official", weights)
    (source / "last_1700_foot.bin").unlink()
    report = convert(source, tmp_path / "converted")
    assert "a model needs the tokenizers of all its parts and its global motion predictor beside it" in report.render()
    kept, _ = read_tensors(tmp_path / "converted" / "echomask.safetensors")
    assert {*echomask_keys(), *TABLES} == set(kept)
    with pytest.raises(FileNotFoundError):
        mm.Model.from_pretrained(tmp_path / "converted")


def refused(tmp_path, weights, message, **sizes):
    source = write_echomask_folder(tmp_path / "official", weights, **sizes)
    with pytest.raises(ConvertError, match=message):
        convert(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_missing_weight_is_named(tmp_path, weights):
    left = {name: value for name, value in weights.items() if name != "lower1d.bias"}
    refused(tmp_path, left | {"another": torch.zeros(2)}, r"best_echomask.bin \(EchoMask\): missing: lower1d.bias")


def test_an_unknown_weight_is_named(tmp_path, weights):
    left = {name: value for name, value in weights.items() if name != "wordhints_decoder.layers.0.norm1.bias"}
    refused(tmp_path, left | {"upper2d.bias": torch.zeros(2)}, "unknown: upper2d.bias")


def test_a_file_cut_short_is_refused(tmp_path, weights):
    refused(tmp_path, dict(list(weights.items())[:-1]), "EchoMask has 2553 tensors, this file 2552")


@pytest.mark.parametrize(
    ("name", "shape", "needed"),
    [
        ("body1d.weight", (16, 16, 3), r"\(16, 16, 2\)"),
        ("mask_embeddings", (337,), r"\(1, 1, 337\)"),
        ("MAM.moau_query_face", (1, 8), r"\(1, 1, 8\)"),
        ("predict_res_hands.map_zq3.weight", (8, 16), r"\(8, 24\)"),
    ],
)
def test_a_weight_of_another_shape_is_told_in_the_official_terms(name, shape, needed, tmp_path, weights):
    refused(tmp_path, weights | {name: torch.zeros(shape)}, rf"{name} is .*, needed {needed}")


def test_tokenizers_of_another_width_are_refused(tmp_path, weights):
    refused(
        tmp_path,
        weights,
        "predicts 6 residual layers of width 8, the tokenizers beside it have 6 of width 12",
        width=12,
    )


def test_tokenizers_with_another_number_of_codes_are_refused(tmp_path, weights):
    refused(tmp_path, weights, r"face_classifier.mlp.2.weight is \(5, 16\) .*, needed \(7, 16\)", codes=7)


@pytest.mark.parametrize("table", TABLES)
def test_a_foreign_table_of_positions_is_refused(table, tmp_path, weights):
    refused(tmp_path, weights | {table: weights[table].flip(1)}, f"{table} is not the sinusoidal table")


def test_two_networks_are_no_model(tmp_path, weights):
    source = write_echomask_folder(tmp_path / "official", weights)
    write_bin(source / "another.bin", {name: value + 1 for name, value in weights.items()})
    report = convert(source, tmp_path / "converted")
    assert [file.kept_in for file in report.files if file.kept_in] == ["echomask.safetensors", "echomask-2.safetensors"]
    assert not (tmp_path / "converted" / "recipe.json").exists()
