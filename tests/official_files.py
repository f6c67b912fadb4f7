"""Files in the layouts of the official releases, written by the tests: names and shapes as published, weights of our own.

The shapes are written down here once more, apart from the converter's, so that one can be held against the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
SIZES = {"face": 106, "upper": 78, "hands": 180, "lower": 61}
LAYERS = {"face": 2, "upper": 2, "hands": 2, "lower": 4, "global": 4}


def convolution(name: str, out: int, dim: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (out, dim, kernel), f"{name}.bias": (out,)}


def emage_shapes(part: str, width: int = 256, codes: int = 256) -> Shapes:
    """EMAGE's VQ-VAE of a part, or its global motion predictor (part "global")."""
    size, layers = SIZES.get(part, 61), LAYERS[part]
    shapes: Shapes = {}
    for layer in range(layers):
        shapes |= convolution(f"encoder.main.{3 * layer}", width, width if layer else size, 3)
        for half in (0, 2):
            shapes |= convolution(f"encoder.main.{3 * layer + 2}.model.{half}", width, width, 3)
    if part != "global":
        shapes["quantizer.embedding.weight"] = (codes, width)
    for block in range(2):
        for half in (0, 2):
            shapes |= convolution(f"decoder.main.{block}.model.{half}", width, width, 3)
    for layer in range(layers):
        shapes |= convolution(f"decoder.main.{2 + 2 * layer}", size if layer == layers - 1 else width, width, 3)
    return shapes | convolution(f"decoder.main.{2 + 2 * layers}", size, size, 3)


def rvq_shapes(part: str, width: int = 256, codes: int = 256, books: int = 6) -> Shapes:
    """The RVQ-VAE of a part, as in EchoMask and SemTalk."""
    size = SIZES[part]
    shapes = convolution("encoder.model.0", width, size, 3)
    for stage in (2, 3):
        shapes |= convolution(f"encoder.model.{stage}.0", width, width, 4)
        shapes |= _stack(f"encoder.model.{stage}.1.model", width)
    shapes |= convolution("encoder.model.4", width, width, 3) | convolution("decoder.model.0", width, width, 3)
    for stage in (2, 3):
        shapes |= _stack(f"decoder.model.{stage}.0.model", width)
        shapes |= convolution(f"decoder.model.{stage}.2", width, width, 3)
    shapes |= convolution("decoder.model.4", width, width, 3) | convolution("decoder.model.6", size, width, 3)
    return shapes | {f"quantizer.layers.{book}.codebook": (codes, width) for book in range(books)}


def _stack(name: str, width: int) -> Shapes:
    shapes: Shapes = {}
    for block in range(3):
        shapes |= convolution(f"{name}.{block}.conv1", width, width, 3)
        shapes |= convolution(f"{name}.{block}.conv2", width, width, 1)
    return shapes


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the size of what runs through them."""
    rng = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {name: x / x[0].numel() ** 0.5 if x.ndim > 2 else 0.5 * x for name, x in drawn.items()}


def write_bin(path: Path, tensors: Mapping[str, Tensor], **beside: object) -> Path:
    """A file as the 2024 scripts write it: {"model_state": ...}, every name behind `module.`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model_state": {f"module.{name}": value for name, value in tensors.items()}, **beside}, path)
    return path


def write_plain_bin(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """pytorch_model.bin of the Hugging Face layout: a bare state dict."""
    path = path.with_name("pytorch_model.bin")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(tensors), path)
    return path


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), path)
    return path


def write_emage_folder(
    folder: Path,
    weights: Mapping[str, Mapping[str, Tensor]],
    write: Callable[[Path, Mapping[str, Tensor]], Path] = write_safetensors,
) -> Path:
    """`emage_vq/PART/{config.json, weights}`: part ("global" among them) -> tensors by official name."""
    for part, tensors in weights.items():
        place = folder / "emage_vq" / part
        write(place / "model.safetensors", tensors)
        width, size, _ = tensors["encoder.main.0.weight"].shape
        config = {
            "model_type": "emage_vaeconv" if part == "global" else "emage_vqvaeconv",
            **{"vae_layer": LAYERS[part], "vae_length": width, "vae_test_dim": size, "vae_quantizer_lambda": 1.0},
            "vae_codebook_size": len(tensors.get("quantizer.embedding.weight", torch.zeros(width))),
        }
        (place / "config.json").write_text(json.dumps(config))
    return folder


def other_weights(network: object) -> dict[str, Tensor]:
    """A state dict that is known as one of the networks that are kept: its marks, its dead weights, and its length."""
    marks = [f"{mark}weight" if mark.endswith(".") else mark for mark in network.marks]
    dead = [re.sub(r"\\w\+|\(.*?\)\?", "x", pattern).replace("\\", "") + ".weight" for pattern in network.dead]
    dead = [name.replace("hubert_encoderx", "hubert_encoder") for name in dead]
    names = dict.fromkeys([*marks, *dead])
    fill = (f"some_layer.{number}.weight" for number in range(network.tensors - len(names)))
    return {name: torch.full((2,), float(place)) for place, name in enumerate([*names, *fill])}
