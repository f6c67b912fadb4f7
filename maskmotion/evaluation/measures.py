"""Measures as a protocol puts them together: how each is built, fed with a pair, and read; and what it needs for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from maskmotion.data.audio import sample_of
from maskmotion.evaluation.accumulator import Accumulator
from maskmotion.evaluation.accuracy import FaceError, Form, SemanticRecall
from maskmotion.evaluation.beat import BeatAlignment, BeatConstancy, BeatScore, audio_beats
from maskmotion.evaluation.diversity import Deviation, L1Diversity
from maskmotion.evaluation.features import MotionFeatures
from maskmotion.evaluation.feet import FootSkating, FootSliding
from maskmotion.evaluation.fgd import Frechet, FrechetScore
from maskmotion.evaluation.gesture_accuracy import GestureAccuracy
from maskmotion.evaluation.pairs import Hearing, Pair, local_positions
from maskmotion.evaluation.released_beat import ReleasedBeatConstancy
from maskmotion.evaluation.smoothness import Jerk
from maskmotion.motion.body_model import BodyModel
from maskmotion.motion.layout import CONTACTS

if TYPE_CHECKING:
    from maskmotion.evaluation.semantics import GestureClassifier, SemanticResult

_NEEDS = {
    "body": "it needs your SMPL-X model file: --body-model",
    "classifier": "it needs data whose gestures are known, such as the planted corpus",
    "mean_speed": "it needs the mean joint speeds of the data set, weights/mean_vel_smplxflame_30.npy of BEAT2: --mean-speed",
}
_WANTS: Mapping[str, tuple[str, Callable[[Pair], bool]]] = {
    "sound": ("no recording has sound", lambda pair: pair.reference.sound is not None),
    "semantic": ("no recording has semantic scores", lambda pair: "semantic" in pair.reference.clip.labels),
    "gesture": (_NEEDS["classifier"], lambda pair: "gesture" in pair.reference.clip.labels),
}


@dataclass(frozen=True)
class Setup:
    """What measures need beside motion; all of it optional, and what needs something that is not here is absent.

    extractors: by what they read ("body", "motion", "face"). body: the user's SMPL-X file. mean_speed: [55] m/s of every
    joint over the data set. classifier: knows the gestures of planted data.
    """

    extractors: Mapping[str, MotionFeatures] = field(default_factory=dict)
    body: BodyModel | None = None
    mean_speed: Tensor | None = None
    classifier: GestureClassifier | None = None

    def lacks(self, need: str) -> str | None:
        """Why a measure that needs this cannot be taken; None when it can."""
        kind, _, reads = need.partition(":")
        if kind == "extractor":
            return None if reads in self.extractors else f"it needs a feature extractor that reads {reads!r}"
        return None if getattr(self, kind) is not None else _NEEDS[kind]


@dataclass(frozen=True)
class Measure:
    """One measure of a protocol: how it is built, fed with a pair, and read.

    shown: its numbers in a table, key -> (title, factor that printed numbers are multiplied by); rows and files hold them
    plain. read: result -> every number of a row. needs: of the setup. wants: of a recording; those that lack it are left
    out. reads: for a Frechet distance, which columns of motion its features are of; multiple: of frames, to which clips
    are cut for it.
    """

    shown: Mapping[str, tuple[str, float]]
    build: Callable[[Setup], Accumulator]
    add: Callable[[Any, Setup, Pair], None]
    read: Callable[[Any], Mapping[str, float]]
    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    reads: str | None = None
    multiple: int | None = None

    @property
    def name(self) -> str:
        """Key of its first number."""
        return next(iter(self.shown))

    def lacks(self, setup: Setup) -> str | None:
        """Why this setup cannot take it; None when it can."""
        return next((reason for need in self.needs if (reason := setup.lacks(need))), None)

    def unwanted(self, pair: Pair) -> str | None:
        """Why this recording cannot be measured; None when it can."""
        return next((_WANTS[want][0] for want in self.wants if not _WANTS[want][1](pair)), None)

    def nothing(self) -> str:
        """Why no recording was measured."""
        return _WANTS[self.wants[0]][0] if self.wants else "no clip was given"


def frechet(
    name: str, title: str, reads: str = "body", eps: float = 0.0, multiple: int | None = None, scale: float = 1.0
) -> Measure:
    """A Frechet distance: FGD of the body, AsynFusion's FMD of body and expressions, its FED of the face."""

    def build(setup: Setup) -> Frechet:
        extractor = setup.extractors[reads]
        return Frechet(extractor.dim, eps, extractor.fingerprint)

    def add(measure: Frechet, setup: Setup, pair: Pair) -> None:
        extractor = setup.extractors[reads]
        recorded = pair.reference.features(extractor, pair.frames, multiple)
        measure.update(extractor.features([pair.generated], multiple), recorded)

    def read(score: FrechetScore) -> dict[str, float]:
        return {name: score.value, f"{name}_samples": float(min(score.samples))}

    needs = (f"extractor:{reads}",)
    return Measure({name: (title, scale)}, build, add, read, needs, reads=reads, multiple=multiple)


