"""The four interfaces: Quantizer, Masker, Conditioner, Generator. This is the page that a plug-in author reads.

A quantizer writes `forward` and `embed`; a masker `scores`; a conditioner `forward`; a generator `forward` and `generate`.
Constructors use spelled-out keyword parameters with defaults: their signature is the recipe's schema. The parameters
named in a class's `given` come from the library when it builds a recipe, never from the recipe itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from maskmotion.rng import Rng
from maskmotion.schedules import Schedule, value_at
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import Batch, Condition, Quantized, Window

if TYPE_CHECKING:
    from maskmotion.tokenizers.body import BodyTokenizer


class Quantizer(nn.Module, ABC):
    """Continuous latents to discrete codes and back."""

    given: ClassVar[frozenset[str]] = frozenset({"dim"})

    dim: int  # C
    codebook_size: int  # K
    num_layers: int  # Q; 1 for plain VQ, 0 for none
    straight_through: bool = True
    """The output's gradient by the latents is one; False: the quantizer has projections or a rotation trick of its own."""

    @abstractmethod
    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """[B, N, C] -> codes, and latents that carry a straight-through gradient."""

    @abstractmethod
    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, Q] -> [B, N, Q, C], one codebook vector per layer (code -1: zero); sum over Q to decode."""


class MaskContext:
    """What a masker may look at. The teacher runs only if it is asked for, and without gradient.

    Attributes:
        batch: the windows whose frames are to be hidden.
        conditions: name -> Condition, detached from the graph.
        progress: 0 at the first step, 1 at the last.
        rng: source of every random choice of the masker.
    """

    def __init__(
        self,
        batch: Batch,
        conditions: Mapping[str, Condition],
        progress: float = 0.0,
        rng: torch.Generator | None = None,
        teacher: Generator | None = None,
    ) -> None:
        self.batch = batch
        self.conditions = conditions
        self.progress = progress
        self.rng = rng if rng is not None else torch.Generator().manual_seed(0)
        self.teacher = teacher

    def _ask(self, what: str) -> Any:
        answer = getattr(self.teacher, f"teacher_{what}", None)
        if answer is None:
            raise ValueError(
                f"this masker reads context.{what}, which {type(self.teacher).__name__} cannot give; "
                f"use a generator with a method teacher_{what}, or a masker that scores without it"
            )
        return answer

    @cached_property
    def attention(self) -> Mapping[str, Tensor]:
        """Part -> [B, S, T]: the teacher's speech-to-motion attention on the unmasked window; rows sum to 1."""
        with torch.no_grad():
            return self._ask("attention")(self.batch)

    @cached_property
    def token_loss(self) -> Float[Tensor, "B T"]:
        """[B, T]: the teacher's class loss with everything but the seed frames hidden.

        On the unmasked window it would be tokenizer noise: a straw man of loss-based masking.
        """
        with torch.no_grad():
            return self._ask("token_loss")(self.batch)


class Masker(nn.Module, ABC):
    """Chooses the frames to hide. Subclasses only say how much each frame deserves it.

    Args:
        ratio: share of the row's valid frames that are hidden.
        hard: share taken strictly from the top of the scores.
        soft: share drawn without replacement from the frames not taken yet, in proportion to score - min(score).
            The rest (ratio - hard - soft) is uniformly random; 0 <= hard + soft <= ratio <= 1 (EchoMask, eq. 7).
            A masker that states neither hides its top `ratio`: hard is `ratio` unless you say otherwise.

    Each may be a schedule over training, e.g. `Linear(0.3, 0.0)`.
    """

    given: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, ratio: Schedule = 0.4, hard: Schedule | None = None, soft: Schedule = 0.0) -> None:
        super().__init__()
        self.ratio, self.hard, self.soft = ratio, hard, soft

    @abstractmethod
    def scores(self, context: MaskContext) -> Float[Tensor, "*score"]:
        """Any real numbers [B, T], larger = hide first ([B, T, J] to hide joints within frames)."""

    def forward(self, context: MaskContext) -> Bool[Tensor, "*mask"]:
        """Bool, True = hidden: [B, T], [B, T, J] or [B, T, D], the shape of the scores."""
        from maskmotion.strategies.selection import select

        ratio, soft = value_at(self.ratio, context.progress), value_at(self.soft, context.progress)
        hard = ratio - soft if self.hard is None else value_at(self.hard, context.progress)
        return select(self.scores(context).detach(), context.batch.valid, ratio, hard, soft, context.rng)


