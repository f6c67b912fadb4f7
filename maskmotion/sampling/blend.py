"""Free motion that runs smoothly into hinted frames: the least change of acceleration that gets there.

Within `REACH` frames of a hint the free frames x solve a least-squares problem, with every other frame held:

    sum |D2 x - D2 soft|^2  +  border_weight * sum_border |D2 x|^2  +  1 / SLACK^2 * sum |D1 x - D1 soft|^2

D1 and D2 are differences in time, soft is what the model made, and the border sum runs over the triples that hold
hinted and free frames. So position and velocity run on across the border whatever the model made beside it, and the
model's own movement is kept as it is but for a correction of least curvature. Rotations are solved as quaternions.
"""

from __future__ import annotations

import numpy as np
import roma
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS
from maskmotion.motion.rotations import matrix_from_6d, matrix_to_6d
from maskmotion.shapes import Bool, Float

REACH = 30
"""Free frames beside a hint that blending may change: one second, so that 1 rad of difference costs some 6 rad/s^2."""
BORDER_WEIGHT = 10.0
SLACK = 15.0  # frames in which a wrong velocity is given up where no second hint holds the other end
_TINY = 1e-9  # keeps the problem definite where two or three frames leave the slope open
_TURNS = 3  # solutions for rotations: what is straight on the sphere depends on where the path runs


def blend_body(
    soft: Float[Tensor, "T D"], given: Float[Tensor, "T D"], hinted: Bool[Tensor, "T D"]
) -> Float[Tensor, "T D"]:
    """The hints' rotations and expressions in place, `soft` blended into them; columns and frames out of reach untouched.

    Translation and contacts stay as in `soft`; see `blend_root`.
    """
    out = soft.clone()
    out[:, ROTATIONS] = _blend_rotations(soft[:, ROTATIONS], given[:, ROTATIONS], hinted[:, ROTATIONS])
    for columns, known in _alike(hinted[:, EXPRESSIONS]):
        index = EXPRESSIONS.start + columns
        free, target = _numbers(soft[:, index]), _numbers(given[:, index])
        values = torch.from_numpy(bridge(free, target, known)).to(soft)
        out[:, index] = torch.where(_tensor(_changed(known), soft)[:, None], values, soft[:, index])
    return out


def blend_root(
    path: Float[Tensor, "T 3"], given: Float[Tensor, "T 3"], hinted: Bool[Tensor, " T"]
) -> Float[Tensor, "T 3"]:
    """A root path that passes through the hinted positions, metres; the whole path when nothing is hinted.

    A predicted path says how the root moves, not where it is: before the first and after the last hint it is moved as it
    is, between two hints by an offset that grows evenly from one to the other. Velocities are blended within `REACH`.
    """
    known = hinted.cpu().numpy()
    if not known.any():
        return path
    free, target = _numbers(path), _numbers(given)
    offset, at = (target - free)[known], np.flatnonzero(known)
    frames = np.arange(len(known))
    free = free + np.stack([np.interp(frames, at, offset[:, axis]) for axis in range(3)], axis=1)
    return torch.from_numpy(bridge(free, target, known)).to(path)


def bridge(free: np.ndarray, given: np.ndarray, known: np.ndarray, straight: np.ndarray | None = None) -> np.ndarray:
    """[T, k] float64: `given` where `known` [T], `free` beyond `REACH`, and between them the solution of the module's sum.

    straight: [T-2, k] second differences wanted at the borders instead of 0.
    """
    out = np.where(known[:, None], given, free)
    solve = _changed(known) & ~known
    if not solve.any():
        return out
    triples = known[:-2].astype(int) + known[1:-1] + known[2:]
    pairs = known[:-1].astype(int) + known[1:]
    bend = np.select([triples == 0, triples < 3], [1.0, BORDER_WEIGHT], 0.0)
    wanted = np.where((triples == 0)[:, None], np.diff(free, 2, axis=0), 0.0 if straight is None else straight)
    slide = np.where(pairs == 0, SLACK**-2, 0.0)
    held = np.where(solve[:, None], 0.0, out)
    bends = bend[:, None] * (wanted - np.diff(held, 2, axis=0))
    slides = slide[:, None] * (np.diff(free, axis=0) - np.diff(held, axis=0))
    pull = np.zeros_like(out)
    for shift, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
        pull[shift : len(pull) - 2 + shift] += factor * bends
    pull[:-1] -= slides
    pull[1:] += slides
    solution = solveh_banded(_bands(bend, slide, solve), np.where(solve[:, None], pull, 0.0), lower=True)
    return np.where(solve[:, None], solution, out)


