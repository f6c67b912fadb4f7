"""How good tokens are: error of the motion that comes back, by part and by depth, and how many codes are in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS, BodyLayout
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.quantizers.codebook import perplexity
from maskmotion.shapes import Float, Int
from maskmotion.tokenizers.body import BodyTokenizer


class PartError(NamedTuple):
    """Mean error of one part. NaN for what the part does not have."""

    degrees: float
    """Angle between the local rotations of its joints."""
    centimetres: float
    """Distance of its joints from where they should be, the pelvis at its true place, by the library's own skeleton."""
    expression: float
    """Squared error of its expression coefficients over their variance; 1 is what the mean face scores."""


class CodeUse(NamedTuple):
    """Use of the codes of one part, by layer."""

    perplexity: Float[Tensor, " Q"]
    unused: Int[Tensor, " Q"]


def part_errors(
    layout: BodyLayout, truth: Float[Tensor, "T D"], predicted: Float[Tensor, "T D"]
) -> dict[str, PartError]:
    """Part -> error of a predicted motion. What no part covers is taken from the truth."""
    covered = torch.zeros(layout.dim, dtype=torch.bool)
    covered[[column for columns in layout.columns.values() for column in columns]] = True
    whole = torch.where(covered.to(truth.device), predicted, truth)
    rotations = [motion[:, ROTATIONS].unflatten(-1, (-1, 6)) for motion in (truth, whole)]
    true, own = (matrix_from_6d(rotation) for rotation in rotations)
    angle = (((true * own).sum((-2, -1)) - 1) / 2).clamp(-1, 1).arccos().rad2deg()  # [T, 55]
    still = truth.new_zeros(len(truth), 3)
    placed = [forward_kinematics(rotation, still) for rotation in rotations]
    distance = 100 * (placed[0] - placed[1]).norm(dim=-1)  # [T, 55]
    errors = {}
    for part, columns in layout.columns.items():
        joints = sorted({column // 6 for column in columns if column < ROTATIONS.stop})
        faces = [column for column in columns if column >= EXPRESSIONS.start]
        errors[part] = PartError(
            degrees=float(angle[:, joints].mean()) if joints else float("nan"),
            centimetres=float(distance[:, joints].mean()) if joints else float("nan"),
            expression=_unexplained(truth[:, faces], whole[:, faces]) if faces else float("nan"),
        )
    return errors


def _unexplained(truth: Tensor, predicted: Tensor) -> float:
    return float((truth - predicted).square().mean() / truth.var(0, correction=0).mean())


@torch.no_grad()
def errors_by_depth(body: BodyTokenizer, motion: Float[Tensor, "T D"]) -> list[dict[str, PartError]]:
    """Errors of the reconstruction from the first 1, 2, ... Q residual layers."""
    codes = body.tokenize(motion[None].to(body.mean.device))
    found = []
    for depth in range(1, body.num_layers + 1):
        cut = {part: index.clone() for part, index in codes.items()}
        for index in cut.values():
            index[..., depth:] = -1
        predicted = body.detokenize(cut, len(motion))[0].cpu()
        found.append(part_errors(body.layout, motion, predicted))
    return found


@torch.no_grad()
def code_use(body: BodyTokenizer, motions: Iterable[Float[Tensor, "T D"]]) -> dict[str, CodeUse]:
    """Part -> perplexity and number of unused codes of each layer, over all tokens of these motions."""
    pieces: dict[str, list[Tensor]] = {part: [] for part in body.parts}
    for motion in motions:
        for part, codes in body.tokenize(motion[None].to(body.mean.device)).items():
            pieces[part].append(codes[0].cpu())
    return {part: use_of(torch.cat(rows), body.codebook_size) for part, rows in pieces.items()}


def use_of(codes: Int[Tensor, "M Q"], size: int) -> CodeUse:
    """Perplexity and number of unused codes of each layer."""
    layers = codes.unbind(1)
    if not layers:  # no codebooks
        return CodeUse(torch.zeros(0), torch.zeros(0, dtype=torch.long))
    counts = [torch.bincount(layer[layer >= 0], minlength=size) for layer in layers]
    return CodeUse(
        torch.stack([perplexity(layer, size) for layer in layers]),
        torch.stack([(count == 0).sum() for count in counts]),
    )


def flat(use: Mapping[str, CodeUse]) -> dict[str, float]:
    """One number an entry, for a log: `upper/perplexity/0`, `upper/unused/0` and so on."""
    return {
        f"{part}/{name}/{layer}": float(value)
        for part, one in use.items()
        for name, values in one._asdict().items()
        for layer, value in enumerate(values)
    }
