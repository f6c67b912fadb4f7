"""BEAT2 motion files (SMPL-X axis-angle npz, as Blender's SMPL-X add-on opens them) to the motion tensor and back."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor

from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION
from maskmotion.motion.rotations import axis_angle_from_6d, matrix_to_6d
from maskmotion.motion.skeleton import NUM_EXPRESSIONS, NUM_JOINTS
from maskmotion.shapes import Float
from maskmotion.storage import atomic
from maskmotion.types import Clip

FPS = 30  # of every motion inside the library; files of other rates are resampled at the edge
NUM_BETAS = 300
_WIDTHS = {"poses": 3 * NUM_JOINTS, "trans": 3, "expressions": NUM_EXPRESSIONS}
_RATE_KEYS = ("mocap_frame_rate", "mocap_framerate")  # BEAT2's spelling, AMASS' spelling


@dataclass(frozen=True)
class MotionFile:
    """What a BEAT2 npz holds: poses [T, 165] axis-angle, trans [T, 3] metres, expressions [T, 100], betas [300]."""

    poses: np.ndarray
    trans: np.ndarray
    expressions: np.ndarray
    betas: np.ndarray
    fps: float | int = FPS

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.poses)


def read_motion(path: str | Path) -> MotionFile:
    """Read a BEAT2 motion file; the frame rate may also be spelled as in AMASS, fewer than 300 betas are filled with 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an npz, a key is missing, a shape is wrong, a value is not finite, or pickled objects inside.
    """
    path = Path(path)
    arrays = read_arrays(path)
    rate = next((arrays[key] for key in _RATE_KEYS if key in arrays), None)
    missing = [key for key in (*_WIDTHS, "betas") if key not in arrays]
    missing += [_RATE_KEYS[0]] if rate is None else []
    if missing or rate is None:
        raise ValueError(
            f"{path}: missing {', '.join(missing)}; a BEAT2 motion file has poses, trans, expressions, betas and "
            f"mocap_frame_rate, this one has {', '.join(arrays) or 'nothing'}"
        )
    if rate.size != 1 or rate.dtype.kind not in "iuf" or not 1 <= float(rate.item()) <= 1000:
        raise ValueError(f"{path}: the frame rate must be one number from 1 to 1000 per second, got {rate}")
    checked = _checked(str(path), {key: arrays[key] for key in (*_WIDTHS, "betas")})
    return MotionFile(**checked, fps=float(rate.item()))


def write_motion(
    path: str | Path,
    *,
    poses: np.ndarray,
    trans: np.ndarray,
    expressions: np.ndarray,
    betas: np.ndarray | None = None,
    fps: int = FPS,
) -> Path:
    """Write poses [T, 165], trans [T, 3], expressions [T, 100], betas [300] with BEAT2's keys and dtypes. Atomic.

    A name without `.npz` gets it, as Blender lists nothing else. Raises ValueError for what `read_motion` would refuse.
    """
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    betas = np.zeros(NUM_BETAS) if betas is None else betas
    arrays = _checked(str(path), {"poses": poses, "trans": trans, "expressions": expressions, "betas": betas})
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            betas=arrays["betas"].astype(np.float32),
            poses=arrays["poses"].astype(np.float32),
            expressions=arrays["expressions"].astype(np.float64),
            trans=arrays["trans"].astype(np.float64),
            model=np.array("smplx2020"),
            gender=np.array("neutral"),
            mocap_frame_rate=np.array(fps, dtype=np.int32),
        )
    return path


def save_motion(path: str | Path, clip: Clip) -> Path:
    """Write a clip's motion and body shape as a BEAT2 motion file; returns its path. Foot contacts are not stored."""
    return write_motion(path, **clip_arrays(clip), betas=clip.betas.detach().cpu().numpy(), fps=clip.fps)


def clip_arrays(clip: Clip) -> dict[str, np.ndarray]:
    """Poses, trans and expressions of a clip: those of its motion, and last the very numbers that `clip.kept` holds."""
    arrays = from_tensor(clip.motion)
    for key, (values, mask) in clip.kept.items():
        arrays[key] = np.where(mask, values, arrays[key])
    return arrays


