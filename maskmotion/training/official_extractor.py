"""EMAGE's FGD extractor `AESKConv_240_100.bin` by its official names: what each weight is here, and what is checked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor, SkeletonLayer

EXTRACTOR = "fgd_extractor"  # what `official.OTHERS` calls it
DEAD = ("fc_mu", "fc_logvar")  # of the variational form, which the release never runs
_CONVOLUTIONS = {"conv": "residual.0", "shortcut": "shortcut"}


def extractor_names() -> dict[str, str]:
    """Official name -> ours, of every weight that is used."""
    found: dict[str, str] = {}
    for layer in range(4):
        stem = f"encoder.layers.{layer}.0"
        modules = {**_CONVOLUTIONS, "norm": "residual.1"}
        found |= {f"{stem}.{theirs}": f"layers.{layer}.{ours}" for ours, theirs in modules.items()}
    for block in range(2):
        for half, ours in ((0, "first"), (2, "second")):
            found[f"decoder.main.{block}.model.{half}"] = f"residuals.{block}.{ours}"
    found |= {f"decoder.main.{3 * step + 3}": f"up.{step}" for step in range(4)} | {"decoder.main.14": "out"}
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in found.items() for kind in ("weight", "bias")}


def build_extractor(tensors: Mapping[str, Tensor]) -> SkeletonExtractor:
    """The extractor with these weights, by official names without `module.`.

    The file also holds which bones see each other and which are averaged; it has to agree with our skeleton on that.

    Raises:
        ValueError: every weight that is missing, unknown, or of another shape, and every table that says otherwise.
    """
    built, names = SkeletonExtractor(), extractor_names()
    tables = extractor_tables(built)
    state = built.state_dict()
    known = {*names, *tables, *(f"{name}.{kind}" for name in DEAD for kind in ("weight", "bias"))}
    problems = [f"missing: {name}" for name in (*names, *tables) if name not in tensors]
    problems += [f"unknown: {name}" for name in tensors if name not in known]
    for name, ours in names.items():
        value = tensors.get(name, state[ours])
        if value.shape != state[ours].shape or not value.is_floating_point():
            problems.append(f"{name} is {tuple(value.shape)} {value.dtype}, needed {tuple(state[ours].shape)} floats")
        else:
            state[ours].copy_(value)
    for name, expected in tables.items():
        value = tensors.get(name, expected)
        if value.shape != expected.shape or not torch.allclose(value.to(expected), expected, atol=1e-6):
            problems.append(f"{name} says other bones than SMPL-X's skeleton of 55 joints")
    if problems:
        raise ValueError("\n".join(problems))
    return built.eval()


def extractor_tables(built: SkeletonExtractor) -> dict[str, Tensor]:
    """Official name -> the table that our own skeleton gives."""
    found: dict[str, Tensor] = {}
    for number, layer in enumerate(built.layers):
        assert isinstance(layer, SkeletonLayer)
        stem = f"encoder.layers.{number}.0"
        for ours, theirs in _CONVOLUTIONS.items():
            convolution = layer.conv if ours == "conv" else layer.shortcut
            found[f"{stem}.{theirs}.mask"] = convolution.near.expand_as(convolution.weight)
        if layer.pool is not None:
            found[f"{stem}.common.0.weight"] = layer.pool
    return found
