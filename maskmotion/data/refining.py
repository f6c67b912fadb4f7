"""Refine a whole tree: `maskmotion data refine SOURCE TARGET`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from maskmotion.data.arkit import face_of, read_matrix, read_weights
from maskmotion.data.beat2 import Recording, read_split
from maskmotion.data.contents import ALL_PARTS, Contents, read_contents, write_contents
from maskmotion.data.refine import Statistics, limit_fingers, truncate
from maskmotion.motion.files import FPS, MotionFile, from_tensor, read_arrays, read_motion, to_tensor, write_motion
from maskmotion.motion.skeleton import joint

_JAW = slice(3 * joint("jaw"), 3 * joint("jaw") + 3)
_MOTION, _CONTENTS = "smplxflame_30", "parts.json"


@dataclass
class Refined:
    """What was done: files in all, and by step the files and frames that changed; notes are worth knowing."""

    root: Path
    files: int = 0
    frames: int = 0
    changed: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, step: str, changed: np.ndarray) -> None:
        """Note the frames [T] that a step changed in one file."""
        files, frames = self.changed.setdefault(step, [0, 0])
        self.changed[step] = [files + bool(changed.any()), frames + int(changed.sum())]

    def render(self) -> str:
        """A few lines of text."""
        lines = [f"{self.root}: {self.files} motion files, {self.frames} frames"]
        lines += [f"  {step}: {frames} frames of {files} files" for step, (files, frames) in self.changed.items()]
        return "\n".join(lines + self.notes)


@dataclass(frozen=True)
class _Files:
    """Poses of files, read one at a time, as often as they are gone through."""

    paths: Sequence[Path]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (read_motion(path).poses for path in self.paths)


def refine_tree(
    source: str | Path,
    target: str | Path,
    *,
    sigma: float | None = None,
    over: Literal["tree", "clip"] = "tree",
    fingers: bool = False,
    body_model: str | Path | None = None,
    arkit: str | Path | None = None,
    matrix: str | Path | None = None,
    arkit_fps: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Refined:
    """Write a BEAT2 tree again with its motion refined; the other files are linked, or copied where that cannot be.

    Args:
        source: a BEAT2 tree. target: folder to write; it must not exist, and does not when this fails.
        sigma: truncate joint rotations at so many standard deviations (EMAGE: 3), `over` the training clips of the tree or
            each clip by itself.
        fingers: keep them within joint limits. body_model: SMPL-X file whose mean hands the poses are relative to, as
            BEAT2's are; None: poses are relative to flat hands.
        arkit: folder of ID.json or ID.csv with blendshape weights, which give expressions and jaw by `matrix`.
        arkit_fps: frame rate of csv files without times.
        progress: called with (done, total) after each file.

    Raises:
        FileNotFoundError, ValueError: what the readers of the files raise, an id without weights, or nothing to do.
        FileExistsError: the target exists.
    """
    source, target = Path(source), Path(target)
    _check_wishes(target, sigma is None and not fingers and arkit is None, (arkit is None) != (matrix is None))
    rows = [row for row in read_split(source) if row.motion.is_file()]
    if not rows:
        raise ValueError(f"{source}: no recording has motion; see `maskmotion data check {source}`")
    to_face, note = (None, "") if matrix is None else read_matrix(matrix)
    learned = [row.motion for row in rows if row.split == "train"] or [row.motion for row in rows]
    steps = _Steps(
        sigma,
        Statistics.of(_Files(learned)) if sigma is not None and over == "tree" else None,
        fingers,
        None if body_model is None else _mean_hands(Path(body_model)),
        None if arkit is None else Path(arkit),
        to_face,
        arkit_fps,
    )
    done = Refined(target, notes=[note] if note else [])
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _copy_rest(source, building)
        _write_refined(rows, steps, building, done, progress)
        _say_contents(source, building, arkit is not None)
        building.chmod(0o755)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return done


def _check_wishes(target: Path, nothing: bool, half: bool) -> None:
    """Refuses a target that exists, `nothing` to do, and `half` of the pair of weights and matrix."""
    if nothing:
        raise ValueError(
            "nothing to refine: name at least one of sigma (--sigma 3), fingers (--fingers), arkit (--arkit)"
        )
    if half:
        raise ValueError("blendshape weights need the matrix, and the matrix weights: give both --arkit and --matrix")
    if target.exists():
        raise FileExistsError(f"{target} exists; give a folder that does not, or move it away")


def _write_refined(
    rows: Sequence[Recording],
    steps: _Steps,
    building: Path,
    done: Refined,
    progress: Callable[[int, int], None] | None,
) -> None:
    for number, row in enumerate(rows, 1):
        motion = steps.apply(_at_30(read_motion(row.motion)), row.id, done)
        write_motion(
            building / _MOTION / f"{row.id}.npz",
            poses=motion.poses,
            trans=motion.trans,
            expressions=motion.expressions,
            betas=motion.betas,
        )
        if progress is not None:
            progress(number, len(rows))


@dataclass(frozen=True)
class _Steps:
    """What is done to each file, in this order: face, truncation, fingers."""

    sigma: float | None
    statistics: Statistics | None
    fingers: bool
    hands: np.ndarray | None
    arkit: Path | None
    matrix: np.ndarray | None
    arkit_fps: float | None

    def apply(self, motion: MotionFile, name: str, done: Refined) -> MotionFile:
        """The refined motion; what changed is counted in `done`."""
        if self.arkit is not None and self.matrix is not None:
            motion = _with_face(motion, _weights_of(self.arkit, name, self.arkit_fps), self.matrix)
            done.count("face from weights", np.ones(motion.frames, dtype=bool))
        done.files, done.frames = done.files + 1, done.frames + motion.frames
        poses = motion.poses
        if self.sigma is not None:
            poses = truncate(poses, self.statistics, self.sigma)
            done.count(f"beyond {self.sigma:g} sigma", (poses != motion.poses).any(axis=-1))
        if self.fingers:
            limited = limit_fingers(poses, self.hands)
            done.count("fingers", (limited != poses).any(axis=-1))
            poses = limited
        return replace(motion, poses=poses)


def _at_30(motion: MotionFile) -> MotionFile:
    if motion.fps == FPS:
        return motion
    arrays = from_tensor(to_tensor(motion))
    return MotionFile(arrays["poses"], arrays["trans"], arrays["expressions"], motion.betas)


def _with_face(motion: MotionFile, weights: np.ndarray, matrix: np.ndarray) -> MotionFile:
    """Expressions and jaw from weights, cropped to the shorter of both."""
    expressions, jaw = face_of(weights, matrix)
    frames = min(motion.frames, len(expressions))
    poses = motion.poses[:frames].copy()
    poses[:, _JAW] = jaw[:frames]
    return replace(motion, poses=poses, trans=motion.trans[:frames], expressions=expressions[:frames])


def _weights_of(folder: Path, name: str, fps: float | None) -> np.ndarray:
    for suffix in (".json", ".csv"):
        if (folder / f"{name}{suffix}").is_file():
            return read_weights(folder / f"{name}{suffix}", fps)
    raise FileNotFoundError(f"{folder}: no {name}.json and no {name}.csv with blendshape weights of that recording")


def _mean_hands(path: Path) -> np.ndarray:
    arrays = read_arrays(path, only=("hands_meanl", "hands_meanr"))
    if len(arrays) < 2 or any(array.size != 45 for array in arrays.values()):
        raise ValueError(f"{path}: no hands_meanl and hands_meanr of 45 numbers each; give an SMPL-X model file (npz)")
    return np.concatenate([arrays["hands_meanl"].reshape(15, 3), arrays["hands_meanr"].reshape(15, 3)])


def _copy_rest(source: Path, target: Path) -> None:
    """Everything but the motion, as links to the same files where the disk allows."""

    def link(one: str, other: str) -> str:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)
        return other

    shutil.copytree(
        source, target, dirs_exist_ok=True, copy_function=link, ignore=shutil.ignore_patterns(_MOTION, _CONTENTS)
    )


def _say_contents(source: Path, target: Path, face: bool) -> None:
    contents = read_contents(source)
    if face and "face" not in contents.parts:
        contents = Contents(tuple(part for part in ALL_PARTS if part in (*contents.parts, "face")), contents.audio)
    if not contents.whole:
        write_contents(target, contents)
