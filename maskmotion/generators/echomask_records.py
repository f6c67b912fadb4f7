"""What EchoMask's network knows between its steps: of speech alone, and of motion before speech is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from maskmotion.generators.echomask_attention import Asked
from maskmotion.shapes import Bool, Float
from maskmotion.types import Record


@dataclass(frozen=True)
class Begun(Record):
    """What motion is read with: speech for the face, what its first layer knows and asks, and who moves."""

    valid: Bool[Tensor, "B T"]
    speech: Float[Tensor, "B T F"]
    steps: Float[Tensor, "B T C"]
    queries: Float[Tensor, "B T C"]
    speaker: Float[Tensor, "B T C"]


@dataclass(frozen=True)
class Kept(Record):
    """What tokens are made with: the speaker on the folded clock, by part keys and values for residual layers, and what
    `direct` adds to the part's tokens.
    """

    valid: Bool[Tensor, "B T"]
    speaker: Float[Tensor, "B M C"]
    memory: Mapping[str, Tensor]
    direct: Mapping[str, Tensor]


@dataclass(frozen=True)
class Heard(Record):
    """What speech and speaker alone decide: once for all passes of a step, and for many windows of a clip at once.

    speech: part -> aligned speech [B, T, features]. asked: None where nobody asks for hints. T is whole tokens.
    """

    speech: Mapping[str, Tensor]
    begun: Begun
    asked: Asked | None
    kept: Kept


@dataclass(frozen=True)
class Seen(Record):
    """What motion shows before speech is asked about it: face tokens, and the body's features."""

    face: Float[Tensor, "B N F"]
    body: Float[Tensor, "B T C"]
