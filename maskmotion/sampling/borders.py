"""What happens where hints meet free motion: accelerations in plain units, and gaps too short to blend.

Acceleration is the second difference over three successive frames times fps^2: of local joint rotations the change of
angular velocity, in rad/s^2; of the root the vector's length, in m/s^2; of each expression coefficient the absolute
value, per s^2. A border triple is one that holds hinted and free frames. The border law: for hints cut from a clip with
free gaps of `SHORTEST_GAP` frames or more, no border triple is above the 99th percentile of the same kind over all
frames and joints of the data.
"""

from __future__ import annotations

import warnings
from collections import defaultdict

import numpy as np
import roma
from torch import Tensor

from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.shapes import Bool, Float

SHORTEST_GAP = 15
"""Free frames between two hinted stretches below which no smooth path is promised: half a second."""


def accelerations(motion: Float[Tensor, "T D"], fps: int = 30) -> dict[str, Float[Tensor, "triples channels"]]:
    """By kind, of every 3 frames: "rotations" [T-2, 55], rad/s^2, "translation" [T-2, 1], m/s^2, "expressions" [T-2, 100]."""
    motion = motion.detach().cpu().double()
    matrices = matrix_from_6d(motion[:, ROTATIONS].unflatten(-1, (-1, 6)))
    turns = roma.rotmat_to_rotvec(matrices[:-1].mT @ matrices[1:])  # each in the frame of both its ends
    return {
        "rotations": turns.diff(dim=0).norm(dim=-1) * fps**2,
        "translation": motion[:, TRANSLATION].diff(n=2, dim=0).norm(dim=-1, keepdim=True) * fps**2,
        "expressions": motion[:, EXPRESSIONS].diff(n=2, dim=0).abs() * fps**2,
    }


def border_triples(hinted: Bool[Tensor, "T channels"]) -> Bool[Tensor, "triples channels"]:
    """Which frames t, t + 1, t + 2 hold hinted and free ones, per channel, as `accelerations` counts them."""
    count = hinted[:-2].long() + hinted[1:-1] + hinted[2:]
    return (count > 0) & (count < 3)


def short_gaps(hinted: np.ndarray, names: list[str]) -> dict[tuple[int, int], list[str]]:
    """(first, last) free frame of every gap under `SHORTEST_GAP` between two hinted stretches -> whose it is.

    hinted: bool [T, channels]; names: of the channels, which may repeat.
    """
    before = np.logical_or.accumulate(hinted)
    after = np.logical_or.accumulate(hinted[::-1])[::-1]
    between = np.pad((before & after & ~hinted).T, ((0, 0), (1, 1))).astype(np.int8)
    channel, first = np.nonzero(np.diff(between, axis=1) == 1)
    _, stop = np.nonzero(np.diff(between, axis=1) == -1)
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for number in np.nonzero(stop - first < SHORTEST_GAP)[0]:
        name, gap = names[channel[number]], (int(first[number]), int(stop[number]) - 1)
        if name not in found[gap]:
            found[gap].append(name)
    return dict(found)


def warn_of_short_gaps(hinted: np.ndarray, names: list[str]) -> None:
    """One warning that names what, frames and length of every short gap."""
    gaps = short_gaps(hinted, names)
    if not gaps:
        return
    told = "; ".join(
        f"{_listed(who)}: frames {first} to {last} ({last - first + 1})" for (first, last), who in sorted(gaps.items())
    )
    warnings.warn(
        f"between two hinted stretches there are fewer than {SHORTEST_GAP} free frames, which may be too short for a smooth "
        f"way from one to the other. {told}. Hint those frames too, or hint fewer frames beside them.",
        stacklevel=4,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def percentiles(motions: list[Tensor], q: float = 0.99) -> dict[str, float]:
    """The q-quantile of each kind of acceleration over all frames and channels of these motions [T, D]."""
    found = [accelerations(motion) for motion in motions]
    return {kind: float(np.quantile(np.concatenate([one[kind].flatten() for one in found]), q)) for kind in found[0]}


def hinted_channels(hinted: Bool[Tensor, "T D"]) -> dict[str, Bool[Tensor, "T channels"]]:
    """Columns of a mask as the channels of `accelerations`: 55 joints, the root, 100 expressions."""
    return {
        "rotations": hinted[:, ROTATIONS].unflatten(-1, (-1, 6)).all(-1),
        "translation": hinted[:, TRANSLATION].all(-1, keepdim=True),
        "expressions": hinted[:, EXPRESSIONS],
    }


def border_accelerations(motion: Float[Tensor, "T D"], hinted: Bool[Tensor, "T D"]) -> dict[str, Float[Tensor, " n"]]:
    """Every border triple's acceleration by kind; empty where a kind is not hinted, or hinted throughout."""
    channels, found = hinted_channels(hinted), accelerations(motion)
    return {kind: found[kind][border_triples(channels[kind].cpu())] for kind in found}