def _bands(bend: np.ndarray, slide: np.ndarray, solve: np.ndarray) -> np.ndarray:
    """[3, T]: lower bands of D2' bend D2 + D1' slide D1, rows of held frames replaced by the identity."""
    frames = len(solve)
    bands = np.zeros((3, frames))
    stencil = (1.0, -2.0, 1.0)
    for first in range(3):
        for second in range(first, 3):
            bands[second - first, first : frames - 2 + first] += stencil[first] * stencil[second] * bend
    bands[0, :-1] += slide
    bands[0, 1:] += slide
    bands[1, :-1] -= slide
    bands[0] = np.where(solve, bands[0] + _TINY, 1.0)
    for band in (1, 2):
        bands[band, :-band] *= solve[:-band] & solve[band:]
        bands[band, -band:] = 0.0
    return bands


def _blend_rotations(soft: Tensor, given: Tensor, hinted: Tensor) -> Tensor:
    """Row-6D [T, 6 J], all of them."""
    out = soft.clone().unflatten(-1, (-1, 6))
    for joints, known in _alike(hinted.unflatten(-1, (-1, 6)).all(-1)):
        free, target = (_quaternions(motion.unflatten(-1, (-1, 6))[:, joints]) for motion in (soft, given))
        free, target = _on_one_side(free, target, known)
        flat, straight = free.reshape(len(known), -1), None
        for _ in range(_TURNS):
            path = bridge(flat, target.reshape(flat.shape), known, straight).reshape(free.shape)
            path /= np.linalg.norm(path, axis=-1, keepdims=True).clip(min=1e-9)
            # even turning has a second difference, but only towards the sphere's centre
            middle, bent = path[1:-1], np.diff(path, 2, axis=0)
            straight = ((middle * bent).sum(-1, keepdims=True) * middle).reshape(len(known) - 2, -1)
        turned = matrix_to_6d(roma.unitquat_to_rotmat(torch.from_numpy(path))).to(soft)
        kept = torch.where(_tensor(known, soft)[:, None, None], given.unflatten(-1, (-1, 6))[:, joints], turned)
        out[:, joints] = torch.where(_tensor(_changed(known), soft)[:, None, None], kept, out[:, joints])
    return out.flatten(-2)


def _on_one_side(free: np.ndarray, given: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The signs of quaternions [T, J, 4] such that the path takes the shorter way everywhere.

    Two hints with at most 2 `REACH` frames between them are joined directly: what the model does there may be
    elsewhere on the sphere. Over longer gaps the path leads through the model's frames.
    """
    frames = np.arange(len(known))
    changes = known[1:] != known[:-1]
    first = np.maximum.accumulate(np.where(np.r_[True, changes], frames, 0))  # of the stretch that a frame is in
    last = np.minimum.accumulate(np.where(np.r_[changes, True], frames, len(known))[::-1])[::-1]
    inner = ~known & (first > 0) & (last < len(known) - 1) & (last - first < 2 * REACH)
    free = free * _signs(free)
    spine = np.where(known[:, None, None], given, free)[np.where(inner, first - 1, frames)]
    spine = spine * _signs(spine)
    side = np.where((free[first] * spine[first]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    return side * free, spine


def _signs(quaternions: np.ndarray) -> np.ndarray:
    """[T, J, 1] of 1 and -1 that make successive quaternions lie on the same side."""
    turns = np.where((quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    return np.concatenate([np.ones_like(quaternions[:1, :, :1]), turns]).cumprod(axis=0)


def _alike(hinted: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """(channels, their hinted frames [T]) for channels with the same hinted frames, where there are any."""
    masks, group = np.unique(hinted.cpu().numpy(), axis=1, return_inverse=True)
    return [(np.flatnonzero(group.ravel() == i), masks[:, i]) for i in range(masks.shape[1]) if masks[:, i].any()]


def _changed(known: np.ndarray) -> np.ndarray:
    """[T]: the hinted frames, and the free ones within `REACH` of them."""
    frames, far = np.arange(len(known)), 2 * len(known) + REACH
    last = np.maximum.accumulate(np.where(known, frames, -far))
    following = np.minimum.accumulate(np.where(known, frames, far)[::-1])[::-1]
    return np.minimum(frames - last, following - frames) <= REACH


def _quaternions(rotation: Tensor) -> np.ndarray:
    return _numbers(roma.rotmat_to_unitquat(matrix_from_6d(rotation.detach().cpu().double())))


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _tensor(mask: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(mask).to(like.device)
