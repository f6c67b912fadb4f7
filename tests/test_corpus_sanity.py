"""The planted corpus as a bench: random masks have lift 1, the oracle reaches the bound, tokens keep the gestures."""

from __future__ import annotations

import pytest
import torch

import maskmotion as mm
from maskmotion.data.windows import WindowDataset
from maskmotion.evaluation.masks import MaskQuality, semantic_frames
from maskmotion.evaluation.tokens import code_use
from maskmotion.strategies import select


def measured(corpus: mm.Corpus, oracle: bool, hard: float = 0.4) -> MaskQuality:
    """Masks of 40 % of the frames on held-out windows: by the labels themselves, or by noise."""
    data, quality, rng = WindowDataset(corpus.test, 64, 64), MaskQuality(), torch.Generator().manual_seed(0)
    for batch in data.batches(16):
        meaning = semantic_frames(batch.labels)
        scores = meaning.float() if oracle else torch.rand(meaning.shape, generator=rng)
        mask = select(scores, batch.valid, 0.4, hard, 0.0, rng)
        quality.update(scores, mask, meaning, batch.valid, batch.labels["distractor"])
    return quality


def test_random_masks_have_lift_one_within_their_interval(small_corpus):
    quality = measured(small_corpus, oracle=False)
    low, high = quality.interval("lift")
    assert low < 1 < high
    assert high - low < 0.5, "the interval says something"
    assert quality.result().normalised_lift == pytest.approx(0, abs=0.3)


def test_the_oracle_reaches_the_attainable_bound(small_corpus):
    result = measured(small_corpus, oracle=True).result()
    assert result.lift == pytest.approx(result.oracle_lift)
    assert result.normalised_lift == pytest.approx(1.0)
    assert result.auroc == result.auroc_within == 1.0
    assert result.lift <= result.bound_lift + 1e-9


@pytest.mark.slow
def test_the_tokenizers_of_tiny_keep_the_gestures(tmp_path):
    from maskmotion.evaluation.bench import Bench, reconstruct

    corpus = mm.open_corpus("planted")
    model = mm.train("tiny", corpus, tmp_path / "run", only=["tokenizer"])
    bench = Bench(corpus)
    kept = bench.classifier.accuracy([reconstruct(model, clip.motion) for clip in bench.clips], bench.clips)
    assert kept.accuracy >= 0.65
    truth = bench.classifier.accuracy([clip.motion for clip in bench.clips], bench.clips)
    assert truth.accuracy >= 0.85


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_no_codebook_collapses(small_corpus, tmp_path, seed):
    few = {"seed": seed, "training.tokenizer.steps": 150, "training.tokenizer.validate_every": 150}
    body = mm.train(mm.preset("tiny").but(few), small_corpus, tmp_path / "run", only=["tokenizer"]).body
    for part, use in code_use(body, [clip.motion for clip in small_corpus.train]).items():
        shares = (use.perplexity / body.codebook_size).tolist()
        assert shares[0] > 1 / 2, f"{part}: {shares}"
        assert min(shares) > 1 / 4, f"{part}: {shares}"
