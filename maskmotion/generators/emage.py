"""EMAGE: the masked audio-gesture transformer as the paper has it (Liu et al., CVPR 2024, arXiv:2401.00374)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.passes import Pass
from maskmotion.interfaces import Conditioner, Masker
from maskmotion.nn.content_rhythm import ContentRhythm
from maskmotion.nn.spatial import CrossDecoder, SpatialEncoder, TemporalAttention
from maskmotion.nn.transformer import positions
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Condition, Prediction

EMAGE_PASSES = (
    Pass("seed", "seed"),
    Pass("a2g", "masker"),
    Pass("mg2g", "masker", speech=False, losses=("latents",)),
)
WORDS, SPEAKER = "transcript", "speaker"


class Emage(MaskedGenerator):
    """Hints from masked gestures, audio merged into them, four parts decoded in the latent space (section 4.3 and 4.4).

    Body: h = TSA(SSAT(masked gestures) + p_t); audio path (A2G, eq. 9) TCAT(TCAT(h + p_t, f_body), gestures + p_t),
    masked-gesture path (MG2G, eq. 7) without the inner one: that is what a pass with speech=False leaves out. Face
    (eq. 10): TCAT of f_face and h over p_t. p_t is speaker and sinusoidal position. The condition named "transcript" is
    the content, "speaker" the speaker, all others together are the rhythm; without words f is the rhythm alone.

    Args:
        dim: width of the temporal network (512 in the paper). spatial: width of the joint tokens (256 there).
        heads: of every attention. audio_layers, face_layers, part_layers: decoder layers of the audio path, the face and
            each body part. The paper gives no numbers; the release has 8, 4 and 1.
        dropout: in every layer.
        cra: content-rhythm attention; False adds rhythm and content (Table 6).
        direct: ours, for small networks that learn for minutes, and off at the paper's scale: tokens also have the speech of
            their own frames, by one map a part. (The memory of eq. 9 bears no time, so that which frame was heard when has
            to be found out first.)
        latent_norm: of the latent losses: "l1" as in eq. 8, "l2" as in the release.
        The others as in `MaskedGenerator`; tokens count alike whether hidden or not (visible=1).
    """

    token_heads = ("to_latents", "to_codes")

    def __init__(
        self,
        body: BodyTokenizer,
        conditioners: Mapping[str, Conditioner],
        masker: Masker | None = None,
        seed_frames: int = 4,
        dim: int = 512,
        spatial: int = 256,
        heads: int = 4,
        audio_layers: int = 8,
        face_layers: int = 4,
        part_layers: int = 1,
        dropout: float = 0.1,
        cra: bool = True,
        direct: bool = False,
        passes: tuple[Pass, ...] = EMAGE_PASSES,
        code: float = 1.0,
        latent: float = 3.0,
        latent_norm: Literal["l1", "l2"] = "l1",
        semantic: float = 0.0,
        visible: float = 1.0,
    ) -> None:
        super().__init__(body, conditioners, masker, seed_frames, passes, code, latent, semantic, visible, latent_norm)
        rhythm = sum(one.dim for name, one in conditioners.items() if name not in (WORDS, SPEAKER))
        if not rhythm:
            raise ValueError(f"EMAGE needs a conditioner for the rhythm of speech, got only {', '.join(conditioners)}")
        content = conditioners[WORDS].dim if WORDS in conditioners else 0
        self.speaker = nn.Linear(conditioners[SPEAKER].dim, dim) if SPEAKER in conditioners else None
        self.hear = nn.ModuleDict({one: ContentRhythm(rhythm, content, dim, cra) for one in ("face", "body")})
        self.joints = SpatialEncoder(spatial, heads, dropout=dropout)
        self.widen = nn.Linear(spatial, dim)
        self.hints = TemporalAttention(dim, heads, dropout)
        self.listen = CrossDecoder(dim, heads, audio_layers, dropout)
        self.reread = CrossDecoder(dim, heads, 1, dropout)
        self.face_in, self.face = nn.Linear(2 * dim, dim), CrossDecoder(dim, heads, face_layers, dropout)
        self.split = nn.ModuleDict({part: _mlp(dim, dim, dim) for part in body.parts if part != "face"})
        self.refine = nn.ModuleDict({part: CrossDecoder(dim, heads, part_layers, dropout) for part in self.split})
        self.fold = nn.ModuleDict({part: nn.Linear(body.downsample * dim, dim) for part in body.parts})
        self.direct = nn.ModuleDict(
            {part: nn.Linear(body.downsample * dim, dim) for part in (body.parts if direct else ())}
        )
        depth = max(1, body.num_layers)
        self.to_latents = nn.ModuleDict({part: nn.Linear(dim, depth * body.dim) for part in body.parts})
        self.to_codes = nn.ModuleDict({part: _mlp(dim, dim, depth * body.codebook_size) for part in body.parts})

    def predict(
        self,
        motion: Float[Tensor, "B T D"],
        hidden: Bool[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"],
        conditions: Mapping[str, Condition],
        *,
        speech: bool = True,
    ) -> Prediction:
        """Tokens of the window; T is padded to whole tokens. speech: False is the masked-gesture path of the body."""
        short = -motion.shape[1] % self.body.downsample
        motion, hidden, valid = (_lengthen(x, short) for x in (motion, hidden, valid))
        heard, place = self._hear(conditions, valid), self._place(conditions, valid)
        seen = self.widen(self.joints(self.body.normalise(motion), hidden))
        hints = self.hints(seen + place, valid)
        features = self._body(hints, seen, place, heard["body"] if speech else None, valid)
        if "face" in self.body.parts:
            query = self.face_in(torch.cat([heard["face"], hints], dim=-1))
            features["face"] = self.face(query, place, valid)
        logits, latents = {}, {}
        fold, size = self.body.downsample, self.body.codebook_size

        def tokens(frames: Tensor) -> Tensor:
            return (frames * valid[..., None]).unflatten(1, (-1, fold)).flatten(2)

        for part in self.body.parts:
            x = F.relu(self.fold[part](tokens(features[part])))
            if part in self.direct and (speech or part == "face"):
                x = x + self.direct[part](tokens(heard["face" if part == "face" else "body"]))
            latents[part] = self.to_latents[part](x).unflatten(-1, (-1, self.body.dim))  # [B, N, Q, C]
            logits[part] = self.to_codes[part](x).unflatten(-1, (-1, size)) if size else x[..., None, :0]
        return Prediction(logits, latents, hidden={"hints": hints})

    def _body(
        self, hints: Tensor, seen: Tensor, place: Tensor, heard: Tensor | None, valid: Tensor
    ) -> dict[str, Tensor]:
        """Features of the body's parts: audio selected by the hints, the gestures once more, parts that see each other."""
        x = hints + place
        if heard is not None:
            x = self.listen(x, heard, valid)
        x = self.reread(x, seen + place, valid)
        split = {part: layer(x) for part, layer in self.split.items()}
        others = torch.stack(list(split.values())).sum(0)
        if len(split) == 1:
            return {part: own + self.refine[part](own + place, x, valid) for part, own in split.items()}
        return {part: own + self.refine[part](own + place, others - own, valid) for part, own in split.items()}

    def _hear(self, conditions: Mapping[str, Condition], valid: Tensor) -> dict[str, Tensor]:
        def features(name: str) -> Tensor:
            return _lengthen(conditions[name].features, valid.shape[1] - conditions[name].features.shape[1])

        rhythm = torch.cat([features(name) for name in conditions if name not in (WORDS, SPEAKER)], dim=-1)
        content = features(WORDS) if WORDS in conditions else None
        return {one: block(rhythm, content, valid) for one, block in self.hear.items()}

    def _place(self, conditions: Mapping[str, Condition], valid: Tensor) -> Tensor:
        """p_t: sinusoidal position and, where a speaker is named, its embedding."""
        place = positions(valid.shape[1], self.widen.out_features, self.widen.weight).expand(len(valid), -1, -1)
        if self.speaker is None:
            return place
        who = conditions[SPEAKER].features
        return place + self.speaker(_lengthen(who, valid.shape[1] - who.shape[1]))


def _mlp(dim: int, width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, width), nn.LeakyReLU(0.2), nn.Linear(width, out))


def _lengthen(x: Tensor, short: int) -> Tensor:
    """Padding frames at the end: zeros, or False."""
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, short)) if short else x
