"""Schedules: bounds, monotone, and mask shares that stay possible over a whole run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskmotion import Cosine, Linear, value_at

numbers = st.floats(-10, 10)


@given(numbers, numbers, st.floats(0, 1))
def test_a_schedule_starts_ends_and_never_leaves_its_bounds(start, end, progress):
    for schedule in (Linear(start, end), Cosine(start, end)):
        assert value_at(schedule, 0.0) == pytest.approx(start, abs=1e-9)
        assert value_at(schedule, 1.0) == pytest.approx(end, abs=1e-9)
        assert min(start, end) - 1e-9 <= value_at(schedule, progress) <= max(start, end) + 1e-9


@given(st.floats(0, 1), st.floats(0, 1))
def test_schedules_are_monotone(a, b):
    low, high = sorted((a, b))
    for schedule in (Linear(0.05, 1.0), Cosine(0.05, 1.0)):
        assert value_at(schedule, low) <= value_at(schedule, high) + 1e-12


def test_echomasks_curriculum_is_possible_at_every_moment():
    hard, soft = Linear(0.0, 0.3), Linear(0.3, 0.0)
    for step in range(101):
        shares = value_at(hard, step / 100) + value_at(soft, step / 100)
        assert shares <= 0.5 + 1e-9


@pytest.mark.parametrize("progress", [-0.1, 1.01, 2.86])
def test_progress_outside_training_is_refused(progress):
    with pytest.raises(ValueError, match="from 0 to 1"):
        value_at(0.5, progress)


def test_numbers_and_callables_are_schedules_too():
    assert value_at(0.4, 0.9) == 0.4
    assert value_at(lambda progress: progress**2, 0.5) == 0.25
