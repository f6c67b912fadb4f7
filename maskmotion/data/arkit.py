"""ARKit's blendshape weights to expressions and jaw, by a matrix that the user supplies (EMAGE, section 3.3)."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from maskmotion.motion.files import FPS
from maskmotion.motion.skeleton import NUM_EXPRESSIONS

_SIDED = ("cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
_SIDED_MOUTH = (
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
)
_SINGLE = (
    *(
        "browInnerUp",
        "cheekPuff",
        "jawForward",
        "jawLeft",
        "jawOpen",
        "jawRight",
        "mouthClose",
        "mouthFunnel",
        "mouthLeft",
    ),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
)
_TWICE = ("browDown", "browOuterUp", *_SIDED, *_SIDED_MOUTH, "noseSneer")
ARKIT: tuple[str, ...] = tuple(sorted([*_SINGLE, *(f"{name}{side}" for name in _TWICE for side in ("Left", "Right"))]))
"""The 51 blendshapes in alphabetical order; `tongueOut` is none of them."""

KNOWN_MATRIX = "f055de09c64182696499a26c2d6109349c627195bcd40c6adc3dd27f3922b34b"
"""sha256 of the file mat_final.npy that EMAGE's authors publish beside BEAT2, as third parties report it."""


def read_matrix(path: str | Path) -> tuple[np.ndarray, str]:
    """The matrix [51, 103] of an .npy file, and a note where it is not the file that is known.

    Rows: `ARKIT`, alphabetical (its authors do not say; two independent users agree). Columns: 100 expressions, then the
    jaw as axis-angle in radians.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no npy file, another shape, or values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such matrix; it is an .npy file [{len(ARKIT)}, {NUM_EXPRESSIONS + 3}]")
    try:
        matrix = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file makes numpy raise nearly anything
        raise ValueError(f"{path}: not an npy file of numbers ({error})") from error
    shape = (len(ARKIT), NUM_EXPRESSIONS + 3)
    if not isinstance(matrix, np.ndarray) or matrix.shape != shape or matrix.dtype.kind not in "iuf":
        raise ValueError(f"{path}: need numbers {list(shape)}, got {list(np.shape(matrix))}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path}: NaN or infinite values")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    note = (
        f"{path}: sha256 {digest} is not the known mat_final.npy; rows must be in alphabetical order of the blendshapes"
    )
    return matrix.astype(np.float64), "" if digest == KNOWN_MATRIX else note


def face_of(weights: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [T, 51] -> expressions [T, 100] and jaw [T, 3]."""
    if weights.ndim != 2 or weights.shape[1] != len(ARKIT):
        raise ValueError(f"weights are [T, {len(ARKIT)}] in alphabetical order, got {list(weights.shape)}")
    face = weights @ matrix
    return face[:, :NUM_EXPRESSIONS], face[:, NUM_EXPRESSIONS:]


def read_weights(path: str | Path, fps: float | None = None) -> np.ndarray:
    """ARKit weights at 30 frames per second, [T, 51] in the order of `ARKIT`.

    BEAT's json (`names`, and `frames` of `weights` and `time` in seconds), or a csv with a column of each name and, as
    there, `time`; names count whatever their case, other columns (tongueOut, head, eyes) are not read.

    Args:
        fps: of a csv without times.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a file, a name is missing, times that do not rise, no time and no fps.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of blendshape weights")
    try:
        names, rows, times = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
        place = {name.lower(): number for number, name in enumerate(names)}
        missing = [name for name in ARKIT if name.lower() not in place]
        if missing:
            raise ValueError(f"no weights named {', '.join(missing)}")
        values = np.array(rows, dtype=np.float64)[:, [place[name.lower()] for name in ARKIT]]
        if times is None and fps is None:
            raise ValueError("no column `time`, so the frame rate must be given")
        seconds = np.array(times) if times is not None else np.arange(len(values)) / (fps or 1)
        if not np.isfinite(values).all() or not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
            raise ValueError("values must be finite and times rise")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a file of ARKit weights: {error}") from error
    at = np.arange(int(seconds[-1] * FPS + 1e-6) + 1) / FPS
    return np.stack([np.interp(at, seconds, column) for column in values.T], axis=1)


def _read_json(path: Path) -> tuple[list[str], list[Any], list[float]]:
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [frame["weights"] for frame in found["frames"]]
    return list(found["names"]), rows, [float(frame["time"]) for frame in found["frames"]]


def _read_csv(path: Path) -> tuple[list[str], list[Any], list[float] | None]:
    lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    header = [name.strip() for name in lines[0]]
    known = {name.lower() for name in ARKIT}
    columns = [number for number, name in enumerate(header) if name.lower() in known]
    time = next((number for number, name in enumerate(header) if name.lower() == "time"), None)
    rows = [[float(line[number]) for number in columns] for line in lines[1:] if line]
    times = None if time is None else [float(line[time]) for line in lines[1:] if line]
    return [header[number] for number in columns], rows, times
