"""Corpus: the clips of a data set by split, from the planted corpus or a BEAT2 tree; the test split is read on demand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskmotion.data.contents import Contents, read_contents
from maskmotion.motion.layout import BodyLayout
from maskmotion.types import Clip

HELD_OUT = 0.2  # share of the time that is held out where there is only one clip to learn from
PLANTED = ("planted", "planted-v1", "planted-v1-small")
PLANTED_PARTS = tuple(f"{name}-{rest}" for name in PLANTED for rest in ("body", "body-hands"))  # lack face, speech, ...


@dataclass(frozen=True)
class Corpus:
    """Clips to learn from and clips to follow learning on; `test` is loaded only when somebody measures.

    Make one by hand from your own clips: `Corpus("mine", train=[...], validation=[...])`. `contents` says which parts
    were recorded, and whether there is speech. `root` is the tree that the clips are from, where there is one.
    """

    name: str
    train: Sequence[Clip]
    validation: Sequence[Clip] = ()
    load_test: Callable[[], Sequence[Clip]] = field(default=lambda: ())
    contents: Contents = Contents()  # noqa: RUF009  frozen
    root: Path | None = None

    @property
    def test(self) -> Sequence[Clip]:
        """The clips nobody learns from or chooses by."""
        return self.load_test()

    @property
    def fingerprint(self) -> str:
        """Names and contents of the training and validation clips, as 8 hexadecimal digits."""
        digest = 0
        for clip in (*self.train, *self.validation):
            digest = zlib.crc32(clip.name.encode(), digest)
            digest = zlib.crc32(clip.motion.numpy().tobytes(), digest)
        return f"{digest:08x}"

    def require(self, layout: BodyLayout) -> None:
        """ValueError unless it has every part of this layout, and speech."""
        lacks = [*self.contents.missing(layout), *([] if self.contents.audio else ["speech"])]
        if lacks:
            raise ValueError(
                f"{self.name} has no {', no '.join(lacks)}: it can only be learned from together with a data set that has; "
                f"name that one first, as in `--data planted --data {self.name}`, and measure on that one"
            )


def open_corpus(data: str | Path | Corpus, window: int = 64) -> Corpus:
    """The planted corpus by name ("planted", made on first use), or a BEAT2 tree by path.

    Without a validation split one clip in ten is held out; with a single clip, its last 20 % (and a gap of one window
    before it, so that no frame is on both sides). Raises FileNotFoundError and ValueError with the way out.
    """
    if isinstance(data, Corpus):
        return data
    root = data_root(data)
    train, validation = _clips(root, "train"), _clips(root, "val")
    if not train:
        raise ValueError(f"{root}: its train_test_split.csv names no training clip; see `maskmotion data check {root}`")
    if not validation:
        train, validation = hold_out(train, window)
    return Corpus(root.name, train, validation, lambda: _clips(root, "test"), read_contents(root), root)


def data_root(data: str | Path) -> Path:
    """Folder of a data set: a BEAT2 tree's own path, or that of a planted corpus by name, which is made on first use.

    FileNotFoundError when there is neither.
    """
    if str(data) in PLANTED + PLANTED_PARTS:
        from maskmotion.data.planted import planted_root

        name = str(data)
        return planted_root(name=name if name.startswith("planted-v1") else name.replace("planted", "planted-v1", 1))
    if not Path(data).is_dir():
        raise FileNotFoundError(f"no data at {data}: give {', '.join(PLANTED)}, or the path of a BEAT2 tree")
    return Path(data)


def _clips(root: Path, split: str) -> list[Clip]:
    """The clips of a split; none where the split has no motion. What its csv names and is not there is an error."""
    from maskmotion.data.beat2 import load_split, recordings

    return load_split(root, split) if any(row.motion.is_file() for row in recordings(root, split)) else []


def hold_out(clips: list[Clip], window: int) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from and clips to follow: every tenth clip, or the end of the only one."""
    if len(clips) > 1:
        count = max(1, len(clips) // 10)
        return clips[:-count], clips[-count:]
    from maskmotion.data.windows import split_time

    clip = clips[0]
    seconds, gap = clip.frames / clip.fps, window / clip.fps
    end = seconds * (1 - HELD_OUT)
    if end - gap < 2 * gap:
        raise ValueError(f"{clip.name} has {seconds:.1f} s: too short to hold some out; give at least {15 * gap:.0f} s")
    _, validation = split_time(clip, end)
    train, _ = split_time(clip, end - gap)
    return [train], [validation]
