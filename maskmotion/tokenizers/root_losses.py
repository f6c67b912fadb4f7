"""Loss terms of a root predictor: velocity, height and the path they integrate to (EMAGE's release)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.losses import frame_mean, positive_weights

ROOT_TERMS = (
    *("velocity", "velocity_change", "velocity_curvature", "height"),
    *("position", "position_change", "position_curvature", "contact"),
)
ROOT_WEIGHTS: Mapping[str, float] = {
    "contact": 1.0,
    "velocity": 1.0,
    "velocity_change": 5.0,
    "velocity_curvature": 5.0,
    "position": 1.0,
    "position_change": 5.0,
    "position_curvature": 5.0,
}
"""The terms of the releases of EMAGE and EchoMask, with their weights."""


def root_losses(
    predicted: Float[Tensor, "B T 3"],
    translation: Float[Tensor, "B T 3"],
    velocity: Float[Tensor, "B T 3"],
    predicted_contacts: Float[Tensor, "B T 4"] | None = None,
    contacts: Float[Tensor, "B T 4"] | None = None,
    valid: Bool[Tensor, "B T"] | None = None,
    fps: int = 30,
    weights: Mapping[str, float] = ROOT_WEIGHTS,
    scale: Float[Tensor, " 3"] | None = None,
) -> dict[str, Tensor]:
    """Term -> weighted loss, []; without contacts there is no `contact`.

    contact: mean squared error. The rest are mean absolute errors. velocity, velocity_change, velocity_curvature:
    horizontal velocity (m/s), its first and its second differences, x and z summed. height: of y (m). position,
    position_change, position_curvature: the path (m) that starts where the target does, and its differences. The
    releases' further terms compare the vertices of two bodies in the same pose, which is the path again.

    predicted: velocity x (m/s), height y (m), velocity z. translation: the target, metres. velocity: its velocity,
    `central_velocity` in the releases. scale: velocities and height are divided by it. Padding is at the end.

    Raises ValueError for an unknown term or a negative weight.
    """
    wanted = positive_weights(weights, ROOT_TERMS)
    if valid is not None:
        predicted, translation = (torch.where(valid[..., None], x, 0.0) for x in (predicted, translation))
    goal = torch.stack([velocity[..., 0], translation[..., 1], velocity[..., 2]], dim=-1)
    error = predicted - goal if scale is None else (predicted - goal) / scale
    path = integrate(predicted, fps, translation[:, 0]) - translation
    terms = {"height": frame_mean(error[..., 1:2].abs(), valid)}
    for order, suffix in enumerate(("", "_change", "_curvature")):
        speeds, places = error[..., 0::2].diff(n=order, dim=1), path.diff(n=order, dim=1)
        terms[f"velocity{suffix}"] = 2 * frame_mean(speeds.abs(), valid)
        terms[f"position{suffix}"] = frame_mean(places.abs(), valid)
    if predicted_contacts is not None and contacts is not None:
        terms["contact"] = frame_mean((predicted_contacts - contacts).square(), valid)
    return {name: weight * terms[name] for name, weight in wanted.items() if name in terms}


def forward_velocity(
    translation: Float[Tensor, "B T 3"], valid: Bool[Tensor, "B T"] | None = None, fps: int = 30
) -> Float[Tensor, "B T 3"]:
    """Velocity in m/s to the next frame, the last valid one repeated; it integrates back to the path exactly."""
    step = translation.diff(dim=1) * fps
    if step.shape[1] == 0:
        return torch.zeros_like(translation)
    if valid is not None:
        step = step * (valid[:, 1:] & valid[:, :-1])[..., None]
    last = torch.full(step.shape[:1], step.shape[1] - 1) if valid is None else valid.sum(1).cpu() - 2
    frames = torch.arange(translation.shape[1]).expand(len(step), -1)
    return step.gather(1, frames.minimum(last.clamp(min=0)[:, None])[..., None].expand(-1, -1, 3).to(step.device))


def central_velocity(
    translation: Float[Tensor, "B T 3"], valid: Bool[Tensor, "B T"] | None = None, fps: int = 30
) -> Float[Tensor, "B T 3"]:
    """Velocity in m/s by central differences, one-sided at both ends of the valid frames; 0 for a lone frame."""
    step = translation.diff(dim=1) * fps
    there = torch.ones_like(step[..., :1])
    if valid is not None:
        there = (valid[:, 1:] & valid[:, :-1])[..., None].to(step)
    step = step * there
    count = F.pad(there, (0, 0, 1, 0)) + F.pad(there, (0, 0, 0, 1))
    return (F.pad(step, (0, 0, 1, 0)) + F.pad(step, (0, 0, 0, 1))) / count.clamp(min=1)


def integrate(
    predicted: Float[Tensor, "B T 3"], fps: int, start: Float[Tensor, "B 3"] | None = None
) -> Float[Tensor, "B T 3"]:
    """Velocity x, height y, velocity z -> positions (m) from the x and z of `start` (default 0); the last velocity is unused."""
    path = (F.pad(predicted[:, :-1, 0::2], (0, 0, 1, 0)) / fps).cumsum(dim=1)
    if start is not None:
        path = path + start[:, None, 0::2]
    return torch.stack([path[..., 0], predicted[..., 1], path[..., 1]], dim=-1)
