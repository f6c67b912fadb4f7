from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.evaluation.semantics import ARMS, HANDS, GestureClassifier
from maskmotion.evaluation.windows import Moments, gather_windows, gesture_moments, quiet_moments
from maskmotion.motion.layout import SMPLX, rotation_columns
from maskmotion.types import Clip

COLUMNS = list(rotation_columns((*ARMS, *HANDS)))
CLASSES = 4


def toy(seed: int, frames: int = 900, size: float = 0.3) -> Clip:
    """A clip of idle sway in which a gesture of one of four kinds is shown every three seconds; one word has none."""
    random = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(0)
    idle = torch.randn(frames + 60, 6, generator=random).cumsum(0) / 15
    idle = (idle[60:] - idle.unfold(0, 60, 1).mean(-1)[:frames]) @ torch.randn(6, len(COLUMNS), generator=fixed) / 15
    shapes = torch.randn(CLASSES, 2, len(COLUMNS), generator=fixed)
    phase = torch.linspace(0, torch.pi, 31)
    envelope = torch.stack([phase.sin() ** 2, phase.sin() ** 2 * (2 * phase).sin()], dim=1)
    motion = SMPLX.rest.repeat(frames, 1)
    gesture, word = torch.full((2, frames), -1)
    for i, start in enumerate(range(45, frames - 60, 90)):
        kind = int(torch.randint(CLASSES, (), generator=random))
        word[start + 10 : start + 20] = kind
        if i == 2:
            continue
        gesture[start : start + 31] = kind
        idle[start : start + 31] += size * envelope @ shapes[kind]
    motion[:, COLUMNS] += idle
    return Clip(name=f"toy{seed}", motion=motion, labels={"gesture": gesture, "word_class": word})


