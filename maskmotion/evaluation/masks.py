"""Mask quality: how well hidden frames hit the frames that are known to carry meaning, pooled over windows.

Everything is a ratio of sums over windows, never a mean of ratios, so that windows without meaning count as they should
and the size of a batch changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskmotion.shapes import Bool, Float
from maskmotion.types import SEMANTIC_SCORE


def semantic_frames(labels: Mapping[str, Tensor] | Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Which frames carry meaning: score above beat_align (0.1) on BEAT2's scale.

    Args:
        labels: labels of a batch or clip that hold "semantic", or those scores themselves.
    """
    if isinstance(labels, Tensor):
        return labels > SEMANTIC_SCORE
    if "semantic" not in labels:
        raise ValueError(
            f"mask quality needs frame labels 'semantic', got {sorted(labels)}; use data with a sem folder"
        )
    return labels["semantic"] > SEMANTIC_SCORE


def auroc(scores: Float[Tensor, " n"], positive: Bool[Tensor, " n"]) -> float:
    """Area under the ROC curve: chance that a positive scores above a negative, ties half. NaN without both classes."""
    ranked, labels = scores.detach().double().cpu().numpy()[None], positive.cpu().numpy()[None]
    return float(_ratio(*_concordance(ranked, labels, np.ones_like(labels)))[0])


