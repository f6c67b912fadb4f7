"""The networks that EMAGE's releases ship (not the paper's, which is `Emage`): audio model of 2025, both of 2024."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskmotion.generators.emage_release_parts import FACE, ReleaseHead, ReleaseHearing, fit, released_losses
from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.passes import Pass
from maskmotion.interfaces import Conditioner, Generator, Masker
from maskmotion.nn.linear import Linear, Mlp
from maskmotion.nn.motion import MotionEncoder
from maskmotion.nn.post_norm import DecoderLayer, EncoderLayer
from maskmotion.nn.transformer import positions
from maskmotion.rng import Rng
from maskmotion.sampling.clip import Speech
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Batch, Condition, Prediction, Quantized, Window

ALL: tuple[Literal["codes", "latents", "face_codes"], ...] = ("codes", "face_codes", "latents")
RELEASE_PASSES = (
    Pass("seed", "seed", losses=ALL),
    Pass("audio", "masker", losses=ALL),
    Pass("mask", "masker", speech=False, losses=ALL),
)


class EmageRelease(MaskedGenerator):
    """Masked motion through convolutions to hints; face and body listen to speech, body parts look at each other.

    Face: four decoder layers from speaker and position over speech and hints. Body: hints, position and speaker through
    an encoder layer, eight decoder layers over speech, added; a part is refined by one decoder layer over the sum of the
    others. Roles follow from the conditioners' names: one that begins with `face_` or `body_` is heard there alone; one
    that ends in `speaker` or `words` is that, everything else is sound.

    The three releases differ, which the switches say; those of flaws are off by default. 2025 is `emage_audio` on the
    hub, 2024 the scripts' text and audio models.

    Args:
        dim: width. features: width of hints and sound. heads: of every attention. dropout: in transformer and positions.
        audio_layers, face_layers: decoder layers of body and face.
        slope: of the two-layer networks' rectifiers below zero (0.1 in 2025, 0.2 in 2024).
        cra: words and sound by content-rhythm attention, or added.
        speaker_in_query: the body asks speech with the speaker added once more (2025; 2024 means to and overwrites it).
        query_in_residual: what speech gives is added to the query, so that position and speaker leak on (2025).
        place_in_refinement: parts are refined with positions added (2024), or the speaker alone (2025).
        extra_sound: body sound longer than the motion is kept whole (2025 trims the face's twice and the body's never).
        snapped: parts decoded from the code nearest their latents and not from the likeliest class.
        windows: how clips are cut: "library" as every generator's, "release" as in `emage_release_clip`.
        latent: weight of the squared error of the latents, of each part. code: of the class losses.
        The others as in `MaskedGenerator`.
    """

    def __init__(
        self,
        body: BodyTokenizer,
        conditioners: Mapping[str, Conditioner],
        masker: Masker | None = None,
        seed_frames: int = 4,
        dim: int = 768,
        features: int = 256,
        heads: int = 4,
        audio_layers: int = 8,
        face_layers: int = 4,
        dropout: float = 0.1,
        slope: float = 0.1,
        cra: bool = True,
        speaker_in_query: bool = True,
        query_in_residual: bool = False,
        place_in_refinement: bool = True,
        extra_sound: bool = False,
        snapped: tuple[str, ...] = (),
        windows: Literal["library", "release"] = "library",
        passes: tuple[Pass, ...] = RELEASE_PASSES,
        code: float = 1.0,
        latent: float = 3.0,
        visible: float = 1.0,
    ) -> None:
        super().__init__(body, conditioners, masker, seed_frames, passes, code, latent, 0.0, visible)
        if FACE not in body.parts or len(body.parts) < 3:
            raise ValueError(f"this network has a face and two body parts or more, got {', '.join(body.parts)}")
        if windows == "release" and body.downsample != 1:
            raise ValueError(f'windows="release" needs tokenizers with one frame a token, got {body.downsample}')
        self.windows, self.snapped = windows, snapped
        self.rest_contacts = float(windows == "library")  # the release starts with no foot on the ground
        self.speaker_in_query, self.query_in_residual = speaker_in_query, query_in_residual
        self.place_in_refinement = place_in_refinement
        columns = body.layout.visible_input.stop
        self.mask_embedding = nn.Parameter(torch.randn(columns) * dim**-0.5)
        self.see = MotionEncoder(columns, features)
        self.hear = nn.ModuleDict(
            {
                FACE: ReleaseHearing(FACE, conditioners, dim, features, cra),
                "body": ReleaseHearing("body", conditioners, dim, features, cra, extra_sound),
            }
        )
        self.hints = nn.ModuleDict({one: Mlp(features, dim, features, slope) for one in (FACE, "body")})
        self.from_hints, self.from_sound = Linear(features, dim), Linear(features, dim)
        self.face_memory = Linear(2 * features, dim)
        self.dropout = nn.Dropout(dropout)
        self.gather = EncoderLayer(dim, heads, dropout)
        self.listen = nn.ModuleList(DecoderLayer(dim, heads, dropout) for _ in range(audio_layers))
        self.face = nn.ModuleList(DecoderLayer(dim, heads, dropout) for _ in range(face_layers))
        own = [part for part in body.parts if part != FACE]
        self.split = nn.ModuleDict({part: Mlp(dim, dim, dim, slope) for part in own})
        self.refine = nn.ModuleDict({part: DecoderLayer(dim, heads, dropout) for part in own})
        self.heads = nn.ModuleDict({part: ReleaseHead(dim, body, slope) for part in body.parts})
        self.dim = dim

    def predict(
        self,
        motion: Float[Tensor, "B T D"],
        hidden: Bool[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"],
        conditions: Mapping[str, Condition],
        *,
        speech: bool = True,
    ) -> Prediction:
        """Tokens of the window; T is padded to whole tokens. speech=False: the face still hears, the body does not."""
        short = -motion.shape[1] % self.body.downsample
        pad = nn.functional.pad
        motion, hidden, valid = pad(motion, (0, 0, 0, short)), pad(hidden, (0, 0, 0, short)), pad(valid, (0, short))
        some = None if bool(valid.all()) else valid
        hint = self.read(motion, hidden, some)
        found = {FACE: self.look_out(hint, conditions, valid.shape[1], some)}
        memory = self.remember(conditions, valid.shape[1]) if speech else None
        found |= self.move(hint, memory, self.speaker("body", conditions, valid.shape[1]), some)
        return self.say(found)

    def read(
        self, motion: Float[Tensor, "B T D"], hidden: Bool[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T C"]:
        """The hint [B, T, features] in what is not hidden of rotations, translation and contacts."""
        columns = self.body.layout.visible_input
        return self.see(torch.where(hidden[..., columns], self.mask_embedding, motion[..., columns]), valid)

    def speaker(self, branch: str, conditions: Mapping[str, Condition], frames: int) -> Tensor:
        """[B, T, dim] of the speaker, zeros where no conditioner names one."""
        hearing = self.hear[branch]
        assert isinstance(hearing, ReleaseHearing)
        who = hearing.speaker(conditions)
        return self.from_sound.bias.new_zeros(1, frames, self.dim) if who is None else fit(who, frames)

    def look_out(
        self,
        hint: Tensor,
        conditions: Mapping[str, Condition],
        frames: int,
        valid: Tensor | None,
        asked: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The face: asks with speaker and position what speech and hints say. asked: of `begin_face`."""
        sound, _ = self.hear[FACE](conditions, frames)
        memory = self.face_memory(torch.cat([sound, self.hints[FACE](hint)], dim=-1))
        x, query = self.begin_face(conditions, frames, len(hint), valid) if asked is None else asked
        for number, layer in enumerate(self.face):
            assert isinstance(layer, DecoderLayer)
            kept = layer.cross.remember(memory)
            x = layer.listen(x, query, kept, valid) if number == 0 else layer(x, kept, valid, valid)
        return x

    def begin_face(
        self, conditions: Mapping[str, Condition], frames: int, rows: int, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the face's first layer knows before it listens, and its queries: of speaker and position alone."""
        first = self.face[0]
        assert isinstance(first, DecoderLayer)
        x = first.look(self.at_place(self.speaker(FACE, conditions, frames)).expand(rows, -1, -1), valid)
        return x, first.cross.query(x)

    def remember(
        self, conditions: Mapping[str, Condition], frames: int
    ) -> tuple[list[Float[Tensor, "B S E"]], Bool[Tensor, "B S"] | None]:
        """Keys and values of what the body hears, one a layer, and which of them are real (None: all)."""
        sound, real = self.hear["body"](conditions, frames)
        crosses = [layer.cross for layer in self.listen.children() if isinstance(layer, DecoderLayer)]
        if not torch.is_grad_enabled() and sound.shape[0] * sound.shape[1] > 4 * self.dim:
            layers = [cross.remember_through(sound, self.from_sound) for cross in crosses]
        else:
            memory = self.from_sound(sound)
            layers = [cross.remember(memory) for cross in crosses]
        return layers, None if bool(real.all()) else real

    def move(
        self, hint: Tensor, memory: tuple[list[Tensor], Tensor | None] | None, who: Tensor, valid: Tensor | None
    ) -> dict[str, Tensor]:
        """The body's parts from the hint and from what speech left in memory, if the body may hear it."""
        asked = self.gather(self.at_place(self.from_hints(self.hints["body"](hint))) + who, valid)
        query = self.at_place(asked + who if self.speaker_in_query else asked)
        fused = query if self.query_in_residual else asked
        if memory is not None:
            x = query
            for layer, kept in zip(self.listen, memory[0], strict=True):
                x = layer(x, kept, valid, memory[1])
            fused = fused + x
        split = {part: mlp(fused) for part, mlp in self.split.items()}
        found = {}
        for part, layer in self.refine.items():
            assert isinstance(layer, DecoderLayer)
            others = sum(value for other, value in split.items() if other != part)
            assert isinstance(others, Tensor)
            x = split[part] + who
            x = layer(self.at_place(x) if self.place_in_refinement else x, layer.cross.remember(others), valid, valid)
            found[part] = split[part] + x
        return found

    def say(self, found: Mapping[str, Float[Tensor, "B T C"]]) -> Prediction:
        """Latents and class scores of features."""
        heads = {part: self.heads[part](x) for part, x in found.items()}
        logits = {part: heads[part][0] for part in self.body.parts}
        return Prediction(logits, {part: heads[part][1] for part in self.body.parts})

    def at_place(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """With positions from the start of the window."""
        return self.dropout(x + positions(x.shape[1], x.shape[2], x))

    def mask(self, one: Pass, batch: Batch, conditions: Mapping[str, Condition], rows: Tensor, progress: float,
             rng: torch.Generator, teacher: Generator | None) -> Bool[Tensor, "rows T D"]:  # fmt: skip
        """What a pass hides; all passes under the masker hide the same, as in the releases."""
        same = torch.Generator().manual_seed(rng.initial_seed())
        return super().mask(one, batch, conditions, rows, progress, same, teacher)

    def losses(
        self, batch: Batch, prediction: Prediction, targets: Mapping[str, Quantized], hidden: Bool[Tensor, "B T D"]
    ) -> dict[str, Tensor]:
        """Sums over parts: squared error of the latents and class loss, the face's under a name of its own."""
        return released_losses(prediction, targets, self._token_weights(hidden, batch.valid), self.weights)

    def choose(
        self,
        prediction: Prediction,
        temperature: float = 0.0,
        rng: Rng | None = None,
        decode: Literal["codes", "latents"] = "codes",
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """As in every generator, but for the parts that are snapped to the code nearest their latents."""
        latents = super().choose(prediction, temperature, rng, decode)
        for part in self.snapped if decode == "codes" else ():
            latents[part] = self.body[part].quantizer(prediction.latents[part].sum(dim=2)).latents
        return latents

    def generate_clip(
        self,
        speech: Speech,
        seed: Float[Tensor, "B seed D"],
        window: int,
        rng: Rng | None,
        on_window: Callable[[int, int], None],
        hints: tuple[Tensor, Tensor] | None,
        **sampling: Any,
    ) -> Window | None:
        """A whole clip as the release cuts it, or None: as the library does."""
        if self.windows == "library":
            return None
        from maskmotion.generators.emage_release_clip import released_clip

        return released_clip(self, speech, seed, window, rng, on_window, hints, **sampling)