class Extractor(ABC):
    """A frozen feature of a whole waveform, computed once a recording and cached on disk under `key` and the file."""

    key: str
    """Names the features in `Batch.features` and in the cache; says every parameter that changes a value."""
    dim: int

    @abstractmethod
    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """Mono waveform at 16 kHz -> one feature vector for each of `frames` motion frames.

        Frame t covers the samples around t / fps seconds; what lies outside the waveform counts as silence.
        """

    def read(self, batch: Batch) -> Float[Tensor, "B T C"]:
        """The batch's cached features, or the features of its waveforms. ValueError when it has neither."""
        if self.key in batch.features:
            return batch.features[self.key]
        if batch.audio is None:
            raise ValueError(f"no audio in the batch: need batch.audio or batch.features[{self.key!r}]")
        frames = batch.valid.shape[1]
        rows = [self(row.cpu(), frames, batch.fps) for row in batch.audio]
        return torch.stack(rows).to(batch.motion)


class Conditioner(nn.Module, ABC):
    """Turns signals of the batch into features a generator can attend to. May hold other conditioners (nested Specs)."""

    given: ClassVar[frozenset[str]] = frozenset()

    dim: int  # C
    extractors: tuple[Extractor, ...] = ()
    """Audio features this conditioner reads; the data set computes them once a recording."""
    reads_audio: bool = False
    """True for a conditioner that learns from the waveform itself: batches then carry `audio`."""
    levels: tuple[str, ...] = ()
    """Names in `Condition.levels`; alignment with motion listens to "low" and "high"."""

    @abstractmethod
    def forward(self, batch: Batch) -> Condition:
        """Features of the batch. They must not change with what stands in padded frames."""

    def losses(self, batch: Batch, condition: Condition, motion: Mapping[str, Quantized]) -> dict[str, Tensor]:
        """Training only; the generator calls it once per step inside its own forward (EchoMask's alignment)."""
        return {}

    def absent(self, batch: Batch) -> Condition:
        """The 'no signal' condition, for dropout and classifier-free guidance. Zeros unless overridden."""
        condition = self(batch)
        return condition._map(lambda t: t if t.dtype == torch.bool else torch.zeros_like(t))


class Generator(nn.Module, ABC):
    """Learns motion from conditions. `forward` is the training loss, so any data-parallel wrapper works.

    Args:
        body: the trained tokenizers; held frozen.
        conditioners: name -> Conditioner.
        masker: None for methods that train without masks.
    """

    given: ClassVar[frozenset[str]] = frozenset({"body", "conditioners", "masker"})
    stages: ClassVar[tuple[str, ...]] = ("generator",)  # SemTalk: base, sparse; AsynFusion: teacher, distil
    token_heads: ClassVar[tuple[str, ...]] = ()
    """Attributes that hold a module a part whose output means the tokens of `body` (nn.ModuleDict). With them named, the
    generator can learn from several data sets: each has its own tokenizers and its own copy of these."""

    def __init__(
        self, body: BodyTokenizer, conditioners: Mapping[str, Conditioner], masker: Masker | None = None
    ) -> None:
        super().__init__()
        self.body = body.requires_grad_(False)
        self.conditioners = nn.ModuleDict(dict(conditioners))
        self.masker = masker

    def train(self, mode: bool = True) -> Generator:
        """Training mode for everything but the tokenizers: their codebooks must not move under a generator."""
        super().train(mode)
        self.body.eval()
        return self

    def condition(self, batch: Batch) -> dict[str, Condition]:
        """Every conditioner's view of the batch, by name."""
        return {name: conditioner(batch) for name, conditioner in self.conditioners.items()}

    @abstractmethod
    def forward(self, batch: Batch, *, teacher: Generator, progress: float, stage: str) -> dict[str, Tensor]:
        """Named, already weighted scalar losses; their sum is minimised."""

    @abstractmethod
    def generate(self, batch: Batch, hidden: Bool[Tensor, "B T D"], rng: Rng | None = None, **sampling: Any) -> Window:
        """One window. batch.motion holds what is known, hidden says what to fill: seed frames and hints are one concept.

        `sampling` is spelled out per generator (temperature, steps) and checked like a constructor. rng: one stream a row,
        so that no result depends on its batch mates; None: the most likely motion, without chance.
        """

    def trainable(self, stage: str) -> list[nn.Module]:
        """The modules that learn in this stage; the tokenizers never do."""
        return [self]
