"""Numbers that change over training, as functions of progress in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_CONFIG)
class Linear:
    """Straight line from `start` at progress 0 to `end` at progress 1."""

    start: float
    end: float
    kind: Literal["linear"] = "linear"

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True, config=_CONFIG)
class Cosine:
    """Half a cosine from `start` to `end`: flat at both ends."""

    start: float
    end: float
    kind: Literal["cosine"] = "cosine"

    def __call__(self, progress: float) -> float:
        """Value at `progress`."""
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


Schedule = float | Linear | Cosine
"""What a recipe may hold. A component built by hand also takes any callable from progress to a number."""


def value_at(schedule: Schedule | Callable[[float], float], progress: float) -> float:
    """Value of a schedule at `progress`. Raises ValueError outside [0, 1]."""
    if not 0 <= progress <= 1:
        raise ValueError(f"progress runs from 0 to 1 over training, got {progress}")
    return float(schedule(progress)) if callable(schedule) else float(schedule)
