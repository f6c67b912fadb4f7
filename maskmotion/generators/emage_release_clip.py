"""Clips as EMAGE's audio release cuts them: 533 samples a frame, short tails dropped, seeds over hints channel by channel.

What depends on sound alone is computed for many windows at once; windows themselves wait for each other's last frames, of
which only as many are decoded as those frames can see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from maskmotion.conditioners.waveform import RELEASED
from maskmotion.generators.emage_release_parts import FACE
from maskmotion.motion.rotations import proper
from maskmotion.rng import Rng
from maskmotion.shapes import Bool, Float
from maskmotion.types import Batch, Condition, Prediction, Window

if TYPE_CHECKING:
    from maskmotion.generators.emage_release import EmageRelease
    from maskmotion.sampling.clip import Speech

TOGETHER = 32  # windows whose sound is encoded at once: memory stays bounded in clips of any length
Hints = tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T D"]]


@dataclass(frozen=True)
class Piece:
    """A window: its first frame, its frames, and how many of them are kept."""

    first: int
    size: int
    keep: int


def released_windows(frames: int, window: int = 64, seed: int = 4) -> list[Piece]:
    """How the release cuts a clip: the last window is as short as it must be, and a rest of `seed` frames or less is lost.

    ValueError for clips without a window (8 frames or less; the release stops with an error of another kind).
    """
    step = window - seed
    rounds, rest = divmod(max(0, frames - seed), step)
    pieces = [Piece(number * step, window, step) for number in range(rounds)]
    if rest > seed:
        pieces.append(Piece(rounds * step, seed + rest, seed + rest))
    if not pieces:
        raise ValueError(
            f'a clip of {frames} frames is too short for windows="release", which need more than {2 * seed}; '
            'give longer speech, or generator.windows="library"'
        )
    return pieces


@torch.no_grad()
def released_clip(
    generator: EmageRelease,
    speech: Speech,
    seed: Float[Tensor, "B seed D"],
    window: int,
    rng: Rng | None = None,
    on_window: Callable[[int, int], None] = lambda done, total: None,
    hints: Hints | None = None,
    *,
    temperature: float = 0.0,
    decode: Literal["codes", "latents"] = "codes",
) -> Window:
    """Motion of a clip, up to 4 frames shorter than its speech; arguments as in `generate_clip`.

    ValueError for rows of different lengths, which the release cannot have, and for speech of 8 frames or less.
    """
    if bool((speech.lengths != speech.frames).any()):
        raise ValueError(f'windows="release" needs clips of one length, got {speech.lengths.tolist()} frames')
    plan = released_windows(speech.frames, window, seed.shape[1])
    given, hinted = _hints(generator, speech, hints, seed)
    last, done = seed, 0
    joined: dict[str, list[Tensor]] = {part: [] for part in generator.body.parts}
    for pieces in _groups(plan):
        heard = _Heard(generator, speech, pieces)
        for number, piece in enumerate(pieces):
            span = slice(piece.first, piece.first + piece.size)
            known, hidden = given[:, span].clone(), ~hinted[:, span]
            start = slice(0, last.shape[1])
            known[:, start] = torch.where(hidden[:, start], last, known[:, start])
            hidden[:, start] = False
            latents = generator.choose(heard.predict(number, known, hidden), temperature, rng, decode)
            last = _last_frames(generator, latents, last.shape[1])
            for part, values in latents.items():
                joined[part].append(values[:, : piece.keep])
            done += 1
            on_window(done, len(plan))
    whole = {part: torch.cat(values, dim=1) for part, values in joined.items()}
    return Window(generator.body.decode(whole), whole)


class _Heard:
    """Windows of one size, and what of their prediction follows from speech and speaker alone."""

    def __init__(self, generator: EmageRelease, speech: Speech, pieces: list[Piece]) -> None:
        self.generator, self.rows, self.size = generator, len(speech.lengths), pieces[0].size
        self.conditions = generator.condition(_windows(generator, speech, pieces))
        self.memory, self.real = generator.remember(self.conditions, self.size)
        first = self._of(0)
        self.who = generator.speaker("body", first, self.size)
        self.asked = generator.begin_face(first, self.size, self.rows)

    def predict(self, number: int, motion: Tensor, hidden: Tensor) -> Prediction:
        """As the generator's `predict` of window `number`."""
        mine = slice(number * self.rows, (number + 1) * self.rows)
        hint = self.generator.read(motion, hidden, None)
        memory = [layer[mine] for layer in self.memory], None if self.real is None else self.real[mine]
        found = {FACE: self.generator.look_out(hint, self._of(number), self.size, None, self.asked)}
        return self.generator.say(found | self.generator.move(hint, memory, self.who, None))

    def _of(self, number: int) -> Mapping[str, Condition]:
        mine = slice(number * self.rows, (number + 1) * self.rows)
        return {name: one._map(lambda values: values[mine]) for name, one in self.conditions.items()}


def _windows(generator: EmageRelease, speech: Speech, pieces: list[Piece]) -> Batch:
    """The windows one below the other, all rows of the first one first. Sound begins at 533 times the first frame."""
    size, rows, count = pieces[0].size, len(speech.lengths), len(pieces)

    def cut(values: Tensor | None, unit: int = 1) -> Tensor | None:
        if values is None:
            return None
        return torch.cat([values[:, one.first * unit : (one.first + size) * unit] for one in pieces])

    words = cut(speech.words)
    return Batch(
        motion=generator.body.layout.rest.to(speech.lengths.device).expand(rows * count, size, -1),
        valid=torch.ones(rows * count, size, dtype=torch.bool, device=speech.lengths.device),
        audio=cut(speech.audio, RELEASED),
        speaker=None if speech.speaker is None else speech.speaker.repeat(count),
        labels={} if words is None else {"words": words},
        features={
            key: torch.cat([x[:, o.first : o.first + size] for o in pieces]) for key, x in speech.features.items()
        },
        fps=speech.fps,
    )


def _groups(plan: list[Piece]) -> Iterator[list[Piece]]:
    """Windows of one size, at most TOGETHER at once."""
    whole = [one for one in plan if one.size == plan[0].size]
    for start in range(0, len(whole), TOGETHER):
        yield whole[start : start + TOGETHER]
    if len(whole) < len(plan):
        yield plan[len(whole) :]


def _hints(
    generator: EmageRelease, speech: Speech, hints: Hints | None, seed: Tensor
) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T D"]]:
    rest = generator.body.layout.rest.to(seed).expand(len(seed), speech.frames, -1)
    if hints is None:
        return rest, torch.zeros_like(rest, dtype=torch.bool)
    given, hinted = (one[:, : speech.frames] for one in hints)
    return torch.where(hinted, given, rest), hinted


def _last_frames(generator: EmageRelease, latents: Mapping[str, Tensor], count: int) -> Float[Tensor, "B seed D"]:
    """The window's last frames with proper rotations, decoded from no more latents than they see."""
    reach = max(generator.body[part].network.decoder_reach for part in generator.body.parts)
    return proper(generator.body.decode({part: x[:, -(reach + count) :] for part, x in latents.items()})[:, -count:])
