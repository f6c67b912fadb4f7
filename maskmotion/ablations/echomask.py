"""EchoMask's tables: Table 2 and Figure 12 of the paper, and a study of what its masks find (ACM MM 2025)."""

from __future__ import annotations

from typing import Any

from maskmotion.ablations.table import FROM, Table
from maskmotion.schedules import Linear

_RATIO = 0.5  # the paper's best
_NO_MAM: dict[str, Any] = {"conditioners.speech": {FROM: "conditioners.speech.speech"}}
_NO_LABELS: dict[str, Any] = {"generator.semantic": 0.0}
_NO_MASKS: dict[str, Any] = {
    "masker": None,
    "generator.passes": [{"name": "seed", "mask": "seed"}],
    **_NO_LABELS,
}
_ONE_CODEBOOK: dict[str, Any] = {"tokenizer.quantizer.num_layers": 1}


def _hides(name: str, **arguments: Any) -> dict[str, Any]:
    """A masker that hides half of the frames; by the top of its scores unless told otherwise."""
    return {"masker": {"name": name, "ratio": _RATIO, **arguments}}


def _schedule(ratio: float, hard: tuple[float, float], soft: tuple[float, float]) -> dict[str, Any]:
    return {"masker.ratio": ratio, "masker.hard": Linear(*hard), "masker.soft": Linear(*soft)}


def _row(*numbers: float) -> dict[str, float]:
    """A row of the paper: FGD x 10, BC x 10, diversity, MSE x 1e8, LVD x 1e5."""
    return dict(zip(("fgd", "bc", "l1_diversity", "mse", "lvd"), numbers, strict=True))


_SQA, _MAM = "SQA (ours)", "MAM (ours)"
_QUERIED = _hides("speech_queried") | _NO_LABELS

TABLE_2 = Table(
    name="echomask-table2",
    about="EchoMask, Table 2: what each component is worth. Rows build on each other, as in the paper.",
    base="echomask",
    rows={
        "VQ-VAE": _NO_MAM | _NO_MASKS | _ONE_CODEBOOK,
        "+ RVQ-VAE": _NO_MAM | _NO_MASKS,
        "SQA (random mask)": _NO_MAM | _NO_LABELS | _hides("random"),
        "SQA (loss-based mask)": _NO_MAM | _NO_LABELS | _hides("loss_based"),
        _SQA: _NO_MAM | _QUERIED,
        "MAM (low-level)": _QUERIED | {"conditioners.speech.levels": ["low"]},
        "MAM (high-level)": _QUERIED | {"conditioners.speech.levels": ["high"]},
        "MAM (low and high)": _QUERIED | {"conditioners.speech.hierarchy": False},
        "MAM (no L_align)": _QUERIED | {"conditioners.speech.frame": 0.0, "conditioners.speech.sentence": 0.0},
        _MAM: _QUERIED,
        "EchoMask (ours)": {},
    },
    baseline="SQA (random mask)",
    against={
        "+ RVQ-VAE": "VQ-VAE",
        "SQA (random mask)": "+ RVQ-VAE",
        "MAM (low-level)": _SQA,
        "MAM (high-level)": _SQA,
        "MAM (low and high)": _SQA,
        "MAM (no L_align)": _MAM,
        _MAM: _SQA,
        "EchoMask (ours)": _MAM,
        "VQ-VAE": "VQ-VAE",
    },
    paper={
        "VQ-VAE": _row(6.664, 7.464, 10.86, 7.225, 7.693),
        "+ RVQ-VAE": _row(6.106, 7.654, 11.68, 7.014, 7.484),
        "SQA (random mask)": _row(5.889, 7.613, 12.26, 7.122, 7.473),
        "SQA (loss-based mask)": _row(5.745, 7.607, 12.66, 7.056, 7.454),
        _SQA: _row(5.455, 7.615, 12.83, 6.976, 7.364),
        "MAM (low-level)": _row(5.679, 7.647, 13.15, 7.153, 7.478),
        "MAM (high-level)": _row(5.442, 7.692, 13.02, 6.903, 7.359),
        "MAM (low and high)": _row(5.420, 7.684, 13.21, 6.977, 7.346),
        "MAM (no L_align)": _row(5.887, 7.571, 12.78, 6.988, 7.393),
        _MAM: _row(5.029, 7.690, 13.32, 6.827, 7.310),
        "EchoMask (ours)": _row(4.623, 7.738, 13.37, 6.761, 7.290),
    },
    readings={
        "VQ-VAE": "one codebook a part instead of residual layers; no masked modelling: every window trains under the "
        "generation mask (all but the four seed frames hidden). Speech is HuBERT's, mapped linearly, without alignment.",
        "+ RVQ-VAE": "the same with the residual layers of the preset.",
        "SQA (random mask)": "masked modelling: half of every batch under the masker, which hides half of the frames at "
        "random. The paper prints its rows of SQA before MAM, so speech queries are a linear map of HuBERT's features.",
        "SQA (loss-based mask)": "hidden are the half of the frames with the highest class loss of the teacher.",
        _SQA: "hidden are the half of the frames that speech attends to most (eq. 6), strictly by rank; no L_sem and no "
        "soft-to-hard schedule, which the last row adds.",
        "MAM (low-level)": "alignment whose queries hear HuBERT's low level only; both contrasts of eq. 5.",
        "MAM (high-level)": "the same with the high level only.",
        "MAM (low and high)": "both levels, mapped and summed, heard by one attention: fused without hierarchy.",
        "MAM (no L_align)": "the queries hear both levels in turn, and neither contrast is trained. The paper prints this row "
        'as "MAM (L_align)"; its text speaks of excluding the loss.',
        _MAM: "first the low, then the high level, both contrasts.",
        "EchoMask (ours)": "with L_sem and the soft-to-hard schedule (hard 0 to 0.3, soft 0.3 to 0 of a ratio of 0.5). The "
        "paper does not say what this row adds to the one before; these two are what is left of its method.",
    },
    caveats=(
        "Rows without a masker see the generation mask twice as often as the others, at the same number of steps.",
    ),
)

