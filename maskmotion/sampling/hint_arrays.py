"""Arrays that a user marks as given: their shapes, their masks, and what is said when they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from maskmotion.motion.skeleton import JOINTS, NUM_EXPRESSIONS, NUM_JOINTS, PART_JOINTS, joint

WIDTHS = {"poses": 3 * NUM_JOINTS, "expressions": NUM_EXPRESSIONS, "trans": 3}
MASKS = {"poses": "known_joints", "expressions": "known_expressions", "trans": "known_trans"}
_DTYPES = {"poses": np.float32, "expressions": np.float64, "trans": np.float64}  # those of a saved motion file
_UNITS: Mapping[str, tuple[tuple[int, ...], ...]] = {  # axes after time that a mask may have
    "poses": ((NUM_JOINTS,),),
    "expressions": ((), (NUM_EXPRESSIONS,)),
    "trans": ((),),
}

Given = dict[str, tuple[np.ndarray, np.ndarray]]
"""Key of a motion file -> values [T, columns] and bool mask [T, columns] of what is given."""


def checked(arrays: Mapping[str, np.ndarray]) -> Given:
    """Values and masks by name -> values in the dtypes of a motion file, zero where not given, and masks by column.

    Raises ValueError as `Hints` says.
    """
    for key, name in MASKS.items():
        if (key in arrays) != (name in arrays):
            there, lacking = (key, name) if key in arrays else (name, key)
            raise ValueError(f"hints: {there} comes without {lacking}; give both, or neither")
    frames = max((len(array) for array in arrays.values() if array.ndim), default=0)
    if not frames:
        raise ValueError("hints: no frames; give poses [T, 165] and known_joints [T, 55], for example")
    given: Given = {}
    for key, width in WIDTHS.items():
        if key in arrays:
            mask = _mask_of_columns(key, arrays[MASKS[key]], frames)
            given[key] = (_values(key, arrays[key], mask, frames), mask)
        else:
            given[key] = (np.zeros((frames, width), _DTYPES[key]), np.zeros((frames, width), bool))
    if not any(mask.any() for _, mask in given.values()):
        raise ValueError(
            f"hints: nothing is marked as given; set {', '.join(MASKS.values())} to True where something is"
        )
    return given


def _mask_of_columns(key: str, mask: np.ndarray, frames: int) -> np.ndarray:
    name, width = MASKS[key], WIDTHS[key]
    shapes = [(frames, *unit) for unit in _UNITS[key]]
    if mask.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(
            f"hints: {name} must be {wanted} where the longest array has {frames} frames; got {list(mask.shape)}"
        )
    if mask.dtype != bool and not (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all()):
        raise ValueError(f"hints: {name} must be True or False (or 1 and 0), got {mask.dtype} with other values")
    mask = mask.astype(bool).reshape(frames, -1)
    return mask.repeat(width // mask.shape[1], axis=1)


def _values(key: str, value: np.ndarray, mask: np.ndarray, frames: int) -> np.ndarray:
    if value.dtype.kind not in "iuf" or value.shape != (frames, WIDTHS[key]):
        raise ValueError(
            f"hints: {key} must be [{frames}, {WIDTHS[key]}] numbers where the longest array has {frames} frames; "
            f"got {list(value.shape)} of {value.dtype}"
        )
    broken = mask & ~np.isfinite(value)
    if broken.any():
        frame, column = first(broken)
        raise ValueError(
            f"hints: {column_name(key, column)} is marked as given at frame {frame} but is {value[frame, column]}, as in "
            f"{int(broken.any(axis=1).sum())} frames; repair the values or take the mark away"
        )
    return np.where(mask, value, 0).astype(_DTYPES[key])


def first(mask: np.ndarray) -> tuple[int, int]:
    """Frame and column of the first True of [T, columns]."""
    frame, column = np.argwhere(mask)[0]
    return int(frame), int(column)


def column_name(key: str, column: int) -> str:
    """What a user calls a column of an array: the joint, "translation", or the expression's number."""
    return {"poses": JOINTS[column // 3 % NUM_JOINTS], "trans": "translation"}.get(key, f"expression {column}")


def joint_numbers(names: str | Iterable[str] | None) -> list[int]:
    """Indices of joints from names of joints and parts; None means all. ValueError for an unknown name."""
    if names is None:
        return list(range(NUM_JOINTS))
    given = [names] if isinstance(names, str) else list(names)
    try:
        found = [number for name in given for number in PART_JOINTS.get(name) or (joint(name),)]
    except ValueError as error:
        raise ValueError(f"hints: {error}; or a part: {', '.join(PART_JOINTS)}") from None
    return sorted(set(found))


def frame_numbers(frames: slice | range | int | Sequence[slice | range | int], length: int) -> np.ndarray:
    """The frames meant of a source with `length` frames, increasing. ValueError for none, or for frames it has not."""
    several = [frames] if isinstance(frames, slice | range | int) else list(frames)
    stretches = [np.arange(length)[one] if isinstance(one, slice) else np.atleast_1d(one) for one in several]
    chosen = np.unique(np.concatenate([np.zeros(0, int), *(np.asarray(stretch, int) for stretch in stretches)]))
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= length:
        raise ValueError(
            f"hints: the source has frames 0 to {length - 1}; frames={frames} means none or others, choose within them"
        )
    return chosen
