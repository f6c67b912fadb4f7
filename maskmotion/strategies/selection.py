"""Hard, soft and random hiding from scores: the one selection that every masker shares (EchoMask, section 3.4, eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.shapes import Bool, Float

_TOLERANCE = 1e-6  # schedules are floats: 0.5 - 0.2 - 0.3 is not exactly 0


def select(
    scores: Float[Tensor, "B *unit"],
    valid: Bool[Tensor, "B T"],
    ratio: float,
    hard: float,
    soft: float,
    rng: torch.Generator,
) -> Bool[Tensor, "B *unit"]:
    """Hide round(ratio * valid) units of every row, True = hidden; padding is never hidden.

    Of these, round(hard * valid) are the top of the scores, round(soft * valid) are drawn without replacement from all
    units not taken yet in proportion to score - min(score), and the rest is uniformly random. A unit is a frame for
    scores [B, T], a joint or column in a frame for [B, T, J]; shares are shares of the row's valid units.

    The release draws its soft frames out of exactly as many candidates as it needs, so that its schedule does nothing
    (specs of EchoMask, section 7); here soft hiding really samples over all frames, as the paper says.

    Raises ValueError unless 0 <= hard + soft <= ratio <= 1, and for scores that are not finite on valid frames.
    """
    _check_shares(ratio, hard, soft)
    flat, allowed = _flatten(scores, valid)
    count = allowed.sum(dim=1)  # [B]
    total = _round(ratio * count)
    take_hard = torch.minimum(_round(hard * count), total)
    take_soft = torch.minimum(_round(soft * count), total - take_hard)

    noise = torch.rand(2, *flat.shape, generator=rng).to(flat.device).clamp(min=1e-30)
    hidden = _top(flat.masked_fill(~allowed, -torch.inf), take_hard)
    free = allowed & ~hidden
    # Gumbel top-k: the k largest of log(weight) + Gumbel noise are a draw without replacement in proportion to weight
    weight = (flat - flat.masked_fill(~allowed, torch.inf).amin(dim=1, keepdim=True)).clamp(min=0)
    gumbel = -torch.log((-torch.log(noise[0])).clamp(min=1e-30))
    keys = torch.log(weight + 1e-20) + gumbel  # weight 0 comes last, and then uniformly
    hidden = hidden | _top(keys.masked_fill(~free, -torch.inf), take_soft)
    free = allowed & ~hidden
    hidden = hidden | _top(noise[1].masked_fill(~free, -torch.inf), total - take_hard - take_soft)
    return hidden.view(scores.shape)


def _check_shares(ratio: float, hard: float, soft: float) -> None:
    ok = hard >= -_TOLERANCE and soft >= -_TOLERANCE and hard + soft <= ratio + _TOLERANCE and ratio <= 1 + _TOLERANCE
    if not ok:
        raise ValueError(
            f"need hard >= 0, soft >= 0 and hard + soft <= ratio <= 1, got hard={hard:g} soft={soft:g} ratio={ratio:g}; "
            "lower hard or soft, or raise ratio"
        )


def _flatten(scores: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, units] in float32 and which units may be hidden [B, units]; padding's scores become 0."""
    if scores.shape[:2] != valid.shape:
        raise ValueError(
            f"scores must be [B, T] or [B, T, J] with [B, T] = {list(valid.shape)}, got {list(scores.shape)}"
        )
    allowed = valid.view(*valid.shape, *[1] * (scores.ndim - 2)).expand(scores.shape).flatten(1)
    flat = scores.float().flatten(1).masked_fill(~allowed, 0.0)
    if not flat.isfinite().all():
        raise ValueError("scores must be finite on every valid frame; got NaN or infinity from the masker's scores()")
    return flat, allowed


def _round(share: Tensor) -> Tensor:
    """Half up, with a little help against 0.3 * 10 = 2.999."""
    return torch.floor(share + 0.5 + 1e-6).long()


def _top(keys: Tensor, count: Tensor) -> Tensor:
    """The `count[b]` largest keys of each row as a mask."""
    rank = keys.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < count[:, None]
