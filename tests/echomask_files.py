"""EchoMask's main network as its release lays it out: names and shapes as published, weights of our own.

Written down here once more, apart from the converter's, so that one can be held against the other.
"""

from __future__ import annotations

from pathlib import Path

from official_files import Shapes, convolution, emage_shapes, random_weights, rvq_shapes, write_bin
from torch import Tensor

PARTS = ("face", "hands", "upper", "lower")
MOVING = PARTS[1:]


def linear(name: str, out: int, dim: int) -> Shapes:
    return {f"{name}.weight": (out, dim), f"{name}.bias": (out,)}


def two_layers(name: str, dim: int, hidden: int, out: int) -> Shapes:
    return linear(f"{name}.mlp.0", hidden, dim) | linear(f"{name}.mlp.2", out, hidden)


def transformer(name: str, dim: int, feed: int, decoder: bool = True) -> Shapes:
    """A layer of PyTorch's own."""
    shapes: Shapes = {}
    for attention in ("self_attn", "multihead_attn") if decoder else ("self_attn",):
        shapes |= {f"{name}.{attention}.in_proj_weight": (3 * dim, dim), f"{name}.{attention}.in_proj_bias": (3 * dim,)}
        shapes |= linear(f"{name}.{attention}.out_proj", dim, dim)
    shapes |= linear(f"{name}.linear1", feed, dim) | linear(f"{name}.linear2", dim, feed)
    for norm in (1, 2, 3) if decoder else (1, 2):
        shapes |= {f"{name}.norm{norm}.{leaf}": (dim,) for leaf in ("weight", "bias")}
    return shapes


def echomask_shapes(
    dim: int = 768, features: int = 256, feed: int = 2048, codes: int = 256, speakers: int = 25
) -> Shapes:
    """EchoMask's main network, with what its release never uses."""
    f = features
    shapes: Shapes = {"mask_embeddings": (1, 1, 337), "position_embeddings.pe": (1, 128, dim)}
    shapes |= _alignment(f) | _residual_heads(f, codes) | _unused(dim, f, feed)
    shapes["mask_generator.fusion_weights"] = (3,)
    for layer in range(8):
        shapes |= transformer(f"mask_generator.shared_transformer_decoder.layers.{layer}", dim, feed)
    for level in range(3):
        shapes |= convolution(f"motion_encoder.main.{3 * level}", f, f if level else 337, 3)
        for half in (0, 2):
            shapes |= convolution(f"motion_encoder.main.{3 * level + 2}.model.{half}", f, f, 3)
    for branch in ("face", "body"):
        shapes[f"spearker_encoder_{branch}.weight"] = (speakers, dim)
        shapes |= two_layers(f"bodyhints_{branch}", f, dim, f)
    for name in ("spearker_encoder_body1d", "body1d"):
        shapes |= convolution(name, dim, dim, 2)
    for name in ("face1d", "face1d_2", *(f"{part}1d" for part in MOVING)):
        shapes |= convolution(name, f, f, 2)
    shapes |= linear("feature2face", dim, 2 * f) | linear("face2latent", f, dim) | linear("feature2motion", dim, f)
    for layer in range(4):
        shapes |= transformer(f"face_decoder.layers.{layer}", dim, 2 * dim)
    shapes |= two_layers("face_latent_mlp", f, dim, f)
    shapes |= transformer("motion_self_encoder.layers.0", dim, 2 * dim, decoder=False)
    for part in MOVING:
        shapes |= linear(f"audio_feature2motion_{part}", dim, f) | two_layers(f"motion2latent_{part}", dim, dim, dim)
        shapes |= transformer(f"{part}_decoder.layers.0", dim, 2 * dim) | linear(f"motion_down_{part}", f, dim)
    for name in ("hands_face", "face_hands", "upper_hands", "lower_hands"):
        shapes |= transformer(f"{name}_decoder.layers.0", f, 2 * f)
    for part in PARTS:
        shapes |= two_layers(f"{part}_classifier", f, dim, codes)
    return shapes


