"""Shapes used everywhere.

B batch · T motion frames · N tokens (N = T / downsample) · S condition steps (S = T for every frame-aligned condition)
D motion columns · J joints · C feature channels · Q residual layers · K codebook size
Axis 1 is always time. A mask is bool; True means hidden. `valid` is bool; False means padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskmotion.shapes import Bool, Float, Int

SAMPLE_RATE = 16000  # Hz of every waveform inside the library; files of other rates are resampled at the edge
SEMANTIC_SCORE = 0.15
"""A frame carries meaning above this score: BEAT2 gives 0.1 to plain beats and 0.2 upwards to gestures with a meaning."""
NO_GESTURE = -1  # value of the label "gesture" where no planted gesture is shown

_Rows = TypeVar("_Rows", bound="Record")


@dataclass(frozen=True)
class Record:
    """A record of tensors whose first axis is the batch: `.to(device)` and `.rows(index)` work on all of them."""

    def _map(self: _Rows, function: Any) -> _Rows:
        def visit(value: Any) -> Any:
            if isinstance(value, Tensor):
                return function(value)
            if isinstance(value, Record):
                return value._map(function)
            if isinstance(value, Mapping):
                return {key: visit(item) for key, item in value.items()}
            return value

        return replace(self, **{f.name: visit(getattr(self, f.name)) for f in fields(self)})

    def to(self: _Rows, device: torch.device | str) -> _Rows:
        """The same record with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def rows(self: _Rows, index: Int[Tensor, " rows"]) -> _Rows:
        """The rows `index` of the batch, in that order."""
        return self._map(lambda tensor: tensor[index])

    def detach(self: _Rows) -> _Rows:
        """The same values outside the graph."""
        return self._map(lambda tensor: tensor.detach())


@dataclass(frozen=True)
class Batch(Record):
    """One window per row.

    `labels` are frame-aligned: "semantic" (float, BEAT2's score scale), "words" (int64, 0 where nobody speaks),
    on planted data also "gesture" (int64, -1 for none), "beat" and "distractor". An absent label is an absent key.
    `features` holds cached audio features by extractor key; `source` names clip and first frame of each row.
    In a training on several data sets, all rows are from data set number `data` (0: the main one); `known` says which
    columns it has (None: all), the others are at rest; `silent` that it has no speech: audio and features are zeros.
    """

    motion: Float[Tensor, "B T D"]
    valid: Bool[Tensor, "B T"]
    audio: Float[Tensor, "B samples"] | None = None
    speaker: Int[Tensor, " B"] | None = None
    text: tuple[str, ...] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    source: tuple[tuple[str, int], ...] = ()
    fps: int = 30
    known: Bool[Tensor, "B D"] | None = None
    silent: bool = False
    data: int = 0

    def rows(self, index: Int[Tensor, " rows"]) -> Batch:
        """The rows `index` of the batch, in that order."""
        picked = super().rows(index)
        order = index.tolist()
        return replace(
            picked,
            text=None if self.text is None else tuple(self.text[i] for i in order),
            source=tuple(self.source[i] for i in order) if self.source else (),
        )


@dataclass(frozen=True)
class Condition(Record):
    """What a conditioner says: features a generator can attend to, and which of their steps are real.

    `levels` are the "low" and "high" layers of a speech encoder; `parts` holds features of a part's own (EchoMask).
    """

    features: Float[Tensor, "B S C"]
    valid: Bool[Tensor, "B S"]
    levels: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantized(Record):
    """Latents after a quantizer.

    latents: sum of the layers, straight-through gradient. codes: Q = 0 when there is no codebook.
    loss: commitment, already weighted, []. perplexity: how many codes are in use, per layer.
    stats: further numbers per layer that are worth logging, by name ("error", "dead").
    """

    latents: Float[Tensor, "B N C"]
    codes: Int[Tensor, "B N Q"]
    loss: Float[Tensor, ""]
    perplexity: Float[Tensor, " Q"]
    stats: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction(Record):
    """What a masked network says about one window, by body part.

    logits [B, N, Q, K], latents [B, N, Q, C] (predicted codebook vectors), hidden [B, N, C] (features another stage may
    read), attention [B, S, T] (speech queries over motion frames; rows sum to 1), losses: auxiliary terms, each [].
    """

    logits: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Window(Record):
    """One generated window: motion, and the latents [B, N, C] per part that are decoded once over the whole clip."""

    motion: Float[Tensor, "B T D"]
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Word:
    """One word of a transcript; times in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """One recording, real, planted or generated.

    Args:
        motion: columns named by `BodyLayout`; rotations as row-6D, translation in metres, y up.
        audio: mono waveform at `SAMPLE_RATE`, or None.
        labels: frame-aligned [T], as in `Batch`.
        words: the transcript with times, or None when there is none (an empty tuple: a transcript without words).
        betas: SMPL-X body shape [300].
        extras: per-frame extras of a generated clip (attention, masks), for plots.
        kept: key of a motion file -> (values, bool mask), both [T, columns]: exact hints, which `save` writes as they are.
    """

    name: str
    motion: Float[Tensor, "T D"]
    audio: Float[Tensor, " samples"] | None = None
    fps: int = 30
    speaker: int = 0
    words: tuple[Word, ...] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    betas: Float[Tensor, " 300"] = field(default_factory=lambda: torch.zeros(300))
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    kept: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of motion frames T."""
        return int(self.motion.shape[0])

    def save(self, path: str | Path) -> Path:
        """Write a BEAT2 motion file that Blender's SMPL-X add-on opens; returns its path. Atomic."""
        from maskmotion.motion.files import save_motion

        return save_motion(path, self)
