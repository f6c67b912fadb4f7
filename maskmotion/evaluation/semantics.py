"""Semantic gesture accuracy: whether motion shows the gesture that belongs to each planted word.

Nearest prototype by cosine, so the size of a gesture does not matter (amplitude is reported beside), in a space
whitened by what ordinary motion does (a matched filter). What resembles no prototype enough is "none", so that
gesturing all the time costs false alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskmotion.evaluation.windows import Moments, gather_windows, gesture_moments, quiet_moments
from maskmotion.motion.layout import rotation_columns
from maskmotion.motion.skeleton import joint
from maskmotion.shapes import Float, Int
from maskmotion.types import NO_GESTURE, Clip

ARMS = tuple(joint(f"{side}_{name}") for name in ("collar", "shoulder", "elbow", "wrist") for side in ("left", "right"))
HANDS = tuple(range(25, 55))
TORSO = tuple(joint(name) for name in ("spine1", "spine2", "spine3"))

_OFFSETS = torch.arange(-15, 16, 3)  # a second around the gesture's middle, at 10 Hz
_SHIFTS = torch.arange(-4, 5)  # the gesture may come a little early or late
_BEFORE = 30  # frames ahead of the window whose mean is subtracted: posture is no gesture
_COMPONENTS = 32  # of the columns; planted motion has rank 26
# Of the covariance towards its mean variance. Of .02 to .95, the value that recognised most gestures in ground truth that
# was smoothed, rounded, of reduced rank, or mixed with other motion, as generated motion is.
_SHRINKAGE = 0.3
_FOLDS = 4  # the threshold is learned on windows that the prototypes have not seen


@dataclass(frozen=True)
class SemanticResult:
    """Semantic gesture accuracy of motion for `n` planted gestures.

    accuracy: share of planted gestures (shown in the ground truth) whose class the motion shows at their time.
    choice: the same when the classifier must name a gesture ("none" not allowed; chance is `nominal`): it sees the
    beginnings of meaning in motion that is too faint or too blurred to be recognised. interval: 95 % Wilson interval of
    accuracy. false_alarms: share of the `quiet` moments without meaning at which the motion
    shows some gesture; the moments are 0.3 s apart and look 0.3 s wide, so no gesture in quiet time is missed or counted
    twice. chance: accuracy with the words permuted (right times, any meaning). chance_shifted: with the
    words at other times of their clips. nominal: 1 / classes. amplitude: spread of the motion on the classified columns
    / that of the ground truth. per_class: class -> (gestures, hits).
    """

    accuracy: float
    choice: float
    n: int
    interval: tuple[float, float]
    false_alarms: float
    quiet: int
    chance: float
    chance_shifted: float
    nominal: float
    amplitude: float
    per_class: Mapping[int, tuple[int, int]]

    def __float__(self) -> float:
        return self.accuracy


@dataclass(frozen=True)
class _Prototypes:
    """Class means in a whitened space, each of length 1."""

    classes: Int[Tensor, " K"]
    whiten: Float[Tensor, "F F"]
    directions: Float[Tensor, "K F"]

    @classmethod
    def fit(cls, windows: Float[Tensor, "N S F"], gesture: Int[Tensor, " N"]) -> _Prototypes:
        """Learn from windows at S shifts: prototypes, and the spread around them and around rest, at the middle one."""
        centred = windows[:, windows.shape[1] // 2].double()
        classes, member = gesture[gesture != NO_GESTURE].unique(return_inverse=True)
        one_hot = torch.nn.functional.one_hot(member, len(classes)).double()
        means = one_hot.T @ centred[gesture != NO_GESTURE] / one_hot.sum(0)[:, None]
        residual = centred.clone()  # quiet windows spread around zero, as their past is subtracted
        residual[gesture != NO_GESTURE] -= one_hot @ means
        covariance = residual.T @ residual / len(residual)
        size = covariance.diagonal().mean().clamp(min=1e-12)
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * size * torch.eye(len(covariance))
        values, vectors = torch.linalg.eigh(covariance)
        whiten = vectors / values.sqrt()
        directions = torch.nn.functional.normalize(means @ whiten, dim=-1)
        return cls(classes, whiten.float(), directions.float())

    def scores(self, windows: Float[Tensor, "N S F"]) -> Float[Tensor, "N K"]:
        """Cosine with each prototype, at the shift where it is largest."""
        directions = torch.nn.functional.normalize(windows @ self.whiten, dim=-1)
        return (directions @ self.directions.T).amax(1)


@dataclass(frozen=True)
class GestureClassifier:
    """Says which planted gesture a motion shows around a moment; made by `GestureClassifier.fit(clips)`."""

    columns: tuple[int, ...]
    basis: Float[Tensor, "P C"]
    prototypes: _Prototypes
    threshold: float

    @classmethod
    def fit(cls, clips: Sequence[Clip], joints: Sequence[int] = (*ARMS, *HANDS)) -> GestureClassifier:
        """Learn prototypes and the threshold of "none" from the motion of training clips.

        Args:
            clips: clips with the frame labels "gesture" and, where there is one, "word_class".
            joints: whose rotations are looked at; `(*TORSO, *ARMS, *HANDS)` adds the torso, which distractors move.

        Raises:
            ValueError: no label "gesture", fewer than two classes, or no moment without a gesture.
        """
        columns = rotation_columns(tuple(joints))
        frames = torch.cat([clip.motion[:, columns] for clip in clips]).cpu().double()
        deviation = frames - frames.mean(0)
        basis = torch.linalg.eigh(deviation.T @ deviation)[1][:, -_COMPONENTS:].float()
        moments = _both(gesture_moments(clips), quiet_moments(clips, cls.reach, cls.step))
        shown = moments.gesture != NO_GESTURE
        if len(moments.gesture[shown].unique()) < 2 or shown.all():
            raise ValueError(
                f"a gesture classifier needs two classes and moments without gesture, got classes "
                f"{moments.gesture[shown].unique().tolist()} and {int((~shown).sum())} quiet moments; give more clips"
            )
        windows = _windows([clip.motion for clip in clips], moments, columns, basis)
        threshold = _threshold(windows, moments.gesture)
        return cls(columns, basis, _Prototypes.fit(windows, moments.gesture), threshold)

    reach = int(_OFFSETS[-1] + _SHIFTS[-1])
    """Frames around a moment that are looked at."""
    step = len(_SHIFTS)
    """Frames between quiet moments: as many as a moment's window may shift, so that none is missed or seen twice."""

    def predict(
        self, motions: Sequence[Float[Tensor, "_ D"]], moments: Moments, forced: bool = False
    ) -> Int[Tensor, " N"]:
        """The gesture class each moment shows, -1 for none; `forced`: "none" is not allowed."""
        windows = _windows(motions, moments, self.columns, self.basis)
        return _decide(self.prototypes, windows, -torch.inf if forced else self.threshold)

    def accuracy(self, motions: Sequence[Float[Tensor, "_ D"]], clips: Sequence[Clip]) -> SemanticResult:
        """Semantic gesture accuracy of one motion for each clip; `[clip.motion for clip in clips]` is the ceiling.

        Raises:
            ValueError: a motion without a clip or of another length, or clips that show no gesture.
        """
        from maskmotion.evaluation.gesture_accuracy import GestureAccuracy

        for motion, clip in zip(motions, clips):
            if len(motion) != clip.frames:
                raise ValueError(f"clip {clip.name!r} has {clip.frames} frames, its motion {len(motion)}; cut to match")
        if len(motions) != len(clips):
            raise ValueError(f"every clip needs one motion, got {len(motions)} motions for {len(clips)} clips")
        measure = GestureAccuracy(self)
        measure.update(motions, clips)
        return measure.result()


