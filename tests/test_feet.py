"""Foot sliding: standing feet cost nothing, sliding ones their speed, lifted ones nothing."""

from __future__ import annotations

import math

import pytest
import torch

from maskmotion.evaluation.feet import foot_sliding
from maskmotion.motion.layout import SMPLX


def moving(speed: float, contact: float, frames: int = 31) -> torch.Tensor:
    motion = SMPLX.rest.repeat(frames, 1)
    motion[:, 330] = speed * torch.arange(frames) / 30
    motion[:, 333:337] = contact
    return motion


def test_feet_that_stand_do_not_slide():
    assert foot_sliding([moving(0.0, 1.0)]) == pytest.approx(0, abs=1e-4)


def test_a_body_that_is_pushed_slides_at_its_speed():
    assert foot_sliding([moving(0.25, 1.0)]) == pytest.approx(25, rel=1e-3)
    assert foot_sliding([moving(0.25, 1.0), moving(0.0, 1.0)]) == pytest.approx(12.5, rel=1e-3)


def test_feet_in_the_air_do_not_count():
    motion = moving(0.25, 0.0)
    assert math.isnan(foot_sliding([motion]))
    motion[10:12, 333] = 1.0
    assert foot_sliding([motion]) == pytest.approx(25, rel=1e-3)


def test_the_planted_truth_slides_less_than_the_same_without_its_translation(small_corpus):
    truth = [clip.motion for clip in small_corpus.test]
    still = [motion.clone() for motion in truth]
    for motion in still:
        motion[:, 330:333] = motion[0, 330:333]
    assert foot_sliding(truth) < foot_sliding(still)
