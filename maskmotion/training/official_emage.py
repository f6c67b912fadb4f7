"""The official networks of EMAGE: where each tensor of a file belongs in `EmageRelease`, and the recipe that fits it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from maskmotion.conditioners.words import Words
from maskmotion.config import Recipe, RecipeError
from maskmotion.data.vocabulary import Vocabulary
from maskmotion.model import Model
from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training.official_layers import check_names, copy_weights, layer_keys, linear_keys, mlp_keys
from maskmotion.training.official_tokenizers import Shapes

PARTS = ("upper", "hands", "lower")
POSITIONS = "position_embeddings.pe"  # a table that is computed, not learned
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_FULLY = ("fc1", "fc2")  # of an MLP
YEARS: Mapping[str, int] = {"emage_audio": 2025, "emage_text_2024": 2024, "emage_audio_2024": 2024}
"""Networks that become a model, by the file that others are kept in, and whose names theirs are."""

NAMES_OF_2024: Mapping[str, str] = {
    "mask_embeddings": "mask_embedding",
    "audio_pre_encoder_face": "audio_encoder_face",
    "audio_pre_encoder_body": "audio_encoder_body",
    "spearker_encoder_face": "speaker_embedding_face",
    "spearker_encoder_body": "speaker_embedding_body",
    "audio_feature2motion": "audio_body_motion_proj",
    "feature2motion": "moton_proj",
    "wordhints_decoder": "audio_motion_cross_attn",
    "feature2face": "audio_face_motion_proj",
    "face_decoder": "face_motion_decoder",
    "face2latent": "face_out_proj",
    "face_classifier": "face_cls",
    **{f"{part}_decoder": f"body_motion_decoder_{part}" for part in PARTS},
    **{f"motion_down_{part}": f"motion_out_proj_{part}" for part in PARTS},
    **{f"{part}_classifier": f"motion_cls_{part}" for part in PARTS},
}
"""First step of a name in the files of 2024 -> in the file of 2025, where the two differ."""


def names_of_2025(name: str) -> str:
    """A name of the files of 2024 as that of 2025 has it; words and content-rhythm attention keep theirs."""
    first, dot, rest = name.partition(".")
    rest = re.sub(r"^mlp\.0\.", "fc1.", re.sub(r"^mlp\.2\.", "fc2.", rest))
    return f"{NAMES_OF_2024.get(first, first)}{dot}{rest}"


def build_emage(
    tensors: Mapping[str, Tensor], year: int, tokenizers: Tokenizers, words: Vocabulary | None = None
) -> Model:
    """A whole model of the network in a file and the tokenizers beside it.

    tensors: what the release uses of the file, under its names. words: of a text model; without them every word is
    unknown to it. ValueError for tensors that are missing, unknown or of another shape, and for tokenizers that do not
    belong to it.
    """
    renamed = {names_of_2025(name) if year == 2024 else name: name for name in tensors}
    given = {name: tensors[official] for name, official in renamed.items()}
    keys = emage_keys(given)
    check_names(renamed, keys, (POSITIONS,))
    changes = tokenizers.plan.changes()
    base = emage_recipe({name: tuple(value.shape) for name, value in given.items()}, year)
    try:
        model = Model.build(base.but(changes | {"root": changes["root"] | {"translation": base.root.translation}}))
    except RecipeError as error:
        raise ValueError(str(error)) from None
    copy_weights(given, keys, model.generator.state_dict(), _official_shape, _as_ours, (POSITIONS,))
    model.body.load_state_dict(tokenizers.body.state_dict())
    assert tokenizers.root is not None
    model.root.load_state_dict(tokenizers.root.state_dict())
    for table in (module for module in model.modules() if isinstance(module, Words)):
        table.set_vocabulary(None if words is None else words.words)
    return model.eval()


def _official_shape(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, 1, *shape) if ours == "mask_embedding" else shape


def _as_ours(ours: str, value: Tensor) -> Tensor:
    return value.flatten() if ours == "mask_embedding" else value


def emage_keys(official: Mapping[str, Any] | Shapes) -> dict[str, str]:
    """Name in a file of 2025 (or what `names_of_2025` made of one of 2024) -> ours, for every tensor that is used."""
    words = "at_attn_face.weight" in official
    return dict(_pairs(words))


def emage_recipe(shapes: Shapes, year: int) -> Recipe:
    """The preset that fits a network's names and shapes (in those of 2025), with its sizes."""
    from maskmotion.presets.emage_release import emage_2024, emage_release

    words = shapes.get("text_pre_encoder_face.weight")
    speakers, dim = shapes["speaker_embedding_face.weight"]
    features, sound = shapes["motion_encoder.main.0.weight"][0], shapes["audio_body_motion_proj.weight"][1]
    if features != sound:
        raise ValueError(f"sound and hints have {sound} and {features} channels, which are the same in every release")
    base = emage_release() if year == 2025 else emage_2024("audio" if words is None else "text")
    changes: dict[str, Any] = {"generator.dim": dim, "generator.features": features}
    for branch in ("face", "body"):
        changes |= {f"conditioners.{branch}_audio.dim": features}
        changes |= {f"conditioners.{branch}_speaker.{name}": x for name, x in (("dim", dim), ("count", speakers))}
        if words is not None:
            changes |= {f"conditioners.{branch}_words.{n}": x for n, x in (("count", words[0]), ("dim", words[1]))}
    return base.but(changes)


