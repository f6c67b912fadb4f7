"""Semantic gesture accuracy summed up clip by clip: which gestures were shown, recognised, mistaken and made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator, sums
from maskmotion.evaluation.windows import Moments, gesture_moments, quiet_moments
from maskmotion.shapes import Float
from maskmotion.types import NO_GESTURE, Clip

if TYPE_CHECKING:
    from maskmotion.evaluation.semantics import GestureClassifier, SemanticResult

_CHANCE_SHIFTS = 7


class GestureAccuracy(Accumulator):
    """`GestureClassifier.accuracy` for clips that come in batches.

    State: by gesture class how often it was shown, recognised and named; and single counts.
    """

    def __init__(self, classifier: GestureClassifier) -> None:
        self.classifier = classifier
        counts = {name: torch.zeros(1, dtype=torch.float64) for name in ("shown", "hit", "named")}
        self.state = {**counts, "sums": torch.zeros(7, dtype=torch.float64)}

    def update(self, motions: Sequence[Float[Tensor, "_ D"]], clips: Sequence[Clip]) -> None:
        """Add one motion for each clip, of its length. ValueError for a clip without the label "gesture"."""
        one, reach, step = self.classifier, self.classifier.reach, self.classifier.step
        shown, quiet = gesture_moments(clips), quiet_moments(clips, reach, step)
        found, forced = one.predict(motions, shown), one.predict(motions, shown, forced=True)
        shifted = [one.predict(motions, moments) == moments.gesture for moments in _shifted(shown, clips)]
        alarms = one.predict(motions, quiet) != NO_GESTURE
        counts = {
            "shown": torch.bincount(shown.gesture),
            "hit": torch.bincount(shown.gesture[found == shown.gesture]),
            "named": torch.bincount(found[found != NO_GESTURE]),
            "sums": sums(
                (forced == shown.gesture).sum(),
                sum(hits.sum() for hits in shifted),
                sum(map(len, shifted)),
                alarms.sum(),
                len(quiet),
                self._squares(motions),
                self._squares([clip.motion for clip in clips]),
            ),
        }
        self._add(counts)

    def merge(self, other: GestureAccuracy) -> None:
        """Add the clips that `other` has seen."""
        self._add(other.state)

    def _add(self, counts: dict[str, Tensor]) -> None:
        for name, value in counts.items():
            size = max(len(value), len(self.state[name]))  # classes up to the largest that was seen
            self.state[name] = sum(F.pad(v.double(), (0, size - len(v))) for v in (value, self.state[name]))  # type: ignore[assignment]

    def result(self) -> SemanticResult:
        """The accuracy. ValueError when no clip showed a gesture."""
        from maskmotion.evaluation.semantics import SemanticResult

        shown, hit, named = (self.state[name] for name in ("shown", "hit", "named"))
        forced, shifted, tries, alarms, quiet, own, true = self.state["sums"].tolist()
        n, hits = int(shown.sum()), int(hit.sum())
        if not n:
            raise ValueError("the clips show no gesture: nothing to be accurate about; give longer or other clips")
        size = min(len(shown), len(named))
        classes = shown.nonzero()[:, 0].tolist()
        right = {c: int(hit[c]) if c < len(hit) else 0 for c in classes}
        return SemanticResult(
            accuracy=hits / n,
            choice=forced / n,
            n=n,
            interval=_wilson(hits, n),
            false_alarms=alarms / quiet if quiet else float("nan"),
            quiet=int(quiet),
            chance=float(named[:size] @ shown[:size]) / n**2,
            chance_shifted=shifted / tries,
            nominal=1 / len(self.classifier.prototypes.classes),
            amplitude=(own / true) ** 0.5 if true else float("nan"),
            per_class={c: (int(shown[c]), right[c]) for c in classes},
        )

    def _squares(self, motions: Sequence[Tensor]) -> Tensor:
        centred = [motion[:, self.classifier.columns].double().cpu() for motion in motions]
        return torch.stack([(motion - motion.mean(0)).square().sum() for motion in centred]).sum()


def _shifted(moments: Moments, clips: Sequence[Clip]) -> list[Moments]:
    """The same words at other times of their clips, in equal steps around each clip."""
    length = torch.tensor([clip.frames for clip in clips])[moments.clip]
    return [
        Moments(moments.clip, (moments.frame + length * (k + 1) // (_CHANCE_SHIFTS + 1)) % length, moments.gesture)
        for k in range(_CHANCE_SHIFTS)
    ]


def _wilson(hits: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
