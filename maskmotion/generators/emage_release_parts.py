"""What the networks of EMAGE's releases hear, say and learn from: the pieces around the transformer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Conditioner
from maskmotion.losses import code_losses, layer_weights, weighted_mean
from maskmotion.nn.linear import Linear, Mlp
from maskmotion.shapes import Float
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Condition, Prediction, Quantized

FACE = "face"
SPEAKER, WORDS = ("speaker",), ("words", "transcript")


class ReleaseHearing(nn.Module):
    """What one branch hears: sound, words mixed into it, and who speaks.

    Args:
        branch: "face" or "body"; conditioners whose names begin with the other one are not heard.
        dim: of the speaker. features: of sound and words; conditions of another width are projected to these.
        cra: content-rhythm attention as released, one linear layer and a choice between word and sound for every
            channel (the paper has two layers); False adds the two.
        extra: sound longer than the motion is kept whole.
    """

    def __init__(
        self, branch: str, conditioners: Mapping[str, Conditioner], dim: int, features: int, cra: bool,
        extra: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sound, self.words, self.who = (_named(branch, conditioners, role) for role in ("", "words", "speaker"))
        if not self.sound:
            raise ValueError(f"the {branch} needs a conditioner for sound, got {', '.join(conditioners) or 'none'}")
        self.extra = extra
        self.from_sound = _project(conditioners, self.sound, features)
        self.from_speaker = _project(conditioners, self.who, dim)
        width = sum(conditioners[name].dim for name in self.words)
        self.from_words = Linear(width, features) if self.words else None
        self.gate = Linear(2 * features, 2 * features) if self.words and cra else None

    def forward(self, conditions: Mapping[str, Condition], frames: int) -> tuple[Tensor, Tensor]:
        """Features [B, S, C] and which of their S steps are real; S is `frames` unless there is extra sound."""
        heard = [conditions[name] for name in self.sound]
        steps = heard[0].features.shape[1]
        steps = steps if self.extra and len(heard) == 1 and not self.words and steps > frames else frames
        sound = self.from_sound(torch.cat([fit(one.features, steps) for one in heard], dim=-1))
        real = fit(heard[0].valid, steps)
        if self.from_words is None:
            return sound, real
        words = self.from_words(torch.cat([fit(conditions[name].features, steps) for name in self.words], dim=-1))
        if self.gate is None:
            return words + sound, real
        share = self.gate(torch.cat([words, sound], dim=-1)).unflatten(-1, (-1, 2)).softmax(dim=-1)
        return words * share[..., 1] + sound * share[..., 0], real

    def speaker(self, conditions: Mapping[str, Condition]) -> Tensor | None:
        """[B, T, dim], or None without a speaker."""
        if not self.who:
            return None
        return self.from_speaker(torch.cat([conditions[name].features for name in self.who], dim=-1))


class ReleaseHead(nn.Module):
    """Latents from features, class scores from latents.

    Args:
        dim: of the features. body: says how many frames a token, how wide, how many codes. slope: of the rectifier.
    """

    def __init__(self, dim: int, body: BodyTokenizer, slope: float) -> None:
        super().__init__()
        self.fold, self.width, self.codes = body.downsample, body.dim, body.codebook_size
        depth = max(1, body.num_layers)
        self.latents = Linear(dim, depth * self.width)
        self.classes = Mlp(depth * self.width, dim, depth * self.codes, slope) if self.codes else None

    def forward(self, x: Float[Tensor, "B T C"]) -> tuple[Tensor, Tensor]:
        """Logits [B, N, Q, K] and latents [B, N, Q, C]."""
        latents = self.latents(x if self.fold == 1 else x.unflatten(1, (-1, self.fold)).mean(2))
        shaped = latents.unflatten(-1, (-1, self.width))
        if self.classes is None:
            return shaped[..., :0], shaped
        return self.classes(latents).unflatten(-1, (-1, self.codes)), shaped


def released_losses(
    prediction: Prediction,
    targets: Mapping[str, Quantized],
    token_weights: Mapping[str, Float[Tensor, "B N"]],
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Sums over parts: "latents", mean squared error as it is; "codes", of the body; "face_codes", of the face."""
    total = {"latents": torch.zeros(()), "codes": torch.zeros(()), "face_codes": torch.zeros(())}
    for part, weight in token_weights.items():
        missed = prediction.latents[part].sum(dim=2) - targets[part].latents
        total["latents"] = total["latents"].to(weight) + weighted_mean(missed.square().mean(-1), weight)
        if targets[part].codes.shape[-1]:
            errors = code_losses(prediction.logits[part], targets[part].codes)
            name = "face_codes" if part == FACE else "codes"
            error = weighted_mean(errors @ layer_weights(errors.shape[-1], errors), weight)
            total[name] = total[name].to(weight) + error
    scale = {**weights, "face_codes": weights["codes"]}
    return {name: scale[name] * value for name, value in total.items() if scale[name]}


def fit(x: Tensor, frames: int) -> Tensor:
    """[B, S, ...] -> [B, frames, ...]: cut, or its last steps once more, as the scripts of 2024 do (2025 fails there)."""
    steps = x.shape[1]
    if steps >= frames:
        return x[:, :frames]
    index = torch.arange(frames, device=x.device)
    again = (index - (frames - steps)).clamp(0, steps - 1)
    return x[:, torch.where(index < steps, index, again)]


def _named(branch: str, conditioners: Mapping[str, Conditioner], role: str) -> tuple[str, ...]:
    """Names heard by a branch in a role: "speaker", "words", or "" for sound."""
    heard = [name for name in conditioners if not name.startswith("body_" if branch == FACE else "face_")]
    roles = {name: "speaker" if name.endswith(SPEAKER) else "words" if name.endswith(WORDS) else "" for name in heard}
    return tuple(name for name in heard if roles[name] == role)


def _project(conditioners: Mapping[str, Conditioner], names: tuple[str, ...], dim: int) -> nn.Module:
    """To `dim` channels; nothing where that is what they have."""
    width = sum(conditioners[name].dim for name in names)
    return Linear(width, dim) if names and width != dim else nn.Identity()
