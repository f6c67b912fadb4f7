"""A stick figure of the 55 joints, seen from the front."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import ROTATIONS, TRANSLATION
from maskmotion.motion.skeleton import JOINTS, NUM_JOINTS, PARENTS, PART_JOINTS, joint
from maskmotion.types import Clip
from maskmotion.views.canvas import BLUE, GREY, INK, PALE, VERMILLION, viz

_FINGERS = frozenset(PART_JOINTS["hands"])
_BONES = np.array(
    [(PARENTS[j], j) for j in range(1, NUM_JOINTS) if JOINTS[j] not in ("head", "jaw", "left_eye", "right_eye")]
)
_EYES = np.array([joint("left_eye"), joint("right_eye")])
_WRISTS = np.array([joint("left_wrist"), joint("right_wrist")])
_TRAIL = 12  # frames of the wrists' fading trail
_TORSO = np.array([joint(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")])
_NECK = np.array([joint("neck"), joint("head")])
_HEAD_RADIUS = 0.105  # metres
_MARGIN = 28  # pixels around what moves: caption above, ground below


def joint_positions(clip: Clip) -> np.ndarray:
    """[T, 55, 3] metres. Raises ValueError when the motion is not finite."""
    if not bool(clip.motion.isfinite().all()):
        frame = int((~clip.motion.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"{clip.name}: the motion is not finite from frame {frame} on, so it cannot be drawn")
    motion = clip.motion.detach().cpu().float()
    with torch.no_grad():
        rotations = motion[:, ROTATIONS].reshape(-1, NUM_JOINTS, 6)
        return forward_kinematics(rotations, motion[:, TRANSLATION]).numpy()


def _bone_color(name: str) -> str:
    """The trunk, to which collarbones and hips belong, is dark; limbs have the colour of their side."""
    if name.endswith(("collar", "hip")):
        return INK
    return {"left": BLUE, "right": VERMILLION}.get(name.split("_")[0], INK)


class StickFigure:
    """Artists of one figure in one axes; `show(frame)` moves them, `draw()` paints them onto the canvas.

    Left limbs are blue, right limbs vermillion (a person who faces the viewer has the left hand at the viewer's right);
    what is nearer to the viewer is painted later. The wrists leave a fading trail of 0.4 s.
    """

    def __init__(self, axes: Any, positions: np.ndarray) -> None:
        collections, patches = viz("matplotlib.collections"), viz("matplotlib.patches")
        colors = viz("matplotlib.colors")
        self.axes, self.positions = axes, positions
        child = _BONES[:, 1]
        self._colors = np.array([colors.to_rgba(_bone_color(JOINTS[j])) for j in child])
        self._widths = np.array([1.3 if j in _FINGERS else 3.6 for j in child])
        self._bones = collections.LineCollection([], capstyle="round", joinstyle="round")
        fade = np.linspace(0.0, 0.45, _TRAIL)
        tints = [(*colors.to_rgb(color), alpha) for color in (BLUE, VERMILLION) for alpha in fade]
        self._trail = collections.LineCollection([], colors=tints, linewidths=2.0)
        self._head = patches.Circle((0, 0), _HEAD_RADIUS, facecolor="white", edgecolor=INK, linewidth=2.4)
        (self._eyes,) = axes.plot([], [], "o", color=INK, markersize=2.4)
        (self._neck,) = axes.plot([], [], color=INK, linewidth=3.6)
        self._torso = patches.Polygon(np.zeros((4, 2)), closed=True, facecolor=PALE, edgecolor="none")
        for artist in (self._trail, self._bones):
            axes.add_collection(artist, autolim=False)
        for patch in (self._torso, self._head):
            axes.add_patch(patch)
        self._artists = (self._torso, self._trail, self._neck, self._head, self._eyes, self._bones)
        for artist in self._artists:
            artist.set_animated(True)

    def show(self, frame: int) -> None:
        """Take the pose of a frame."""
        pose = self.positions[frame]
        segments = pose[_BONES]
        order = np.argsort(segments[:, :, 2].mean(axis=1))
        self._bones.set_segments(segments[order, :, :2])
        self._bones.set_color(self._colors[order])
        self._bones.set_linewidth(self._widths[order])
        past = self.positions[np.clip(np.arange(frame - _TRAIL, frame + 1), 0, None)][:, _WRISTS, :2].swapaxes(0, 1)
        self._trail.set_segments(np.stack([past[:, :-1], past[:, 1:]], axis=2).reshape(-1, 2, 2))
        self._torso.set_xy(pose[_TORSO, :2])
        self._neck.set_data(*pose[_NECK, :2].T)
        eyes = pose[_EYES]
        head = pose[joint("head")]
        self._head.center = tuple((head + 0.75 * (eyes.mean(axis=0) - head))[:2])
        self._eyes.set_data(*eyes[eyes[:, 2] > head[2], :2].T)  # seen from behind, a head has no eyes

    def draw(self) -> None:
        """Paint the artists in order."""
        for artist in self._artists:
            self.axes.draw_artist(artist)


def visible_height(positions: np.ndarray, width: int, height: int) -> float:
    """Metres that an axes of `width` x `height` pixels must show from top to bottom to hold the whole clip."""
    low, high = positions[..., :2].min(axis=(0, 1)), positions[..., :2].max(axis=(0, 1))
    tall = (high[1] - min(low[1], _ground(positions)) + _HEAD_RADIUS) * height / (height - 2 * _MARGIN)
    wide = (high[0] - low[0]) * height / (width - 2 * _MARGIN)
    return float(max(tall, wide))


def frame_axes(axes: Any, positions: np.ndarray, caption: str, metres: float, width: int, height: int) -> None:
    """Show `metres` from top to bottom of an axes of `width` x `height` pixels; draw ground and caption.

    The camera stands on the +z axis and does not move; the scale is the same in x and y.
    """
    middle = (positions[..., 0].min() + positions[..., 0].max()) / 2
    ground, half = _ground(positions), metres * width / height / 2
    bottom = min(float(positions[..., 1].min()), ground) - _MARGIN * metres / height
    axes.set_xlim(middle - half, middle + half)
    axes.set_ylim(bottom, bottom + metres)
    axes.axhline(ground, color=GREY, linewidth=1)
    axes.axhspan(bottom, ground, color="#f3f3f3", linewidth=0)
    axes.text(0.5, 0.985, caption, transform=axes.transAxes, ha="center", va="top", fontsize=10, color=INK)
    axes.set_axis_off()


def _ground(positions: np.ndarray) -> float:
    """Height of the floor: just below the lowest joint, but for the few frames where a foot sinks in."""
    return float(np.percentile(positions[..., 1].min(axis=1), 5)) - 0.02
