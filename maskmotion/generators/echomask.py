"""EchoMask: speech-queried attention mask modelling (Zhang et al., ACM MM 2025), network and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskmotion.generators.echomask_attention import Asked, Fusion, SpeechQueriedAttention
from maskmotion.generators.echomask_parts import (
    FACE,
    OWN,
    SLOPE,
    BodyBranch,
    Exchange,
    FaceBranch,
    Place,
    halvings,
    some,
)
from maskmotion.generators.echomask_passes import shared_predictions
from maskmotion.generators.echomask_records import Begun, Heard, Kept, Seen
from maskmotion.generators.echomask_residual import ResidualHead, released_losses
from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.passes import GENERATION_AND_MASKER, Pass
from maskmotion.interfaces import Conditioner, Masker
from maskmotion.losses import info_nce
from maskmotion.nn.alignment import token_means
from maskmotion.nn.convolution import LeakyResidual
from maskmotion.nn.linear import Linear, Mlp
from maskmotion.nn.motion import MotionEncoder
from maskmotion.nn.post_norm import DecoderLayer, EncoderLayer
from maskmotion.rng import Rng
from maskmotion.sampling.clip import Speech
from maskmotion.shapes import Bool, Float, Int
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Batch, Condition, Prediction, Quantized, Window

SPEAKER = "speaker"


class EchoMask(MaskedGenerator):
    """Masked motion and aligned speech to the codes of four parts, by an attention that speech asks (section 3.4).

    Motion, hidden frames replaced by a learned vector, passes convolutions; a decoder listens to speech and to it for the
    face, an encoder layer reads it for the body. Aligned speech queries the body's features in one decoder for all
    attended parts: what it gathers, the hints, is added to them, and where it looks, `attend`, is what masks are chosen by
    and L_sem teaches. Upper body, hands and lower body are refined by each other, folded to tokens, all four exchange what
    they know, and every layer of codes is predicted from those before it and from speech.

    "speaker" (or "face_speaker" and "body_speaker") names the speaker; every other condition is speech. Where it has
    features of each part (`aligned` with by_part) a part hears its own. With speech=False the body has no hints; face and
    residual layers hear all the same, as in the release.

    Defaults follow the paper, its sizes the release; `echomask-release` says what that changes.

    Args:
        dim: width of the transformers. features: of motion features, speech and tokens; speech of another width is mapped.
        heads: of every attention but the residual layers'. layers, feed: of the speech-queried attention.
        attended: parts whose speech queries motion (the release lacks the face).
        fusion: "sum": all count alike in scores and hints; "learned": each by a weight that learns, as in the release.
        face_layers: of the face's decoder. residual_layers, residual_heads, residual_feed: of each residual layer's.
        dropout: after positions and in every layer.
        normalise: motion is centred and scaled before it is read; False: read as it is, as in the release.
        pre_norm, speech_layers, direct: ours, for small networks that learn for minutes, and off at the paper's scale: layers
            normalise what they read instead of what they give; so many residual convolutions over speech; tokens also
            have the speech of their own frames, by one map a part, so that time need not be learned first.
        contrast: weight of two contrasts that the release has: tokens of face and hands with their speech, within a clip;
            in the passes with mask="seed".
        sums: "paper": as in `MaskedGenerator`. "release": sums over parts and layers, class losses by 1 / (q + 1), the
            squared error of each layer's latents as it is.
        windows: how clips are cut: "library" over every frame, "release" as in `echomask_clip.released_plan`, where seeds
            have jaw and eyes at rest and every window's path begins where the clip's does.
        The others as in `MaskedGenerator`.
    """

    token_heads = ("heads",)

    def __init__(
        self,
        body: BodyTokenizer,
        conditioners: Mapping[str, Conditioner],
        masker: Masker | None = None,
        seed_frames: int = 4,
        dim: int = 768,
        features: int = 256,
        heads: int = 4,
        layers: int = 8,
        feed: int = 2048,
        attended: tuple[str, ...] = ("face", "hands", "upper", "lower"),
        fusion: Fusion = "sum",
        face_layers: int = 4,
        residual_layers: int = 3,
        residual_heads: int = 8,
        residual_feed: int = 1024,
        dropout: float = 0.1,
        normalise: bool = False,
        pre_norm: bool = False,
        speech_layers: int = 0,
        direct: bool = False,
        passes: tuple[Pass, ...] = GENERATION_AND_MASKER,
        code: float = 1.0,
        latent: float = 1.0,
        semantic: float = 1.0,
        contrast: float = 0.0,
        visible: float = 0.1,
        latent_norm: Literal["l1", "l2"] = "l2",
        sums: Literal["paper", "release"] = "paper",
        windows: Literal["library", "release"] = "library",
    ) -> None:
        super().__init__(body, conditioners, masker, seed_frames, passes, code, latent, semantic, visible, latent_norm)
        _check(body, conditioners, attended, passes, contrast)
        if windows == "release" and seed_frames % body.downsample:
            raise ValueError(
                f'windows="release" needs seed frames that are whole tokens, got {seed_frames} and {body.downsample} frames '
                "a token"
            )
        self.dim, self.normalise, self.contrast, self.sums, self.windows = dim, normalise, contrast, sums, windows
        self.who = {branch: _speaker(branch, conditioners) for branch in (FACE, "body")}
        self.sounds = tuple(name for name in conditioners if not name.endswith(SPEAKER))
        common, own = halvings(body.downsample)
        columns = body.layout.visible_input.stop
        self.mask_embedding = nn.Parameter(torch.randn(columns) * dim**-0.5)
        self.see_motion = MotionEncoder(columns, features)
        self.hear_speech = _project(sum(conditioners[name].dim for name in self.sounds), features)
        self.smooth = nn.ModuleList(LeakyResidual(features, SLOPE) for _ in range(speech_layers))
        self.know_speaker = nn.ModuleDict(
            {branch: _project(conditioners[name].dim, dim) for branch, name in self.who.items() if name}
        )
        self.direct = nn.ModuleDict(
            {part: Linear(body.downsample * features, features) for part in (body.parts if direct else ())}
        )
        layer = partial(DecoderLayer, heads=heads, dropout=dropout, before=pre_norm)
        residual = partial(layer, heads=residual_heads, feed=residual_feed)
        self.face = FaceBranch(dim, features, face_layers, layer, (common, own), dropout)
        self.hint, self.enter = Mlp(features, dim, features, SLOPE), Linear(features, dim)
        self.place, self.gather = Place(dropout), EncoderLayer(dim, heads, dropout, before=pre_norm)
        self.ask = SpeechQueriedAttention(attended, features, dim, layers, feed, layer, fusion)
        self.move = BodyBranch(dim, features, layer, (common, own), dropout)
        self.exchange = Exchange(features, layer)
        depth, codes = max(1, body.num_layers), body.codebook_size
        self.heads = nn.ModuleDict(
            {
                part: ResidualHead(dim, features, body.dim, depth, codes, residual_layers, residual)
                for part in body.parts
            }
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
        """Tokens of the window; T is padded to whole tokens. speech=False: the body has no hints."""
        return self.fill(motion, hidden, self.hear(conditions, valid, ask=speech))

    def fill(self, motion: Float[Tensor, "B S D"], hidden: Bool[Tensor, "B S D"], heard: Heard) -> Prediction:
        """As `predict`, of what has been heard already; the body has hints where questions were asked."""
        seen = self.see(motion, hidden, heard.begun)
        if heard.asked is not None:
            seen = Seen(seen.face, seen.body + self.hints(seen.body, heard.asked))
        return self.say(seen, heard.kept)

    def hear(self, conditions: Mapping[str, Condition], valid: Bool[Tensor, "B T"], ask: bool = True) -> Heard:
        """Everything that needs no motion; `.rows` of it gives that of single windows."""
        speech, valid = self._speech(conditions, valid), self._whole(valid)
        speaker = self._speaker("body", conditions, valid)
        steps, queries = self.face.begin(self._speaker(FACE, conditions, valid), valid)
        kept = {part: self._head(part).remember(speech[part]) for part in self.body.parts}
        return Heard(
            speech=speech,
            begun=Begun(valid, speech[FACE], steps, queries, speaker),
            asked=self.ask.ask(speech, valid) if ask else None,
            kept=Kept(
                valid,
                self.move.speaker(speaker, valid),
                {part: memory for part, memory in kept.items() if memory is not None},
                {part: self._direct(part, speech[part], valid) for part in self.direct},
            ),
        )

    def see(self, motion: Float[Tensor, "B S D"], hidden: Bool[Tensor, "B S D"], begun: Begun) -> Seen:
        """Face tokens and body features of masked motion: all that hints do not change."""
        features = self._read(motion, hidden, begun.valid)
        face = self.face(features, begun.speech, (begun.steps, begun.queries), begun.valid)
        return Seen(face, self._gather(features, begun.valid, begun.speaker))

    def hints(self, body: Float[Tensor, "B T C"], asked: Asked) -> Float[Tensor, "B T C"]:
        """What speech gathers from the body's features; to be added to them."""
        return self.ask(self.place(body), asked)

    def say(self, seen: Seen, kept: Kept) -> Prediction:
        """Codes and latents; `hidden` of the prediction has the tokens that the parts exchange."""
        tokens = {FACE: seen.face} | self.move(seen.body, kept.speaker, kept.valid)
        tokens = {part: x + kept.direct[part] if part in kept.direct else x for part, x in tokens.items()}
        real = self.body.token_mask(kept.valid)
        told = self.exchange(tokens, real)
        logits, latents = {}, {}
        for part in self.body.parts:
            logits[part], latents[part] = self._head(part)(told[part], kept.memory.get(part), real, kept.valid)
        return Prediction(logits, latents, hidden=tokens)

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
        """A whole clip, its speech heard at once; None, as the library does it, where seeds are no whole tokens."""
        from maskmotion.generators.echomask_clip import echomask_clip

        if seed.shape[1] % self.body.downsample:
            return None
        return echomask_clip(self, speech, seed, window, rng, on_window, hints, **sampling)

    def attend(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"], conditions: Mapping[str, Condition]
    ) -> Mapping[str, Tensor]:
        """Attended part -> [B, T, T]: needs neither face nor parts nor heads, nor the end of the last layer."""
        speech, valid = self._speech(conditions, valid), self._whole(valid)
        return self._attend(motion, self._speaker("body", conditions, valid), self.ask.ask(speech, valid))

    def predict_passes(
        self,
        passes: Sequence[Pass],
        batch: Batch,
        conditions: Mapping[str, Condition],
        rows: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        unmasked: Tensor | None = None,
    ) -> tuple[dict[str, Prediction], Mapping[str, Tensor]]:
        """As in every masked generator, and nothing twice: `shared_predictions`, and L_sem asks what the passes ask."""
        heard = self.hear(conditions, batch.valid, ask=unmasked is not None or any(one.speech for one in passes))
        predictions = shared_predictions(self, passes, batch, heard, rows, masks)
        for one in passes if self.contrast else ():
            if one.mask == "seed":
                terms = self.contrasts(predictions[one.name], heard, rows[one.name])
                weighted = {name: self.contrast * term for name, term in terms.items()}
                predictions[one.name] = replace(predictions[one.name], losses=weighted)
        if unmasked is None or heard.asked is None:
            return predictions, {}
        speaker, asked = heard.begun.speaker[unmasked], heard.asked.rows(unmasked)
        return predictions, self._attend(batch.motion[unmasked], speaker, asked)

    def contrasts(self, prediction: Prediction, heard: Heard, rows: Int[Tensor, " rows"]) -> dict[str, Tensor]:
        """Tokens of face and hands against the mean speech of their frames, told from their own clip's other tokens."""
        terms, valid = {}, heard.kept.valid[rows]
        for part in (FACE, "hands"):
            spoken = token_means(heard.speech[part][rows], valid, self.body.downsample)
            terms[f"{part}_contrast"] = info_nce(spoken, prediction.hidden[part], self.body.token_mask(valid))
        return terms

    def losses(
        self, batch: Batch, prediction: Prediction, targets: Mapping[str, Quantized], hidden: Bool[Tensor, "B T D"]
    ) -> dict[str, Tensor]:
        """Class and latent loss of one pass, summed up as `sums` says."""
        if self.sums == "paper":
            return super().losses(batch, prediction, targets, hidden)
        codes = {part: target.codes for part, target in targets.items()}
        vectors = {
            part: self.body[part].quantizer.embed(target.codes)
            if target.codes.shape[-1]
            else target.latents[:, :, None]
            for part, target in targets.items()
        }
        found = released_losses(prediction, codes, vectors, self._token_weights(hidden, batch.valid))
        return {name: self.weights[name] * value for name, value in found.items() if self.weights[name]}

    def _direct(self, part: str, speech: Tensor, valid: Tensor) -> Tensor:
        """A part's speech, token by token."""
        frames = (speech * valid[..., None]).unflatten(1, (-1, self.body.downsample))
        return self.direct[part](frames.flatten(2))

    def _attend(self, motion: Tensor, speaker: Tensor, asked: Asked) -> dict[str, Tensor]:
        """Attention of `asked` on motion of which nothing is hidden."""
        frames = motion.shape[1]
        features = self._read(motion, torch.zeros_like(motion, dtype=torch.bool), asked.valid)
        body = self._gather(features, asked.valid, speaker)
        maps = self.ask.attend(self.place(body), asked)
        return {part: one[:, :frames, :frames] for part, one in maps.items()}

    def _read(self, motion: Tensor, hidden: Tensor, valid: Tensor) -> Tensor:
        """Masked motion through the convolutions, [B, T, features], at whole tokens."""
        columns = self.body.layout.visible_input
        seen = (self.body.normalise(motion) if self.normalise else motion)[..., columns]
        x = torch.where(hidden[..., columns], self.mask_embedding, seen)
        return self.see_motion(self._whole(x), some(valid))

    def _gather(self, features: Tensor, valid: Tensor, speaker: Tensor) -> Tensor:
        """The body's features [B, T, dim] of motion features and speaker."""
        x = self.place(self.enter(self.hint(features)) + speaker)
        return self.gather(x, some(valid))

    def _speech(self, conditions: Mapping[str, Condition], valid: Tensor) -> dict[str, Tensor]:
        """Part -> speech [B, T, features] at whole tokens; all the same where no condition tells parts apart."""
        heard = [conditions[name] for name in self.sounds]

        def of(part: str) -> Tensor:
            x = torch.cat([one.parts.get(part, one.features) for one in heard], dim=-1)
            x = self.hear_speech(self._whole(x))
            for layer in self.smooth:
                x = layer(x, some(self._whole(valid)))
            return x

        if any(one.parts for one in heard):
            return {part: of(part) for part in (FACE, *OWN)}
        return dict.fromkeys((FACE, *OWN), of(FACE))

    def _speaker(self, branch: str, conditions: Mapping[str, Condition], valid: Tensor) -> Tensor:
        """[B, T, dim] of who speaks, zeros where nobody is named."""
        name = self.who[branch]
        if name is None:
            return self.enter.bias.new_zeros(*valid.shape, self.dim)
        return self.know_speaker[branch](self._whole(conditions[name].features))

    def _whole(self, x: Tensor) -> Tensor:
        """With padding frames up to whole tokens: zeros, or False."""
        short = -x.shape[1] % self.body.downsample
        return nn.functional.pad(x, (0, 0) * (x.ndim - 2) + (0, short)) if short else x

    def _head(self, part: str) -> ResidualHead:
        head = self.heads[part]
        assert isinstance(head, ResidualHead)
        return head


