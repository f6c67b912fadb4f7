"""Clips by EchoMask: all that follows from speech for many windows at once, then window by window what follows from motion.

A window waits for the last frames of the one before; speech, its alignment, its first questions to motion and its keys and
values for the residual layers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.generators.echomask_parts import FACE
from maskmotion.generators.passes import check_sampling
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import proper
from maskmotion.rng import Rng
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.root import integrate
from maskmotion.types import Batch, Prediction, Window

if TYPE_CHECKING:
    from maskmotion.generators.echomask import EchoMask
    from maskmotion.generators.echomask_records import Heard
    from maskmotion.sampling.clip import Speech

TOGETHER = 32  # windows whose speech is heard at once: memory stays bounded in clips of any length
FOLDS = 8  # frames; the release cuts clips to multiples of it
Hints = tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T D"]]


@dataclass(frozen=True)
class _Plan:
    """Where windows begin, how long each is, and how many frames of motion there will be."""

    firsts: tuple[int, ...]
    window: int
    frames: int


def library_plan(frames: int, window: int, seed: int) -> _Plan:
    """Windows over every frame; what the last one has beyond the end is padding."""
    step = window - seed
    count = max(1, -(-(frames - seed) // step))
    return _Plan(tuple(number * step for number in range(count)), window, frames)


def released_plan(frames: int, window: int, seed: int) -> _Plan:
    """Whole windows alone, as in the release: 60 s at 30 frames a second give 29 windows, 1744 frames of 1800.

    ValueError for clips shorter than a window.
    """
    step = window - seed
    count = (frames // FOLDS * FOLDS - seed) // step
    if count < 1:
        raise ValueError(
            f'a clip of {frames} frames is too short for windows="release", which need {-(-window // FOLDS) * FOLDS}; '
            'give longer speech, or generator.windows="library"'
        )
    return _Plan(tuple(number * step for number in range(count)), window, seed + count * step)


@torch.no_grad()
def echomask_clip(
    generator: EchoMask,
    speech: Speech,
    seed: Float[Tensor, "B seed D"],
    window: int,
    rng: Rng | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
    hints: Hints | None = None,
    *,
    temperature: float = 0.0,
    decode: Literal["codes", "latents"] = "codes",
    precision: Literal["float32", "bfloat16"] = "float32",
    **unknown: Any,
) -> Window:
    """Motion of a clip; arguments as in `generate_clip`, cut as `generator.windows` says.

    precision: "bfloat16" lets the network's products (never the tokenizers') work at half the width.

    ValueError where windows="release" meets rows of different lengths or speech shorter than a window; errors of sampling
    options as in `MaskedGenerator.generate`.
    """
    check_sampling(temperature, rng, unknown, "a clip by EchoMask has: temperature, decode, precision")
    released = generator.windows == "release"
    if released and bool((speech.lengths != speech.frames).any()):
        raise ValueError(f'windows="release" needs clips of one length, got {speech.lengths.tolist()} frames')
    plan = (released_plan if released else library_plan)(speech.frames, window, seed.shape[1])

    def choose(prediction: Prediction) -> dict[str, Tensor]:
        chosen = generator.choose(prediction, temperature, rng, decode)
        return {part: values.to(seed) for part, values in chosen.items()}

    with _precision(precision, seed.device):
        whole = _latents(generator, speech, plan, seed, hints, choose, on_window)
    motion = generator.body.decode(whole, plan.frames)
    return Window(proper(motion) if released else motion, whole)


def _latents(
    generator: EchoMask,
    speech: Speech,
    plan: _Plan,
    seed: Float[Tensor, "B seed D"],
    hints: Hints | None,
    choose: Callable[[Prediction], dict[str, Tensor]],
    on_window: Callable[[int, int], None],
) -> dict[str, Float[Tensor, "B N C"]]:
    """Part -> latents of the clip, window by window."""
    rows, count = seed.shape[:2]
    last, done, window = seed, 0, plan.window
    joined: dict[str, list[Tensor]] = {part: [] for part in generator.body.parts}
    ahead = torch.arange(window, device=seed.device) >= count
    hidden = generator.body.layout.expand(ahead.expand(rows, -1))
    for firsts in _groups(plan, speech):
        heard, valid = _hear(generator, speech, firsts, window)
        for number, first in enumerate(firsts):
            mine = slice(number * rows, (number + 1) * rows)
            known, veil = torch.cat([last, generator.body.mean.expand(rows, window - count, -1)], dim=1), hidden
            if hints is not None:
                given, hinted = (_cut(one, first, window) for one in hints)
                known, veil = torch.where(hinted, given, known), hidden & ~hinted
            own = heard._map(lambda values, mine=mine: values[mine])
            latents = choose(generator.fill(known, veil & valid[mine, :, None], own))
            for part, values in latents.items():
                joined[part].append(values[:, count // generator.body.downsample if done else 0 :])
            done += 1
            on_window(done, len(plan.firsts))
            if done < len(plan.firsts):
                last = _next_seed(generator, latents, window, seed, speech.fps)
    return {part: torch.cat(values, dim=1) for part, values in joined.items()}


def _hear(
    generator: EchoMask, speech: Speech, firsts: tuple[int, ...], window: int
) -> tuple[Heard, Bool[Tensor, "rows T"]]:
    """What windows hear, one below the other, all rows of the first one first, and which of their frames are real."""
    rest = generator.body.layout.rest.to(speech.lengths.device).expand(len(speech.lengths), window, -1)
    batch = _stack([speech.window(first, rest) for first in firsts])
    return generator.hear(generator.condition(batch), batch.valid), batch.valid


def _stack(batches: list[Batch]) -> Batch:
    """The rows of several windows below each other."""
    first = batches[0]

    def cat(values: list[Tensor | None]) -> Tensor | None:
        found = [one for one in values if one is not None]
        return torch.cat(found) if found else None

    def by_key(fields: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {key: torch.cat([one[key] for one in fields]) for key in fields[0]}

    return Batch(
        motion=torch.cat([one.motion for one in batches]),
        valid=torch.cat([one.valid for one in batches]),
        audio=cat([one.audio for one in batches]),
        speaker=cat([one.speaker for one in batches]),
        labels=by_key([one.labels for one in batches]),
        features=by_key([one.features for one in batches]),
        fps=first.fps,
    )


def _groups(plan: _Plan, speech: Speech) -> Iterator[tuple[int, ...]]:
    """Windows to be heard at once: those without padding, at most TOGETHER, and after them those with."""
    full = sum(first + plan.window <= int(speech.lengths.min()) for first in plan.firsts)
    for some in (plan.firsts[:full], plan.firsts[full:]):
        for start in range(0, len(some), TOGETHER):
            yield some[start : start + TOGETHER]


def _next_seed(
    generator: EchoMask, latents: Mapping[str, Tensor], window: int, seed: Float[Tensor, "B seed D"], fps: int
) -> Float[Tensor, "B seed D"]:
    """A window's last frames, as many as the clip's `seed` has, decoded from no more latents than they see; proper rotations.

    Those of the release have jaw and eyes at rest, and a path that begins where the clip's does.
    """
    body, fold, count = generator.body, generator.body.downsample, seed.shape[1]
    beyond = next(iter(latents.values())).shape[1] * fold - window  # frames of the last token past the window's end
    with torch.autocast(seed.device.type, enabled=False):
        if generator.windows == "release":
            motion = body.decode({part: x for part, x in latents.items() if part != FACE}, window)
            path = integrate(motion[..., TRANSLATION], fps, seed[:, 0, TRANSLATION])
            motion = torch.cat([motion[..., ROTATIONS], path, motion[..., CONTACTS.start :]], dim=-1)
            return proper(motion[:, -count:])
        reach = max(body[part].network.decoder_reach for part in body.parts)
        needed = reach + -(-(count + beyond) // fold)
        motion = body.decode({part: x[:, -needed:] for part, x in latents.items()})
        end = motion.shape[1] - beyond
        return proper(motion[:, end - count : end])


def _cut(values: Tensor, first: int, size: int) -> Tensor:
    """[B, size, D] from `first` on, zeros beyond the end."""
    piece = values[:, first : first + size]
    return F.pad(piece, (0, 0, 0, size - piece.shape[1]))


def _precision(precision: str, device: torch.device) -> torch.autocast | nullcontext[None]:
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision is "float32" or "bfloat16", got {precision!r}')
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