def hear(sound: Tensor, frames: int) -> Tensor:
    """Onsets of the sound of so many frames, in seconds."""
    return audio_beats(sound[: sample_of(frames)])


def hear_backtracked(sound: Tensor, frames: int) -> Tensor:
    """Onsets of the sound of so many frames, moved back to where the loudness before them is lowest."""
    return audio_beats(sound[: sample_of(frames)], backtrack=True)


def beat_constancy() -> Measure:
    """BC by the formula, on the library's own skeleton."""

    def add(measure: BeatConstancy, _: Setup, pair: Pair) -> None:
        measure.update(pair.local, pair.reference.onsets(hear, pair.frames))

    def read(score: BeatScore) -> dict[str, float]:
        return {"bc": score.value, "bc_chance": score.chance}

    shown = {"bc": ("BC", 1.0), "bc_chance": ("BC chance", 1.0)}
    return Measure(shown, lambda _: BeatConstancy(), add, read, wants=("sound",))


def beat_alignment() -> Measure:
    """AsynFusion's BA."""

    def add(measure: BeatAlignment, _: Setup, pair: Pair) -> None:
        measure.update(pair.generated, pair.reference.onsets(hear_backtracked, pair.frames))

    def read(score: BeatScore) -> dict[str, float]:
        return {"ba": score.value, "ba_chance": score.chance}

    return Measure({"ba": ("BA", 1.0)}, lambda _: BeatAlignment(), add, read, wants=("sound",))


def released_beat_constancy(
    threshold: float, listen: Hearing, root: bool, rectified: bool, needs: tuple[str, ...]
) -> Measure:
    """BC as a release computes it, on SMPL-X joints."""

    def build(setup: Setup) -> ReleasedBeatConstancy:
        return ReleasedBeatConstancy(setup.mean_speed, threshold, rectified=rectified)

    def add(measure: ReleasedBeatConstancy, setup: Setup, pair: Pair) -> None:
        assert setup.body is not None
        if measure.reaches(pair.frames):
            measure.update(pair.smplx(setup.body, root), pair.reference.onsets(listen, pair.frames))

    shown = {"bc": ("BC", 10.0)}
    return Measure(shown, build, add, lambda value: {"bc": value}, needs, wants=("sound",))


def diversity() -> Measure:
    """L1 diversity by the formula, on the library's own skeleton."""

    def add(measure: L1Diversity, _: Setup, pair: Pair) -> None:
        measure.update(pair.local)

    shown = {"l1_diversity": ("L1 diversity", 1.0)}
    return Measure(shown, lambda _: L1Diversity(), add, lambda value: {"l1_diversity": value})


