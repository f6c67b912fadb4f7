"""Physical priors on motion (EMAGE, section 3.2): truncation at three standard deviations, fingers that do not bend back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maskmotion.motion.skeleton import JOINTS, NUM_JOINTS

BLEND = 10  # frames on either side of what was changed
_SLACK = 1e-5  # radians (0.0006 degrees) beyond a limit that rounding to float32 may leave
_FINGERS = tuple(number for number, name in enumerate(JOINTS) if name[-1].isdigit() and "spine" not in name)
_BENT = tuple(number for number in _FINGERS if "thumb" not in JOINTS[number])

# Degrees from the flat hand, by the finger's joint (knuckle, middle, tip): round values of what healthy hands do by
# themselves, written for this library. Spread is wide, and twist is free: in a published take, little fingers twist by 50.
FLEXION = ((-15.0, 100.0), (-5.0, 120.0), (-5.0, 90.0))
SPREAD = (45.0, 35.0, 35.0)


@dataclass(frozen=True)
class Statistics:
    """Of joint rotations: mean [J, 3] as rotation vectors, sigma [J, 3] of the deviations from it, radians by axis."""

    mean: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, motions: Iterable[np.ndarray]) -> Statistics:
        """Over all frames of these poses, [T, 165] each, axis-angle; they are gone through twice, one at a time."""
        outer, count = np.zeros((NUM_JOINTS, 4, 4)), 0
        for poses in motions:
            quaternions = Rotation.from_rotvec(_joints(poses).reshape(-1, 3)).as_quat().reshape(-1, NUM_JOINTS, 4)
            outer += np.einsum("tja,tjb->jab", quaternions, quaternions)
            count += len(poses)
        if not count:
            raise ValueError("no frame to take statistics of; give at least one motion")
        mean = Rotation.from_quat(np.linalg.eigh(outer)[1][..., -1])  # the quaternion nearest to all of them
        squares = np.zeros((NUM_JOINTS, 3))
        for poses in motions:
            squares += np.square(_deviations(poses, mean)).sum(axis=0)
        return cls(mean.as_rotvec(), np.sqrt(squares / count))


def truncate(
    poses: np.ndarray, statistics: Statistics | None = None, sigma: float = 3.0, blend: int = BLEND
) -> np.ndarray:
    """Poses [T, 165] whose joints stay within `sigma` standard deviations of their mean, by axis.

    What lies outside is set to the threshold and averaged with the `blend` frames before and after, which go over into
    it; averages never leave the limits. All other frames, and joints that never are outside, are the same numbers as
    before. The pelvis is left alone, as a body may turn any way.

    Args:
        statistics: of a whole data set; None: of these poses. With the same statistics a second time changes nothing.

    Raises:
        ValueError: poses of another shape, a sigma that is not positive, a negative blend.
    """
    if not sigma > 0 or blend < 0:
        raise ValueError(f"sigma is positive and blend not negative, got sigma={sigma:g}, blend={blend}")
    statistics = Statistics.of([poses]) if statistics is None else statistics
    mean = Rotation.from_rotvec(statistics.mean)
    limits = sigma * statistics.sigma
    deviations = _deviations(poses, mean)
    inside, changed = into_limits(deviations, -limits, limits, blend)
    changed[:, 0] = False
    turned = (_repeat(mean, len(poses)) * Rotation.from_rotvec(inside.reshape(-1, 3))).as_rotvec()
    return _put(poses, turned.reshape(-1, NUM_JOINTS, 3), changed)


def limit_fingers(poses: np.ndarray, mean_hands: np.ndarray | None = None, blend: int = BLEND) -> np.ndarray:
    """Poses [T, 165] whose fingers, thumbs apart, bend and spread no further than `FLEXION` and `SPREAD`.

    Blended as in `truncate`. Axes are those of SMPL-X at rest: fingers along x, palms down, so that a left hand bends
    about -z and a right hand about +z.

    Args:
        mean_hands: [30, 3] axis-angle that the model adds to the hands (`hands_meanl`, `hands_meanr` of its file). BEAT2's
            poses are relative to it; None: they are relative to flat hands, as in AMASS.

    Raises:
        ValueError: poses or mean_hands of another shape, a negative blend.
    """
    if blend < 0:
        raise ValueError(f"blend is a number of frames, got {blend}")
    joints = _joints(poses)
    flat = np.zeros((NUM_JOINTS, 3))
    if mean_hands is not None:
        if mean_hands.shape != (len(_FINGERS), 3):
            raise ValueError(f"mean_hands is [{len(_FINGERS)}, 3] axis-angle, got {list(mean_hands.shape)}")
        flat[list(_FINGERS)] = mean_hands
    low, high = _finger_limits()
    inside, changed = into_limits(joints + flat, low, high, blend)
    return _put(poses, inside - flat, changed)


def into_limits(values: np.ndarray, low: np.ndarray, high: np.ndarray, blend: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [T, J, 3] within low and high [J, 3], and which joints of which frames were changed, bool [T, J].

    Values outside are cut to the limits; around such frames, fading over `blend` frames, a moving average over
    2 * blend + 1 frames of what was cut takes over. Averages of values inside are inside.
    """
    outside = np.any((values < low - _SLACK) | (values > high + _SLACK), axis=-1)  # [T, J]
    cut = np.clip(values, low, high)
    if not blend or not outside.any():
        return np.where(outside[..., None], cut, values), outside
    window = np.hanning(2 * blend + 3)[1:-1]
    smooth = ndimage.convolve1d(cut, window / window.sum(), axis=0, mode="nearest")
    away = np.stack([_distance(outside[:, joint]) for joint in range(outside.shape[1])], axis=1)
    near = away <= blend
    share = np.where(near, 0.5 + 0.5 * np.cos(np.pi * np.minimum(away, blend + 1) / (blend + 1)), 0.0)[..., None]
    return np.where(near[..., None], (1 - share) * cut + share * smooth, values), near