def to_tensor(motion: MotionFile) -> Float[Tensor, "T 437"]:
    """The motion tensor at 30 fps: row-6D rotations, translation, foot contacts, expressions.

    Other frame rates are resampled over the time the frames span: rotations along the shortest arc (slerp), the rest
    linearly; the last source frame or fewer than 1/30 s before it ends the result. Contacts are computed, on generic
    body proportions (`kinematics.foot_contacts`).
    """
    from maskmotion.motion.kinematics import foot_contacts, forward_kinematics

    matrices = roma.rotvec_to_rotmat(torch.from_numpy(motion.poses.astype(np.float32)).unflatten(-1, (NUM_JOINTS, 3)))
    rest = torch.from_numpy(np.hstack([motion.trans, motion.expressions]).astype(np.float32))
    if motion.fps != FPS:
        matrices, rest = _resample(matrices, rest, motion.fps / FPS)
    rotations = matrix_to_6d(matrices)
    tensor = SMPLX.rest.repeat(len(rest), 1)
    tensor[:, ROTATIONS] = rotations.flatten(-2)
    tensor[:, TRANSLATION] = rest[:, :3]
    tensor[:, EXPRESSIONS] = rest[:, 3:]
    tensor[:, CONTACTS] = foot_contacts(forward_kinematics(rotations, rest[:, :3]))
    return tensor


def from_tensor(motion: Float[Tensor, "T 437"]) -> dict[str, np.ndarray]:
    """The inverse of `to_tensor`: poses, trans and expressions as `write_motion` takes them; contacts are dropped."""
    motion = motion.detach().to("cpu", torch.float32)
    poses = axis_angle_from_6d(motion[:, ROTATIONS].unflatten(-1, (NUM_JOINTS, 6))).flatten(-2)
    trans, expressions = motion[:, TRANSLATION].double(), motion[:, EXPRESSIONS].double()
    return {"poses": poses.numpy(), "trans": trans.numpy(), "expressions": expressions.numpy()}


def _resample(matrices: Tensor, rest: Tensor, step: float) -> tuple[Tensor, Tensor]:
    last = len(rest) - 1
    position = torch.arange(int(last / step + 1e-6) + 1, dtype=torch.float64) * step
    before = position.long().clamp(max=last)
    after = (before + 1).clamp(max=last)
    share = (position - before).clamp(0, 1).float()[:, None]
    turn = roma.rotmat_to_rotvec(matrices[before].mT @ matrices[after])
    matrices = matrices[before] @ roma.rotvec_to_rotmat(share[..., None] * turn)
    return matrices, torch.lerp(rest[before], rest[after], share)


def read_arrays(path: Path, only: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Every array of an npz by name, or those of `only` that it has; the others are not looked at.

    Raises FileNotFoundError; ValueError for another or damaged file, or pickled objects.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such motion file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not an npz file (or cut short); expected a BEAT2 motion file written by numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: np.asarray(archive[key]) for key in archive.files if only is None or key in only}
    except Exception as error:  # a damaged zip makes numpy and zipfile raise nearly anything
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: pickled object; refused, as unpickling can run any code; save plain number arrays instead"
            ) from error
        raise ValueError(f"{path}: a damaged npz file ({error}); copy or download it again") from error


def _checked(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for key, array in arrays.items():
        expected = f"[T, {_WIDTHS[key]}]" if key in _WIDTHS else f"[{NUM_BETAS}]"
        width, axes = (_WIDTHS[key], 2) if key in _WIDTHS else (NUM_BETAS, 1)
        fits = array.ndim == axes and (array.shape[-1] == width or (axes == 1 and len(array) <= width))
        if array.dtype.kind not in "iuf" or not fits or not len(array):
            raise ValueError(f"{name}: {key} must be {expected} numbers, got {list(array.shape)} of {array.dtype}")
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            where = "frame" if axes == 2 else "entry"
            raise ValueError(
                f"{name}: {key} has NaN or infinite values, first at {where} {int(np.argmin(finite))}, in "
                f"{int((~finite).sum())} of {len(array)}; cut or repair them first"
            )
    frames = {key: len(arrays[key]) for key in _WIDTHS}
    if len(set(frames.values())) > 1:
        lengths = ", ".join(f"{key} {count}" for key, count in frames.items())
        raise ValueError(f"{name}: arrays of unequal length: {lengths} frames; all must have the same number")
    betas = np.pad(arrays["betas"], (0, NUM_BETAS - len(arrays["betas"])))
    return {**arrays, "betas": betas}
