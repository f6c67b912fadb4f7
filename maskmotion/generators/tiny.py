"""Tiny: the small network that every masking strategy runs on, with speech-to-motion cross-attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.passes import GENERATION_AND_MASKER, Pass
from maskmotion.interfaces import Conditioner, Masker
from maskmotion.nn.convolution import Conv
from maskmotion.nn.transformer import Attention, Block, positions
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Condition, Prediction


class Tiny(MaskedGenerator):
    """A masked generator of about a million weights, to learn on a CPU in a minute whether an idea works.

    Speech [B, T] and masked motion [B, T] pass convolutions; speech steps query motion frames (the attention that
    speech-queried masking reads); all three are folded to tokens, pass a convolution and `layers` transformer layers,
    and one linear head a part gives code scores and code vectors. It is ours, a bench for ideas, and no paper's network.

    Args:
        dim: width. heads: of every attention. layers: transformer layers at the token rate. dropout: in all layers.
        The others as in `MaskedGenerator`.
    """

    token_heads = ("heads",)

    def __init__(
        self,
        body: BodyTokenizer,
        conditioners: Mapping[str, Conditioner],
        masker: Masker | None = None,
        seed_frames: int = 4,
        dim: int = 96,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.0,
        passes: tuple[Pass, ...] = GENERATION_AND_MASKER,
        code: float = 1.0,
        latent: float = 1.0,
        semantic: float = 0.0,
        visible: float = 0.1,
    ) -> None:
        super().__init__(body, conditioners, masker, seed_frames, passes, code, latent, semantic, visible)
        fold = body.downsample
        self.mask_embedding = nn.Parameter(torch.zeros(body.layout.dim))
        self.inputs = nn.ModuleDict({name: nn.Linear(one.dim, dim) for name, one in conditioners.items()})
        self.hear = nn.ModuleList(Conv(dim, dim, 5) for _ in range(2))
        self.motion_in, self.see = nn.Linear(body.layout.dim, dim), Conv(dim, dim, 5)
        self.norm_speech, self.norm_motion = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = Attention(dim, heads)
        self.to_tokens = nn.Linear(3 * fold * dim, dim)
        self.mix = Conv(dim, dim, 5)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm_out = nn.LayerNorm(dim)
        depth = max(1, body.num_layers)
        self.heads = nn.ModuleDict(
            {part: nn.Linear(dim, depth * (body.codebook_size + body.dim)) for part in body.parts}
        )

    def predict(
        self,
        motion: Float[Tensor, "B T D"],
        hidden: Bool[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"],
        conditions: Mapping[str, Condition],
        *,
        speech: bool = True,
    ) -> Prediction:
        """Tokens of the window; T is padded to whole tokens."""
        motion, hidden, valid = self._whole_tokens(motion, hidden, valid)
        heard = self._hear(conditions, valid) * float(speech)
        seen = self._see(motion, hidden, valid)
        gathered, attention = self._query(heard, seen, valid)
        fold = self.body.downsample
        every = torch.cat([heard, gathered, seen], dim=-1) * valid[..., None]  # [B, T, 3C]
        x = gelu(self.to_tokens(every.unflatten(1, (-1, fold)).flatten(2)))  # [B, N, C]
        real = valid.unflatten(1, (-1, fold)).any(-1)
        x = x + gelu(self.mix(x, real)) + positions(x.shape[1], x.shape[2], x)
        for layer in self.layers:
            x = layer(x, real)
        x = self.dropout(self.norm_out(x))
        logits, latents = {}, {}
        size = self.body.codebook_size
        for part in self.body.parts:
            out = self.heads[part](x).unflatten(-1, (-1, size + self.body.dim))  # [B, N, Q, K + C]
            logits[part], latents[part] = out[..., :size], out[..., size:]
        return Prediction(logits, latents, attention={"body": attention})

    def attend(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"], conditions: Mapping[str, Condition]
    ) -> Mapping[str, Tensor]:
        """{"body": [B, T, T]}: needs neither the token layers nor the heads."""
        frames = motion.shape[1]
        motion, hidden, valid = self._whole_tokens(motion, torch.zeros_like(motion, dtype=torch.bool), valid)
        heard, seen = self._hear(conditions, valid), self._see(motion, hidden, valid)
        _, attention = self._query(heard, seen, valid)
        return {"body": attention[:, :frames, :frames]}

    def _whole_tokens(self, motion: Tensor, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        short = -motion.shape[1] % self.body.downsample
        if short == 0:
            return motion, hidden, valid
        pad = nn.functional.pad
        return pad(motion, (0, 0, 0, short)), pad(hidden, (0, 0, 0, short)), pad(valid, (0, short))

    def _hear(self, conditions: Mapping[str, Condition], valid: Tensor) -> Tensor:
        """Conditions, summed on the motion's own clock: [B, T, C]."""
        x = torch.zeros((), device=valid.device)
        for name, condition in conditions.items():
            features = condition.features
            if features.shape[1] != valid.shape[1]:
                features = nn.functional.pad(features, (0, 0, 0, valid.shape[1] - features.shape[1]))
            x = x + self.inputs[name](features)
        for layer in self.hear:
            x = gelu(layer(x, valid))
        return x

    def _see(self, motion: Tensor, hidden: Tensor, valid: Tensor) -> Tensor:
        """Masked motion on the same clock: [B, T, C]."""
        x = self.motion_in(torch.where(hidden, self.mask_embedding, self.body.normalise(motion)))
        return x + gelu(self.see(x, valid))

    def _query(self, heard: Tensor, seen: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What speech gathers from motion [B, T, C], and its attention [B, T, T]."""
        place = positions(heard.shape[1], heard.shape[2], heard)
        return self.query.weigh(self.norm_speech(heard) + place, self.norm_motion(seen) + place, valid)