_BEST = "hard 0 to .3, soft .3 to 0"
_FIGURE: dict[str, dict[str, Any]] = {
    _BEST: {},
    "ratio .3": _schedule(0.3, (0.0, 0.3), (0.3, 0.0)),
    "ratio .4": _schedule(0.4, (0.0, 0.3), (0.3, 0.0)),
    "ratio .6": _schedule(0.6, (0.0, 0.3), (0.3, 0.0)),
    "ratio .7": _schedule(0.7, (0.0, 0.3), (0.3, 0.0)),
    "hard 0 to .1, soft .1 to 0": _schedule(_RATIO, (0.0, 0.1), (0.1, 0.0)),
    "hard 0 to .5, soft .5 to 0": _schedule(_RATIO, (0.0, 0.5), (0.5, 0.0)),
    "hard to soft: hard .3 to 0, soft 0 to .3": _schedule(_RATIO, (0.3, 0.0), (0.0, 0.3)),
    "hard .3 throughout": _schedule(_RATIO, (0.3, 0.3), (0.0, 0.0)),
    "soft .3 throughout": _schedule(_RATIO, (0.0, 0.0), (0.3, 0.3)),
    "random throughout": _schedule(_RATIO, (0.0, 0.0), (0.0, 0.0)),
}

FIGURE_12 = Table(
    name="echomask-figure12",
    about="EchoMask, Figure 12: schedules of hard and soft hiding. The text names the best one only; the others are ours, "
    "one change to it at a time.",
    base="echomask",
    rows=_FIGURE,
    baseline=_BEST,
    expected={label: {"fgd": "higher"} for label in _FIGURE if label != _BEST},
    readings={
        _BEST: "the paper's best, and the preset: alpha 0.5, alpha^h from 0 to 0.3, alpha^s from 0.3 to 0.",
        "random throughout": "neither hard nor soft: with L_sem, so that only the masks differ.",
    },
    caveats=(
        "The figure's own numbers are not in the paper's text. Its statement, that the balanced schedule has the lowest FGD, "
        "is taken as every other row's direction.",
    ),
)

_CURRICULUM: dict[str, Any] = {"hard": Linear(0.0, 0.3), "soft": Linear(0.3, 0.0)}
_QUERY = _hides("speech_queried", **_CURRICULUM)
SPAN_LENGTH = 2  # see the reading of "span"

MASKS = Table(
    name="echomask-masks",
    about="What do masks find: does speech find meaning by itself, does the alignment make it, or do the labels?",
    base="echomask",
    rows={
        "random": _hides("random") | _NO_LABELS,
        "span": _hides("span", length=SPAN_LENGTH) | _NO_LABELS,
        "random + L_sem": _hides("random"),
        "loss_based": _hides("loss_based", **_CURRICULUM) | _NO_LABELS,
        "speech_queried": _QUERY | _NO_LABELS,
        "speech_queried + L_sem": _QUERY,
        "speech_queried, MAM by part": _QUERY | _NO_LABELS | {"conditioners.speech.by_part": True},
        "oracle": _hides("oracle", **_CURRICULUM) | _NO_LABELS,
        "random, no MAM": _hides("random") | _NO_LABELS | _NO_MAM,
        "random + L_sem, no MAM": _hides("random") | _NO_MAM,
        "speech_queried, no MAM": _QUERY | _NO_LABELS | _NO_MAM,
        "speech_queried + L_sem, no MAM": _QUERY | _NO_MAM,
    },
    baseline="random",
    against={
        "speech_queried + L_sem": "random + L_sem",
        "speech_queried, MAM by part": "speech_queried",
        "speech_queried, no MAM": "random, no MAM",
        "speech_queried + L_sem, no MAM": "random + L_sem, no MAM",
        "random, no MAM": "random",
        "random + L_sem, no MAM": "random, no MAM",
    },
    readings={
        "span": "hidden frames come in runs about as long as those of speech_queried. At the end of its schedule these were 2.6 "
        "frames on average without L_sem and 2.8 with it (planted-v1, scale tiny, seed 0; a fifth of the frames is still "
        f"hidden at random); length={SPAN_LENGTH} gives 2.8. The column of run lengths shows how alike they are here.",
        "random + L_sem": "the labels train the attention, and nothing is chosen by it: what L_sem alone teaches.",
        "loss_based": "the same schedule from soft to hard as speech_queried.",
        "speech_queried, MAM by part": "a space for each part, as in the release: in one for all, speech finds its motion by "
        "the face alone (benchmarks/aligned_by.py).",
        "oracle": "scores are the labels, the same schedule: the most that any masker could hide.",
        "random, no MAM": "HuBERT's features mapped linearly, as in the three rows below.",
    },
    caveats=(
        "A high AUROC with L_sem is no evidence for what speech finds: look at the columns with shuffled speech and shuffled "
        "motion, which say whether scores follow the speech or only the motion.",
    ),
)
