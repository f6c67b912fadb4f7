"""Body mocap on any skeleton to SMPL-X rotations: which joint is which, and what turns one rest pose into the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from maskmotion.data.bvh import Bvh
from maskmotion.data.joint_names import known_joints
from maskmotion.motion.files import NUM_BETAS, MotionFile
from maskmotion.motion.kinematics import OFFSETS
from maskmotion.motion.skeleton import JOINTS, NUM_EXPRESSIONS, NUM_JOINTS, PARENTS, joint

_SAME_POSE = 15.0  # degrees: rest poses that differ by less differ in the shape of the bodies, not in the pose
_BONES = {"shoulder": "elbow", "elbow": "wrist", "hip": "knee", "knee": "ankle"}  # joint -> where its bone ends

ESSENTIAL: dict[str, tuple[str, ...]] = {
    "upper": tuple(f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "elbow")),
    "hands": tuple(f"{side}_{finger}1" for side in ("left", "right") for finger in ("index", "thumb")),
    "lower": ("pelvis", *(f"{side}_{name}" for side in ("left", "right") for name in ("hip", "knee", "ankle"))),
}
"""Part -> the joints without which it counts as not recorded."""


def to_smplx(
    bvh: Bvh,
    table: Mapping[str, str] | None = None,
    up: Literal["y", "z"] = "y",
    rest: Literal["zero", "first"] = "zero",
) -> tuple[MotionFile, tuple[str, ...]]:
    """Rotations and root translation for SMPL-X at the file's frame rate, and the parts that it has.

    World rotations are carried over, so joints that SMPL-X lacks (a fourth spine) count for the next one that it has, and
    SMPL-X joints that the file lacks keep still. Rest poses are reconciled for the trunk as a whole and for upper arms,
    forearms, thighs and shins by the shortest turn between the bones' directions; hands, feet and fingers follow their
    limb. What a bone's direction does not show stays unknown: a rest pose that differs by a twist about the bone (palms
    forward) leaves that twist in the result. The translation is scaled so that the legs have SMPL-X' length, whatever the
    unit; limbs of other proportions reach other places, as only rotations are kept.

    Args:
        table: joint of the file -> SMPL-X joint; None: by the usual names.
        up: the file's vertical axis.
        rest: the pose that stands like SMPL-X's rest pose: all rotations zero, or the first frame's.

    Raises:
        ValueError: joints that do not exist, or too few to make a part of.
    """
    found = _checked(bvh, table) if table is not None else known_joints(bvh.names)
    parts = tuple(part for part, needed in ESSENTIAL.items() if set(needed) <= set(found))
    if not {"upper", "lower"} & set(parts):
        lacking = sorted(set(ESSENTIAL["upper"]) - set(found))
        raise ValueError(
            f"no joint found for {', '.join(lacking)}; the file has {', '.join(bvh.names)}: give a table, joint of the "
            "file -> SMPL-X joint"
        )
    turns, places = bvh.rotations, bvh.rest
    if rest == "first":
        turns, places = turns @ turns[0].swapaxes(-1, -2), bvh.positions[0]
    corrections = _corrections(places, found)
    world = np.tile(np.eye(3), (len(turns), NUM_JOINTS, 1, 1))
    poses = np.zeros((len(turns), NUM_JOINTS, 3))
    for number, name in enumerate(JOINTS):
        above = world[:, PARENTS[number]] if number else np.eye(3)
        world[:, number] = turns[:, found[name]] @ corrections[name] if name in found else above
        poses[:, number] = Rotation.from_matrix(np.swapaxes(above, -1, -2) @ world[:, number]).as_rotvec()
    trans, upright = _translation(bvh, found), Rotation.from_euler("x", -90 if up == "z" else 0, degrees=True)
    poses[:, 0] = (upright * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return MotionFile(
        poses=poses.reshape(len(poses), -1),
        trans=upright.apply(trans) - OFFSETS[0].numpy(),
        expressions=np.zeros((len(poses), NUM_EXPRESSIONS)),
        betas=np.zeros(NUM_BETAS),
        fps=bvh.fps,
    ), parts


def _checked(bvh: Bvh, table: Mapping[str, str]) -> dict[str, int]:
    """A user's table as SMPL-X joint -> number."""
    unknown = [name for name in table if name not in bvh.names]
    if unknown:
        raise ValueError(f"the table names {', '.join(unknown)}, which the file has not; it has {', '.join(bvh.names)}")
    for name in table.values():
        joint(name)
    if len(set(table.values())) < len(table):
        raise ValueError(
            "the table gives two joints of the file for one of SMPL-X; leave out the ones that do not count"
        )
    return {target: bvh.names.index(name) for name, target in table.items()}


