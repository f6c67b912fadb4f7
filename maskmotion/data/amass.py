"""AMASS recordings (SMPL+H or SMPL-X npz) as BEAT2 motion files hold them: body and hands, y up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from maskmotion.motion.files import NUM_BETAS, MotionFile, read_arrays
from maskmotion.motion.kinematics import OFFSETS
from maskmotion.motion.skeleton import NUM_EXPRESSIONS, NUM_JOINTS

_RATES = ("mocap_framerate", "mocap_frame_rate")  # SMPL+H files, SMPL-X files
_BODY, _HANDS = 22, 30  # joints; SMPL-X has jaw and eyes between them
UP = Rotation.from_euler("x", -90, degrees=True)  # z up to y up: (x, y, z) becomes (x, z, -y)


def read_amass(path: str | Path) -> MotionFile:
    """One AMASS file at its own frame rate, turned from z up to y up; face and eyes at rest.

    `poses` [T, 156] (SMPL+H: 22 body joints, 15 of each hand) or [T, 165] (SMPL-X), axis-angle; `trans` [T, 3] metres;
    `betas`; `mocap_framerate` or `mocap_frame_rate`. Hand joints have the order of SMPL-X in both. Other arrays are not
    read. Betas of SMPL+H mean another body and are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no npz or a damaged one, a missing key, a wrong shape, a value that is not finite.
    """
    path = Path(path)
    arrays = read_arrays(path, only=("poses", "trans", "betas", *_RATES))
    rate = next((arrays[key] for key in _RATES if key in arrays), None)
    missing = [key for key in ("poses", "trans") if key not in arrays] + ([] if rate is not None else [_RATES[0]])
    if missing or rate is None:
        raise ValueError(f"{path}: missing {', '.join(missing)}; an AMASS motion has poses, trans and {_RATES[0]}")
    poses, trans, fps = (
        _numbers(path, "poses", arrays["poses"]),
        _numbers(path, "trans", arrays["trans"]),
        _rate(path, rate),
    )
    if len(poses) != len(trans) or trans.shape[1] != 3:
        raise ValueError(
            f"{path}: trans must be [{len(poses)}, 3] as there are {len(poses)} poses, got {list(trans.shape)}"
        )
    whole = _smplx_poses(path, poses)
    smplx = poses.shape[1] == 3 * NUM_JOINTS
    whole[:, 0] = (UP * Rotation.from_rotvec(whole[:, 0])).as_rotvec()
    pelvis = OFFSETS[0].double().numpy()  # at rest, from the model's origin; in SMPL+H 2 cm further forward
    betas = arrays.get("betas", np.zeros(0)).reshape(-1) if smplx else np.zeros(0)
    return MotionFile(
        poses=whole.reshape(len(whole), -1),
        trans=UP.apply(pelvis + trans) - pelvis,  # the models turn about the pelvis, not about their origin
        expressions=np.zeros((len(whole), NUM_EXPRESSIONS)),
        betas=np.pad(betas[:NUM_BETAS], (0, NUM_BETAS - min(len(betas), NUM_BETAS))),
        fps=fps,
    )


def still_hands(motion: MotionFile) -> bool:
    """Whether no finger moves: then the hands were not recorded, and AMASS holds their mean pose."""
    fingers = motion.poses[:, -3 * _HANDS :]
    return bool(np.ptp(fingers, axis=0).max() < 1e-4)


def _smplx_poses(path: Path, poses: np.ndarray) -> np.ndarray:
    """[T, 55, 3], what is not body or hand at rest."""
    if poses.shape[1] not in (3 * (_BODY + _HANDS), 3 * NUM_JOINTS):
        raise ValueError(
            f"{path}: poses must be [T, 156] (SMPL+H) or [T, 165] (SMPL-X), got {list(poses.shape)}; "
            "download the SMPL+H G or the SMPL-X files of AMASS"
        )
    joints = poses.reshape(len(poses), -1, 3)
    whole = np.zeros((len(poses), NUM_JOINTS, 3))
    whole[:, :_BODY], whole[:, -_HANDS:] = joints[:, :_BODY], joints[:, -_HANDS:]
    return whole


def _numbers(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not len(array):
        raise ValueError(f"{path}: {key} must be numbers [T, columns], T > 0, got {list(array.shape)} of {array.dtype}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{path}: {key} has NaN or infinite values in {int(bad.sum())} frames, first {int(bad.argmax())}"
        )
    return array.astype(np.float64)


def _rate(path: Path, rate: np.ndarray) -> float:
    if rate.size != 1 or rate.dtype.kind not in "iuf" or not 1 <= float(rate.item()) <= 1000:
        raise ValueError(f"{path}: the frame rate must be one number from 1 to 1000 per second, got {rate}")
    return float(rate.item())
