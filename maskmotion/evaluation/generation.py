"""Motion of a model for many recordings at once: the speech of all clips as one batch, and tokens decoded again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskmotion.data.features import FeatureCache
from maskmotion.model import Model
from maskmotion.motion.rotations import proper
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.shapes import Float
from maskmotion.types import Clip


@torch.no_grad()
def generate(model: Model, clips: Sequence[Clip], cache: FeatureCache) -> list[Float[Tensor, "_ D"]]:
    """Motion for the speech of every clip, all of them in one batch, seeded by each clip's own first frames."""
    size = model.recipe.body
    speech = speech_of(clips, model, cache)
    seed = torch.stack([first_frames(clip.motion, size.seed_frames) for clip in clips])
    motion = generate_clip(model.generator.eval(), speech, seed.to(model.device), size.window).motion
    placed = model.place(motion).cpu()
    return [row[: clip.frames] for row, clip in zip(placed, clips, strict=True)]


def speech_of(clips: Sequence[Clip], model: Model, cache: FeatureCache) -> Speech:
    """The speech of several clips as one batch, padded to the longest. ValueError for clips without sound."""
    lengths = torch.tensor([clip.frames for clip in clips])

    def stack(rows: list[Tensor]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)

    missing = [clip.name for clip in clips if clip.audio is None]
    if missing:
        raise ValueError(f"no speech to generate from in {', '.join(missing)}")
    audio = [clip.audio for clip in clips if clip.audio is not None]
    features = {
        one.key: stack([cache.get(one, a, c.frames, c.fps, c.name) for a, c in zip(audio, clips, strict=True)])
        for one in model.extractors
    }
    words = [clip.labels["words"] for clip in clips if "words" in clip.labels]
    return Speech(
        lengths=lengths.to(model.device),
        features=features,
        audio=stack(audio) if model.reads_audio else None,
        speaker=torch.tensor([clip.speaker for clip in clips], device=model.device),
        words=stack(words) if len(words) == len(clips) else None,
    )


@torch.no_grad()
def reconstruct(model: Model, motion: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
    """A motion through the tokenizers and back, its rotations proper ones."""
    tokens = model.body.encode(motion[None].to(model.device))
    return proper(model.body.decode({part: token.latents for part, token in tokens.items()}, len(motion)))[0].cpu()


def first_frames(motion: Tensor, frames: int) -> Tensor:
    """The seed of a clip [T, D]: its first frames; a clip shorter than that repeats its last one."""
    return torch.cat([motion[:frames], motion[-1:].expand(max(0, frames - len(motion)), -1)])
