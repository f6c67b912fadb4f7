"""Losses of masked motion models, as plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import SEMANTIC_SCORE


def code_losses(logits: Float[Tensor, "B N Q K"], codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q"]:
    """Cross-entropy in nats of every code; 0 where the code is -1 (padding, dropped layer)."""
    flat = F.cross_entropy(logits.flatten(0, 2), codes.clamp(min=0).flatten(), reduction="none")
    return flat.view(codes.shape) * (codes >= 0)


def layer_weights(num_layers: int, like: Tensor) -> Float[Tensor, " Q"]:
    """1 / (q + 1), normalised: coarse layers count more (EchoMask's release)."""
    weights = 1 / torch.arange(1, num_layers + 1, device=like.device, dtype=like.dtype)
    return weights / weights.sum()


def weighted_mean(values: Float[Tensor, "B N"], weight: Float[Tensor, "B N"]) -> Float[Tensor, ""]:
    """Mean of the values under a weight; 0 when nothing has weight."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def semantic_loss(
    logits: Float[Tensor, "B T"], semantic: Float[Tensor, "B T"], valid: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """L_sem: binary cross-entropy of frame scores against semantic labels (EchoMask, section 3.4)."""
    target = (semantic > SEMANTIC_SCORE).to(logits)
    return weighted_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid.to(logits))
