"""BVH motion capture: the hierarchy and every joint's rotation and place, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

_AXES = "XYZ"


@dataclass(frozen=True)
class Bvh:
    """What a BVH file says, in its own units and axes.

    names, parents: of the joints, parents first (-1: the root). offsets [J, 3]: from the parent, in the zero pose.
    rotations [T, J, 3, 3]: of each joint in the world. positions [T, J, 3]: of each joint in the world.
    rest [J, 3]: positions in the zero pose. fps: frames per second.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    rotations: np.ndarray
    positions: np.ndarray
    fps: float

    @property
    def rest(self) -> np.ndarray:
        """Where the joints are when every rotation is zero, [J, 3]."""
        places = np.zeros_like(self.offsets)
        for joint, parent in enumerate(self.parents):
            places[joint] = self.offsets[joint] + (places[parent] if parent >= 0 else 0)
        return places


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray | None = None
    channels: tuple[str, ...] = ()


def read_bvh(path: str | Path) -> Bvh:
    """Read a BVH file. Rotations apply in the order of their channels; a joint's position channels replace its offset.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a BVH, cut short, or with values that are no numbers; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such BVH file")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    joints, after = _hierarchy(path, lines)
    values, fps = _frames(path, lines, after, sum(len(joint.channels) for joint in joints))
    parents = tuple(joint.parent for joint in joints)
    offsets = np.array([joint.offset for joint in joints], dtype=np.float64)
    rotations, positions = _world(joints, offsets, values)
    return Bvh(tuple(joint.name for joint in joints), parents, offsets, rotations, positions, fps)


def _hierarchy(path: Path, lines: list[str]) -> tuple[list[_Joint], int]:
    """The joints, and the number of the line after MOTION."""
    joints: list[_Joint] = []
    open_blocks: list[int | None] = []  # joint of each open brace; None: an end site
    coming: int | None = None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            match words[0].upper():
                case "HIERARCHY":
                    pass
                case "ROOT" | "JOINT":
                    parent = open_blocks[-1] if open_blocks else -1
                    if parent is None or (words[0].upper() == "ROOT") != (not joints):
                        raise ValueError("one ROOT comes first, and no joint is inside an End Site")
                    joints.append(_Joint(" ".join(words[1:]), parent))
                    coming = len(joints) - 1
                case "END":
                    coming = None
                case "{":
                    open_blocks.append(coming)
                case "}":
                    open_blocks.pop()
                case "OFFSET":
                    offset, here = np.array([float(word) for word in words[1:4]]), open_blocks[-1]
                    if offset.shape != (3,) or not np.isfinite(offset).all():
                        raise ValueError("OFFSET needs three finite numbers")
                    if here is not None:
                        joints[here].offset = offset
                case "CHANNELS":
                    here = open_blocks[-1]
                    assert here is not None
                    joints[here].channels = _channels(words)
                case "MOTION":
                    _complete(joints, open_blocks)
                    return joints, number
                case other:
                    raise ValueError(f"unknown word {other[:40]!r}")
        except (ValueError, IndexError, AssertionError) as error:
            raise ValueError(f"{path}, line {number}: not BVH: {error or line.strip()[:60]}") from error
    raise ValueError(f"{path}: no MOTION; not a BVH file, or cut short after {len(lines)} lines")


def _channels(words: list[str]) -> tuple[str, ...]:
    names = tuple(word.lower() for word in words[2:])
    known = {f"{axis.lower()}{kind}" for axis in _AXES for kind in ("rotation", "position")}
    if int(words[1]) != len(names) or not set(names) <= known or len(set(names)) < len(names):
        raise ValueError(f"CHANNELS needs as many different names as it says, of {', '.join(sorted(known))}")
    return names


def _complete(joints: list[_Joint], open_blocks: list[int | None]) -> None:
    if open_blocks or not joints:
        raise ValueError("MOTION comes after the hierarchy, whose braces must be closed")
    for joint in joints:
        if joint.offset is None:
            raise ValueError(f"joint {joint.name} has no OFFSET")


def _frames(path: Path, lines: list[str], after: int, columns: int) -> tuple[np.ndarray, float]:
    """Channel values [T, columns] and frames per second."""
    header = [line.split(":") for line in lines[after : after + 2]]
    try:
        (first, count), (second, seconds) = header
        frames, time = int(count), float(seconds)
        if (
            first.strip().lower() != "frames"
            or second.strip().lower() != "frame time"
            or frames < 1
            or not 1e-3 <= time <= 1
        ):
            raise ValueError("need at least one frame, and a frame time from 0.001 to 1 s")
    except ValueError as error:
        raise ValueError(f"{path}, line {after + 1}: need `Frames: N` and `Frame Time: SECONDS` ({error})") from error
    rows = [line.split() for line in lines[after + 2 :] if line.strip()]
    wrong = next((number for number, row in enumerate(rows) if len(row) != columns), None)
    if wrong is not None or len(rows) != frames:
        told = f"{len(rows)} frames" if wrong is None else f"{len(rows[wrong])} values in frame {wrong}"
        raise ValueError(
            f"{path}: {frames} frames of {columns} values are announced, found {told}; cut short? export it again"
        )
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: a value of the motion is no number ({error})") from error
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: NaN or infinite values, first in frame {int((~np.isfinite(values)).any(1).argmax())}"
        )
    return values, 1 / time


def _world(joints: list[_Joint], offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rotations = np.zeros((len(values), len(joints), 3, 3))
    positions = np.zeros((len(values), len(joints), 3))
    start = 0
    for number, joint in enumerate(joints):
        own = values[:, start : start + len(joint.channels)]
        start += len(joint.channels)
        turned = _rotation(joint.channels, own)
        place = np.tile(offsets[number], (len(values), 1))
        for column, channel in enumerate(joint.channels):
            if channel.endswith("position"):
                place[:, _AXES.index(channel[0].upper())] = own[:, column]
        if joint.parent < 0:
            rotations[:, number], positions[:, number] = turned, place
            continue
        above = rotations[:, joint.parent]
        rotations[:, number] = above @ turned
        positions[:, number] = positions[:, joint.parent] + (above @ place[..., None])[..., 0]
    return rotations, positions


def _rotation(channels: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    turning = [column for column, channel in enumerate(channels) if channel.endswith("rotation")]
    if not turning:
        return np.broadcast_to(np.eye(3), (len(values), 3, 3))
    order = "".join(channels[column][0].upper() for column in turning)  # upper case: about the turned axes
    matrices: np.ndarray = Rotation.from_euler(order, values[:, turning], degrees=True).as_matrix()
    return matrices
