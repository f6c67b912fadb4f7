"""The weights of the fixtures, from the recipes that are published with them: numbers that follow from names.

EMAGE's and that of EchoMask differ in scale and in what seeds the numbers; SemTalk's adds to EchoMask's.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROTATIONS = {"face": 1, "upper": 13, "hands": 30, "lower": 9}


def normals(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normals that follow from a name."""
    return np.random.RandomState(zlib.crc32(key.encode())).standard_normal(size=tuple(shape))


def emage_weights(shapes: Shapes, tag: str, embedding_scale: float = 1.0) -> dict[str, Tensor]:
    """Weights of one of EMAGE's networks; what is structure (position tables) is left out."""
    return {
        name: _emage(f"{tag}/{name}", name, shape, embedding_scale)
        for name, shape in shapes.items()
        if not name.endswith("position_embeddings.pe")
    }


def _emage(key: str, name: str, shape: tuple[int, ...], embedding_scale: float) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var"):
        spread = np.random.RandomState(zlib.crc32(key.encode())).uniform(0, 1, size=tuple(shape))
        return _tensor(0.5 + spread)
    drawn = normals(key, shape)
    if len(shape) == 1 and name.endswith("weight"):
        return _tensor(1 + 0.1 * drawn)
    if len(shape) == 1:
        return _tensor(0.1 * drawn)
    if name == "mask_embedding":
        return _tensor(0.3 * drawn)
    if "embedding" in name:
        return _tensor(embedding_scale * drawn)
    gain = 1.0
    if name.endswith("in_proj_weight"):
        gain = 3.0
    elif name.endswith(("attn.out_proj.weight", "linear2.weight")):
        gain = 0.15
    return _tensor(gain * drawn / np.sqrt(math.prod(shape[1:])))


def emage_vq_weights(shapes: Shapes, tag: str, part: str) -> dict[str, Tensor]:
    """A VQ-VAE of EMAGE decodes to poses near rest; the global motion predictor is as it comes."""
    weights = emage_weights(shapes, tag, embedding_scale=0.5)
    if part in ROTATIONS:
        last = max(int(name.split(".")[2]) for name in shapes if name.startswith("decoder.main."))
        _towards_rest(weights, f"decoder.main.{last}", part, scale=0.3)
    return weights


def echomask_weights(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of EchoMask's networks: codebooks are standard normal, tables of positions are left out."""
    weights = {}
    for name, shape in shapes.items():
        if name.endswith(".pe"):
            continue
        drawn = normals(name, shape)
        if name.endswith("codebook"):
            weights[name] = _tensor(drawn)
        elif name.endswith("fusion_weights"):
            weights[name] = _tensor(0.33 + 0.1 * drawn)
        elif len(shape) > 1:
            weights[name] = _tensor(drawn.astype(np.float32) / np.float32(np.sqrt(math.prod(shape[1:]))))
        else:
            weights[name] = _tensor(1 + 0.1 * drawn if name.endswith(".weight") else 0.1 * drawn)
    return weights


def semtalk_weights(shapes: Shapes, part: str) -> dict[str, Tensor]:
    """Weights of SemTalk's tokenizers: those of EchoMask, whose decoders are brought near rest."""
    weights = echomask_weights(shapes)
    if part in ROTATIONS:
        _towards_rest(weights, "decoder.model.6", part, scale=0.1)
    return weights


def rows(seed: int, *shape: int) -> Tensor:
    """The inputs of the JSON fixtures."""
    return _tensor(np.random.RandomState(seed).standard_normal(shape))


def _towards_rest(weights: dict[str, Tensor], last: str, part: str, scale: float) -> None:
    """Shrink the last convolution and let its bias be the identity rotation."""
    weights[f"{last}.weight"] = weights[f"{last}.weight"] * scale
    bias = weights[f"{last}.bias"].clone()
    bias[: 6 * ROTATIONS[part]] += torch.tensor(IDENTITY * ROTATIONS[part])
    weights[f"{last}.bias"] = bias


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def summary(values: Tensor) -> dict[str, object]:
    """What the JSON fixtures keep of a tensor."""
    flat = values.double().flatten()
    return {
        "shape": list(values.shape),
        "sum": flat.sum().item(),
        "absmean": flat.abs().mean().item(),
        "first8": flat[:8].tolist(),
    }


def agree(found: Tensor, expected: Mapping[str, object]) -> list[str]:
    """Where a tensor and what a JSON fixture keeps of it differ: first values and means by 1e-4, sums by 1e-3 sqrt(n)."""
    ours = summary(found)
    differ: Iterable[tuple[str, object, object]] = [
        (name, ours[name], value)
        for name, value in expected.items()
        if not _close(name, ours[name], value, found.numel())
    ]
    return [f"{name}: {mine}, expected {theirs}" for name, mine, theirs in differ]


def _close(name: str, found: object, expected: object, count: int) -> bool:
    if name == "shape":
        return found == expected
    tolerance = 1e-3 * math.sqrt(count) if name == "sum" else 1e-4
    return bool(np.allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=tolerance))
