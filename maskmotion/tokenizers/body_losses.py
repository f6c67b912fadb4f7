"""Loss terms on the whole body, by name: `BodyLosses` weighs them, `BODY_TERMS` lists them.

The releases of EMAGE and EchoMask pose each part alone with all others at rest, so that a wrist is judged without its
shoulder. Here the parts are joined first: a wrist pays for its shoulder's error, and all parts share one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION
from maskmotion.motion.skeleton import FEET
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.losses import frame_mean, positive_weights

if TYPE_CHECKING:
    from maskmotion.motion.body_model import BodyModel


class BodyComparison:
    """Prediction and target of the whole body, as its terms see them: joints and vertices, made on first use.

    Padding is put at rest in both, so that nothing in it counts. Without a body model the joints are those of the
    generic skeleton, with one they are the mean body's.
    """

    def __init__(
        self,
        predicted: Float[Tensor, "B T D"],
        target: Float[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"] | None,
        body_model: BodyModel | None,
    ) -> None:
        if valid is not None:
            rest = SMPLX.rest.to(target)
            predicted, target = (torch.where(valid[..., None], motion, rest) for motion in (predicted, target))
        self.predicted, self.target, self.valid, self.body_model = predicted, target, valid, body_model

    @cached_property
    def joints(self) -> tuple[Float[Tensor, "B T 55 3"], Float[Tensor, "B T 55 3"]]:
        """Joint positions in metres without the translation: predicted, target."""
        offsets = None if self.body_model is None else self.body_model.offsets
        predicted, target = (
            forward_kinematics(_rotations(motion), torch.zeros_like(motion[..., TRANSLATION]), offsets)
            for motion in (self.predicted, self.target)
        )
        return predicted, target

    @cached_property
    def vertex_error(self) -> Float[Tensor, "B T vertices 3"]:
        """Predicted minus target vertices in metres, mean shape, without the translation."""
        assert self.body_model is not None  # BodyLosses has looked
        predicted, target = (
            self.body_model(_rotations(motion), motion[..., EXPRESSIONS])[0] for motion in (self.predicted, self.target)
        )
        return predicted - target


def joints(body: BodyComparison) -> Tensor:
    """Mean squared error of the 55 joints' positions (m) without the translation.

    The releases have it for the lower body alone, over SMPL-X's 127 points.
    """
    predicted, target = body.joints
    return frame_mean((predicted - target).square(), body.valid)


def foot_sliding(body: BodyComparison) -> Tensor:
    """Mean absolute displacement (m a frame, along an axis) of predicted feet that the target has on the ground.

    The feet move with the predicted translation. The releases leave the translation out, so that a body may slide as
    a whole, and look at the predicted contact, which rewards predicting none; their mean is over all frames, with 0
    where a foot is in the air, and weighs 20.
    """
    feet = body.joints[0][..., list(FEET), :] + body.predicted[..., None, TRANSLATION]
    grounded = (body.target[:, :-1, CONTACTS] > 0.5)[..., None]
    slid = frame_mean(feet.diff(dim=1).abs() * grounded, body.valid)
    return slid / frame_mean(grounded.to(slid), body.valid).clamp(min=1e-6)


def vertices(body: BodyComparison) -> Tensor:
    """Mean squared error of the SMPL-X vertices (m) without the translation, in the mean shape."""
    return frame_mean(body.vertex_error.square(), body.valid)


def vertex_velocity(body: BodyComparison) -> Tensor:
    """Mean absolute error of the vertices' differences from frame to frame, metres.

    In time: the releases' tensor has frames and vertices in other places than their slices say, so that they compare
    each vertex with the next one of the mesh.
    """
    return frame_mean(body.vertex_error.diff(dim=1).abs(), body.valid)


def vertex_acceleration(body: BodyComparison) -> Tensor:
    """Mean absolute error of the vertices' second differences in time, metres (see `vertex_velocity`)."""
    return frame_mean(body.vertex_error.diff(n=2, dim=1).abs(), body.valid)


_MESH_TERMS: tuple[Callable[[BodyComparison], Tensor], ...] = (vertices, vertex_velocity, vertex_acceleration)
BODY_TERMS: Mapping[str, Callable[[BodyComparison], Tensor]] = {
    term.__name__: term for term in (joints, foot_sliding, *_MESH_TERMS)
}
"""Every term of the whole body: name -> function, whose docstring says what it measures."""


class BodyLosses:
    """Weighted terms of the whole body.

    Args:
        weights: term -> weight, 0 or more; the names are those of `BODY_TERMS`.
        body_model: SMPL-X, for the terms on vertices. It is moved to the device of the motion.

    Raises:
        ValueError: an unknown term, a negative weight, or a term on vertices without a body model.
    """

    def __init__(self, weights: Mapping[str, float], body_model: BodyModel | None = None) -> None:
        self.weights, self.body_model = positive_weights(weights, BODY_TERMS), body_model
        mesh = [term.__name__ for term in _MESH_TERMS if term.__name__ in self.weights]
        if mesh and body_model is None:
            raise ValueError(
                f"the loss terms {', '.join(mesh)} need the SMPL-X mesh: pip install 'maskmotion[body]', download "
                "SMPLX_NEUTRAL_2020.npz from its makers, and give body_model=BodyModel(path)"
            )

    def __call__(
        self,
        predicted: Float[Tensor, "B T 437"],
        target: Float[Tensor, "B T 437"],
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> dict[str, Tensor]:
        """Term -> weighted loss, [], of motions in their own units."""
        model = None if self.body_model is None else self.body_model.to(target.device)
        with torch.autocast(target.device.type, enabled=False):  # positions need more than half precision
            body = BodyComparison(predicted.to(target.dtype), target, valid, model)
            return {name: weight * BODY_TERMS[name](body) for name, weight in self.weights.items()}


def _rotations(motion: Tensor) -> Tensor:
    return motion[..., ROTATIONS].unflatten(-1, (-1, 6))