def _concordance(scores: np.ndarray, positive: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row of [B, T]: (positive, negative) pairs in the right order (ties half), and all such pairs; Mann-Whitney."""
    from scipy.stats import rankdata

    ranks = rankdata(np.where(valid, scores, np.inf), axis=-1)  # padding ranks last: the others' ranks do not see it
    positive = positive & valid
    count = positive.sum(-1).astype(float)
    return (ranks * positive).sum(-1) - count * (count + 1) / 2, count * (valid.sum(-1) - count)


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)


# What is summed over windows; every measure but the pooled AUROC is a function of these sums.
_COUNTS = (
    "valid",
    "hidden",
    "runs",
    "semantic",
    "hits",
    "attainable",
    "distractor",
    "hidden_distractor",
    "concordant",
    "pairs",
)


@dataclass(frozen=True)
class MaskResult:
    """Mask quality over `windows` windows and `frames` valid frames; NaN where a measure has nothing to count.

    ratio: share of valid frames that are hidden. base: share that are semantic. precision: share of the hidden frames
    that are semantic. lift: precision / base. recall: share of the semantic frames that are hidden.
    normalised_lift: (lift - 1) / (oracle_lift - 1); 0 for random masks, 1 for the oracle.
    oracle_*: the best that any masker can reach with as many hidden frames *in each window*; windows without meaning
    must spend their share too. bound_*: the best if hidden frames could be moved between windows: precision
    min(1, base / ratio), recall min(1, ratio / base), lift min(1 / base, 1 / ratio); no masker with a quota a window
    reaches these.
    auroc: of the scores, all frames in one pool (scores that compare only within a window do badly).
    auroc_within: pairs of frames of one window in the right order / all such pairs; each window weighs as many as it
    has pairs of a semantic and another frame, windows of one kind nothing.
    distractor_share: share of hidden frames that are distractors; distractor_lift: that / the distractors' base rate.
    run_length: mean number of hidden frames in a row; what a span masker has to match.
    """

    windows: int
    frames: int
    ratio: float
    base: float
    precision: float
    lift: float
    recall: float
    normalised_lift: float
    oracle_precision: float
    oracle_recall: float
    oracle_lift: float
    bound_precision: float
    bound_recall: float
    bound_lift: float
    auroc: float
    auroc_within: float
    distractor_share: float
    distractor_lift: float
    run_length: float


def _measures(sums: np.ndarray) -> dict[str, Any]:
    """Every ratio of sums [..., len(_COUNTS)]; each of shape [...]."""
    counts = dict(zip(_COUNTS, np.moveaxis(sums, -1, 0)))
    base, ratio = _ratio(counts["semantic"], counts["valid"]), _ratio(counts["hidden"], counts["valid"])
    precision, oracle_precision = (_ratio(counts[key], counts["hidden"]) for key in ("hits", "attainable"))
    lift, oracle_lift = _ratio(precision, base), _ratio(oracle_precision, base)
    share = _ratio(counts["hidden_distractor"], counts["hidden"])
    return {
        "ratio": ratio,
        "base": base,
        "precision": precision,
        "lift": lift,
        "recall": _ratio(counts["hits"], counts["semantic"]),
        "normalised_lift": _ratio(lift - 1, oracle_lift - 1),
        "oracle_precision": oracle_precision,
        "oracle_recall": _ratio(counts["attainable"], counts["semantic"]),
        "oracle_lift": oracle_lift,
        "bound_precision": np.minimum(1, _ratio(base, ratio)),
        "bound_recall": np.minimum(1, _ratio(ratio, base)),
        "bound_lift": np.minimum(_ratio(np.ones_like(base), base), _ratio(np.ones_like(ratio), ratio)),
        "auroc_within": _ratio(counts["concordant"], counts["pairs"]),
        "distractor_share": share,
        "distractor_lift": _ratio(share, _ratio(counts["distractor"], counts["valid"])),
        "run_length": _ratio(counts["hidden"], counts["runs"]),
    }


def _count(mask: Bool[Tensor, "B T"]) -> np.ndarray:
    return mask.sum(-1).double().cpu().numpy()


class MaskQuality:
    """Streaming accumulator of mask quality: `update` with every batch, then `result` and `interval`.

    The numbers do not depend on how the windows were cut into batches, nor on anything that stands in padding.
    """

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []  # [B, len(_COUNTS)] a batch
        self._clips: list[str | None] = []
        self._scores: list[np.ndarray] = []
        self._positive: list[np.ndarray] = []
        self._kind: tuple[bool, bool] | None = None  # whether batches come with scores, with distractors

    def update(
        self,
        scores: Float[Tensor, "B T"] | None,
        mask: Bool[Tensor, "B T"],
        semantic: Bool[Tensor, "B T"],
        valid: Bool[Tensor, "B T"],
        distractor: Bool[Tensor, "B T"] | None = None,
        *,
        clips: Sequence[str] | None = None,
    ) -> None:
        """Count a batch of windows.

        Args:
            scores: what the masker ranked by, larger = hide first; None when it has none (no AUROC then).
            mask: True = hidden. semantic: True = carries meaning. valid: False = padding. distractor: True = distractor.
            clips: name of each row's clip, for an interval over clips.

        Raises:
            ValueError: scores or distractors in some batches and not in others, or a score of a valid frame that is NaN
                or infinite.
        """
        kind = (scores is not None, distractor is not None)
        if self._kind not in (None, kind):
            raise ValueError(
                "give scores and distractors with every batch or with none; use a new MaskQuality otherwise"
            )
        self._kind = kind
        hidden, positive = mask & valid, semantic & valid
        distracting = torch.zeros_like(valid) if distractor is None else distractor & valid
        counts = dict.fromkeys(_COUNTS, np.zeros(len(valid)))
        counts |= {
            "valid": _count(valid),
            "hidden": _count(hidden),
            "runs": _count(hidden & ~torch.nn.functional.pad(hidden, (1, 0))[:, :-1]),
            "semantic": _count(positive),
            "hits": _count(hidden & positive),
            "attainable": np.minimum(_count(hidden), _count(positive)),
            "distractor": _count(distracting),
            "hidden_distractor": _count(hidden & distracting),
        }
        if scores is not None:
            if not torch.isfinite(scores[valid]).all():
                raise ValueError("a mask score of a valid frame is NaN or infinite; check the masker's scores")
            ranked, labels, real = (t.detach().cpu().numpy() for t in (scores.double(), semantic, valid))
            counts["concordant"], counts["pairs"] = _concordance(ranked, labels, real)
            self._scores.append(ranked[real])
            self._positive.append(labels[real])
        self._rows.append(np.stack([counts[key] for key in _COUNTS], axis=1))
        self._clips.extend(clips if clips is not None else [None] * len(valid))

    def _windows(self) -> np.ndarray:
        rows = np.concatenate(self._rows) if self._rows else np.zeros((0, len(_COUNTS)))
        if not rows[:, 0].sum():
            raise ValueError("no valid frame was counted; call update() with at least one window before result()")
        return rows

    def result(self) -> MaskResult:
        """Every measure over all windows so far. Raises ValueError when no valid frame was counted."""
        rows = self._windows()
        measures = {key: float(value) for key, value in _measures(rows.sum(0)).items()}
        pooled = float("nan")
        if self._scores:
            scores, positive = np.concatenate(self._scores), np.concatenate(self._positive)
            pooled = auroc(torch.from_numpy(scores), torch.from_numpy(positive))
        if self._kind is not None and not self._kind[1]:
            measures |= {"distractor_share": float("nan"), "distractor_lift": float("nan")}
        return MaskResult(windows=len(rows), frames=int(rows[:, 0].sum()), auroc=pooled, **measures)

    def interval(
        self, measure: str = "lift", *, over: str = "windows", level: float = 0.95, draws: int = 1000, seed: int = 0
    ) -> tuple[float, float]:
        """Percentile bootstrap interval of a measure of `MaskResult` (all but the pooled `auroc`).

        Args:
            over: "windows", or "clips" when `update` was told them; windows of one clip overlap and look alike, so clips
                give the honest, wider interval.

        Raises:
            ValueError: an unknown measure, or clips that were not given.
        """
        rows = self._windows()
        known = sorted(_measures(rows.sum(0)))
        if measure not in known:
            raise ValueError(f"no bootstrap interval of {measure!r}; there are: {', '.join(known)}")
        if over == "clips" and None in self._clips:
            raise ValueError("an interval over clips needs update(..., clips=names) for every window")
        if over not in ("windows", "clips"):
            raise ValueError(f"the bootstrap draws 'windows' or 'clips', got {over!r}")
        if over == "clips":
            _, owner = np.unique(np.array(self._clips, dtype=str), return_inverse=True)
            summed = np.zeros((owner.max() + 1, rows.shape[1]))
            np.add.at(summed, owner, rows)
            rows = summed
        times = np.random.default_rng(seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
        values = _measures(times @ rows)[measure]
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
