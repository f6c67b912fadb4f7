"""What training will cost: a few steps of every stage by the loop that trains it, timed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from maskmotion.config import Training
from maskmotion.data.corpus import Corpus
from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset
from maskmotion.model import Model
from maskmotion.training.gestures import GestureProbe
from maskmotion.training.loop import fit
from maskmotion.training.measure import measure_generator, measure_losses, measure_tokenizer

_STEPS = 3  # the first one warms up and does not count


class Windows(NamedTuple):
    """Windows to train on, windows to validate on and a probe of gestures, the latter two None where there is none."""

    train: WindowDataset
    held_out: WindowDataset | None
    gestures: GestureProbe | None = None


def windows_of(model: Model, corpus: Corpus, cache: FeatureCache) -> Windows:
    """All windows of a corpus with what the model hears; the features are in the cache afterwards."""
    size = model.recipe.body.window
    hears: dict[str, Any] = {"extractors": model.extractors, "audio": model.reads_audio}
    stride = next(iter(model.recipe.training[stage] for stage in model.generator.stages)).stride
    train = WindowDataset(corpus.train, size, stride, cache=cache, **hears)
    held_out = WindowDataset(corpus.validation, size, size, cache=cache, **hears) if corpus.validation else None
    model.body.set_statistics([clip.motion for clip in corpus.train])
    model.root.set_statistics([clip.motion for clip in corpus.train])
    return Windows(train, held_out, GestureProbe.of(model, corpus, cache))


def stage_seconds(model: Model, stage: str, windows: Windows, device: str) -> dict[str, float]:
    """{"step": ..., "validation": ...}: seconds of one training step, and of one measurement on what is held out."""
    learner = {"tokenizer": model.body, "root": model.root}.get(stage, model.generator)
    follow = partial(measure_generator, gestures=windows.gestures)
    measure = {"tokenizer": measure_tokenizer, "root": measure_losses}.get(stage, follow)
    config = model.recipe.training[stage].model_copy(update={"steps": _STEPS, "validate_every": _STEPS})
    moments: list[float] = []
    if stage == "tokenizer":
        learner.requires_grad_(True)
    with torch.random.fork_rng():
        begun = time.perf_counter()
        fit(learner, windows.train, config, stage=stage, device=device, show=False,
            on_step=lambda step, losses: moments.append(time.perf_counter()))  # fmt: skip
        model.body.requires_grad_(False)
    steps = [after - before for before, after in zip(moments, moments[1:])] or [time.perf_counter() - begun]
    validation = 0.0
    if windows.held_out is not None:
        begun = time.perf_counter()
        with torch.no_grad(), torch.random.fork_rng():
            measure(learner.eval(), 1.0, windows.held_out)
        validation = time.perf_counter() - begun
    return {"step": sorted(steps)[len(steps) // 2], "validation": validation}


def training_seconds(config: Training, seconds: Mapping[str, float]) -> float:
    """Seconds that a stage will take."""
    every = config.validate_every or max(1, config.steps // 8)
    return config.steps * seconds["step"] + math.ceil(config.steps / every) * seconds["validation"]


def spelled(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