def deviation(root: bool) -> Measure:
    """What the releases call L1 diversity, on SMPL-X joints."""

    def add(measure: Deviation, setup: Setup, pair: Pair) -> None:
        assert setup.body is not None
        measure.update(pair.smplx(setup.body, root))

    shown = {"l1_diversity": ("L1 diversity", 1.0)}
    return Measure(shown, lambda _: Deviation(), add, lambda value: {"l1_diversity": value}, ("body",))


def face(form: Form, mse: float, lvd: float) -> Measure:
    """MSE and LVD of face vertices; mse, lvd: factors of the printed numbers."""

    def add(measure: FaceError, setup: Setup, pair: Pair) -> None:
        assert setup.body is not None
        measure.update(pair.faces(setup.body))

    def read(values: tuple[float, float]) -> dict[str, float]:
        return dict(zip(("mse", "lvd"), values))

    return Measure({"mse": ("MSE", mse), "lvd": ("LVD", lvd)}, lambda _: FaceError(form), add, read, ("body",))


def semantic_recall(form: Form) -> Measure:
    """SRGR; of the paper on the library's own skeleton, of the tools on SMPL-X joints."""

    def add(measure: SemanticRecall, setup: Setup, pair: Pair) -> None:
        if setup.body is None or form == "paper":
            joints = pair.local, local_positions(pair.clip.motion)
        else:
            joints = pair.smplx(setup.body, root=False), pair.smplx(setup.body, root=False, recorded=True)
        measure.update(*joints, pair.clip.labels["semantic"])

    needs = () if form == "paper" else ("body",)
    shown = {"srgr": ("SRGR", 1.0)}
    return Measure(shown, lambda _: SemanticRecall(form), add, lambda value: {"srgr": value}, needs, ("semantic",))


def feet() -> tuple[Measure, Measure]:
    """Foot skating (by height) and foot sliding (by the motion's own contacts), cm/s."""

    def skate(measure: FootSkating, _: Setup, pair: Pair) -> None:
        measure.update(pair.world)

    def slide(measure: FootSliding, _: Setup, pair: Pair) -> None:
        measure.update(pair.world, pair.generated[:, CONTACTS])

    skating, sliding = {"foot_skating": ("foot skating", 1.0)}, {"foot_sliding": ("foot sliding", 1.0)}
    return (
        Measure(skating, lambda _: FootSkating(), skate, lambda value: {"foot_skating": value}),
        Measure(sliding, lambda _: FootSliding(), slide, lambda value: {"foot_sliding": value}),
    )


def jerk() -> Measure:
    """Jerk of the joints without global orientation and translation, m/s^3."""

    def add(measure: Jerk, _: Setup, pair: Pair) -> None:
        measure.update(pair.local)

    return Measure({"jerk": ("jerk", 1.0)}, lambda _: Jerk(), add, lambda value: {"jerk": value})


def gestures() -> Measure:
    """Semantic gesture accuracy, where meanings are known."""

    def build(setup: Setup) -> GestureAccuracy:
        assert setup.classifier is not None
        return GestureAccuracy(setup.classifier)

    def add(measure: GestureAccuracy, _: Setup, pair: Pair) -> None:
        measure.update([pair.generated], [pair.clip])

    def read(result: SemanticResult) -> dict[str, float]:
        return {
            "gesture_accuracy": result.accuracy,
            "gesture_choice": result.choice,
            "gesture_chance": result.chance,
            "choice_chance": result.nominal,
            "false_alarms": result.false_alarms,
            "amplitude": result.amplitude,
            "words": float(result.n),
        }

    titles = ("gesture accuracy", "forced choice", "false alarms", "amplitude")
    names = ("gesture_accuracy", "gesture_choice", "false_alarms", "amplitude")
    shown = {name: (title, 1.0) for name, title in zip(names, titles)}
    return Measure(shown, build, add, read, ("classifier",), ("gesture",))
