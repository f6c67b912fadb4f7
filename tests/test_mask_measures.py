from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskmotion.evaluation.masks import MaskQuality, MaskResult, auroc, semantic_frames

seeds = st.integers(0, 2**31)


def windows(count: int, seed: int, frames: int = 64) -> dict[str, Tensor]:
    """Windows as training sees them: runs of semantic frames in about half of them, some windows padded."""
    random = torch.Generator().manual_seed(seed)
    time = torch.arange(frames)
    start = torch.randint(-frames, frames, (count, 1), generator=random)
    length = torch.randint(10, 40, (count, 1), generator=random)
    valid = time < torch.randint(frames // 2, 2 * frames, (count, 1), generator=random)
    return {
        "scores": torch.randn(count, frames, generator=random),
        "semantic": (time >= start) & (time < start + length),
        "valid": valid,
        "distractor": torch.rand(count, frames, generator=random) < 0.05,
    }


def hide(scores: Tensor, valid: Tensor, ratio: float = 0.5) -> Tensor:
    """The top `ratio` of each window's valid frames."""
    order = scores.masked_fill(~valid, -math.inf).argsort(-1, descending=True).argsort(-1)
    return (order < (valid.sum(-1, keepdim=True) * ratio).round()) & valid


def measure(data: dict[str, Tensor], mask: Tensor, batch: int = 1_000) -> MaskQuality:
    quality = MaskQuality()
    for i in range(0, len(mask), batch):
        rows = slice(i, i + batch)
        quality.update(mask=mask[rows], **{key: value[rows] for key, value in data.items()})
    return quality


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_have_lift_one_within_the_interval(seed: int) -> None:
    data = windows(400, seed)
    quality = measure(data, hide(data["scores"], data["valid"]))
    result = quality.result()
    low, high = quality.interval("lift", level=0.9999)
    assert low < 1 < high
    assert high - low < 0.35
    assert abs(result.normalised_lift) < 0.2
    assert result.auroc == pytest.approx(0.5, abs=0.05)
    assert result.auroc_within == pytest.approx(0.5, abs=0.07)
    assert (
        quality.interval("distractor_lift", level=0.9999)[0] < 1 < quality.interval("distractor_lift", level=0.9999)[1]
    )


@given(seeds, st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_the_oracle_reaches_its_bounds(seed: int, ratio: float) -> None:
    data = windows(100, seed)
    data["scores"] = data["semantic"].float() + 1e-3 * data["scores"]
    result = measure(data, hide(data["scores"], data["valid"], ratio)).result()
    assert result.precision == pytest.approx(result.oracle_precision)
    assert result.recall == pytest.approx(result.oracle_recall)
    assert result.lift == pytest.approx(result.oracle_lift)
    assert result.normalised_lift == pytest.approx(1.0)
    assert (result.auroc, result.auroc_within) == (1.0, 1.0)


@given(seeds, st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_no_mask_beats_the_oracle_nor_the_oracle_the_pooled_bound(seed: int, ratio: float) -> None:
    data = windows(50, seed)
    random = torch.Generator().manual_seed(seed + 1)
    tilted = data["scores"] + 2 * torch.rand(1, generator=random) * data["semantic"]
    result = measure(data, hide(tilted, data["valid"], ratio)).result()
    for name in ("precision", "recall", "lift"):
        assert getattr(result, name) <= getattr(result, f"oracle_{name}") + 1e-12
        assert getattr(result, f"oracle_{name}") <= getattr(result, f"bound_{name}") + 1e-12
    assert result.bound_precision == pytest.approx(min(1, result.base / result.ratio))
    assert result.bound_recall == pytest.approx(min(1, result.ratio / result.base))
    assert result.bound_lift == pytest.approx(min(1 / result.base, 1 / result.ratio))


def test_the_pooled_bound_is_reached_where_every_window_holds_meaning_enough() -> None:
    semantic = torch.zeros(8, 64, dtype=torch.bool)
    semantic[:, 10:30] = True
    valid = torch.ones_like(semantic)
    mask = torch.zeros_like(semantic)
    mask[:, 12:28] = True
    quality = MaskQuality()
    quality.update(None, mask, semantic, valid)
    result = quality.result()
    assert (result.precision, result.bound_precision, result.oracle_precision) == (1, 1, 1)
    assert result.recall == result.bound_recall == result.oracle_recall == 16 / 20
    assert result.lift == result.bound_lift == 64 / 20
    assert math.isnan(result.auroc)
    assert math.isnan(result.distractor_share)


@given(seeds, st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_the_size_of_a_batch_changes_nothing(seed: int, batch: int) -> None:
    data = windows(50, seed)
    mask = hide(data["scores"], data["valid"])
    whole, parts = measure(data, mask), measure(data, mask, batch)
    assert parts.result() == whole.result()
    assert parts.interval() == whole.interval()


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_padding_never_counts(seed: int) -> None:
    data = windows(30, seed)
    mask = hide(data["scores"], data["valid"])
    noise = torch.Generator().manual_seed(seed + 1)
    coin = torch.rand(mask.shape, generator=noise) < 0.5
    padded = {key: torch.where(data["valid"], data[key], coin) for key in ("semantic", "distractor")}
    padded["scores"] = data["scores"].masked_fill(~data["valid"], math.nan)
    expected = measure(data, mask).result()
    assert measure(data | padded, torch.where(data["valid"], mask, coin)).result() == expected
    longer = {key: torch.cat([value, torch.ones_like(value[:, :5])], 1) for key, value in data.items()}
    longer["valid"][:, 64:] = False
    assert measure(longer, torch.cat([mask, coin[:, :5]], 1)).result() == expected


@given(seeds, st.integers(0, 3))
@settings(deadline=None)
def test_auroc_is_the_share_of_concordant_pairs(seed: int, digits: int) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = (torch.randn(40, generator=random) * 10**digits).round()  # ties at small scales
    positive = torch.rand(40, generator=random) < 0.3
    pairs = scores[positive][:, None] - scores[~positive]
    expected = ((pairs > 0).double() + 0.5 * (pairs == 0)).mean()
    assert auroc(scores, positive) == pytest.approx(float(expected), nan_ok=True)


def test_auroc_within_ignores_what_differs_between_windows() -> None:
    data = windows(100, 0)
    data["scores"] = data["semantic"].float() + 100 * torch.arange(100.0)[:, None]
    result = measure(data, hide(data["scores"], data["valid"])).result()
    assert result.auroc_within == 1
    assert result.auroc < 0.7


def test_auroc_within_weighs_windows_by_their_pairs() -> None:
    semantic = torch.zeros(2, 4, dtype=torch.bool)
    semantic[0, 0] = semantic[1, :2] = True
    scores = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 1]])  # 3 pairs right, 4 pairs wrong
    quality = MaskQuality()
    quality.update(scores, semantic, semantic, torch.ones_like(semantic))
    assert quality.result().auroc_within == pytest.approx(3 / 7)


def test_masks_on_distractors_are_told() -> None:
    data = windows(100, 0)
    result = measure(data, data["distractor"] & data["valid"]).result()
    assert result.distractor_share == 1
    assert result.distractor_lift > 10


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_run_length_is_the_mean_number_of_hidden_frames_in_a_row(seed: int) -> None:
    data = windows(20, seed)
    mask = hide(data["scores"], data["valid"])
    runs = [len(run) for row in (mask & data["valid"]).tolist() for run in "".join(" X"[h] for h in row).split()]
    assert measure(data, mask, 7).result().run_length == pytest.approx(sum(runs) / len(runs))


def test_the_interval_over_clips_is_wider_for_windows_that_repeat_their_clip() -> None:
    data = windows(12, 3)
    repeated = {key: value.repeat_interleave(20, 0) for key, value in data.items()}
    quality = MaskQuality()
    names = [f"clip{i // 20}" for i in range(240)]
    quality.update(mask=hide(repeated["scores"], repeated["valid"]), **repeated, clips=names)
    narrow, wide = quality.interval("precision"), quality.interval("precision", over="clips")
    assert wide[1] - wide[0] > 2.5 * (narrow[1] - narrow[0])
    assert wide[0] < quality.result().precision < wide[1]


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = []
    for seed in range(100):
        data = windows(80, seed)
        low, high = measure(data, hide(data["scores"], data["valid"])).interval("lift", level=0.8, draws=300)
        hits.append(low < 1 < high)
    assert 0.65 < np.mean(hits) < 0.92


def test_bad_input_says_what_is_wrong() -> None:
    data = windows(4, 0)
    mask = hide(data["scores"], data["valid"])
    with pytest.raises(ValueError, match="no valid frame"):
        MaskQuality().result()
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(data | {"scores": torch.full((4, 64), math.nan)}, mask)
    quality = measure(data, mask)
    with pytest.raises(ValueError, match="every batch or with none"):
        quality.update(None, mask, data["semantic"], data["valid"])
    with pytest.raises(ValueError, match="there are: auroc_within, base"):
        quality.interval("auroc")
    with pytest.raises(ValueError, match="clips=names"):
        quality.interval(over="clips")
    with pytest.raises(ValueError, match="'windows' or 'clips'"):
        quality.interval(over="frames")


def test_beat_gestures_are_not_semantic() -> None:
    scores = torch.tensor([[0.0, 0.1, 0.2, 1.0]])
    assert semantic_frames({"semantic": scores}).tolist() == [[False, False, True, True]]
    assert torch.equal(semantic_frames(scores), semantic_frames({"semantic": scores}))
    with pytest.raises(ValueError, match="frame labels 'semantic'"):
        semantic_frames({"words": torch.zeros(1, 4)})


def test_a_result_names_its_windows_and_frames() -> None:
    data = windows(7, 1)
    result = measure(data, hide(data["scores"], data["valid"])).result()
    assert isinstance(result, MaskResult)
    assert (result.windows, result.frames) == (7, int(data["valid"].sum()))
