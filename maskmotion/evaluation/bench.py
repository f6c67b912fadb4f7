"""Bench: everything that is measured on a corpus, built once and used for every model that shares its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from maskmotion.data.corpus import Corpus
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.windows import WindowDataset
from maskmotion.evaluation.beat import audio_beats, beat_constancy
from maskmotion.evaluation.diversity import l1_diversity, windows
from maskmotion.evaluation.extractor import DOWNSAMPLE, FeatureExtractor, train_extractor
from maskmotion.evaluation.feet import foot_sliding
from maskmotion.evaluation.fgd import fgd
from maskmotion.evaluation.latents import semantic_latent_error
from maskmotion.evaluation.masks import MaskResult
from maskmotion.evaluation.semantics import GestureClassifier
from maskmotion.model import Model
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import IDENTITY_6D, ROTATIONS
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.shapes import Float
from maskmotion.training.measure import mask_quality
from maskmotion.types import Clip

PROTOCOL = "maskmotion-v1"


class Bench:
    """Measures of protocol `maskmotion-v1` on held-out clips, the same clips and extractor for every row of a table.

    Args:
        corpus: the FGD extractor and the gesture classifier learn from its training clips.
        split: "test", or "validation" where there is no test split.
        cache: folder of features and of the extractor, named by the corpus's fingerprint.

    Raises ValueError when the split is empty.
    """

    def __init__(self, corpus: Corpus, split: str = "test", cache: str | Path | None = None) -> None:
        self.corpus, self.split = corpus, split
        self.clips = list(corpus.test if split == "test" else corpus.validation)
        if not self.clips:
            raise ValueError(f"{corpus.name} has no {split} clip to measure on; try --split validation")
        self.cache = FeatureCache(default_folder() if cache is None else cache)
        self._extractors = Path(default_folder() if cache is None else cache) / "extractors"

    @property
    def planted(self) -> bool:
        """Whether meanings are known: the clips say which gesture is shown when."""
        return all("gesture" in clip.labels for clip in (*self.corpus.train, *self.clips))

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The FGD extractor of this corpus's training split, trained once and kept."""
        folder = self._extractors / self.corpus.fingerprint
        if not (folder / "extractor.json").is_file():
            train_extractor([clip.motion for clip in self.corpus.train]).save(folder)
        return FeatureExtractor.load(folder)

    @cached_property
    def classifier(self) -> GestureClassifier:
        """Knows the planted gestures from the training split."""
        return GestureClassifier.fit(self.corpus.train)

    @cached_property
    def onsets(self) -> list[Tensor]:
        """Audio beats of every clip, in seconds."""
        return [torch.zeros(0) if clip.audio is None else audio_beats(clip.audio) for clip in self.clips]

    def motion_measures(self, motions: Sequence[Float[Tensor, "_ D"]]) -> dict[str, float]:
        """Measures of one motion a clip, whoever made them."""
        truth = [clip.motion for clip in self.clips]
        positions = [local_positions(motion) for motion in motions]
        beats = beat_constancy(positions, self.onsets)
        values = {
            "fgd": float(fgd(self.extractor, motions, truth)),
            "bc": float(beats),
            "bc_chance": beats.chance,
            "l1_diversity": l1_diversity(windows(positions)),
            "foot_sliding": foot_sliding(motions),
        }
        if self.planted:
            result = self.classifier.accuracy(motions, self.clips)
            values |= {
                "gesture_accuracy": result.accuracy,
                "gesture_choice": result.choice,
                "gesture_chance": result.chance,
                "choice_chance": result.nominal,
                "false_alarms": result.false_alarms,
                "amplitude": result.amplitude,
                "words": float(result.n),
            }
        return values

    def model_measures(self, model: Model) -> dict[str, float]:
        """Measures of a model: its generated motion, its masks, its latent error where there is meaning."""
        values = self.motion_measures(self.generate(model))
        data = self.windows(model)
        quality: MaskResult | None = mask_quality(model.generator, 1.0, data, seed=model.recipe.seed)
        if quality is not None:
            values |= {
                "lift": quality.lift,
                "oracle_lift": quality.oracle_lift,
                "mask_precision": quality.precision,
                "mask_recall": quality.recall,
                "auroc": quality.auroc,
                "auroc_within": quality.auroc_within,
                "distractor_lift": quality.distractor_lift,
                "run_length": quality.run_length,
            }
        if self.planted:
            values["latent_error"] = semantic_latent_error(model.generator, data)
        return values

    def windows(self, model: Model) -> WindowDataset:
        """The clips as windows without overlap, with the features that the model hears."""
        size = model.recipe.body.window
        return WindowDataset(self.clips, size, size, model.extractors, self.cache, audio=model.reads_audio)

    def sanity_rows(self, model: Model) -> dict[str, dict[str, float]]:
        """Rows that say what numbers mean: ground truth, its tokens decoded again, mean pose, frozen frame, noise."""
        truth = [clip.motion for clip in self.clips]
        mean = model.rest_pose()
        rng = torch.Generator().manual_seed(0)
        shuffled = [frame_noise(motion, model.body.scale, rng) for motion in truth]
        rows: Mapping[str, list[Tensor]] = {
            "ground truth": truth,
            "tokenizer reconstruction": [reconstruct(model, motion) for motion in truth],
            "mean pose": [mean.expand(len(motion), -1) for motion in truth],
            "frozen first frame": [motion[:1].expand(len(motion), -1) for motion in truth],
            "noise on ground truth": shuffled,
        }
        measured = {name: self.motion_measures(motions) for name, motions in rows.items()}
        halves = truth[::2], truth[1::2]
        if min(sum(map(len, half)) for half in halves) >= 2 * DOWNSAMPLE:  # two features a side
            measured["one half of the truth against the other"] = {"fgd": float(fgd(self.extractor, *halves))}
        return measured

    @torch.no_grad()
    def generate(self, model: Model) -> list[Float[Tensor, "_ D"]]:
        """Motion for the speech of every clip, all of them in one batch, seeded by each clip's own first frames."""
        size = model.recipe.body
        speech = speech_of(self.clips, model, self.cache)
        seed = torch.stack([_first(clip.motion, size.seed_frames) for clip in self.clips])
        motion = generate_clip(model.generator.eval(), speech, seed.to(model.device), size.window).motion
        placed = model.place(motion).cpu()
        return [row[: clip.frames] for row, clip in zip(placed, self.clips, strict=True)]


