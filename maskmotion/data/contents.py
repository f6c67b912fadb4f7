"""What the recordings of a data set have: all four parts and speech, or what `parts.json` at the root of its tree says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from maskmotion.motion.layout import FOUR_PARTS, SMPLX, BodyLayout
from maskmotion.shapes import Bool

CONTENTS_FILE = "parts.json"
ALL_PARTS: tuple[str, ...] = tuple(FOUR_PARTS)


@dataclass(frozen=True)
class Contents:
    """Parts that were recorded, and whether there is speech with the motion.

    Args:
        parts: of face, upper, hands and lower. audio: False: motion alone.

    Raises:
        ValueError: no part, a part twice, or one that does not exist.
    """

    parts: tuple[str, ...] = ALL_PARTS
    audio: bool = True

    def __post_init__(self) -> None:
        if not self.parts or len(set(self.parts)) < len(self.parts) or not set(self.parts) <= set(ALL_PARTS):
            raise ValueError(
                f"parts are some of {', '.join(ALL_PARTS)}, each once; got {', '.join(self.parts) or 'none'}"
            )

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.audio and set(self.parts) == set(ALL_PARTS)

    @cached_property
    def known(self) -> Bool[Tensor, " D"]:
        """The columns that were recorded; the eyes, which belong to no part, count only where all parts were."""
        if set(self.parts) == set(ALL_PARTS):
            return torch.ones(SMPLX.dim, dtype=torch.bool)
        known = torch.zeros(SMPLX.dim, dtype=torch.bool)
        known[[column for part in self.parts for column in SMPLX.columns[part]]] = True
        return known

    def missing(self, layout: BodyLayout = SMPLX) -> tuple[str, ...]:
        """The parts of a layout of which a column was not recorded."""
        return tuple(part for part, columns in layout.columns.items() if not bool(self.known[list(columns)].all()))

    def describe(self) -> str:
        """`upper, lower; no speech`."""
        return ", ".join(self.parts) + ("" if self.audio else "; no speech")


def read_contents(root: str | Path) -> Contents:
    """Contents of a tree: everything where it has no parts.json. ValueError for a file that says something else."""
    path = Path(root) / CONTENTS_FILE
    if not path.is_file():
        return Contents()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not set(found) <= {"parts", "audio"} or not isinstance(found["parts"], list):
            raise ValueError("it needs `parts`, a list, and may have `audio`")
        if not isinstance(found.get("audio", True), bool):
            raise ValueError(f"audio is true or false, got {found['audio']!r}")
        return Contents(tuple(map(str, found["parts"])), found.get("audio", True))
    except (ValueError, KeyError) as error:
        raise ValueError(f'{path}: {error}; an example: {{"parts": ["upper", "lower"], "audio": true}}') from error


def write_contents(root: str | Path, contents: Contents) -> Path:
    """Write parts.json into a tree."""
    path = Path(root) / CONTENTS_FILE
    path.write_text(json.dumps({"parts": list(contents.parts), "audio": contents.audio}) + "\n", encoding="utf-8")
    return path
