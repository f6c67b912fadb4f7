"""Passes of a training step: which rows they take, what is wrong with their tokens, and which codes are chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maskmotion.losses import code_losses, layer_weights
from maskmotion.rng import Rng
from maskmotion.types import Prediction, Quantized


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Pass:
    """One masked prediction in a step.

    mask: "seed" hides everything but the seed frames (the generation mask), "masker" what the masker says.
    speech: False: the body may not hear it (EMAGE's masked-gesture path). share: of the batch's rows; passes with a
    share below 1 divide the batch between them. weight: of the pass's losses. losses: which of them it has. like: name of
    an earlier pass whose rows and mask this one has too; `share` is then the other's.
    """

    name: str
    mask: Literal["seed", "masker"] = "masker"
    speech: bool = True
    share: float = 1.0
    weight: float = 1.0
    losses: tuple[Literal["codes", "latents", "face_codes"], ...] = ("codes", "latents")
    like: str | None = None


def without_speech(passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """The passes that hear nothing; those that divided a batch with others now divide all of it."""
    left = [one for one in passes if not one.speech]
    names = {one.name for one in left}
    left = [one if one.like in names else replace(one, like=None) for one in left]
    shared = sum(one.share for one in left if one.share < 1 and one.like is None)
    return tuple(replace(one, share=one.share / shared) if one.share < 1 else one for one in left)


def check_passes(passes: tuple[Pass, ...], masker: bool) -> None:
    """ValueError for passes that cannot be: a masker's without one, names that repeat, `like` a pass that is not before."""
    if not masker and any(one.mask == "masker" for one in passes):
        raise ValueError('a pass with mask="masker" needs a masker: name one, or keep passes with mask="seed" only')
    before: dict[str, Pass] = {}
    for one in passes:
        if one.name in before:
            raise ValueError(f"passes have names of their own, got {one.name!r} twice")
        model = None if one.like is None else before.get(one.like)
        if one.like is not None and (model is None or model.like is not None or model.mask != one.mask):
            raise ValueError(
                f"pass {one.name!r} is like {one.like!r}, which must be an earlier pass with mask={one.mask!r} that is "
                f"like no other; earlier ones: {', '.join(before) or 'none'}"
            )
        before[one.name] = one


GENERATION_AND_MASKER = (Pass("seed", "seed", share=0.5), Pass("speech", "masker", share=0.5))


def token_errors(
    prediction: Prediction, target: Quantized, part: str, norm: Literal["l1", "l2"] = "l2"
) -> dict[str, Tensor]:
    """[B, N] class loss (layers weighted by 1 / (q + 1)) and latent error (in units of the target's spread)."""
    errors = {}
    if target.codes.shape[-1]:
        losses = code_losses(prediction.logits[part], target.codes)
        errors["codes"] = losses @ layer_weights(losses.shape[-1], losses)
    predicted = prediction.latents[part].sum(dim=2)
    missed, spread = predicted - target.latents, target.latents.var().clamp(min=1e-6)
    errors["latents"] = missed.square().mean(-1) / spread if norm == "l2" else missed.abs().mean(-1) / spread.sqrt()
    return errors


def check_sampling(temperature: float, rng: Rng | None, unknown: Collection[str], known: str) -> None:
    """TypeError for sampling options that nobody has, ValueError for a temperature that cannot be."""
    if unknown:
        raise TypeError(f"no sampling option {sorted(unknown)}; {known}")
    if temperature < 0 or (temperature > 0 and rng is None):
        raise ValueError(f"temperature is 0 or more and needs an rng above 0, got {temperature} and rng={rng}")


def choose(logits: Tensor, temperature: float, rng: Rng | None) -> Tensor:
    """The most likely codes, or codes drawn at a temperature, a stream a row."""
    if temperature == 0 or rng is None:
        return logits.argmax(-1)
    noise = rng.gumbel(*logits.shape[1:]).to(logits)
    return (logits / temperature + noise).argmax(-1)


def divide(passes: tuple[Pass, ...], rows: int, device: torch.device) -> dict[str, Tensor]:
    """Rows of each pass: all of them, consecutive shares of the (shuffled) batch, or those of the pass it is like."""
    divided: dict[str, Tensor] = {}
    used = 0.0
    for one in passes:
        if one.like is not None:
            divided[one.name] = divided[one.like]
            continue
        if one.share >= 1:
            divided[one.name] = torch.arange(rows, device=device)
            continue
        first, used = round(used * rows), used + one.share
        divided[one.name] = torch.arange(first, min(rows, round(used * rows)), device=device)
    if used > 1 + 1e-6:
        raise ValueError(f"shares of passes below 1 must sum to at most 1, got {used:g}")
    return divided


def prediction_parts(prediction: Prediction, sizes: Mapping[str, int]) -> dict[str, Prediction]:
    """What was predicted for several passes at once, one below the other: by pass. Its losses go to the first."""
    parts, start = {}, 0
    for name, size in sizes.items():
        mine = {
            field: {part: value[start : start + size] for part, value in getattr(prediction, field).items()}
            for field in ("logits", "latents", "hidden", "attention")
        }
        parts[name] = Prediction(**mine, losses={} if start else prediction.losses)
        start += size
    return parts


def token_rows(target: Quantized, index: Tensor) -> Quantized:
    """Some rows of the tokens to predict."""
    return Quantized(target.latents[index], target.codes[index], target.loss, target.perplexity)