def speech_of(clips: Sequence[Clip], model: Model, cache: FeatureCache) -> Speech:
    """The speech of several clips as one batch, padded to the longest."""
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


def local_positions(motion: Float[Tensor, "T D"]) -> Float[Tensor, "T 55 3"]:
    """Joint positions in metres without global orientation and translation, as the field's metrics take them."""
    rotations = motion[:, ROTATIONS].unflatten(-1, (-1, 6)).clone()
    rotations[:, 0] = torch.tensor(IDENTITY_6D)
    return forward_kinematics(rotations, motion.new_zeros(len(motion), 3))


@torch.no_grad()
def reconstruct(model: Model, motion: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
    """A motion through the tokenizers and back."""
    tokens = model.body.encode(motion[None].to(model.device))
    return model.body.decode({part: token.latents for part, token in tokens.items()}, len(motion))[0].cpu()


def frame_noise(motion: Float[Tensor, "T D"], scale: Float[Tensor, " D"], rng: torch.Generator) -> Float[Tensor, "T D"]:
    """The motion with independent noise in every frame and column, as large as the columns' own spread."""
    return motion + scale.cpu() * torch.randn(motion.shape, generator=rng)


def _first(motion: Tensor, frames: int) -> Tensor:
    """The first frames; a clip shorter than that repeats its last one."""
    return torch.cat([motion[:frames], motion[-1:].expand(max(0, frames - len(motion)), -1)])
