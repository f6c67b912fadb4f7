"""Loss terms on the columns of one body part, by name: `PartLosses` weighs them, `TERMS` lists them.

Terms of the releases of EMAGE and EchoMask, which share their tokenizers' losses, and two that supervise the
translation, which neither release does. Terms that need the whole body are in `body_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, IDENTITY_6D, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.shapes import Bool, Float

Difference = Literal["l1", "l2"]
_COSINE = 1 - 1e-6  # the arccos of the releases stops here, where its slope is still finite


def positive_weights(weights: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    """The weights above 0. Raises ValueError for a term that is not known and for a weight that is no number >= 0."""
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise ValueError(f"no loss term named {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"the weight of a loss term is 0 or more, got {name}={weight}; 0 leaves the term out")
    return {name: weight for name, weight in weights.items() if weight > 0}


def frame_mean(values: Float[Tensor, "B steps *rest"], valid: Bool[Tensor, "B T"] | None) -> Float[Tensor, ""]:
    """Mean over everything but padding; 0 when nothing is left.

    values: one a frame, or T - n of them when they are n-th differences of frames; such a value counts where all the
    n + 1 frames that it reads are valid.
    """
    values = values.flatten(2)
    steps = values.shape[1]
    if valid is None:
        weight = torch.ones_like(values[..., :1])
    else:
        reads = range(valid.shape[1] - steps + 1)
        weight = torch.stack([valid[:, i : i + steps] for i in reads]).all(0)[..., None].to(values)
    return (values * weight).sum() / (weight.sum() * values.shape[-1]).clamp(min=1)


class Comparison:
    """Prediction and target of one part, as its terms see them.

    Args:
        predicted, target: [B, T, D] in the motion's own units. scale: [D], the spread of each column.
        valid: [B, T]; padding is put at rest in both, so that nothing in it counts, whatever stands there.
        places: kind of column -> where in D its columns are, `places_of`.
        difference: how differences of rotations and expressions are measured.
    """

    def __init__(
        self,
        predicted: Float[Tensor, "B T D"],
        target: Float[Tensor, "B T D"],
        scale: Float[Tensor, " D"],
        valid: Bool[Tensor, "B T"] | None,
        places: Mapping[str, Sequence[int]],
        difference: Difference,
    ) -> None:
        predicted = predicted.to(target.dtype)
        if valid is not None:
            rest = torch.zeros_like(target[0, 0])
            rest[list(places["rotations"])] = rest.new_tensor(IDENTITY_6D).repeat(len(places["rotations"]) // 6)
            predicted, target = (torch.where(valid[..., None], motion, rest) for motion in (predicted, target))
        self.predicted, self.target, self.scale, self.valid = predicted, target, scale, valid
        self.places, self.difference = places, difference

    def error(self, kind: str, order: int = 0) -> Float[Tensor, "B steps _"]:
        """Prediction minus target of a kind of column; order 1 and 2: of their differences in time.

        The columns of the kind "columns" are scaled, "rotations" are matrices, the others are as they are.
        """
        if kind == "columns":
            error = (self.predicted - self.target) / self.scale
        elif kind == "rotations":
            error = (self.matrices[0] - self.matrices[1]).flatten(2)
        else:
            places = list(self.places[kind])
            error = self.predicted[..., places] - self.target[..., places]
        return error.diff(n=order, dim=1) if order else error

    @cached_property
    def matrices(self) -> tuple[Float[Tensor, "B T joints 3 3"], Float[Tensor, "B T joints 3 3"]]:
        """Rotation matrices of the part's whole joints: predicted, target."""
        places = list(self.places["rotations"])
        predicted, target = (motion[..., places].unflatten(-1, (-1, 6)) for motion in (self.predicted, self.target))
        return matrix_from_6d(predicted), matrix_from_6d(target)

    def l1(self, kind: str, order: int = 0) -> Float[Tensor, ""]:
        """Mean absolute error."""
        return frame_mean(self.error(kind, order).abs(), self.valid)

    def l2(self, kind: str, order: int = 0) -> Float[Tensor, ""]:
        """Mean squared error."""
        return frame_mean(self.error(kind, order).square(), self.valid)

    def differ(self, kind: str, order: int) -> Float[Tensor, ""]:
        """Error of differences in time, by the norm that the part was given."""
        return self.l1(kind, order) if self.difference == "l1" else self.l2(kind, order)


def reconstruction(part: Comparison) -> Tensor:
    """Mean squared error of the scaled columns."""
    return part.l2("columns")


def velocity(part: Comparison) -> Tensor:
    """Mean squared error of the scaled columns' differences from frame to frame."""
    return part.l2("columns", 1)


def acceleration(part: Comparison) -> Tensor:
    """Mean squared error of the scaled columns' second differences."""
    return part.l2("columns", 2)


