"""EchoMask's official network: where each of its tensors belongs in `EchoMask` with the release's conditioners."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from maskmotion.generators.echomask_parts import FACE, OWN
from maskmotion.training.official_aligned import aligned_keys
from maskmotion.training.official_layers import layer_keys, linear_keys, mlp_keys

ATTENDED = ("hands", "upper", "lower")
"""Parts whose speech queries motion in the release, in the order of their fusion weights."""
LAYERS, FACE_LAYERS, BOOKS, RESIDUAL_LAYERS = 8, 4, 6, 3
_PARTS = (FACE, *OWN)
_MLP = ("mlp.0", "mlp.2")
_EXCHANGE = {
    "hands": "hands_face_decoder",
    FACE: "face_hands_decoder",
    "upper": "upper_hands_decoder",
    "lower": "lower_hands_decoder",
}


def echomask_keys() -> dict[str, str]:
    """Official name -> ours within the generator, for every tensor that is used."""
    return dict(_pairs())


def as_ours(ours: str, value: Tensor) -> Tensor:
    """An official tensor in the shape of ours: a convolution of stride 2 is a product of two frames side by side."""
    if ".pairs." in ours and value.ndim == 3:
        return value.permute(0, 2, 1).flatten(1)
    return value.flatten() if ours == "mask_embedding" else value.flatten(0, -2) if ours.endswith(".queries") else value


def _pairs() -> Iterator[tuple[str, str]]:
    yield "mask_embeddings", "mask_embedding"
    yield from aligned_keys(_PARTS, "MAM.", "conditioners.speech.")
    yield from _motion()
    for branch in (FACE, "body"):
        yield f"spearker_encoder_{branch}.weight", f"conditioners.{branch}_speaker.table.weight"
    yield from _face()
    yield from mlp_keys("bodyhints_body", "hint", _MLP)
    yield from linear_keys("feature2motion", "enter")
    yield from layer_keys("motion_self_encoder.layers.0", "gather", decoder=False)
    yield "mask_generator.fusion_weights", "ask.fusion"
    for number in range(LAYERS):
        theirs = f"mask_generator.shared_transformer_decoder.layers.{number}"
        yield from layer_keys(theirs, f"ask.layers.{number}")
    for part in ATTENDED:
        yield from linear_keys(f"audio_feature2motion_{part}", f"ask.project.{part}")
    yield from _body()
    for part in _PARTS:
        yield from layer_keys(f"{_EXCHANGE[part]}.layers.0", f"exchange.layers.{part}")
        yield from _residual(part)


def _motion() -> Iterator[tuple[str, str]]:
    for level in range(3):
        yield from linear_keys(f"motion_encoder.main.{3 * level}", f"see_motion.convs.{level}.conv")
        for number, half in ((0, "first"), (2, "second")):
            theirs = f"motion_encoder.main.{3 * level + 2}.model.{number}"
            yield from linear_keys(theirs, f"see_motion.blocks.{level}.{half}.conv")


def _face() -> Iterator[tuple[str, str]]:
    yield from mlp_keys("bodyhints_face", "face.hint", _MLP)
    yield from linear_keys("feature2face", "face.memory")
    for number in range(FACE_LAYERS):
        yield from layer_keys(f"face_decoder.layers.{number}", f"face.layers.{number}")
    yield from linear_keys("face2latent", "face.leave")
    yield from linear_keys("face1d", "face.first.pairs.0")
    yield from mlp_keys("face_latent_mlp", "face.between", _MLP)
    yield from linear_keys("face1d_2", "face.second.pairs.0")


def _body() -> Iterator[tuple[str, str]]:
    yield from linear_keys("body1d", "move.fold.pairs.0")
    yield from linear_keys("spearker_encoder_body1d", "move.fold_speaker.pairs.0")
    for part in OWN:
        yield from mlp_keys(f"motion2latent_{part}", f"move.split.{part}", _MLP)
        yield from layer_keys(f"{part}_decoder.layers.0", f"move.refine.{part}")
        yield from linear_keys(f"motion_down_{part}", f"move.leave.{part}")
        yield from linear_keys(f"{part}1d", f"move.narrow.{part}.pairs.0")


def _residual(part: str) -> Iterator[tuple[str, str]]:
    theirs, ours = f"predict_res_{part}", f"heads.{part}"
    yield from mlp_keys(f"{part}_classifier", f"{ours}.classes.0", _MLP)
    for book in range(1, BOOKS):
        for layer in range(RESIDUAL_LAYERS):
            yield from layer_keys(f"{theirs}.cross_attn_{book}.layers.{layer}", f"{ours}.decoders.{book - 1}.{layer}")
        if book > 1:
            yield from linear_keys(f"{theirs}.map_zq{book}", f"{ours}.join.{book - 2}")
        yield from mlp_keys(f"{theirs}.classfier_{book}", f"{ours}.classes.{book}", _MLP)