def _corrections(places: np.ndarray, found: Mapping[str, int]) -> dict[str, np.ndarray]:
    """SMPL-X joint -> what turns SMPL-X' rest pose into the file's, for that joint's bone; places: joints at rest [J, 3]."""
    trunk = _trunk(places, found)
    turned: dict[str, np.ndarray] = {}
    for number, name in enumerate(JOINTS):
        above = turned[JOINTS[PARENTS[number]]] if number else trunk
        side, _, limb = name.partition("_")
        bone = f"{side}_{_BONES.get(limb)}"
        turned[name] = above
        if bone in found and name in found:
            here, there = OFFSETS[joint(bone)].double().numpy(), places[found[bone]] - places[found[name]]
            turned[name] = _shortest(above @ here, there) @ above
    return turned


def _trunk(places: np.ndarray, found: Mapping[str, int]) -> np.ndarray:
    """Which way the file's rest pose stands and looks; axes of the file where that is within a few degrees."""
    sides = (
        ("left_hip", "right_hip")
        if "left_hip" in found and "right_hip" in found
        else ("left_shoulder", "right_shoulder")
    )
    left = places[found[sides[0]]] - places[found[sides[1]]]
    tops = ("neck", "head", "left_collar", "left_shoulder", "spine3", "spine1")
    top = next((found[name] for name in tops if name in found), None)
    high = (
        places[found.get("pelvis", 0)] - places[found["left_ankle"]]
        if top is None
        else places[top] - places[found.get("pelvis", 0)]
    )
    high = high - left * (high @ left) / max(left @ left, 1e-12)
    if min(np.linalg.norm(left), np.linalg.norm(high)) < 1e-9:
        raise ValueError("the joints of the rest pose lie on top of each other; take the first frame as rest pose")
    left, high = left / np.linalg.norm(left), high / np.linalg.norm(high)
    frame = Rotation.from_matrix(np.stack([left, high, np.cross(left, high)], axis=1))
    axes = Rotation.create_group("O")
    apart = (axes.inv() * frame).magnitude()
    near = axes[int(apart.argmin())] if np.rad2deg(apart.min()) < _SAME_POSE else frame
    matrix: np.ndarray = near.as_matrix()
    return matrix


def _shortest(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The turn that takes the direction `start` to `end` the short way; none where they nearly agree."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, angle = np.cross(start, end), np.arccos(np.clip(start @ end, -1, 1))
    if np.rad2deg(angle) < _SAME_POSE:
        return np.eye(3)
    if np.linalg.norm(axis) < 1e-6:  # opposite: any axis across will do
        axis = np.cross(start, np.eye(3)[np.abs(start).argmin()])
    matrix: np.ndarray = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    return matrix


def _translation(bvh: Bvh, found: Mapping[str, int]) -> np.ndarray:
    """Place of the pelvis [T, 3], in metres of legs of SMPL-X' length; zeros without legs."""
    if not set(ESSENTIAL["lower"]) <= set(found):
        return np.zeros((len(bvh.positions), 3))
    chain = [found[f"left_{name}"] for name in ("hip", "knee", "ankle")]
    leg = float(np.linalg.norm(np.diff(bvh.rest[chain], axis=0), axis=1).sum())
    if leg < 1e-6:
        raise ValueError("the left leg has no length; give a table, joint of the file -> SMPL-X joint")
    own = float(OFFSETS[[joint("left_knee"), joint("left_ankle")]].norm(dim=1).sum())
    place: np.ndarray = bvh.positions[:, found["pelvis"]] * (own / leg)
    return place