def geodesic(part: Comparison) -> Tensor:
    """Mean angle in radians between predicted and target rotations; a perfect one costs 0.0014, the clamp's angle."""
    predicted, target = part.matrices
    cosine = ((predicted * target).sum((-2, -1)) - 1) / 2  # trace of the product of one with the other's transpose
    return frame_mean(cosine.clamp(-_COSINE, _COSINE).arccos(), part.valid)


def rotation_velocity(part: Comparison) -> Tensor:
    """Error of the rotation matrices' differences from frame to frame, l1 or l2."""
    return part.differ("rotations", 1)


def rotation_acceleration(part: Comparison) -> Tensor:
    """Error of the rotation matrices' second differences, l1 or l2."""
    return part.differ("rotations", 2)


def expression(part: Comparison) -> Tensor:
    """Mean squared error of the expression coefficients."""
    return part.l2("expressions")


def expression_velocity(part: Comparison) -> Tensor:
    """Error of the expression coefficients' differences from frame to frame, l1 or l2."""
    return part.differ("expressions", 1)


def expression_acceleration(part: Comparison) -> Tensor:
    """Error of the expression coefficients' second differences, l1 or l2."""
    return part.differ("expressions", 2)


def contact(part: Comparison) -> Tensor:
    """Mean squared error of the foot contacts."""
    return part.l2("contacts")


def translation(part: Comparison) -> Tensor:
    """Mean absolute error of the translation in metres. No release has it: their lower bodies drift unpunished."""
    return part.l1("translation")


def translation_velocity(part: Comparison) -> Tensor:
    """Mean absolute error of the translation's differences, metres a frame. No release has it."""
    return part.l1("translation", 1)


_TERMS_OF: dict[str, tuple[Callable[[Comparison], Tensor], ...]] = {
    "columns": (reconstruction, velocity, acceleration),
    "rotations": (geodesic, rotation_velocity, rotation_acceleration),
    "expressions": (expression, expression_velocity, expression_acceleration),
    "contacts": (contact,),
    "translation": (translation, translation_velocity),
}
TERMS: Mapping[str, Callable[[Comparison], Tensor]] = {
    term.__name__: term for terms in _TERMS_OF.values() for term in terms
}
"""Every term of a part: name -> function, whose docstring says what it measures."""


def places_of(columns: Sequence[int]) -> dict[str, list[int]]:
    """Kind of column -> where among a part's columns it stands, in the motion tensor's order.

    "rotations" holds the joints of which the part has all 6 columns, "columns" everything.
    """
    place = {column: position for position, column in enumerate(columns)}
    joints = [range(6 * joint, 6 * joint + 6) for joint in range(NUM_JOINTS)]
    kinds = {"translation": TRANSLATION, "contacts": CONTACTS, "expressions": EXPRESSIONS}
    return {
        "columns": list(range(len(columns))),
        "rotations": [place[c] for joint in joints if all(c in place for c in joint) for c in joint],
        **{kind: [place[c] for c in range(s.start, s.stop) if c in place] for kind, s in kinds.items()},
    }


class PartLosses:
    """Weighted terms of one part.

    The weights may name terms of other parts' columns (contacts for a hand): they are left out there, so that one
    table serves all parts of a body.

    Args:
        weights: term -> weight, 0 or more; the names are those of `TERMS`.
        columns: the part's columns of the motion tensor, in order (`BodyLayout.columns[part]`).
        difference: differences in time of rotations and expressions are measured by mean absolute ("l1") or mean
            squared ("l2") error. The releases take l1 but for the face, which takes l2 in EMAGE and l1 in EchoMask.

    Raises:
        ValueError: an unknown term, a negative weight, or another word for `difference`.
    """

    def __init__(self, weights: Mapping[str, float], columns: Sequence[int], difference: Difference = "l1") -> None:
        if difference not in ("l1", "l2"):
            raise ValueError(f"difference is 'l1' or 'l2', got {difference!r}")
        given = positive_weights(weights, TERMS)
        self.places, self.difference = places_of(columns), difference
        mine = {term.__name__ for kind, terms in _TERMS_OF.items() if self.places[kind] for term in terms}
        self.weights = {name: weight for name, weight in given.items() if name in mine}

    def __call__(
        self,
        predicted: Float[Tensor, "B T D"],
        target: Float[Tensor, "B T D"],
        scale: Float[Tensor, " D"],
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> dict[str, Tensor]:
        """Term -> weighted loss, []. Motion in its own units; scale: what the terms on plain columns divide by."""
        part = Comparison(predicted, target, scale, valid, self.places, self.difference)
        return {name: weight * TERMS[name](part) for name, weight in self.weights.items()}
