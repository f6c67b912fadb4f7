"""Hint, result and border: what was given, where the result runs, and how hard it turns at the borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch

from maskmotion.motion.layout import ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d
from maskmotion.motion.skeleton import PART_JOINTS, joint
from maskmotion.sampling.blend import REACH
from maskmotion.sampling.borders import accelerations, border_triples
from maskmotion.sampling.hints import Hints
from maskmotion.types import Clip
from maskmotion.views.canvas import BLUE, GREY, INK, ORANGE, PALE, VERMILLION, new_figure, runs, save_png

_HEIGHTS = (0.9, 1.5, 1.5, 1.1)
_SEEN, _PASTED = "soft: the model sees the hint", "soft, hint pasted in"


def plot_hints(
    path: str | Path,
    *,
    hints: Hints,
    exact: Clip,
    soft: Clip,
    show: str = "left_elbow",
    limits: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """Draw what is given, one joint's turn and its acceleration, and the root's way; returns the PNG's path.

    Args:
        path: file to write, .png.
        hints: what both clips were generated with. exact, soft: the clips, by `keep`.
        show: name of the joint to follow; only one that is hinted shows a border.
        limits: the data's percentiles (`borders.percentiles`), drawn as a line.
        title: headline.

    Raises:
        ValueError: clips of different lengths, or no such joint.
    """
    if exact.frames != soft.frames:
        raise ValueError(f"exact and soft must be of one speech, got {exact.frames} and {soft.frames} frames")
    number = joint(show)
    known = hints.arrays(exact.frames)["poses"][1][:, 3 * number]
    figure = new_figure(10, sum(_HEIGHTS) + 1.9, dpi=100)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=_HEIGHTS)
    _draw_given(panels[0], hints, exact)
    _draw_turn(panels[1], known, exact, soft, number)
    panels[1].set_ylabel(f"{show}, rad", fontsize=8.5, color=INK)
    _draw_acceleration(panels[2], known, exact, soft, number, (limits or {}).get("rotations"))
    _draw_root(panels[3], hints, exact, soft)
    for axes in panels:
        axes.tick_params(labelsize=8, color=GREY, labelcolor=INK)
        for side in axes.spines.values():
            side.set_color(PALE)
    panels[-1].set_xlabel("seconds", fontsize=8.5, color=INK)
    panels[-1].set_xlim(0, exact.frames / exact.fps)
    figure.suptitle(title or "Hint, result and border", fontsize=12, weight="bold", color=INK)
    return save_png(figure, path)


def _draw_given(axes: Any, hints: Hints, clip: Clip) -> None:
    """One row for each part, the expressions and the root, filled where all of it is given."""
    rows = {part: hints.known_joints[:, list(joints)].all(1) for part, joints in PART_JOINTS.items()}
    rows |= {"expressions": hints.known_expressions.all(1), "root": hints.known_trans}
    for row, mask in enumerate(rows.values()):
        spans = [(start / clip.fps, (stop - start) / clip.fps) for start, stop in runs(np.asarray(mask))]
        axes.broken_barh([(0, clip.frames / clip.fps)], (row - 0.38, 0.76), facecolors=PALE)
        # a single frame would be thinner than a line
        axes.broken_barh(spans, (row - 0.38, 0.76), facecolors=VERMILLION, edgecolors=VERMILLION, linewidth=2)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_title("what is given", fontsize=9, color=VERMILLION, loc="left")


def _draw_turn(axes: Any, known: np.ndarray, exact: Clip, soft: Clip, number: int) -> None:
    """Rotation from the mean pose about the axis along which the result varies most."""
    matrices = [
        matrix_from_6d(c.motion[:, ROTATIONS].unflatten(-1, (-1, 6))[:, number].double()) for c in (exact, soft)
    ]
    middle = roma.special_procrustes(matrices[0].mean(0))
    turns = [roma.rotmat_to_rotvec(middle.mT @ matrix).numpy() for matrix in matrices]
    axis = np.linalg.svd(turns[0] - turns[0].mean(0), full_matrices=False)[2][0]
    _draw_curves(axes, known, exact.fps, turns[0] @ axis, turns[1] @ axis)
    axes.legend(fontsize=7.5, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.1)


def _draw_curves(axes: Any, known: np.ndarray, fps: int, exact: np.ndarray, soft: np.ndarray) -> None:
    """Both courses over time, the hint above them, and the stretches that blending may change."""
    time = np.arange(len(known)) / fps
    for start, stop in runs(known):
        for first, last in ((start - REACH, start), (stop, stop + REACH)):
            axes.axvspan(max(first, 0) / fps, min(last, len(known)) / fps, color=BLUE, alpha=0.06, linewidth=0)
    axes.plot(time, soft, color=GREY, linewidth=1.1, linestyle=(0, (4, 2)), label=_SEEN)
    axes.plot(time, exact, color=BLUE, linewidth=1.5, label="exact: the result")
    hint = np.where(known, exact, np.nan)
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    axes.plot(time, hint, color=VERMILLION, linewidth=3.2, solid_capstyle="butt", label="the hint in it")
    axes.plot(time[alone], exact[alone], "o", color=VERMILLION, markersize=4.5)


def _draw_acceleration(axes: Any, known: np.ndarray, exact: Clip, soft: Clip, number: int, limit: float | None) -> None:
    mask = torch.from_numpy(known)[:, None]
    pasted = replace(soft, motion=torch.where(mask, exact.motion, soft.motion))
    time = (np.arange(len(known) - 2) + 1) / exact.fps
    border = border_triples(mask)[:, 0].numpy()
    for clip, color, name, width in ((pasted, ORANGE, _PASTED, 1.0), (exact, BLUE, "exact", 1.4)):
        found = accelerations(clip.motion)["rotations"][:, number].numpy()
        axes.plot(time, found, color=color, linewidth=width, label=name)
        axes.plot(time[border], found[border], "o", color=color, markersize=3)
    if limit is not None:
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle=":", label=f"99th percentile of the data, {limit:.0f}")
    axes.plot([], [], "o", color=GREY, markersize=3, label="border")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(0, None)
    axes.set_ylabel("rad/s$^2$", fontsize=8.5, color=INK)
    axes.legend(fontsize=7.5, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.1)


def _draw_root(axes: Any, hints: Hints, exact: Clip, soft: Clip) -> None:
    known = hints.arrays(exact.frames)["trans"][1][:, 0]
    ways = [clip.motion[:, TRANSLATION].numpy() for clip in (exact, soft)]
    axis = int(np.argmax(np.ptp(ways[0][:, [0, 2]], axis=0))) * 2
    _draw_curves(axes, known, exact.fps, ways[0][:, axis], ways[1][:, axis])
    axes.set_ylabel(f"root {'xyz'[axis]}, m", fontsize=8.5, color=INK)
