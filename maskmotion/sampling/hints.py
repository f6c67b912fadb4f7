"""Hints: frames x joints (x expressions, x translation) of a clip that a user gives, and the file they are kept in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskmotion.motion.files import FPS, clip_arrays, from_tensor, read_arrays, read_motion, to_tensor
from maskmotion.motion.kinematics import foot_contacts, forward_kinematics
from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import JOINTS, NUM_EXPRESSIONS, NUM_JOINTS, PART_JOINTS
from maskmotion.sampling.hint_arrays import (
    MASKS,
    WIDTHS,
    Given,
    checked,
    column_name,
    first,
    frame_numbers,
    joint_numbers,
)
from maskmotion.shapes import Bool, Float
from maskmotion.storage import atomic
from maskmotion.types import Clip

_RATES = ("mocap_frame_rate", "mocap_framerate")


class Hints:
    """What of a clip is given, at 30 frames a second; from arrays, `read` or `from_clip`, joined with `|`.

    Args:
        poses: [T, 165] axis-angle, radians. known_joints: bool [T, 55], which of them are given.
        expressions: [T, 100]. known_expressions: bool [T], or [T, 100] for single coefficients.
        trans: [T, 3] root translation, metres. known_trans: bool [T].

    Values and their mask come together; what is not given may hold anything. Values are held in the dtypes of a motion
    file (poses float32, the others float64). Raises ValueError for shapes that do not fit, values without their mask or a
    mask without values, given values that are not finite, and when nothing is given.
    """

    def __init__(
        self,
        poses: Any = None,
        known_joints: Any = None,
        expressions: Any = None,
        known_expressions: Any = None,
        trans: Any = None,
        known_trans: Any = None,
    ) -> None:
        arrays = {"poses": poses, "known_joints": known_joints, "expressions": expressions, "trans": trans}
        arrays |= {"known_expressions": known_expressions, "known_trans": known_trans}
        given = checked({name: np.asarray(array) for name, array in arrays.items() if array is not None})
        self.poses, self.expressions, self.trans = (values for values, _ in given.values())
        self.known_joints = given["poses"][1][:, ::3]
        self.known_expressions = given["expressions"][1]
        self.known_trans = given["trans"][1][:, 0]
        self._given = given

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return len(self.poses)

    @classmethod
    def from_clip(
        cls,
        source: Clip | str | Path,
        frames: slice | range | int | Sequence[slice | range | int] = slice(None),
        *,
        joints: str | Iterable[str] | None = None,
        expressions: bool = False,
        translation: bool = False,
        at: int | None = None,
    ) -> Hints:
        """Cut hints out of a clip or a BEAT2 npz; an npz at 30 frames a second keeps its very numbers.

        Args:
            frames: of the source: a slice, a range, a number, or several of them.
            joints: names of joints or parts ("face", "upper", "hands", "lower"); None: all 55; () for none.
            expressions: give the facial expressions too. translation: give the root translation too.
            at: frame of the hints at which the first chosen frame lands; None: where it was in the source.

        Raises ValueError for an unknown joint, and for frames that the source does not have.
        """
        arrays = clip_arrays(source) if isinstance(source, Clip) else _arrays_at_our_rate(source)
        chosen = frame_numbers(frames, len(arrays["poses"]))
        to = chosen if at is None else chosen - chosen[0] + at
        if to[0] < 0:
            raise ValueError(f"hints: at must be a frame, 0 or more, got {at}")
        length = int(to[-1]) + 1
        placed = {key: np.zeros((length, width), arrays[key].dtype) for key, width in WIDTHS.items()}
        for key, array in placed.items():
            array[to] = arrays[key][chosen]
        known = np.isin(np.arange(length), to)
        known_joints = known[:, None] & np.isin(np.arange(NUM_JOINTS), joint_numbers(joints))
        masks = {"known_expressions": known & expressions, "known_trans": known & translation}
        return cls(**placed, known_joints=known_joints, **masks)

    @classmethod
    def read(cls, path: str | Path) -> Hints:
        """Read a hint file: an npz with the constructor's arrays by name; other keys of a motion file may be there too.

        Values without their mask are not given. Raises FileNotFoundError, and ValueError for what the constructor refuses,
        for what is no npz, for a frame rate other than 30, and for a file without any mask.
        """
        arrays = read_arrays(Path(path))
        rate = next((arrays[key] for key in _RATES if key in arrays), np.array(FPS))
        if rate.size != 1 or rate.dtype.kind not in "iuf" or float(rate.item()) != FPS:
            raise ValueError(
                f"{path}: hints are kept frame by frame, so they have {FPS} frames a second, these {rate}; "
                "Hints.from_clip resamples a motion file"
            )
        masks = [mask for mask in MASKS.values() if mask in arrays]
        if not masks:
            raise ValueError(
                f"{path}: none of {', '.join(MASKS.values())}, so it does not say what is given; it has "
                f"{', '.join(arrays) or 'nothing'}. Make a hint file of a motion file: Hints.from_clip(...).save(...)"
            )
        values = [key for key, mask in MASKS.items() if mask in arrays and key in arrays]
        try:
            return cls(**{name: arrays[name] for name in (*values, *masks)})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write a hint file that `read` takes; returns its path, which ends in .npz. Atomic."""
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        arrays = {name: getattr(self, name) for pair in MASKS.items() for name in pair}
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays, mocap_frame_rate=np.array(FPS, dtype=np.int32))
        return path

    def __or__(self, other: Hints) -> Hints:
        """Both together. ValueError where they give one thing different values, by frame and joint."""
        frames = max(self.frames, other.frames)
        mine, theirs = self.arrays(frames), other.arrays(frames)
        joined: dict[str, np.ndarray] = {}
        for key, (values, mask) in mine.items():
            more, more_mask = theirs[key]
            clash = mask & more_mask & (values != more)
            if clash.any():
                frame, column = first(clash)
                raise ValueError(
                    f"hints: two values for {column_name(key, column)} at frame {frame}, {values[frame, column]:g} and "
                    f"{more[frame, column]:g} ({int(clash.any(axis=1).sum())} frames clash); let only one of them give it"
                )
            joined |= {key: np.where(mask, values, more), MASKS[key]: mask | more_mask}
        joined["known_joints"] = joined["known_joints"][:, ::3]
        joined["known_trans"] = joined["known_trans"][:, 0]
        return Hints(**joined)

    def arrays(self, frames: int) -> Given:
        """Key of a motion file -> values and bool mask of what is given, both [frames, columns]; nothing past the end.

        Raises ValueError when the hints are longer than `frames`.
        """
        if self.frames > frames:
            raise ValueError(
                f"hints have {self.frames} frames and the clip has {frames} ({frames / FPS:.2f} s); they must not be longer: "
                "cut them, e.g. Hints.from_clip(..., frames=..., at=...), or give longer speech"
            )
        more = ((0, frames - self.frames), (0, 0))
        return {key: (np.pad(values, more), np.pad(mask, more)) for key, (values, mask) in self._given.items()}

    def tensors(
        self, frames: int, device: torch.device | str = "cpu"
    ) -> tuple[Float[Tensor, "frames D"], Bool[Tensor, "frames D"]]:
        """Motion columns, at rest where nothing is given, and the mask of what is given (True = hinted).

        Foot contacts follow where the lower body and the root are given in a frame and the next. ValueError as `arrays`.
        """
        arrays = {
            key: (torch.from_numpy(value), torch.from_numpy(mask)) for key, (value, mask) in self.arrays(frames).items()
        }
        motion = SMPLX.rest.repeat(frames, 1)
        hinted = torch.zeros(frames, SMPLX.dim, dtype=torch.bool)
        poses, given = arrays["poses"]
        rotations, known = axis_angle_to_6d(poses.unflatten(-1, (NUM_JOINTS, 3))), given[:, ::3]
        motion[:, ROTATIONS], hinted[:, ROTATIONS] = rotations.flatten(-2), known.repeat_interleave(6, dim=1)
        for key, columns in (("expressions", EXPRESSIONS), ("trans", TRANSLATION)):
            motion[:, columns], hinted[:, columns] = arrays[key][0].to(motion), arrays[key][1]
        stands = known[:, list(PART_JOINTS["lower"])].all(1) & hinted[:, TRANSLATION].all(1)
        motion[:, CONTACTS] = foot_contacts(forward_kinematics(rotations, motion[:, TRANSLATION]))
        hinted[:-1, CONTACTS] = (stands[:-1] & stands[1:])[:, None]
        return motion.to(device), hinted.to(device)

    def channels(self) -> tuple[np.ndarray, list[str]]:
        """Bool [T, 156] of what is given, and the channels' names: 55 joints, "translation", 100 times "expressions"."""
        masks = [self.known_joints, self.known_trans[:, None], self.known_expressions]
        return np.concatenate(masks, axis=1), [*JOINTS, "translation", *["expressions"] * NUM_EXPRESSIONS]


def _arrays_at_our_rate(path: str | Path) -> dict[str, np.ndarray]:
    motion = read_motion(path)
    if motion.fps != FPS:
        return from_tensor(to_tensor(motion))
    return {key: getattr(motion, key) for key in WIDTHS}