def _both(a: Moments, b: Moments) -> Moments:
    return Moments(torch.cat([a.clip, b.clip]), torch.cat([a.frame, b.frame]), torch.cat([a.gesture, b.gesture]))


def _windows(
    motions: Sequence[Tensor], moments: Moments, columns: tuple[int, ...], basis: Float[Tensor, "P C"]
) -> Float[Tensor, "N S F"]:
    tracks = [motion[:, columns].float().cpu() @ basis for motion in motions]
    return gather_windows(tracks, moments, _SHIFTS, _OFFSETS, _BEFORE).flatten(2)


def _decide(prototypes: _Prototypes, windows: Float[Tensor, "N S F"], threshold: float) -> Int[Tensor, " N"]:
    best, which = prototypes.scores(windows).max(1)
    return prototypes.classes[which].masked_fill(best < threshold, NO_GESTURE)


def _threshold(windows: Float[Tensor, "N S F"], gesture: Int[Tensor, " N"]) -> float:
    """The cosine that balances gestures recognised against quiet moments left alone, on windows not learned from."""
    best, right = torch.zeros(len(gesture)), torch.zeros(len(gesture), dtype=torch.bool)
    fold = torch.zeros_like(gesture)
    for kind in (gesture == NO_GESTURE, gesture != NO_GESTURE):  # stretches of time, so that neighbours stay together
        fold[kind] = torch.arange(int(kind.sum())) * _FOLDS // int(kind.sum())
    for k in range(_FOLDS):
        held = fold == k
        prototypes = _Prototypes.fit(windows[~held], gesture[~held])
        best[held], which = prototypes.scores(windows[held]).max(1)
        right[held] = prototypes.classes[which] == gesture[held]
    quiet = best[gesture == NO_GESTURE].sort().values
    hits = best[right].sort().values
    candidates = best.sort().values
    left_alone = torch.searchsorted(quiet, candidates) / len(quiet)
    recognised = (len(hits) - torch.searchsorted(hits, candidates)) / (gesture != NO_GESTURE).sum()
    return float(candidates[(left_alone + recognised).argmax()])