def _pairs(words: bool) -> Iterator[tuple[str, str]]:
    yield "mask_embedding", "mask_embedding"
    for branch in ("face", "body"):
        yield from _waveform(f"audio_encoder_{branch}.feat_extractor", f"conditioners.{branch}_audio.encoder.blocks")
        yield f"speaker_embedding_{branch}.weight", f"conditioners.{branch}_speaker.table.weight"
        yield from mlp_keys(f"bodyhints_{branch}", f"hints.{branch}", _FULLY)
        if words:
            yield f"text_pre_encoder_{branch}.weight", f"conditioners.{branch}_words.table.weight"
            yield from linear_keys(f"text_encoder_{branch}", f"hear.{branch}.from_words")
            yield from linear_keys(f"at_attn_{branch}", f"hear.{branch}.gate")
    for level in range(3):
        yield from linear_keys(f"motion_encoder.main.{3 * level}", f"see.convs.{level}.conv")
        for number, half in ((0, "first"), (2, "second")):
            official = f"motion_encoder.main.{3 * level + 2}.model.{number}"
            yield from linear_keys(official, f"see.blocks.{level}.{half}.conv")
    yield from linear_keys("audio_body_motion_proj", "from_sound")
    yield from linear_keys("moton_proj", "from_hints")
    yield from linear_keys("audio_face_motion_proj", "face_memory")
    yield from layer_keys("motion_self_encoder.layers.0", "gather", decoder=False)
    for number in range(8):
        yield from layer_keys(f"audio_motion_cross_attn.layers.{number}", f"listen.{number}")
    for number in range(4):
        yield from layer_keys(f"face_motion_decoder.layers.{number}", f"face.{number}")
    yield from linear_keys("face_out_proj", "heads.face.latents")
    yield from mlp_keys("face_cls", "heads.face.classes", _FULLY)
    for part in PARTS:
        yield from mlp_keys(f"motion2latent_{part}", f"split.{part}", _FULLY)
        yield from layer_keys(f"body_motion_decoder_{part}.layers.0", f"refine.{part}")
        yield from linear_keys(f"motion_out_proj_{part}", f"heads.{part}.latents")
        yield from mlp_keys(f"motion_cls_{part}", f"heads.{part}.classes", _FULLY)


def _waveform(official: str, ours: str) -> Iterator[tuple[str, str]]:
    for block in range(6):
        names = {"conv1": "enter", "conv2": "leave"} | ({} if block in (2, 4) else {"downsample.0": "past"})
        norms = {"bn1": "norm_enter", "bn2": "norm_leave"} | ({} if block in (2, 4) else {"downsample.1": "norm_past"})
        for theirs, mine in names.items():
            yield from linear_keys(f"{official}.{block}.{theirs}", f"{ours}.{block}.{mine}")
        for theirs, mine in norms.items():
            for leaf in BATCH_NORM:
                yield f"{official}.{block}.{theirs}.{leaf}", f"{ours}.{block}.{mine}.{leaf}"
