"""Semantic gesture accuracy while a generator learns: it makes the held-out clips at every validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from maskmotion.data.corpus import Corpus
from maskmotion.data.features import FeatureCache
from maskmotion.evaluation.generation import first_frames, speech_of
from maskmotion.evaluation.pairs import Pair, Reference
from maskmotion.evaluation.semantics import GestureClassifier
from maskmotion.evaluation.windows import gesture_moments
from maskmotion.interfaces import Generator
from maskmotion.model import Model
from maskmotion.motion.rotations import proper
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.shapes import Float
from maskmotion.types import Clip


class GestureProbe:
    """Makes the same clips anew at every call and asks which planted gestures they show.

    Args:
        model: whose generator learns; it says what is heard. classifier: knows the planted gestures.
        clips: with the label "gesture" and sound. cache: of audio features.
    """

    def __init__(self, model: Model, classifier: GestureClassifier, clips: Sequence[Clip], cache: FeatureCache) -> None:
        self.model, self.classifier, self.clips, self.cache = model, classifier, list(clips), cache

    @classmethod
    def of(cls, model: Model, corpus: Corpus, cache: FeatureCache) -> GestureProbe | None:
        """The probe of a corpus's validation clips; None where no meaning is known, or nothing is heard."""
        clips = list(corpus.validation)
        if not all("gesture" in clip.labels and clip.audio is not None for clip in [*clips, *corpus.train]):
            return None
        if not clips or not len(gesture_moments(clips)):
            return None
        return cls(model, GestureClassifier.fit(corpus.train), clips, cache)

    @cached_property
    def given(self) -> tuple[Speech, Float[Tensor, "B seed D"]]:
        """Speech and first frames of all clips, where the model is at the first call: training may have moved it."""
        frames = self.model.recipe.body.seed_frames
        seed = torch.stack([first_frames(clip.motion, frames) for clip in self.clips])
        return speech_of(self.clips, self.model, self.cache), seed.to(self.model.device)

    @torch.no_grad()
    def __call__(self, generator: Generator) -> dict[str, float]:
        """gesture_accuracy, and gesture_choice, which has to name a gesture and so moves earlier."""
        motion = proper(generate_clip(generator.eval(), *self.given, self.model.recipe.body.window).motion).cpu()
        pairs = [Pair(row, Reference(clip)) for row, clip in zip(motion, self.clips)]  # as long as both
        result = self.classifier.accuracy([pair.generated for pair in pairs], [pair.clip for pair in pairs])
        return {"gesture_accuracy": result.accuracy, "gesture_choice": result.choice}
