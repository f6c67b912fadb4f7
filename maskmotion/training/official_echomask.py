"""EchoMask's official network: where each of its tensors belongs in `EchoMask` with the release's conditioners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from maskmotion.config import Recipe, RecipeError
from maskmotion.generators.echomask_parts import FACE, OWN
from maskmotion.model import Model
from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training.official_aligned import aligned_keys
from maskmotion.training.official_layers import check_names, copy_weights, layer_keys, linear_keys, mlp_keys
from maskmotion.training.official_tokenizers import Shapes

ATTENDED = ("hands", "upper", "lower")
"""Parts whose speech queries motion in the release, in the order of their fusion weights."""
LAYERS, FACE_LAYERS, BOOKS, RESIDUAL_LAYERS = 8, 4, 6, 3
TABLES = ("position_embeddings.pe", "MAM.position_embeddings.pe", "MAM.position_embeddings_hubert.pe")
"""Positions: computed, not learned."""
_PARTS = (FACE, *OWN)
_MLP = ("mlp.0", "mlp.2")
_EXCHANGE = {
    "hands": "hands_face_decoder",
    FACE: "face_hands_decoder",
    "upper": "upper_hands_decoder",
    "lower": "lower_hands_decoder",
}


def build_echomask(tensors: Mapping[str, Tensor], tokenizers: Tokenizers) -> Model:
    """A whole model of the network in a file and the tokenizers beside it, as the recipe `echomask-release` in its sizes.

    tensors: what the release uses of the file, under its names. ValueError for tensors that are missing, unknown or of
    another shape, and for tokenizers that do not belong to it.
    """
    keys = echomask_keys()
    check_names({name: name for name in tensors}, keys, TABLES)
    _check_tokenizers(tokenizers, tensors["motion_encoder.main.0.weight"].shape[0])
    recipe = echomask_recipe({name: tuple(value.shape) for name, value in tensors.items()})
    try:
        model = Model.build(recipe.but(tokenizers.plan.changes()))
    except RecipeError as error:
        raise ValueError(str(error)) from None
    copy_weights(tensors, keys, model.generator.state_dict(), official_shape, as_ours, TABLES)
    model.body.load_state_dict(tokenizers.body.state_dict())
    assert tokenizers.root is not None
    model.root.load_state_dict(tokenizers.root.state_dict())
    return model.eval()


def echomask_recipe(shapes: Shapes) -> Recipe:
    """The preset that fits a network's shapes, with its sizes. Heads cannot be told from shapes and are the release's."""
    from maskmotion.presets.echomask import echomask_release

    speakers, dim = shapes["spearker_encoder_face.weight"]
    features = shapes["motion_encoder.main.0.weight"][0]
    changes: dict[str, Any] = {
        "generator.dim": dim,
        "generator.features": features,
        "generator.feed": shapes["mask_generator.shared_transformer_decoder.layers.0.linear1.weight"][0],
        "generator.residual_feed": shapes["predict_res_face.cross_attn_1.layers.0.linear1.weight"][0],
        "conditioners.speech.dim": features,
        "conditioners.speech.speech.dim": features,
    }
    for branch in (FACE, "body"):
        changes |= {f"conditioners.{branch}_speaker.{name}": x for name, x in (("dim", dim), ("count", speakers))}
    return echomask_release().but(changes)


def _check_tokenizers(tokenizers: Tokenizers, features: int) -> None:
    body = tokenizers.body
    if body.num_layers != BOOKS or body.dim != features:
        raise ValueError(
            f"it predicts {BOOKS} residual layers of width {features}, the tokenizers beside it have {body.num_layers} of "
            f"width {body.dim}"
        )


def echomask_keys() -> dict[str, str]:
    """Official name -> ours within the generator, for every tensor that is used."""
    return dict(_pairs())


def official_shape(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The official shape of one of our tensors, by its name and shape in the generator."""
    if ".pairs." in ours and len(shape) == 2:
        return shape[0], shape[1] // 2, 2
    return (1, 1, *shape) if ours == "mask_embedding" else (1, *shape) if ours.endswith(".queries") else shape


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
