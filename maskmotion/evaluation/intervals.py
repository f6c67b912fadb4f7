"""Intervals over seeds: of a mean, and of the difference of two rows that were trained with the same seeds.

Student's t over seeds. Where every seed is measured on the same clips, an interval covers the mean *on those clips*: what
another test set would give is not in it. In a paired difference the clips' own effect cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """Mean of `n` values and the half width of its t interval; NaN where nothing can be said (no value; one value)."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half

    @property
    def direction(self) -> int:
        """1 where the interval lies above zero, -1 below, 0 where it does not tell.

        An interval without width is not believed: values that agree to the last digit say nothing about their spread.
        """
        if not self.half > 0 or self.low <= 0 <= self.high:
            return 0
        return 1 if self.mean > 0 else -1


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, one a seed. Values that are NaN are left out."""
    from scipy.stats import t

    if not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, got {level}")
    kept = np.array([value for value in values if not math.isnan(value)], dtype=float)
    count = len(kept)
    if count < 2:
        return Interval(float(kept.mean()) if count else math.nan, math.nan, count)
    half = t.ppf((1 + level) / 2, count - 1) * kept.std(ddof=1) / math.sqrt(count)
    return Interval(float(kept.mean()), float(half), count)


def paired_difference(row: Mapping[int, float], base: Mapping[int, float], level: float = 0.95) -> Interval:
    """Interval of row - base, paired by seed (the keys); seeds that only one of them has are left out."""
    return t_interval([row[seed] - base[seed] for seed in row if seed in base], level)