def _alignment(dim: int) -> Shapes:
    shapes: Shapes = {f"MAM.position_embeddings{kind}.pe": (1, 128, dim) for kind in ("", "_hubert")}
    for part in PARTS:
        shapes[f"MAM.moau_query_{part}"] = (1, 1, dim)
        for stack in (1, 2, 3):
            for layer in range(2):
                name = f"MAM.motion_encoder_{part}_{stack}.layers.{layer}"
                shapes |= transformer(name, dim, 2 * dim, decoder=False)
        for level in ("low", "high"):
            shapes |= transformer(f"MAM.{part}_decoder_{level}.layers.0", dim, 2 * dim)
        shapes |= two_layers(f"MAM.predict_motion_{part}", dim, dim, dim)
        shapes |= two_layers(f"MAM.match_{part}_classifier", 2 * dim, dim, 2)
    return shapes


def _residual_heads(dim: int, codes: int) -> Shapes:
    shapes: Shapes = {}
    for part in PARTS:
        for book in range(1, 6):
            for layer in range(3):
                shapes |= transformer(f"predict_res_{part}.cross_attn_{book}.layers.{layer}", dim, 4 * dim)
            shapes |= two_layers(f"predict_res_{part}.classfier_{book}", dim, dim, codes)
        for book in range(2, 6):
            shapes |= linear(f"predict_res_{part}.map_zq{book}", dim, book * dim)
    return shapes


def _unused(dim: int, f: int, feed: int) -> Shapes:
    """What no release of EchoMask reads."""
    shapes: Shapes = {}
    for layer in range(8):
        shapes |= transformer(f"wordhints_decoder.layers.{layer}", dim, feed)
    shapes |= transformer("transformer_de_layer", dim, 2 * dim) | transformer("transformer_de_fu_layer", f, 2 * f)
    shapes |= transformer("transformer_en_layer", dim, 2 * dim, decoder=False)
    shapes |= transformer("MAM.transformer_en_layer", f, 2 * f, decoder=False)
    shapes |= transformer("MAM.transformer_de_layer", f, 2 * f)
    for part in PARTS:
        shapes |= transformer(f"predict_res_{part}.cross_layer", f, 4 * f)
    for name in ("hubert_encoder", "hubert_encoder_body"):
        shapes |= {f"{name}.0.weight": (f, 1024, 3), f"{name}.3.weight": (f, f, 3)}
        shapes |= {f"{name}.1.{leaf}": (f,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.1.num_batches_tracked"] = ()
    for branch in ("face", "hands"):
        shapes |= two_layers(f"{branch}_cons_mlp", f, dim, f)
    for branch in ("face", "body"):
        shapes |= two_layers(f"audio_pre_encoder_{branch}", 3, dim, f) | linear(f"at_attn_{branch}", 2 * f, 2 * f)
    for joint in range(57):
        shapes |= linear(f"joint_dim_reducer.linears.{joint}", 6, 6)
    return shapes


def echomask_weights(
    seed: int = 0, dim: int = 16, features: int = 8, feed: int = 24, codes: int = 5
) -> dict[str, Tensor]:
    """A small network of the release's layout: random weights, tables of positions as they are."""
    from maskmotion.nn.transformer import positions

    weights = random_weights(echomask_shapes(dim, features, feed, codes, speakers=3), seed)
    for name, value in weights.items():
        if name.endswith(".pe"):
            weights[name] = positions(64, value.shape[2], value).repeat(2, 1)[None]
    return weights


def write_echomask_folder(folder: Path, network: dict[str, Tensor], width: int = 8, codes: int = 5) -> Path:
    """A folder as the release's drive has it: the main network, four RVQ-VAEs, the global motion predictor."""
    write_bin(folder / "best_echomask.bin", network)
    for number, part in enumerate(PARTS):
        write_bin(folder / f"rvq_{part}_500.bin", random_weights(rvq_shapes(part, width, codes, 6), number))
    write_bin(folder / "last_1700_foot.bin", random_weights(emage_shapes("global", width), 9))
    return folder
