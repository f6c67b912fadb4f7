from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.evaluation.accuracy import FaceError, SemanticRecall
from maskmotion.evaluation.beat import (
    BeatAlignment,
    audio_beats,
    beat_alignment,
    beat_constancy,
    closeness,
    joint_speeds,
    motion_beats,
)
from maskmotion.evaluation.diversity import l1_diversity, mean_absolute_deviation, windows
from maskmotion.evaluation.feet import FootSkating
from maskmotion.evaluation.fgd import FeatureExtractor, Frechet, FrechetScore, fgd, frechet_distance, train_extractor
from maskmotion.evaluation.smoothness import Jerk
from maskmotion.motion.layout import SMPLX
from maskmotion.motion.rotations import axis_angle_to_6d

seeds = st.integers(0, 2**31)


def gaussian(n: int, c: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(c, c, generator=random, dtype=torch.float64)
    return torch.randn(n, c, generator=random, dtype=torch.float64) @ mix + torch.randn(c, generator=random).double()


def wave(frames: int, seed: int) -> torch.Tensor:
    """A motion [T, 437] of a few sinusoids in the rotation columns."""
    random = torch.Generator().manual_seed(seed)
    time = torch.arange(frames)[:, None] / 30
    sources = torch.sin(2 * math.pi * (0.2 + torch.rand(1, 4, generator=random)) * time)
    motion = SMPLX.rest.repeat(frames, 1)
    motion[:, :330] += 0.2 * sources @ torch.randn(4, 330, generator=torch.Generator().manual_seed(0))
    return motion


# Frechet distance


@given(seeds, st.integers(2, 40), st.integers(1, 12))
@settings(deadline=None)
def test_a_set_is_at_distance_zero_from_itself(seed: int, n: int, c: int) -> None:
    rows = gaussian(n, c, seed)
    assert abs(frechet_distance(rows, rows)) < 1e-6
    assert abs(frechet_distance(rows, rows[torch.randperm(n)])) < 1e-6


@given(seeds)
@settings(deadline=None)
def test_frechet_distance_is_symmetric_and_ignores_order(seed: int) -> None:
    a, b = gaussian(30, 5, seed), gaussian(20, 5, seed + 1)
    distance = frechet_distance(a, b)
    assert distance == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert distance == pytest.approx(frechet_distance(a[torch.randperm(30)], b.flip(0)), rel=1e-9)


@given(seeds, st.floats(0, 10), st.floats(0.1, 10))
@settings(deadline=None)
def test_a_planted_shift_adds_its_square(seed: int, shift: float, more: float) -> None:
    rows = gaussian(30, 4, seed)
    direction = torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    near, far = (frechet_distance(rows, rows + step * direction) for step in (shift, shift + more))
    assert near == pytest.approx(shift**2, abs=1e-6)
    assert far > near


@given(seeds)
@settings(deadline=None)
def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form(seed: int) -> None:
    random = np.random.default_rng(seed)
    signs = torch.tensor(scipy.linalg.hadamard(8)[:, 1:5], dtype=torch.float64)  # columns are exactly uncorrelated
    first, second = (torch.tensor(random.uniform(0, 3, (2, 4))) for _ in range(2))
    a, b = (signs * scale * math.sqrt(7 / 8) + mean for scale, mean in (first, second))
    expected = ((first - second) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-6)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_frechet_distance_agrees_with_the_matrix_square_root(seed: int) -> None:
    a, b = gaussian(60, 6, seed), gaussian(50, 6, seed + 1)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(float(shift) + np.trace(cov_a + cov_b - 2 * root), rel=1e-6)


def test_frechet_distance_refuses_single_rows_and_nan() -> None:
    with pytest.raises(ValueError, match="at least 2 feature vectors"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(torch.zeros(5, 3), torch.full((5, 3), math.nan))


# Feature extractor and FGD


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return train_extractor([wave(200, seed) for seed in range(4)], steps=80)


def test_extractor_maps_sixteen_frames_to_one_standardised_vector(extractor: FeatureExtractor) -> None:
    features = extractor.features([wave(200, seed) for seed in range(4)])
    assert features.shape == (4 * (200 // 16), 32)
    assert torch.allclose(features.mean(0), torch.zeros(32), atol=1e-4)
    assert torch.allclose(features.std(0, correction=0), torch.ones(32), atol=1e-3)


def test_extractor_learns_to_reconstruct(extractor: FeatureExtractor) -> None:
    unseen = extractor.components(wave(64, 99)[None, :, :330])
    assert extractor.reconstruction_error(unseen) < 0.7 * unseen.var()
    assert FeatureExtractor().reconstruction_error(unseen) > 0.9 * unseen.var()


def test_training_an_extractor_is_deterministic_and_leaves_the_global_stream_alone() -> None:
    motions = [wave(100, 0)]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = train_extractor(motions, steps=3)
    assert torch.equal(torch.rand(1), expected)
    assert train_extractor(motions, steps=3).fingerprint == first.fingerprint
    assert train_extractor(motions, steps=3, seed=1).fingerprint != first.fingerprint


def test_extractor_survives_saving_and_refuses_foreign_weights(extractor: FeatureExtractor, tmp_path: Path) -> None:
    loaded = FeatureExtractor.load(extractor.save(tmp_path / "mine"))
    assert loaded.fingerprint == extractor.fingerprint
    clip = wave(64, 7)
    assert torch.equal(loaded.features([clip]), extractor.features([clip]))
    FeatureExtractor().save(tmp_path / "other")
    (tmp_path / "other" / "extractor.safetensors").replace(tmp_path / "mine" / "extractor.safetensors")
    with pytest.raises(ValueError, match="belong to different extractors"):
        FeatureExtractor.load(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"extractor\.json"):
        FeatureExtractor.load(tmp_path / "nowhere")


def test_extractor_needs_clips_of_a_window() -> None:
    with pytest.raises(ValueError, match="windows of 64 frames"):
        train_extractor([wave(63, 0)])


def test_fgd_is_zero_for_the_same_motion_and_grows_with_noise(extractor: FeatureExtractor) -> None:
    clips = [wave(320, seed) for seed in range(3)]
    noise = [torch.randn(320, 437, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    scores = [fgd(extractor, [c + scale * n for c, n in zip(clips, noise)], clips) for scale in (0.0, 0.3, 1.0)]
    assert abs(float(scores[0])) < 1e-6
    assert scores[0] < scores[1] < scores[2]
    assert scores[0].samples == (60, 60)
    assert not scores[0].reliable
    assert "n=60/60, fewer than 10 a dimension" in str(scores[0])


def test_fgd_ignores_the_order_of_clips_and_tails_shorter_than_a_feature(extractor: FeatureExtractor) -> None:
    clips = [wave(160, seed) for seed in range(3)]
    score = fgd(extractor, clips[:2], clips[1:])
    assert float(fgd(extractor, [clips[1], clips[0]], clips[1:])) == pytest.approx(float(score), rel=1e-6)
    longer = [torch.cat([clip, clip[:15]]) for clip in clips[:2]]
    assert float(fgd(extractor, longer, clips[1:])) == pytest.approx(float(score), rel=1e-6)


def test_fgd_under_different_extractors_refuses_to_be_compared() -> None:
    first, second = (
        FrechetScore(value, (400, 400), 32, print_) for value, print_ in ((1.0, "a" * 64), (2.0, "b" * 64))
    )
    with pytest.raises(ValueError, match="same extractor"):
        assert first < second
    with pytest.raises(ValueError, match="cannot be compared"):
        first - second
    assert f"{first:.2f}" == "1.00"


# Beats


def rests(times: torch.Tensor, frames: int = 600, fps: int = 30) -> torch.Tensor:
    """Positions [T, 55, 3] of joints that move along x and slow down exactly at `times`, 0.8 s or more apart."""
    clock = torch.arange(frames, dtype=torch.float64)[:, None] / fps
    positions = torch.zeros(frames, 55, 3, dtype=torch.float64)
    positions[..., 0] = 2 * clock - 0.1 * torch.atan((clock - times) / 0.1).sum(1, keepdim=True)
    return positions


beat_lists = st.lists(st.integers(24, 45), min_size=5, max_size=12).map(lambda gaps: torch.tensor(gaps).cumsum(0) / 30)


@given(beat_lists)
@settings(deadline=None)
def test_motion_beats_are_where_joints_come_to_rest(times: torch.Tensor) -> None:
    beats = motion_beats(joint_speeds(rests(times)))
    expected = (times * 30).round().long()
    assert beats.nonzero()[:, 0].unique().tolist() == [t for t in expected.tolist() if t < 599]
    assert beats.any(1).sum() == beats.sum() / 55


@given(beat_lists)
@settings(deadline=None)
def test_beat_constancy_is_one_when_beats_coincide(times: torch.Tensor) -> None:
    score = beat_constancy([rests(times), rests(times + 0.1)], [times, times + 0.1])
    assert float(score) == pytest.approx(1, abs=1e-9)
    assert score.chance < 0.95
    assert score.targets == 2 * len(times)


@given(beat_lists, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_beat_constancy_falls_with_jitter(times: torch.Tensor, seed: int) -> None:
    noise = torch.randn(len(times), generator=torch.Generator().manual_seed(seed))
    noise = noise / noise.abs().mean()
    values = [float(beat_constancy([rests(times)], [times + size * noise], sigma=0.1)) for size in (0.0, 0.02, 0.1)]
    assert values[0] > values[1] > values[2]


def test_beat_constancy_is_the_formula_of_the_paper_over_gesture_beats() -> None:
    times = torch.tensor([1.0, 2.0, 3.0])
    # one onset 0.1 s from the first gesture beat: beats at 1, 2 and 3 s are 0.1, 0.9 and 1.9 s away from it
    score = beat_constancy([rests(times, frames=100)], [torch.tensor([1.1])], sigma=0.3)
    expected = np.mean([math.exp(-(d**2) / 0.18) for d in (0.1, 0.9, 1.9)])
    assert float(score) == pytest.approx(expected, rel=1e-6)
    assert score.beats == 3 * 13


def test_beat_constancy_pools_clips_by_their_beats_and_counts_silence_as_zero() -> None:
    one, three = torch.tensor([1.0]), torch.tensor([1.0, 2.0, 3.0])
    clips = [rests(one, frames=58), rests(three, frames=118)]
    silent = torch.zeros(0)
    assert float(beat_constancy(clips, [one, silent])) == pytest.approx(1 / 4)
    assert float(beat_constancy(clips, [silent, three])) == pytest.approx(3 / 4)
    still = torch.zeros(100, 55, 3)
    assert float(beat_constancy([*clips, still], [one, three, one])) == pytest.approx(1)
    assert math.isnan(float(beat_constancy([still], [one])))


def test_legs_and_fingers_do_not_count_as_beats() -> None:
    times = torch.tensor([1.0, 2.0, 3.0])
    positions = rests(times)
    positions[:, [0, 1, 2, 4, 5, 7, 8, 10, 11, *range(22, 55)]] = rests(times + 0.4)[:, :1]
    assert float(beat_constancy([positions], [times], sigma=0.05)) == pytest.approx(1)


@given(st.lists(st.integers(0, 1800), max_size=20), st.lists(st.integers(0, 1800), max_size=20))
@settings(deadline=None)
def test_closeness_is_the_distance_to_the_nearest_target(times: list[int], targets: list[int]) -> None:
    a, b = torch.tensor(times).double() / 30, torch.tensor(targets).double() / 30
    found = closeness(a, b, sigma=5.0)
    expected = [math.exp(-(min(abs(t - b)) ** 2) / 50) if len(b) else 0.0 for t in a]
    assert found.tolist() == pytest.approx(expected)


def test_audio_beats_are_the_clicks_of_a_click_track() -> None:
    clicks = torch.arange(1, 8) * 0.6
    audio = torch.zeros(16000 * 5)
    burst = torch.randn(400, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 0, 400)
    for click in (clicks * 16000).long():
        audio[click : click + 400] = burst
    found = audio_beats(audio)
    distance = (found[:, None] - clicks).abs()
    assert distance.min(0).values.max() < 0.05
    assert distance.min(1).values.max() < 0.05
    assert len(audio_beats(torch.zeros(16000))) == 0


@given(beat_lists)
@settings(max_examples=30, deadline=None)
def test_beat_alignment_tells_met_beats_from_frequent_ones(times: torch.Tensor) -> None:
    inside = times[times < 19]
    assert float(beat_alignment([rests(times)], [inside])) == pytest.approx(1)
    dense = torch.arange(1, 60) / 3
    restless = beat_alignment([rests(dense)], [inside + 0.15])
    assert float(restless) == pytest.approx(restless.chance, abs=0.25)
    assert float(restless) < 0.85
    assert float(beat_alignment([torch.zeros(600, 55, 3)], [inside])) == 0


def test_beats_refuse_unpaired_clips_and_single_frames() -> None:
    with pytest.raises(ValueError, match="1 motions, 0 lists"):
        beat_constancy([torch.zeros(10, 55, 3)], [])
    with pytest.raises(ValueError, match="at least 2 frames"):
        beat_constancy([torch.zeros(1, 55, 3)], [torch.zeros(1)])


# Diversity


def points(count: int, frames: int, seed: int) -> torch.Tensor:
    return torch.randn(count, frames, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seeds, st.integers(2, 8), st.integers(1, 6))
@settings(deadline=None)
def test_l1_diversity_is_the_pairwise_formula_of_the_paper(seed: int, count: int, frames: int) -> None:
    clips = points(count, frames, seed)
    pairs = (clips[:, None] - clips).abs().sum((-1, -2)).mean(-1)
    assert l1_diversity(clips) == pytest.approx(float(pairs.sum()) / (2 * count * (count - 1)))


@given(seeds, st.floats(0.01, 100))
@settings(deadline=None)
def test_diversity_scales_linearly_and_ignores_where_the_body_stands(seed: int, scale: float) -> None:
    clips = points(6, 10, seed)
    place = torch.tensor([3.0, 1.0, -2.0])
    for measure in (l1_diversity, lambda c: mean_absolute_deviation(list(c))):
        assert measure(scale * clips + place) == pytest.approx(scale * measure(clips), rel=1e-6)


def test_the_two_diversities_measure_different_things() -> None:
    same = points(1, 20, 0).expand(4, -1, -1, -1)
    assert l1_diversity(same) == pytest.approx(0, abs=1e-12)
    assert mean_absolute_deviation(list(same)) > 1
    still = points(4, 1, 0).expand(-1, 20, -1, -1)
    assert l1_diversity(still) > 1
    assert mean_absolute_deviation(list(still)) == pytest.approx(0, abs=1e-12)


def test_windows_cut_clips_without_overlap() -> None:
    clip = torch.arange(10.0)[:, None, None].expand(10, 2, 3)
    cut = windows([clip, clip[:3], clip[:4]], length=4)
    assert cut[:, :, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    with pytest.raises(ValueError, match="no clip has 64 frames"):
        windows([clip])
    with pytest.raises(ValueError, match="at least 2"):
        l1_diversity(cut[:1])
    with pytest.raises(ValueError, match="no frame"):
        mean_absolute_deviation([])


# Sums over clips


@given(seeds, st.lists(st.integers(0, 20), min_size=1, max_size=5), st.floats(0, 1e6))
@settings(max_examples=50, deadline=None)
def test_frechet_distance_of_any_batches_is_that_of_the_whole(seed: int, cuts: list[int], far: float) -> None:
    a, b = gaussian(40, 5, seed) + far, gaussian(30, 5, seed + 1) + far
    expected = frechet_distance(a - far, b - far)
    edges = sorted({0, 40, *(min(cut, 40) for cut in cuts)})
    parts = [Frechet(5) for _ in edges[1:]]
    for part, first, end in zip(parts, edges, edges[1:]):
        part.update(a[first:end], b[first : min(end, 30)])
    parts[0].update(a[:0], b[edges[-1] :])
    for part in parts[1:]:
        parts[0].merge(part)
    assert float(parts[0].result()) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert parts[0].result().samples == (40, 30)


def test_extractors_of_faces_and_of_all_motion_read_their_own_columns() -> None:
    clips = [wave(120, seed) for seed in range(2)]
    for clip in clips:
        clip[:, 337:] = 0.3 * torch.randn(120, 100, generator=torch.Generator().manual_seed(0)).cumsum(0)
    face, motion = (train_extractor(clips, steps=8, reads=reads) for reads in ("face", "motion"))
    moved = clips[0].clone()
    moved[:, : 22 * 6] += 1
    assert torch.equal(face.features([moved]), face.features([clips[0]]))
    assert not torch.equal(motion.features([moved]), motion.features([clips[0]]))
    moved = clips[0].clone()
    moved[:, 340] += 1
    assert not torch.equal(face.features([moved]), face.features([clips[0]]))
    assert face.fingerprint == train_extractor(clips, steps=8, reads="face").fingerprint != motion.fingerprint


# Feet, jerk, faces, recall


@given(st.floats(0.01, 3), seeds)
@settings(deadline=None, max_examples=30)
def test_jerk_of_a_cubic_is_its_third_derivative_and_of_a_parabola_nothing(size: float, seed: int) -> None:
    time = torch.arange(30, dtype=torch.float64)[:, None, None] / 30
    rng = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(1, 4, 3, generator=rng), dim=-1).double()
    parabola = torch.randn(3, 1, 4, 3, generator=rng).double()
    smooth = parabola[0] + parabola[1] * time + parabola[2] * time**2
    for extra, expected in ((0 * time * direction, 0.0), (size * time**3 * direction, 6 * size)):
        jerk = Jerk()
        jerk.update(smooth + extra)
        jerk.update(smooth[:3])
        assert jerk.result() == pytest.approx(expected, abs=1e-6)
    assert math.isnan(Jerk().result())


@given(st.floats(0, 2), st.floats(0, 10))
@settings(deadline=None, max_examples=30)
def test_feet_on_the_ground_skate_at_the_speed_of_the_body(speed: float, ground: float) -> None:
    positions = torch.zeros(60, 55, 3, dtype=torch.float64)
    positions[..., 1] = ground
    positions[..., 2] = speed * torch.arange(60, dtype=torch.float64)[:, None] / 30
    skating = FootSkating()
    skating.update(positions)
    assert skating.result() == pytest.approx(100 * speed, abs=1e-6)
    positions[30:, :, 1] += 0.03  # above 2.5 cm feet are in the air
    positions[30:, :, 2] += 5 * torch.arange(30)[:, None]
    lifted = FootSkating()
    lifted.update(positions)
    assert lifted.result() == pytest.approx(100 * speed, abs=1e-6)


def test_face_errors_ignore_what_their_formula_ignores() -> None:
    rng = torch.Generator().manual_seed(0)
    true = torch.randn(20, 7, 3, generator=rng, dtype=torch.float64)
    errors = {}
    for form in ("paper", "tools", "scripts"):
        measure = FaceError(form)
        measure.update([(true + 0.5, true)])
        errors[form] = measure.result()
    assert errors["paper"] == pytest.approx((0.25, 0)) and errors["tools"] == pytest.approx((0.25, 0))
    assert errors["scripts"] == pytest.approx((0.25, 0.5)), "their LVD is a difference of positions"
    moving = true + torch.arange(20)[:, None, None] * 0.1
    paper, tools = FaceError("paper"), FaceError("tools")
    for measure in (paper, tools):
        measure.update(zip(moving.split(6), true.split(6)))
    assert paper.result()[1] == pytest.approx(0.1)
    assert tools.result()[1] == pytest.approx(0.1 * 19 / 20)


@given(seeds, st.floats(0.1, 1))
@settings(deadline=None, max_examples=30)
def test_recall_is_the_share_within_ten_centimetres_where_meaning_is(seed: int, score: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    true = torch.randn(40, 8, 3, generator=rng)
    own = true.clone()
    own[:, :2, 0] += 0.11
    own[20:, :, 1] += 1
    scores = torch.zeros(40)
    scores[:20] = score
    measure = SemanticRecall()
    measure.update(own, true, scores)
    assert measure.result() == pytest.approx(6 / 8), "the second half means nothing"
    tools = SemanticRecall("tools")
    tools.update(own, true, scores)
    assert tools.result() == pytest.approx(0.5 * 6 / 8 * score / 0.165, rel=1e-6)
    old = SemanticRecall("scripts", radius=0.2)
    old.update(true + 0.1, true, scores)
    assert old.result() == 0, "coordinates' errors are added up: 0.3 m"


@given(beat_lists)
@settings(deadline=None, max_examples=30)
def test_beat_alignment_of_asynfusion_is_one_where_the_wrist_rests_at_every_onset(times: torch.Tensor) -> None:
    clock = torch.arange(600, dtype=torch.float64)[:, None] / 30
    angle = (2 * clock - 0.1 * torch.atan((clock - times - 1 / 60) / 0.1).sum(1, keepdim=True)).squeeze(1)
    motion = SMPLX.rest.repeat(600, 1)
    zero = torch.zeros_like(angle)
    motion[:, 126:132] = axis_angle_to_6d(torch.stack([zero, zero, angle], -1)).float()
    score = BeatAlignment()
    score.update(motion, times[times < 19])
    assert float(score.result()) == pytest.approx(1, abs=1e-6)
    assert score.result().beats == int((times < 19).sum())
    still = BeatAlignment()
    still.update(SMPLX.rest.repeat(600, 1), times)
    assert float(still.result()) == 0


def test_backtracked_onsets_come_before_the_others() -> None:
    rng = torch.Generator().manual_seed(0)
    loud = torch.zeros(5 * 16000)
    for start in range(8000, 72000, 11000):
        loud[start : start + 4000] = torch.randn(4000, generator=rng) * torch.linspace(0, 1, 4000)
    plain, back = audio_beats(loud), audio_beats(loud, backtrack=True)
    assert len(plain) == len(back) > 3
    assert (back <= plain).all() and (back < plain).any()
