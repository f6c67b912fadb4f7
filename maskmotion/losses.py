"""Losses of masked motion models, as plain functions."""

from __future__ import annotations

from typing import Literal

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


def info_nce(
    queries: Float[Tensor, "B N C"],
    keys: Float[Tensor, "B N C"],
    valid: Bool[Tensor, "B N"] | None = None,
    temperature: float = 0.1,
    negatives: Literal["clip", "batch"] = "clip",
) -> Float[Tensor, ""]:
    """InfoNCE: how surely a query picks the key of its own place by cosine similarity over temperature (EchoMask, eq. 5).

    Cross-entropy in nats, its mean over the valid queries (eq. 5 has their sum); 0 when none is valid. "clip": the softmax
    runs over the keys of the query's own row, as in the release; "batch": over those of all rows. What is not valid is
    neither query nor key.
    """
    if temperature <= 0:
        raise ValueError(f"a temperature is above 0, got {temperature}")
    valid = torch.ones_like(queries[..., 0], dtype=torch.bool) if valid is None else valid
    if negatives == "batch":
        queries, keys, valid = queries.flatten(0, 1)[None], keys.flatten(0, 1)[None], valid.flatten()[None]
    with torch.autocast(queries.device.type, enabled=False):  # a tenth of a cosine of 8 bits is no likelihood
        cosine = F.normalize(queries.float(), dim=-1, eps=1e-6) @ F.normalize(keys.float(), dim=-1, eps=1e-6).mT
    logits = (cosine / temperature).masked_fill(~valid[:, None, :], torch.finfo(cosine.dtype).min)
    own = logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
    return -weighted_mean(torch.where(valid, own, 0.0), valid.to(own))