def _project(width: int, dim: int) -> nn.Module:
    return Linear(width, dim) if width != dim else nn.Identity()


def _speaker(branch: str, conditioners: Mapping[str, Conditioner]) -> str | None:
    return next((name for name in (f"{branch}_{SPEAKER}", SPEAKER) if name in conditioners), None)


def _check(
    body: BodyTokenizer,
    conditioners: Mapping[str, Conditioner],
    attended: tuple[str, ...],
    passes: tuple[Pass, ...],
    contrast: float,
) -> None:
    """ValueError for what this network cannot be built of."""
    if set(body.parts) != {FACE, *OWN}:
        raise ValueError(
            f"this network has the parts {', '.join((FACE, *OWN))}, got {', '.join(body.parts)}; "
            'use body.parts="four", or the generator "tiny"'
        )
    if not attended or len(set(attended)) < len(attended) or not set(attended) <= {FACE, *OWN}:
        raise ValueError(f"attended names parts of the body, each once: {', '.join((FACE, *OWN))}; got {attended}")
    if all(name.endswith(SPEAKER) for name in conditioners):
        raise ValueError(f"EchoMask needs a condition of speech, got {', '.join(conditioners) or 'none'}")
    if contrast and all(one.mask != "seed" for one in passes):
        raise ValueError(
            'contrast is learned in passes with mask="seed", and there is none: add one, or let contrast=0'
        )
