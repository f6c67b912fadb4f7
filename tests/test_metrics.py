from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.evaluation.fgd import FeatureExtractor, FrechetScore, fgd, frechet_distance, train_extractor
from maskmotion.motion.layout import SMPLX

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
def test_a_set_is_at_distance_zero_from_itself(seed: int, n: int, c: int) -> None:
    rows = gaussian(n, c, seed)
    assert abs(frechet_distance(rows, rows)) < 1e-6
    assert abs(frechet_distance(rows, rows[torch.randperm(n)])) < 1e-6


@given(seeds)
def test_frechet_distance_is_symmetric_and_ignores_order(seed: int) -> None:
    a, b = gaussian(30, 5, seed), gaussian(20, 5, seed + 1)
    distance = frechet_distance(a, b)
    assert distance == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert distance == pytest.approx(frechet_distance(a[torch.randperm(30)], b.flip(0)), rel=1e-9)


@given(seeds, st.floats(0, 10), st.floats(0.1, 10))
def test_a_planted_shift_adds_its_square(seed: int, shift: float, more: float) -> None:
    rows = gaussian(30, 4, seed)
    direction = torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    near, far = (frechet_distance(rows, rows + step * direction) for step in (shift, shift + more))
    assert near == pytest.approx(shift**2, abs=1e-6)
    assert far > near


@given(seeds)
def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form(seed: int) -> None:
    random = np.random.default_rng(seed)
    signs = torch.tensor(scipy.linalg.hadamard(8)[:, 1:5], dtype=torch.float64)  # columns are exactly uncorrelated
    first, second = (torch.tensor(random.uniform(0, 3, (2, 4))) for _ in range(2))
    a, b = (signs * scale * math.sqrt(7 / 8) + mean for scale, mean in (first, second))
    expected = ((first - second) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-6)


@given(seeds)
@settings(max_examples=25)
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


@pytest.mark.parametrize("key", ["fullrank", "same", "rank_deficient", "fullrank_f32"])
def test_frechet_parity_with_the_release(key: str) -> None:
    golden = os.environ.get("MASKMOTION_GOLDEN")
    if not golden:
        pytest.skip("MASKMOTION_GOLDEN does not name the folder of golden fixtures")
    folder = Path(golden) / "emage" / "metrics"
    with np.load(folder / "frechet_inputs.npz") as file:
        a, b = torch.from_numpy(file["A"]), torch.from_numpy(file["B"])
    sets = {
        "fullrank": (a, b),
        "same": (a, a),
        "rank_deficient": (a[:15], b[:13]),
        "fullrank_f32": (a.float(), b.float()),
    }
    expected = json.loads((folder / "results.json").read_text())[f"frechet_{key}"]
    # the release roots a rank-deficient product with a general solver: its own error is larger there
    tolerance = 1e-4 if key == "rank_deficient" else 1e-7
    assert frechet_distance(*sets[key], eps=1e-6) == pytest.approx(expected, rel=tolerance, abs=1e-9)


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
    unseen = wave(64, 99)[None, :, :330]
    untrained = FeatureExtractor()
    untrained.input_mean.copy_(extractor.input_mean)
    untrained.input_scale.copy_(extractor.input_scale)
    assert extractor.reconstruction_error(unseen) < 0.8 * untrained.reconstruction_error(unseen)


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
