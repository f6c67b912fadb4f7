"""Intervals over seeds: against scipy, and whether they cover the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from maskmotion.evaluation.intervals import Interval, paired_difference, t_interval

TRIALS = 2000
SLACK = 3 * math.sqrt(0.95 * 0.05 / TRIALS)  # three standard errors of a rate of 95 %


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(map(float, values)))


def test_an_interval_is_students():
    values = [0.31, 0.28, 0.4, 0.36]
    found = t_interval(values, level=0.9)
    low, high = ttest_1samp(values, 0).confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.mean, found.n) == (pytest.approx(np.mean(values)), 4)


def test_nothing_is_said_of_one_value_or_none():
    one, none = t_interval([0.5]), t_interval([math.nan])
    assert (one.mean, one.n, one.direction) == (0.5, 1, 0) and math.isnan(one.half)
    assert math.isnan(none.mean) and none.n == 0 and none.direction == 0


def test_a_value_that_is_not_there_is_left_out():
    assert t_interval([1.0, math.nan, 2.0]) == t_interval([1.0, 2.0])
    assert paired_difference({0: 1.0, 1: 3.0, 2: 9.0}, {0: 0.5, 1: 1.5, 5: 7.0}) == t_interval([0.5, 1.5])


@pytest.mark.parametrize(
    ("mean", "half", "direction"), [(1.0, 0.5, 1), (-1.0, 0.5, -1), (1.0, 1.5, 0), (1.0, 1.0, 0), (1.0, 0.0, 0)]
)
def test_a_direction_is_told_where_the_interval_has_a_width_and_excludes_zero(mean, half, direction):
    assert Interval(mean, half, 3).direction == direction


def test_a_level_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        t_interval([1.0, 2.0], level=95.0)


def measurements(rng: np.random.Generator, seeds: int, clips: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """[row, seed] values of two rows, each the mean over the same clips, and each row's true value on these clips.

    What varies: seeds (shared by the rows, and each row's own), clips (shared, and each row's own), and the rest.
    """
    truth = np.array([1.0, 1.3])[:, None]
    clip = 0.5 * rng.normal(size=(1, clips)) + 0.2 * rng.normal(size=(2, clips))
    seed = 0.15 * rng.normal(size=(1, seeds)) + 0.1 * rng.normal(size=(2, seeds))
    rest = 0.3 * rng.normal(size=(2, seeds, clips))
    values = truth[..., None] + clip[:, None] + seed[..., None] + rest
    return values.mean(-1), truth[:, 0] + clip.mean(-1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_on_the_measured_clips_as_often_as_they_say(seeds):
    rng = np.random.default_rng(seeds)
    mean = difference = 0
    for _ in range(TRIALS):
        values, truth = measurements(rng, seeds)
        own = t_interval(values[0].tolist())
        paired = paired_difference(by_seed(values[1]), by_seed(values[0]))
        mean += own.low <= truth[0] <= own.high
        difference += paired.low <= truth[1] - truth[0] <= paired.high
    assert mean / TRIALS == pytest.approx(0.95, abs=SLACK)
    assert difference / TRIALS == pytest.approx(0.95, abs=SLACK)


@pytest.mark.parametrize("seeds", [3, 5])
def test_pairing_by_seed_makes_differences_sharper(seeds):
    rng = np.random.default_rng(seeds)
    paired, shuffled = [], []
    for _ in range(300):
        values, _ = measurements(rng, seeds)
        paired.append(paired_difference(by_seed(values[1]), by_seed(values[0])).half)
        shuffled.append(paired_difference(by_seed(np.roll(values[1], 1)), by_seed(values[0])).half)
    assert np.median(paired) < 0.85 * np.median(shuffled)


@pytest.mark.parametrize("seeds", [3, 5])
def test_what_other_clips_would_give_is_not_in_an_interval_over_seeds(seeds):
    """Documented below every table: for the value of a row the interval is too narrow, for a difference nearly right."""
    rng = np.random.default_rng(seeds)
    mean = difference = 0
    for _ in range(TRIALS):
        values, _ = measurements(rng, seeds)
        own = t_interval(values[0].tolist())
        paired = paired_difference(by_seed(values[1]), by_seed(values[0]))
        mean += own.low <= 1.0 <= own.high
        difference += paired.low <= 0.3 <= paired.high
    assert mean / TRIALS < 0.92
    assert difference / TRIALS > mean / TRIALS
