"""What the contracts are checked on: a small batch and a small untrained generator, for tests of one's own as well."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from maskmotion.interfaces import Generator
from maskmotion.motion.layout import SMPLX
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.types import Batch

FRAMES, ROWS, PADDED = 32, 3, 20  # the last row has 20 valid frames


def example_batch(rows: int = ROWS, frames: int = FRAMES, seed: int = 0) -> Batch:
    """A batch of smooth random motion with speech-like noise, labels and one row with padding."""
    rng = torch.Generator().manual_seed(seed)
    rotvec = 0.2 * torch.randn(rows, 1, 55, 3, generator=rng) + 0.05 * torch.randn(rows, frames, 55, 3, generator=rng)
    motion = SMPLX.rest.repeat(rows, frames, 1)
    motion[..., :330] = axis_angle_to_6d(rotvec).flatten(2)
    motion[..., 337:] = torch.randn(rows, frames, 100, generator=rng)
    valid = torch.ones(rows, frames, dtype=torch.bool)
    valid[-1, PADDED * frames // FRAMES :] = False
    samples = round(frames * 16000 / 30)
    loudness = torch.rand(rows, frames, generator=rng).repeat_interleave(samples // frames + 1, dim=1)[:, :samples]
    return Batch(
        motion=motion,
        valid=valid,
        audio=0.3 * loudness * torch.randn(rows, samples, generator=rng),
        speaker=torch.arange(rows) % 2,
        labels={
            "semantic": (torch.rand(rows, frames, generator=rng) > 0.7).float(),
            "words": torch.randint(0, 5, (rows, frames), generator=rng) * 977,
        },
    )


def example_generator(cls: type | None = None, **arguments: Any) -> Generator:
    """A small untrained generator on all conditioners that need no weights of others; `cls` defaults to Tiny."""
    from maskmotion.conditioners import Mel, Rhythm, Speaker, Transcript
    from maskmotion.generators import Tiny
    from maskmotion.quantizers import RVQ
    from maskmotion.strategies import Random
    from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer

    body = BodyTokenizer(
        {
            part: PartTokenizer(columns, Dilated(len(columns), 8), RVQ(8, 16, 2))
            for part, columns in SMPLX.columns.items()
        }
    )
    batch = example_batch()
    body.set_statistics(batch.motion)
    body.train()(batch)  # puts the codebooks on data
    conditioners = {"mel": Mel(), "rhythm": Rhythm(), "transcript": Transcript(), "speaker": Speaker()}
    given = {"body": body, "conditioners": conditioners, "masker": Random(0.5), "seed_frames": 4}
    cls = cls or Tiny
    allowed = inspect.signature(cls).parameters
    built: Generator = cls(**{name: value for name, value in given.items() if name in allowed}, **arguments)
    return built.eval()


def padding_replaced(batch: Batch) -> Batch:
    """The same batch with other values wherever there is padding."""
    pad = ~batch.valid
    audio = batch.audio
    if audio is not None:
        # the waveform's padding is silence by contract; only what frames say may differ
        audio = audio * nn.functional.interpolate(batch.valid[:, None].float(), audio.shape[1])[:, 0]
        batch = replace(batch, audio=audio)
    labels = {name: torch.where(pad, torch.ones_like(v), v) for name, v in batch.labels.items()}
    return replace(batch, motion=torch.where(pad[..., None], batch.motion + 3.0, batch.motion), labels=labels)