@pytest.fixture(scope="module")
def train() -> list[Clip]:
    return [toy(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def held_out() -> list[Clip]:
    return [toy(seed) for seed in range(100, 106)]


@pytest.fixture(scope="module")
def classifier(train: list[Clip]) -> GestureClassifier:
    return GestureClassifier.fit(train)


def motions(clips: list[Clip]) -> list[torch.Tensor]:
    return [clip.motion for clip in clips]


def test_ground_truth_shows_its_gestures(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    result = classifier.accuracy(motions(held_out), held_out)
    assert result.n == sum(int((clip.labels["gesture"].diff() > 0).sum()) for clip in held_out)
    assert result.accuracy > 0.9
    assert result.interval[0] < result.accuracy <= result.interval[1]
    assert result.false_alarms < 0.1
    assert result.amplitude == pytest.approx(1)
    assert result.nominal == 1 / CLASSES
    assert result.chance == pytest.approx(1 / CLASSES, abs=0.1)
    assert result.chance_shifted < 0.2
    assert sum(n for n, _ in result.per_class.values()) == result.n
    assert sum(hits for _, hits in result.per_class.values()) == round(result.accuracy * result.n)


def test_motion_that_does_not_gesture_scores_nothing_and_alarms_nobody(
    classifier: GestureClassifier, held_out: list[Clip]
) -> None:
    still = [SMPLX.rest.expand(clip.frames, -1) for clip in held_out]
    result = classifier.accuracy(still, held_out)
    assert (result.accuracy, result.false_alarms, result.amplitude) == (0, 0, 0)


def test_motion_of_another_clip_scores_chance(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    swapped = motions(held_out[1:] + held_out[:1])  # gestures at the right times, with other meanings
    result = classifier.accuracy(swapped, held_out)
    assert result.accuracy == pytest.approx(result.chance, abs=0.2)


def test_labels_shifted_in_time_fall_to_chance(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    shifted = [replace(c, labels={k: v.roll(45) for k, v in c.labels.items()}) for c in held_out]
    assert classifier.accuracy(motions(held_out), shifted).accuracy < 0.15


def test_constant_gesturing_costs_false_alarms(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    restless = [clip.motion[30:90].repeat(clip.frames // 60, 1) for clip in held_out]  # one gesture, every two seconds
    result = classifier.accuracy(restless, held_out)
    assert result.false_alarms > 0.1  # 9 of 60 frames
    assert result.accuracy < 0.5


@given(st.floats(0.1, 3), st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_the_size_of_gestures_and_the_posture_do_not_matter(
    classifier: GestureClassifier, held_out: list[Clip], size: float, seed: int
) -> None:
    posture = 0.3 * torch.randn(437, generator=torch.Generator().manual_seed(seed))
    truth = classifier.accuracy(motions(held_out), held_out)
    changed = [SMPLX.rest + size * (clip.motion - SMPLX.rest) + posture for clip in held_out]
    result = classifier.accuracy(changed, held_out)
    assert result.amplitude == pytest.approx(size, rel=1e-3)
    assert (result.per_class, result.false_alarms) == (truth.per_class, truth.false_alarms)


@pytest.mark.parametrize("shift", [-4, 3])
def test_gestures_a_little_early_or_late_are_found(
    classifier: GestureClassifier, held_out: list[Clip], shift: int
) -> None:
    moved = [clip.motion.roll(shift, 0) for clip in held_out]
    truth = classifier.accuracy(motions(held_out), held_out).accuracy
    assert classifier.accuracy(moved, held_out).accuracy > truth - 0.08


def test_motion_outside_the_chosen_joints_does_not_matter(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    others = [i for i in range(437) if i not in COLUMNS]
    noisy = [motion.clone() for motion in motions(held_out)]
    for motion in noisy:
        motion[:, others] += torch.randn(len(motion), len(others))
    assert classifier.accuracy(noisy, held_out) == classifier.accuracy(motions(held_out), held_out)


def test_classes_without_a_pattern_are_not_recognised(train: list[Clip], held_out: list[Clip]) -> None:
    random = torch.Generator().manual_seed(0)

    def permuted(clip: Clip) -> Clip:
        gesture = clip.labels["gesture"].clone()
        for m in gesture_moments([clip]).frame.tolist():
            gesture[m - 15 : m + 16] = int(torch.randint(CLASSES, (), generator=random))
        return replace(clip, labels={**clip.labels, "gesture": gesture})

    blind = GestureClassifier.fit([permuted(clip) for clip in train])
    result = blind.accuracy(motions(held_out), held_out)
    assert result.accuracy < 0.6


def test_bad_input_says_what_is_wrong(classifier: GestureClassifier, held_out: list[Clip]) -> None:
    bare = replace(held_out[0], labels={"words": torch.zeros(900)})
    with pytest.raises(ValueError, match="'toy100' has no frame label 'gesture'"):
        GestureClassifier.fit([bare])
    with pytest.raises(ValueError, match="900 frames, its motion 899"):
        classifier.accuracy([held_out[0].motion[:899]], held_out[:1])
    with pytest.raises(ValueError, match="1 motions for 2 clips"):
        classifier.accuracy(motions(held_out[:1]), held_out[:2])
    silent = replace(held_out[0], labels={"gesture": torch.full((900,), -1)})
    with pytest.raises(ValueError, match="two classes"):
        GestureClassifier.fit([silent])
    with pytest.raises(ValueError, match="show no gesture"):
        classifier.accuracy([silent.motion], [silent])


# Moments and windows


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 3)), min_size=1, max_size=8))
@settings(deadline=None)
def test_gesture_moments_are_the_middles_of_runs(runs: list[tuple[int, int]]) -> None:
    gesture = torch.cat([torch.full((length,), kind) for length, kind in runs])
    clip = Clip("x", torch.zeros(len(gesture), 437), labels={"gesture": gesture})
    expected, start = [], 0
    kinds = gesture.tolist()
    for frame in range(1, len(kinds) + 1):
        if frame == len(kinds) or kinds[frame] != kinds[start]:
            expected += [((start + frame - 1) // 2, kinds[start])] if kinds[start] >= 0 else []
            start = frame
    found = gesture_moments([clip])
    assert list(zip(found.frame.tolist(), found.gesture.tolist())) == expected


@given(st.integers(0, 1000), st.integers(0, 20))
@settings(deadline=None)
def test_quiet_moments_keep_their_distance_from_meaning(seed: int, reach: int) -> None:
    clip = toy(seed % 5)
    found = quiet_moments([clip, clip], reach, step=7)
    meaning = (clip.labels["gesture"] >= 0) | (clip.labels["word_class"] >= 0)
    assert set(found.clip.tolist()) == {0, 1}
    for frame in found.frame.tolist():
        assert reach <= frame < 900 - reach
        assert not meaning[frame - reach : frame + reach + 1].any()


def test_windows_are_the_frames_around_a_moment_minus_what_was_before() -> None:
    tracks = [torch.arange(50.0)[:, None], 100 + 2 * torch.arange(80.0)[:, None]]
    moments = Moments(torch.tensor([1, 0]), torch.tensor([40, 2]), torch.tensor([0, 0]))
    shifts, offsets = torch.tensor([-1, 0, 1]), torch.tensor([-4, 0, 4])
    found = gather_windows(tracks, moments, shifts, offsets, before=10)[..., 0]
    # second clip: the ten frames before frame 36 have mean 2 * 30.5
    assert found[0, 1].tolist() == [2 * (36 - 30.5), 2 * (40 - 30.5), 2 * (44 - 30.5)]
    assert torch.equal(found[0, 0], found[0, 2])  # a slope looks the same everywhere
    assert found[1, 1].tolist() == [0, 2, 6]  # frame -2 is frame 0, and nothing but frame 0 is before it
    assert found.shape == (2, 3, 3)


# Planted corpus


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], list[Clip]]:
    from maskmotion.data.beat2 import load_split
    from maskmotion.data.planted import planted_root

    root: Path = planted_root(tmp_path_factory.mktemp("corpora"), "planted-v1-small")
    return load_split(root, "train"), load_split(root, "test")


def test_planted_ground_truth_is_recognised_on_held_out_clips(planted: tuple[list[Clip], list[Clip]]) -> None:
    learned, unseen = planted
    classifier = GestureClassifier.fit(learned)
    truth = classifier.accuracy(motions(unseen), unseen)
    assert truth.accuracy >= 0.7
    assert truth.false_alarms < 0.15
    assert truth.chance < 0.2
    shifted = [replace(c, labels={k: v.roll(60) for k, v in c.labels.items()}) for c in unseen]
    assert classifier.accuracy(motions(unseen), shifted).accuracy < 0.2
