"""Measures order what was done to a recorded take as they should, and where they do not, that is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from smplx_file import write_random_smplx

from maskmotion.data.windows import split_time
from maskmotion.motion.body_model import BodyModel

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import metrics_on_a_take as take
from metrics_on_a_take import OTHER, REVERSED, SHIFTED, SMOOTHED, TRUTH


@pytest.fixture(scope="module")
def clip(beat2):
    return take.take(beat2)


@pytest.fixture(scope="module")
def found(beat2, clip):
    return take.rows(clip, take.other_speech(clip, beat2), take.extractors(clip, steps=150))


def values(found, name):
    return {change: row.values.get(name) for change, row in found.items()}


@pytest.mark.parametrize("name", ["fgd", "fmd", "fed"])
def test_frechet_distances_grow_from_a_late_take_to_a_smoothed_and_a_reversed_one(found, name):
    here = values(found, name)
    assert here[TRUTH] == pytest.approx(0, abs=1e-9)
    assert here[OTHER] == pytest.approx(0, abs=1e-9), "the motion is the same"
    assert 0.05 < here[SHIFTED] < min(here[SMOOTHED], here[REVERSED])


def test_beats_meet_their_own_speech_only(found):
    margins = {change: take.margin(row, "bc") for change, row in found.items()}
    assert margins[TRUTH] > 0.003
    assert margins[SHIFTED] < 0 and margins[OTHER] < 0


def test_what_beat_measures_cannot_tell_is_known(found):
    bc, ba = values(found, "bc"), values(found, "ba")
    assert bc[SMOOTHED] > bc[TRUTH], "BC likes motion with fewer beats"
    assert abs(bc[SHIFTED] - bc[TRUTH]) < 0.005, "and does not fall for late motion: only the margin over chance does"
    assert abs(take.margin(found[TRUTH], "ba")) < 0.01, "one wrist in a minute says nothing"
    assert ba[SMOOTHED] < ba[TRUTH] - 0.1


def test_recall_is_whole_for_the_truth_and_small_for_other_motion(found):
    here = values(found, "srgr")
    assert here[TRUTH] == 1 > here[SMOOTHED] > 0.8
    assert max(here[SHIFTED], here[REVERSED]) < 0.5
    assert "srgr" in found[OTHER].absent, "the other recordings have no motion to be recalled"


def test_smoothing_takes_diversity_and_jerk_and_lets_feet_slide(found):
    diversity, jerk, skating = (values(found, name) for name in ("l1_diversity", "jerk", "foot_skating"))
    assert diversity[SMOOTHED] < 0.95 * diversity[TRUTH]
    assert jerk[SMOOTHED] < 0.3 * jerk[TRUTH]
    assert skating[SMOOTHED] > 1.5 * skating[TRUTH]
    assert values(found, "foot_sliding")[SMOOTHED] > 1.2 * values(found, "foot_sliding")[TRUTH]
    assert jerk[REVERSED] == pytest.approx(jerk[TRUTH], rel=1e-3)
    for measure in (diversity, jerk, skating):
        assert measure[REVERSED] == pytest.approx(measure[TRUTH], rel=0.03)
        assert measure[SHIFTED] == pytest.approx(measure[TRUTH], rel=0.06)


def test_faces_are_nearest_smoothed_and_far_reversed(clip, tmp_path):
    write_random_smplx(tmp_path / "model.npz")
    short, _ = split_time(clip, 4)
    setup = replace(take.extractors(short, steps=8), body=BodyModel(tmp_path / "model.npz"))
    found = take.rows(short, [], setup)
    for name in ("mse", "lvd"):
        here = values(found, name)
        assert here[TRUTH] == 0 < here[SMOOTHED] < min(here[SHIFTED], here[REVERSED])