def _distance(outside: np.ndarray) -> np.ndarray:
    """Frames to the nearest one that is True, [T]."""
    if not outside.any():
        return np.full(len(outside), np.inf)
    distance: np.ndarray = ndimage.distance_transform_edt(~outside)
    return distance


def _finger_limits() -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest rotation vector [J, 3] in radians; no limit for what is no finger, and for thumbs."""
    low, high = np.full((NUM_JOINTS, 3), -np.inf), np.full((NUM_JOINTS, 3), np.inf)
    for number in _BENT:
        place = int(JOINTS[number][-1]) - 1
        bend = np.deg2rad(FLEXION[place])
        about_z = -bend[::-1] if JOINTS[number].startswith("left") else bend
        low[number, 1:] = -np.deg2rad(SPREAD[place]), about_z[0]
        high[number, 1:] = np.deg2rad(SPREAD[place]), about_z[1]
    return low, high


def _joints(poses: np.ndarray) -> np.ndarray:
    if poses.ndim != 2 or poses.shape[1] != 3 * NUM_JOINTS or not len(poses):
        raise ValueError(f"poses are [T, {3 * NUM_JOINTS}] axis-angle, T > 0, got {list(poses.shape)}")
    return poses.reshape(len(poses), NUM_JOINTS, 3).astype(np.float64)


def _deviations(poses: np.ndarray, mean: Rotation) -> np.ndarray:
    """Turns from the mean to the poses, [T, J, 3]."""
    joints = _joints(poses)
    turned = _repeat(mean, len(joints)).inv() * Rotation.from_rotvec(joints.reshape(-1, 3))
    return turned.as_rotvec().reshape(joints.shape)


def _repeat(mean: Rotation, frames: int) -> Rotation:
    return Rotation.from_quat(np.tile(mean.as_quat(), (frames, 1)))


def _put(poses: np.ndarray, joints: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The poses with the changed joints in place, of the same kind of numbers."""
    mask = np.repeat(changed, 3, axis=1)
    return np.where(mask, joints.reshape(len(poses), -1).astype(poses.dtype), poses)
