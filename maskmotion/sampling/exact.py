"""From soft to exact: what of a generated clip gives way to hints, in order: body, root path, and the hints themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from maskmotion.motion.layout import TRANSLATION
from maskmotion.sampling.blend import blend_body, blend_root
from maskmotion.sampling.borders import warn_of_short_gaps
from maskmotion.sampling.hints import Hints
from maskmotion.shapes import Bool, Float


def check_keep(hints: Hints | None, keep: str, start: Tensor | None) -> None:
    """Refuse what cannot be kept, warn of what cannot be blended well.

    Raises ValueError for another `keep` than "exact" and "soft", and for two answers to where the root is.
    """
    if keep not in ("exact", "soft"):
        raise ValueError(f'keep is "exact" or "soft", got {keep!r}')
    if hints is None or keep == "soft":
        return
    if start is not None and hints.known_trans.any():
        raise ValueError(
            f"start says where the root is and so do the hints, in {int(hints.known_trans.sum())} frames; leave start out, "
            "or hint without translation"
        )
    warn_of_short_gaps(*hints.channels())


def hold(
    pose: Float[Tensor, "seed D"], given: Float[Tensor, "T D"], hinted: Bool[Tensor, "T D"]
) -> Float[Tensor, "seed D"]:
    """The first known frames of a clip: of each column the hint last heard of (at first: the next one), else `pose`.

    So a clip whose first pose is hinted begins in that pose, not on a jump from it to the rest pose.
    """
    given, hinted = given[: len(pose)], hinted[: len(pose)]
    frames = torch.arange(len(hinted), device=hinted.device)[:, None]
    last = torch.where(hinted, frames, -1).cummax(dim=0).values
    heard = torch.where(last < 0, hinted.int().argmax(dim=0), last)
    held = torch.where(hinted.any(dim=0), given.gather(0, heard), pose[: len(hinted)])
    return torch.cat([held, held[-1:].expand(len(pose) - len(held), -1)])


def keep_exactly(
    soft: Float[Tensor, "T D"],
    given: Float[Tensor, "T D"],
    hinted: Bool[Tensor, "T D"],
    place: Callable[[Tensor], Tensor],
) -> Float[Tensor, "T D"]:
    """The hinted columns as given, and `soft` blended into them.

    place: [T, D] -> [T, D] with a root path that follows from the body, so from the blended one.
    """
    placed = place(blend_body(soft, given, hinted))
    placed[:, TRANSLATION] = blend_root(
        placed[:, TRANSLATION], given[:, TRANSLATION], hinted[:, TRANSLATION].all(dim=-1)
    )
    return torch.where(hinted, given.to(placed), placed)
