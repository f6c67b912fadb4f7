"""Clips of any length from windows and seed frames: each window's first frames are the last ones of the window before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.interfaces import Generator
from maskmotion.motion.rotations import proper
from maskmotion.rng import Rng
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import Batch, Window


@dataclass(frozen=True)
class Speech:
    """What whole clips are generated from, one a row.

    lengths: frames of each row; shorter rows are padded to the longest. features: extractor key -> [B, T, C]. audio
    [B, samples] is for conditioners that read the waveform, words [B, T] are ids.
    """

    lengths: Int[Tensor, " B"]
    features: Mapping[str, Tensor] = field(default_factory=dict)
    audio: Float[Tensor, "B samples"] | None = None
    speaker: Int[Tensor, " B"] | None = None
    words: Int[Tensor, "B T"] | None = None
    fps: int = 30
    sample_rate: int = 16000

    @property
    def frames(self) -> int:
        """Frames of the longest row."""
        return int(self.lengths.max())

    def window(self, first: int, motion: Float[Tensor, "B W D"]) -> Batch:
        """The frames from `first` on as a batch whose known motion is `motion`; what lies beyond the end is padding."""
        size = motion.shape[1]
        valid = torch.arange(first, first + size, device=motion.device) < self.lengths[:, None]
        audio = None
        if self.audio is not None:
            begin, length = round(first * self.sample_rate / self.fps), round(size * self.sample_rate / self.fps)
            audio = _cut(self.audio, begin, length)
        return Batch(
            motion=motion,
            valid=valid,
            audio=audio,
            speaker=self.speaker,
            labels={} if self.words is None else {"words": _cut(self.words, first, size)},
            features={key: _cut(value, first, size) for key, value in self.features.items()},
            fps=self.fps,
        )


def generate_clip(
    generator: Generator,
    speech: Speech,
    seed: Float[Tensor, "B seed D"],
    window: int,
    rng: Rng | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
    hints: tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T D"]] | None = None,
    **sampling: Any,
) -> Window:
    """Motion [B, frames, D] for a whole clip: exactly `speech.frames` frames, whatever the length.

    Every window's first `seed` frames are known: the given ones at first, then the last frames of the window before.
    hints: motion of the clip and the columns of it that are known (True) as well, in whichever windows they fall; where
    both say something about a column of a window's first frames, the hint does (as in EMAGE's release).
    Latents, where the generator gives them, are joined and decoded once over the whole clip, so that no border shows.
    A generator may have a way of its own (a method `generate_clip`: EMAGE's release), which decides how many frames.
    """
    own = getattr(generator, "generate_clip", None)
    made = None if own is None else own(speech, seed, window, rng, on_window, hints, **sampling)
    if made is not None:
        return made
    seed_frames, fold = seed.shape[1], generator.body.downsample
    step = window - seed_frames
    count = max(1, -(-(speech.frames - seed_frames) // step))
    hidden = generator.body.layout.expand(torch.arange(window).expand(len(seed), -1) >= seed_frames).to(seed.device)
    motions: list[Tensor] = []
    latents: dict[str, list[Tensor]] = {}
    for number in range(count):
        known = torch.cat([seed, generator.body.mean.expand(len(seed), step, -1)], dim=1)
        unknown = hidden
        if hints is not None:
            given, hinted = (_cut(one, number * step, window) for one in hints)
            known, unknown = torch.where(hinted, given, known), hidden & ~hinted
        batch = speech.window(number * step, known)
        one = generator.generate(batch, unknown & batch.valid[..., None], rng, **sampling)
        overlap = seed_frames if number else 0
        motions.append(one.motion[:, overlap:])
        for part, values in one.latents.items():
            latents.setdefault(part, []).append(values[:, overlap // fold :])
        seed = proper(one.motion[:, step:])  # as in training; decoded rows may have any length
        on_window(number + 1, count)
    joined = {part: torch.cat(values, dim=1) for part, values in latents.items()}
    if joined and seed_frames % fold == 0:
        motion = generator.body.decode(joined, speech.frames)
    else:  # tokens that straddle the border of two windows cannot be joined
        motion = torch.cat(motions, dim=1)[:, : speech.frames]
    return Window(motion, joined)


def _cut(values: Tensor, first: int, size: int) -> Tensor:
    """[B, size, ...] from `first` on, zeros beyond the end."""
    piece = values[:, first : first + size]
    missing = size - piece.shape[1]
    return piece if missing == 0 else F.pad(piece, (0, 0) * (values.ndim - 2) + (0, missing))
