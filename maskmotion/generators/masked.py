"""MaskedGenerator: passes, losses and one-window generation; a network writes `predict` only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from maskmotion.generators.passes import (
    GENERATION_AND_MASKER,
    Pass,
    check_passes,
    check_sampling,
    choose,
    divide,
    prediction_parts,
    token_errors,
    token_rows,
    without_speech,
)
from maskmotion.interfaces import Conditioner, Generator, MaskContext, Masker
from maskmotion.losses import semantic_loss, weighted_mean
from maskmotion.rng import Rng
from maskmotion.shapes import Bool, Float
from maskmotion.strategies import attention_scores
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Batch, Condition, Prediction, Quantized, Window


class MaskedGenerator(Generator):
    """What masked motion models share; a new network writes `predict`.

    Args:
        body, conditioners, masker, seed_frames: given by the library.
        passes: masked predictions of a step; without a masker only "seed" passes are possible.
        code: weight of the class loss, per part and layer (layer q by 1 / (q + 1)).
        latent: weight of the error of the predicted code vectors, in units of the latents' spread.
        semantic: weight of L_sem, where the batch has semantic labels (EchoMask, section 3.4); 0 switches it off.
        visible: weight of tokens nothing of which is hidden, beside 1 for fully hidden ones. (The releases weigh all
            tokens alike: visible=1.)
        latent_norm: of that error, "l2" (squared, over the variance) or "l1" (absolute, over the standard deviation).
    """

    given: ClassVar[frozenset[str]] = Generator.given | {"seed_frames"}

    def __init__(
        self,
        body: BodyTokenizer,
        conditioners: Mapping[str, Conditioner],
        masker: Masker | None = None,
        seed_frames: int = 4,
        passes: tuple[Pass, ...] = GENERATION_AND_MASKER,
        code: float = 1.0,
        latent: float = 1.0,
        semantic: float = 0.0,
        visible: float = 0.1,
        latent_norm: Literal["l1", "l2"] = "l2",
    ) -> None:
        super().__init__(body, conditioners, masker)
        check_passes(passes, masker is not None)
        self.seed_frames, self.passes = seed_frames, passes
        self.weights = {"codes": code, "latents": latent}
        self.semantic, self.visible, self.latent_norm = semantic, visible, latent_norm
        # frame scores are positive and average 1; the affine map reads their logarithm as a log-odds of meaning
        self.semantic_affine = nn.Parameter(torch.tensor([1.0, -1.5]))

    @abstractmethod
    def predict(
        self,
        motion: Float[Tensor, "B T D"],
        hidden: Bool[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"],
        conditions: Mapping[str, Condition],
        *,
        speech: bool = True,
    ) -> Prediction:
        """Tokens of the whole window from what is not hidden; values of `motion` under `hidden` must have no effect."""

    def attend(
        self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"], conditions: Mapping[str, Condition]
    ) -> Mapping[str, Tensor]:
        """Part -> [B, S, T] attention on the unmasked window. Override when it needs less than `predict`."""
        attention = self.predict(motion, torch.zeros_like(motion, dtype=torch.bool), valid, conditions).attention
        if not attention:
            raise ValueError(
                f"{type(self).__name__} predicts no attention, so neither L_sem nor speech-queried scores exist"
            )
        return attention

    def forward(self, batch: Batch, *, teacher: Generator, progress: float, stage: str) -> dict[str, Tensor]:
        """Named losses of every pass (`seed/codes`, `speech/latents`), the conditioners' own, and L_sem.

        A batch without speech has only the passes that hear none, and neither of the other losses. Columns that the
        data set lacks are hidden in every pass.
        """
        with torch.no_grad():
            targets = self.body.encode(batch.motion, batch.valid)
        conditions = self.condition(batch)
        rng = torch.Generator().manual_seed(
            int(torch.randint(2**62, ()))
        )  # follows the global state, so resume is exact
        passes = without_speech(self.passes) if batch.silent else self.passes
        rows = divide(passes, batch.motion.shape[0], batch.motion.device)
        masks: dict[str, Tensor] = {}
        for one in passes:
            masks[one.name] = (
                self.mask(one, batch, conditions, rows[one.name], progress, rng, teacher)
                if one.like is None
                else masks[one.like]
            )
        if batch.known is not None:
            masks = {name: mask | ~batch.known[rows[name], None] for name, mask in masks.items()}
        labelled = self.semantic > 0 and "semantic" in batch.labels and not batch.silent
        unmasked = self._unmasked_rows(passes, rows) if labelled else None
        losses, attention = self._pass_losses(passes, batch, conditions, targets, rows, masks, unmasked)
        if batch.silent:
            return losses
        for name, conditioner in self.conditioners.items():
            assert isinstance(conditioner, Conditioner)
            own = conditioner.losses(batch, conditions[name], targets)
            losses |= {f"{name}/{key}": value for key, value in own.items()}
        if unmasked is not None:
            losses["semantic"] = self.semantic * self._semantic_loss(attention, batch.rows(unmasked))
        return losses

    def mask(
        self,
        one: Pass,
        batch: Batch,
        conditions: Mapping[str, Condition],
        rows: Tensor,
        progress: float,
        rng: torch.Generator,
        teacher: Generator | None,
    ) -> Bool[Tensor, "rows T D"]:
        """What a pass hides in these rows of the batch, True = hidden."""
        if one.mask == "seed" or len(rows) == 0:
            return self.generation_mask(batch.valid[rows])
        assert self.masker is not None
        seen = {name: condition.rows(rows).detach() for name, condition in conditions.items()}
        context = MaskContext(batch.rows(rows), seen, progress, rng, teacher)
        return self.body.layout.expand(self.masker(context))

    def generation_mask(self, valid: Bool[Tensor, "rows T"]) -> Bool[Tensor, "rows T D"]:
        """Everything but the seed frames, True = hidden."""
        hidden = torch.ones_like(valid)
        hidden[:, : self.seed_frames] = False
        return self.body.layout.expand(hidden & valid)

    def losses(
        self, batch: Batch, prediction: Prediction, targets: Mapping[str, Quantized], hidden: Bool[Tensor, "B T D"]
    ) -> dict[str, Tensor]:
        """Class and latent loss of one pass, averaged over parts; a token counts by the share of it that is hidden."""
        total = {"codes": torch.zeros((), device=hidden.device), "latents": torch.zeros((), device=hidden.device)}
        for part, weight in self._token_weights(hidden, batch.valid).items():
            errors = token_errors(prediction, targets[part], part, self.latent_norm)
            for name, error in errors.items():
                total[name] = total[name] + weighted_mean(error, weight) / len(self.body.parts)
        return {name: self.weights[name] * value for name, value in total.items() if self.weights[name]}

    def predict_passes(
        self,
        passes: Sequence[Pass],
        batch: Batch,
        conditions: Mapping[str, Condition],
        rows: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        unmasked: Tensor | None = None,
    ) -> tuple[dict[str, Prediction], Mapping[str, Tensor]]:
        """Every pass's prediction by name, and the attention of the rows `unmasked` as they are (None: of none).

        Passes that hear the same share one call of `predict`. Override it in a network whose passes have more in common.
        rows, masks: of each pass, by name; none is without rows.
        """
        predictions: dict[str, Prediction] = {}
        for speech in (True, False):
            together = [one for one in passes if one.speech == speech]
            if not together:
                continue
            index = torch.cat([rows[one.name] for one in together])
            hidden = torch.cat([masks[one.name] for one in together])
            seen = {name: condition.rows(index) for name, condition in conditions.items()}
            prediction = self.predict(batch.motion[index], hidden, batch.valid[index], seen, speech=speech)
            predictions |= prediction_parts(prediction, {one.name: len(rows[one.name]) for one in together})
        attention: Mapping[str, Tensor] = {}
        if unmasked is not None:
            seen = {name: condition.rows(unmasked) for name, condition in conditions.items()}
            attention = self.attend(batch.motion[unmasked], batch.valid[unmasked], seen)
        return predictions, attention

    def _pass_losses(
        self,
        passes: Sequence[Pass],
        batch: Batch,
        conditions: Mapping[str, Condition],
        targets: Mapping[str, Quantized],
        rows: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        unmasked: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        """Losses by `pass/name`, and the attention that L_sem reads."""
        passes = [one for one in passes if len(rows[one.name])]
        predictions, attention = self.predict_passes(passes, batch, conditions, rows, masks, unmasked)
        losses: dict[str, Tensor] = {}
        for one in passes:
            prediction, mine = predictions[one.name], rows[one.name]
            own = {part: token_rows(target, mine) for part, target in targets.items()}
            found = self.losses(batch.rows(mine), prediction, own, masks[one.name])
            found = {name: value for name, value in found.items() if name in one.losses} | dict(prediction.losses)
            losses |= {f"{one.name}/{name}": one.weight * value for name, value in found.items()}
        return losses, attention

    def _unmasked_rows(self, passes: Sequence[Pass], rows: Mapping[str, Tensor]) -> Tensor:
        """L_sem is learned on the rows of the masker's passes, or on all where there are none."""
        chosen = [rows[one.name] for one in passes if one.mask == "masker" and len(rows[one.name])]
        return torch.cat(chosen).unique() if chosen else torch.cat(list(rows.values())).unique()

    def _semantic_loss(self, attention: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """L_sem of attention on unmasked motion (hidden frames would give the labels away)."""
        if batch.labels["semantic"].shape != batch.valid.shape:
            labels, frames = batch.labels["semantic"].shape[1], batch.valid.shape[1]
            raise ValueError(
                f"L_sem needs one semantic label a frame: got {labels} for {frames} frames; cut or resample the labels to "
                "the motion's rate, or set generator.semantic=0"
            )
        scores = attention_scores(attention)
        logits = self.semantic_affine[0] * torch.log(scores.clamp(min=0) + 1e-6) + self.semantic_affine[1]
        return semantic_loss(logits, batch.labels["semantic"], batch.valid)

    def _token_weights(self, hidden: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Part -> [B, N]: share of each token's values that is hidden, at least `visible`; 0 for padding."""
        shares = (hidden & valid[..., None]).float() @ self.body.layout.membership.to(valid.device)  # [B, T, parts]
        fold = self.body.downsample
        short = -shares.shape[1] % fold
        shares = nn.functional.pad(shares, (0, 0, 0, short)).unflatten(1, (-1, fold)).mean(2)  # [B, N, parts]
        weights = shares.clamp(min=self.visible) * self.body.token_mask(valid)[..., None]
        return dict(zip(self.body.parts, weights.unbind(-1), strict=True))

    def teacher_attention(self, batch: Batch) -> Mapping[str, Tensor]:
        """Part -> [B, S, T], of this network as the teacher (no gradient, evaluation mode)."""
        return self.attend(batch.motion, batch.valid, self.condition(batch))

    def teacher_token_loss(self, batch: Batch) -> Float[Tensor, "B T"]:
        """[B, T] class loss of every frame's token with everything but the seed frames hidden (latent error without codes)."""
        hidden = self.generation_mask(batch.valid)
        prediction = self.predict(batch.motion, hidden, batch.valid, self.condition(batch))
        targets = self.body.encode(batch.motion, batch.valid)
        name = "codes" if self.body.num_layers else "latents"
        losses = [token_errors(prediction, targets[part], part, self.latent_norm)[name] for part in self.body.parts]
        per_frame = torch.stack(losses).mean(0).repeat_interleave(self.body.downsample, dim=1)
        return per_frame[:, : batch.valid.shape[1]]

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Losses under the generation mask, the same question for every masking strategy."""
        everything = torch.arange(len(batch.motion), device=batch.motion.device)
        one = Pass("seed", "seed")
        masks = {"seed": self.generation_mask(batch.valid)}
        targets = self.body.encode(batch.motion, batch.valid)
        return self._pass_losses([one], batch, self.condition(batch), targets, {"seed": everything}, masks)[0]

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        hidden: Bool[Tensor, "B T D"],
        rng: Rng | None = None,
        *,
        temperature: float = 0.0,
        decode: Literal["codes", "latents"] = "codes",
        **unknown: Any,
    ) -> Window:
        """Fill a window in one step.

        temperature: 0 takes the most likely code, above it codes are drawn with that temperature from `rng`.
        decode: from the chosen codes, or from the predicted code vectors (smoother, smaller motion).
        Raises TypeError for other sampling options, ValueError for a negative temperature or a temperature without rng.
        """
        check_sampling(temperature, rng, unknown, f"{type(self).__name__} has: temperature, decode")
        prediction = self.predict(batch.motion, hidden, batch.valid, self.condition(batch))
        latents = self.choose(prediction, temperature, rng, decode)
        return Window(self.body.decode(latents, batch.motion.shape[1]), latents, dict(prediction.attention))

    def choose(
        self,
        prediction: Prediction,
        temperature: float = 0.0,
        rng: Rng | None = None,
        decode: Literal["codes", "latents"] = "codes",
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """Part -> the latents that are decoded; arguments as in `generate`."""
        latents = {}
        for part in self.body.parts:
            if decode == "latents" or self.body.num_layers == 0:
                latents[part] = prediction.latents[part].sum(dim=2)
            else:
                codes = choose(prediction.logits[part], temperature, rng)
                latents[part] = self.body[part].quantizer.embed(codes).sum(dim=2)
        return latents
