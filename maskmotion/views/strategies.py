"""What maskers do on a clip: scores and hidden frames, window after window, ready to be drawn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch

from maskmotion.config import Spec, build
from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset
from maskmotion.interfaces import MaskContext, Masker
from maskmotion.model import Model
from maskmotion.schedules import value_at
from maskmotion.shapes import Bool, Float
from maskmotion.types import Clip

STRATEGIES = ("random", "loss_based", "speech_queried")
OWN = "own"
_RATIO = 0.5  # where a model has no masker


def masking_rows(
    models: Mapping[str, Model],
    clip: Clip,
    maskers: Sequence[str] | None = None,
    ratio: float | None = None,
    seed: int = 0,
) -> dict[str, tuple[Float[torch.Tensor, " T"], Bool[torch.Tensor, " T"]]]:
    """Row -> scores and hidden frames, as `plot_masks` takes them (EchoMask, Figure 8); each model is its rows' teacher.

    Windows do not overlap. Scores are standardised within each, because attention and loss compare frames of one window
    only. Scores or masks of joints are averaged over the frame; a frame counts as hidden when half of it is.

    Args:
        models: one or more, by the name that rows are told apart with.
        maskers: names of maskers, each hiding the top of its scores; "own": the model's, as at the end of its training.
            None: random, loss_based and speech_queried for one model (a network without attention has no speech_queried
            row, and a warning says so), or each model's own.
        ratio: share that named maskers hide; None: what the model's own hides at the end of its training, or half.

    Raises:
        ValueError: a masker that the model cannot serve. RecipeError: no such masker.
    """
    chosen = tuple(maskers) if maskers else STRATEGIES if len(models) == 1 else (OWN,)
    rows = {}
    for label, model in models.items():
        context = _context(model, clip)
        for name in chosen:
            masker = _own(model) if name == OWN else _named(model, name, ratio)
            row = name if len(models) == 1 else label if chosen == (OWN,) else f"{label}: {name}"
            try:
                rows[row] = _ask(masker, context, clip, seed)
            except ValueError as error:
                if maskers or name == "random":
                    raise
                warnings.warn(f"no row {row}: {error}", stacklevel=2)
    return rows


@torch.no_grad()
def _context(model: Model, clip: Clip) -> MaskContext:
    """The clip's windows without overlap, the last one ending with it; one context, so that the teacher runs once."""
    generator, size = model.generator.eval(), model.recipe.body.window
    data = WindowDataset([clip], size, size, model.extractors, FeatureCache(None), audio=model.reads_audio)
    batch = data.batch(list(range(len(data)))).to(model.device)
    return MaskContext(batch, generator.condition(batch), progress=1.0, teacher=generator)


def _own(model: Model) -> Masker:
    if model.generator.masker is None:
        raise ValueError(f"{model.recipe.name} has no masker, so it hides nothing")
    return model.generator.masker


def _named(model: Model, name: str, ratio: float | None) -> Masker:
    if ratio is None:
        own = model.generator.masker
        ratio = _RATIO if own is None else value_at(own.ratio, 1.0)
    spec = model.recipe.but({"masker": Spec(name, ratio=ratio)}).masker
    assert spec is not None
    masker: Masker = build(spec)
    return masker


@torch.no_grad()
def _ask(
    masker: Masker, context: MaskContext, clip: Clip, seed: int
) -> tuple[Float[torch.Tensor, " T"], Bool[torch.Tensor, " T"]]:
    """Scores and hidden frames of the whole clip."""
    context.rng.manual_seed(seed)
    mask = masker(context)
    context.rng.manual_seed(seed)  # a random masker's scores are then the ones it used
    scores = masker.scores(context)
    hidden = mask if mask.ndim == 2 else mask.float().mean(-1) >= 0.5
    frames = _standardised(scores if scores.ndim == 2 else scores.mean(-1), context.batch.valid)
    placed, covered = torch.zeros(clip.frames), torch.zeros(clip.frames, dtype=torch.bool)
    for row, (_, first) in enumerate(context.batch.source):
        length = min(frames.shape[1], clip.frames - first)
        placed[first : first + length] = frames[row, :length].cpu()
        covered[first : first + length] = hidden[row, :length].cpu()
    return placed, covered


def _standardised(scores: Float[torch.Tensor, "B T"], valid: Bool[torch.Tensor, "B T"]) -> Float[torch.Tensor, "B T"]:
    """Zero mean and unit variance over the valid frames of each window."""
    count = valid.sum(1, keepdim=True)
    centred = scores - scores.masked_fill(~valid, 0).sum(1, keepdim=True) / count
    variance = centred.masked_fill(~valid, 0).square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / variance.sqrt().clamp(min=1e-6)
