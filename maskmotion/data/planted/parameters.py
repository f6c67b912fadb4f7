"""What a planted corpus is made from: one frozen dataclass, and the versions that have a name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from types import MappingProxyType

from maskmotion.data.contents import Contents

FPS = 30
SPEAKERS: tuple[str, ...] = ("1_amaro", "2_belise", "3_corvan", "4_dalina")  # invented people
NUM_CLASSES = 12
SPLITS: tuple[str, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Planted:
    """The parameters of a planted corpus; the defaults are `planted-v1` and never change.

    Difficulty is here. `gesture_amplitude` matters most: at 1.3 a gesture is a little larger than a beat; louder
    gestures give themselves away by speed alone, quieter ones cannot be learned by small models. Then `audio_noise`.

    Args:
        seed: every byte follows from it and the other parameters.
        train, val, test: clips of each split.
        seconds: length of every clip, in [20, 600].
        gesture_amplitude: size of semantic gestures, in units of a beat.
        gesture_chance: share of semantic words that carry their gesture, in steps of 0.1.
        distraction: size of the meaningless jolts at phrase ends; 0 leaves them out.
        audio_noise: background noise of the recordings, rms relative to the speech.
        variety: spread of amplitude, duration and form between two showings of one gesture.

    Raises:
        ValueError: a value outside its range.
    """

    seed: int = 1
    train: int = 20
    val: int = 2
    test: int = 10
    seconds: int = 60
    gesture_amplitude: float = 1.3
    gesture_chance: float = 0.7
    distraction: float = 1.0
    audio_noise: float = 0.15
    variety: float = 1.0

    def __post_init__(self) -> None:
        for split, clips in self.clips.items():
            if clips < 1:
                raise ValueError(f"{split} needs at least one clip, got {clips}")
        if not 20 <= self.seconds <= 600:
            raise ValueError(f"seconds must lie in 20..600 (a clip needs room for some phrases), got {self.seconds}")
        if not 0 <= self.gesture_chance <= 1:
            raise ValueError(f"gesture_chance is a share in 0..1, got {self.gesture_chance}")
        for name in ("seed", "gesture_amplitude", "distraction", "audio_noise", "variety"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    @classmethod
    def small(cls) -> Planted:
        """The same generator, lexicon and classes in 3.5 minutes, for tests: train 4, val 1, test 2 clips of 30 s."""
        return cls(train=4, val=1, test=2, seconds=30)

    @property
    def clips(self) -> dict[str, int]:
        """Split -> number of clips."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def name(self) -> str:
        """Name of the corpus' folder: a version's own, or one that changes with every parameter."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return next((name for name, known in CORPORA.items() if known == self), f"planted-{digest}")

    @property
    def frames(self) -> int:
        """Motion frames of every clip."""
        return self.seconds * FPS


CORPORA = MappingProxyType({"planted-v1": Planted(), "planted-v1-small": Planted.small()})


@dataclass(frozen=True)
class Partial:
    """A corpus of which not everything was recorded: other takes with the words and gestures of a whole one.

    Args:
        whole: name of that one. contents: what is there. take: which takes; 0 are the whole corpus' own.
    """

    whole: str
    contents: Contents
    take: int


PARTIAL = MappingProxyType(
    {f"{whole}-body": Partial(whole, Contents(("upper", "lower")), 1) for whole in CORPORA}
    | {
        f"{whole}-body-hands": Partial(whole, Contents(("upper", "hands", "lower"), audio=False), 2)
        for whole in CORPORA
    }
)
