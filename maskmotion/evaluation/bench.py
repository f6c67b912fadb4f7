"""Bench: everything that is measured on a corpus, built once and used for every model that shares its table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from maskmotion.data.audio import load_audio
from maskmotion.data.corpus import Corpus
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.windows import WindowDataset
from maskmotion.evaluation import sanity
from maskmotion.evaluation.beat import audio_beats
from maskmotion.evaluation.evaluation import Evaluation, Row, between
from maskmotion.evaluation.extractor import train_extractor
from maskmotion.evaluation.features import MotionFeatures, load_extractor
from maskmotion.evaluation.generation import generate, reconstruct
from maskmotion.evaluation.latents import semantic_latent_error
from maskmotion.evaluation.masks import MaskResult
from maskmotion.evaluation.measures import Setup
from maskmotion.evaluation.pairs import Reference, local_positions
from maskmotion.evaluation.protocols import protocol as named
from maskmotion.evaluation.provenance import clips_hash
from maskmotion.evaluation.sanity import frame_noise
from maskmotion.evaluation.semantics import GestureClassifier
from maskmotion.model import Model
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.shapes import Float
from maskmotion.training.measure import mask_quality
from maskmotion.types import Clip

__all__ = ["PROTOCOL", "Bench", "frame_noise", "local_positions", "reconstruct"]

PROTOCOL = "maskmotion-v1"
MEAN_SPEED = Path("weights") / "mean_vel_smplxflame_30.npy"  # in a BEAT2 tree


class Bench:
    """Measures of a protocol on held-out clips, the same clips and extractors for every row of a table.

    Args:
        corpus: the feature extractors and the gesture classifier learn from its training clips.
        split: "test", or "validation" where there is no test split ("train" only to see what was learned by heart).
        cache: folder of features and of the extractors, named by the corpus's fingerprint.
        protocol: "maskmotion-v1", "emage-v1" or "evaltools-v1".
        extractor: folder of the extractor of FGD, such as EMAGE's own after `maskmotion convert`; None: one is trained
            on the training clips and kept in the cache.
        body_model: your SMPL-X model file. mean_speed: npy with the data set's mean joint speeds; None: that of the tree.

    Raises ValueError when the split is empty or there is no such protocol.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str = "test",
        cache: str | Path | None = None,
        *,
        protocol: str = PROTOCOL,
        extractor: str | Path | None = None,
        body_model: str | Path | None = None,
        mean_speed: str | Path | None = None,
    ) -> None:
        self.corpus, self.split, self.protocol = corpus, split, named(protocol)
        self.clips = list(corpus.test if split == "test" else corpus.train if split == "train" else corpus.validation)
        if not self.clips:
            raise ValueError(f"{corpus.name} has no {split} clip to measure on; try --split validation")
        self.cache = FeatureCache(default_folder() if cache is None else cache)
        self._extractors = Path(default_folder() if cache is None else cache) / "extractors"
        self._given, self._body_model, self._mean_speed = extractor, body_model, mean_speed

    @property
    def planted(self) -> bool:
        """Whether meanings are known: the clips say which gesture is shown when."""
        return all("gesture" in clip.labels for clip in self.clips)

    @cached_property
    def extractors(self) -> Mapping[str, MotionFeatures]:
        """The feature extractors that the protocol's Frechet distances need, by what they read."""
        wanted = {measure.reads for measure in self.protocol.measures if measure.reads is not None}
        return {reads: self._extractor(reads) for reads in sorted(wanted)}

    @property
    def extractor(self) -> MotionFeatures:
        """The extractor of FGD."""
        return self.extractors["body"]

    def _extractor(self, reads: str) -> MotionFeatures:
        if reads == "body" and self._given is not None:
            return load_extractor(self._given)
        folder = self._extractors / f"{clips_hash(self.corpus.train)[:16]}-{reads}"
        if not (folder / "extractor.json").is_file():
            train_extractor([clip.motion for clip in self.corpus.train], reads=reads).save(folder)
        return load_extractor(folder)

    @cached_property
    def classifier(self) -> GestureClassifier:
        """Knows the planted gestures from the training split."""
        return GestureClassifier.fit(self.corpus.train)

    @cached_property
    def setup(self) -> Setup:
        """What the measures need beside motion, as far as it is here."""
        from maskmotion.motion.body_model import BodyModel

        return Setup(
            self.extractors,
            None if self._body_model is None else BodyModel(self._body_model),
            mean_speeds(self._mean_speed, self.corpus.root),
            self.classifier if self.planted else None,
        )

    @cached_property
    def references(self) -> list[Reference]:
        """The clips as recordings to measure against, with their whole sound."""
        return [Reference(clip, whole_sound(clip, self.corpus.root)) for clip in self.clips]

    @cached_property
    def onsets(self) -> list[Tensor]:
        """Audio beats of every clip, in seconds."""
        return [torch.zeros(0) if clip.audio is None else audio_beats(clip.audio) for clip in self.clips]

    def measure(self, motions: Sequence[Float[Tensor, "_ D"]], references: Sequence[Reference] | None = None) -> Row:
        """Measures of one motion a clip, whoever made them, with what is absent and why; references: None: all clips."""
        evaluation = Evaluation(self.protocol, self.setup)
        evaluation.update(motions, self.references if references is None else references)
        return evaluation.result()

    def motion_measures(self, motions: Sequence[Float[Tensor, "_ D"]]) -> dict[str, float]:
        """The numbers of `measure`."""
        return dict(self.measure(motions).values)

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

    def sanity_rows(self, model: Model | None = None) -> dict[str, dict[str, float]]:
        """Rows that say what numbers mean: ground truth, its halves, mean pose, frozen frame, noise; tokens of a model."""
        truth = [clip.motion for clip in self.clips]
        mean, scale = (None, None) if model is None else (model.rest_pose(), model.body.scale)
        rows = sanity.motions_without_a_model(truth, mean, scale)
        if model is not None:
            rows[sanity.RECONSTRUCTION] = [reconstruct(model, motion) for motion in truth]
        found = {name: self.motion_measures(motions) for name, motions in rows.items()}
        found[sanity.HALVES] = dict(between(self.protocol, self.setup, *sanity.halves(truth)).values)
        return {name: found[name] for name in sanity.SANITY if name in found}

    def generate(self, model: Model) -> list[Float[Tensor, "_ D"]]:
        """Motion for the speech of every clip, all of them in one batch, seeded by each clip's own first frames."""
        return generate(model, self.clips, self.cache)

    @cached_property
    def absent(self) -> Mapping[str, str]:
        """Measures of the protocol that cannot be taken on these clips with what is here, and why."""
        return self.measure([clip.motion for clip in self.clips]).absent

    @property
    def body_model_hash(self) -> str | None:
        """Sha256 of the user's SMPL-X file; None without one."""
        return None if self._body_model is None else hashlib.sha256(Path(self._body_model).read_bytes()).hexdigest()

    @cached_property
    def measured_on(self) -> str:
        """Sha256 of the names, motions and sound of the clips that are measured on."""
        return clips_hash(self.clips)


def mean_speeds(path: str | Path | None, root: Path | None) -> Tensor | None:
    """The mean speed of every joint over a data set, m/s, from a file or from where a BEAT2 tree keeps it.

    Raises FileNotFoundError for a file that is not there, ValueError for one that does not hold 55 numbers.
    """
    import numpy as np

    found = None if root is None else root / MEAN_SPEED
    if path is None and (found is None or not found.is_file()):
        return None
    place = Path(path if path is not None else str(found))
    if not place.is_file():
        raise FileNotFoundError(f"no file of mean joint speeds at {place}")
    values = np.load(place, allow_pickle=False)
    if values.shape != (NUM_JOINTS,) or not (values > 0).all():
        raise ValueError(f"{place}: mean joint speeds are {NUM_JOINTS} positive numbers, got {list(values.shape)}")
    return torch.from_numpy(values.astype(np.float64))


def whole_sound(clip: Clip, root: Path | None) -> Callable[[], Tensor] | None:
    """Reads the whole recording of a clip, also what outlasts its motion; None where the clip's own sound is all there is."""
    path = None if root is None else root / "wave16k" / f"{clip.name}.wav"
    if path is None or clip.audio is None or not path.is_file():
        return None
    return lambda: load_audio(path).samples
