"""Motion files of anyone's model beside the recordings of a BEAT2 tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

from torch import Tensor

from maskmotion.data.beat2 import load_clip, load_split, recordings
from maskmotion.data.contents import read_contents
from maskmotion.data.corpus import Corpus, data_root
from maskmotion.motion.files import read_motion, to_tensor
from maskmotion.saved import RECIPE
from maskmotion.shapes import Float
from maskmotion.types import Clip

SPLITS = {"test": "test", "validation": "val", "train": "train"}
_ENDINGS = ("", "_output")  # the second is what EMAGE's demonstration appends


class Later(Sequence[Clip]):
    """Clips that are read when somebody first looks: a whole training split takes minutes and gigabytes."""

    def __init__(self, read: Callable[[], Sequence[Clip]]) -> None:
        self._read = read

    @cached_property
    def clips(self) -> Sequence[Clip]:
        """The clips, read now."""
        return self._read()

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...

    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        return self.clips[index]

    def __len__(self) -> int:
        return len(self.clips)


def holds_files(source: str | Path) -> bool:
    """Whether this is a folder of motion files, and not a run or a saved model."""
    path = Path(source)
    return path.is_dir() and not (path / RECIPE).is_file() and any(path.glob("*.npz"))


def file_of(folder: Path, recording_id: str) -> Path | None:
    """The motion file of a recording, ID.npz or ID_output.npz; None where there is none."""
    return next((path for end in _ENDINGS if (path := folder / f"{recording_id}{end}.npz").is_file()), None)


def corpus_of_files(data: str | Path, split: str, folder: str | Path) -> tuple[Corpus, list[str]]:
    """The recordings of a split that the folder has a file for, as a corpus; and sentences on what is left out.

    The training split is read only if an extractor is to learn from it.

    Raises:
        ValueError: no recording of the split has motion and a file.
    """
    root, folder = data_root(data), Path(folder)
    rows = [row for row in recordings(root, SPLITS[split]) if row.motion.is_file()]
    chosen = [row.id for row in rows if file_of(folder, row.id) is not None]
    if not chosen:
        wanted = ", ".join(f"{row.id}.npz" for row in rows[:3]) or f"nothing, as {root} has no motion in this split"
        raise ValueError(f"{folder} has no file for a recording of the split {split!r}; it asks for {wanted}")
    notes = []
    if len(chosen) < len(rows):
        missing = [row.id for row in rows if row.id not in chosen]
        notes.append(f"{len(missing)} of {len(rows)} recordings have no file: {', '.join(missing[:6])}")
    used = {file_of(folder, name) for name in chosen}
    if rest := sorted(path.name for path in folder.glob("*.npz") if path not in used):
        notes.append(f"{len(rest)} files belong to no recording of the split: {', '.join(rest[:6])}")
    clips = Later(lambda: [load_clip(root, name) for name in chosen])
    train = clips if split == "train" else Later(lambda: load_split(root, "train"))
    kept = {"validation": clips} if split == "validation" else {}
    return Corpus(root.name, train, load_test=lambda: clips, contents=read_contents(root), root=root, **kept), notes


def read_files(folder: str | Path, clips: Sequence[Clip]) -> tuple[list[Float[Tensor, "_ D"]], list[str]]:
    """The motion [T, 437] of each clip's file at 30 fps; and sentences on lengths that differ. Errors of `read_motion`."""
    motions, notes = [], []
    for clip in clips:
        path = file_of(Path(folder), clip.name)
        assert path is not None  # corpus_of_files has looked
        motions.append(to_tensor(read_motion(path)))
        if len(motions[-1]) != clip.frames:
            notes.append(f"{path.name} has {len(motions[-1])} frames, its recording {clip.frames}: cut to the shorter")
    return motions, notes
