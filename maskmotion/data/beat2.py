"""A BEAT2 tree, read in place: split csv, wave16k/, smplxflame_30/, and optional textgrid/, sem/, labels/."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskmotion.data.audio import Audio, load_audio, sample_of
from maskmotion.data.contents import read_contents
from maskmotion.data.textgrid import TIME_SLACK, frame_words, read_words
from maskmotion.motion.files import FPS, read_motion, to_tensor
from maskmotion.motion.layout import SMPLX
from maskmotion.shapes import Float
from maskmotion.types import Clip, Word

SPLITS = ("train", "val", "test", "additional")
SPLIT_FILE = "train_test_split.csv"
_REUSED_SLOTS = {30: 7, 28: 13, 27: 18}  # late speakers hold the places of three that the data set removed

# Label -> score of the semantic annotation, where a row gives no score of its own.
SEMANTIC_SCORES = {
    "00_nogesture": 0.0,
    "01_beat_align": 0.1,
    **{f"{i:02d}_deictic_{level}": i / 10 for i, level in zip((2, 3, 4), "lmh")},
    **{f"{i:02d}_iconic_{level}": i / 10 for i, level in zip((5, 6, 7), "lmh")},
    **{f"{i:02d}_metaphoric_{level}": i / 10 for i, level in zip((8, 9, 10), "lmh")},
    "habit": 0.0,
    "need_cut": 0.0,
}


@dataclass(frozen=True)
class Recording:
    """One line of the split csv, and where its files belong (they may be absent)."""

    root: Path
    id: str
    split: str

    @property
    def audio(self) -> Path:
        """The waveform; every recording has one."""
        return self.root / "wave16k" / f"{self.id}.wav"

    @property
    def motion(self) -> Path:
        """The SMPL-X motion; absent for a speech-only recording."""
        return self.root / "smplxflame_30" / f"{self.id}.npz"

    @property
    def textgrid(self) -> Path:
        """The transcript, optional."""
        return self.root / "textgrid" / f"{self.id}.TextGrid"

    @property
    def semantics(self) -> Path:
        """The semantic annotation, optional."""
        return self.root / "sem" / f"{self.id}.txt"

    @property
    def labels(self) -> Path:
        """Further frame-aligned labels, optional: every array [T] of the npz is one."""
        return self.root / "labels" / f"{self.id}.npz"


@dataclass(frozen=True)
class SemanticRow:
    """One interval of a semantic annotation; times in seconds."""

    label: str
    start: float
    end: float
    score: float


def speaker_index(recording_id: str) -> int:
    """Row of the speaker in an embedding of 25: the id's first number - 1, with 30 -> 7, 28 -> 13, 27 -> 18."""
    number = recording_id.split("_")[0]
    if not (number.isascii() and number.isdigit()) or int(number) < 1:
        raise ValueError(f"{recording_id!r}: a BEAT2 id starts with the speaker's number, as in 2_scott_0_1_1")
    return _REUSED_SLOTS.get(int(number), int(number) - 1)


def read_split(root: str | Path) -> list[Recording]:
    """Every line of the split csv, in order, whether or not its files exist. FileNotFoundError, ValueError."""
    path = Path(root) / SPLIT_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: not found; a BEAT2 tree is a folder such as beat_english_v2.0.0 with {SPLIT_FILE}, wave16k/ and "
            f"smplxflame_30/ in it"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
        if not {"id", "type"} <= set(rows.fieldnames or ()):
            raise ValueError(f"the first line must name the columns id,type; it says {rows.fieldnames}")
        found = [(rows.line_num, (row["id"] or "").strip(), (row["type"] or "").strip()) for row in rows]
    except (ValueError, csv.Error) as error:  # bytes that are no text are a ValueError too
        raise ValueError(f"{path}: not a readable split csv: {error}") from error
    for line, name, split in found:
        if split not in SPLITS or not name or {"/", "\\"} & set(name):
            raise ValueError(f"{path}, line {line}: need an id and one of {', '.join(SPLITS)}, got {name!r}, {split!r}")
    return [Recording(Path(root), name, split) for _, name, split in found]


def recordings(root: str | Path, split: str | None = None) -> list[Recording]:
    """The recordings of a split (of all, for None), each once; all have audio, speech-only ones have no motion.

    Where parts.json says that the tree has no speech, none needs audio.

    Raises:
        ValueError: an unknown split, or a split csv that cannot be read.
        FileNotFoundError: no BEAT2 tree, or a split csv that names absent recordings.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"no split named {split!r}; BEAT2 has {', '.join(SPLITS)}")
    found = list({row.id: row for row in read_split(root) if split in (None, row.split)}.values())
    heard = read_contents(root).audio
    absent = [row.audio for row in found if heard and not row.audio.is_file()]
    if absent:
        raise FileNotFoundError(
            f"{Path(root) / SPLIT_FILE} names {len(absent)} recording(s) whose audio is absent: "
            f"{', '.join(str(path.relative_to(root)) for path in absent[:5])}{', ...' if len(absent) > 5 else ''}; "
            f"run `maskmotion data check {root}` for the whole list, then add the files or remove the lines"
        )
    return found


def load_clip(root: str | Path, recording_id: str) -> Clip:
    """One recording with motion, audio, words and labels at 30 fps, cropped to the shorter of motion and audio.

    What the tree's parts.json does not name is at rest, whatever the files hold.

    Labels: "semantic" where sem/ has the recording, "words" where textgrid/ has it, and the arrays of labels/.
    Raises what the readers of its files raise, with the file's name.
    """
    return _load(Recording(Path(root), recording_id, ""))


def load_split(root: str | Path, split: str, progress: Callable[[int, int], None] | None = None) -> list[Clip]:
    """Every recording of a split that has motion. `progress` is called with (done, total) after each.

    Raises what `recordings` raises, and ValueError when no recording of the split has motion.
    """
    found = [row for row in recordings(root, split) if row.motion.is_file()]
    if not found:
        raise ValueError(
            f"{Path(root) / SPLIT_FILE}: no recording of the split {split!r} has motion in smplxflame_30/; "
            f"run `maskmotion data check {root}` to see what is there"
        )
    clips = []
    for row in found:
        clips.append(_load(row))
        if progress is not None:
            progress(len(clips), len(found))
    return clips


def read_semantics(path: str | Path) -> list[SemanticRow]:
    """The rows of a sem file: label, start, end, duration, score, by tabs or spaces. ValueError names file and line."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split(maxsplit=5)
        if not fields:
            continue
        try:
            start, end = float(fields[1]), float(fields[2])
            score = float(fields[4]) if len(fields) > 4 else SEMANTIC_SCORES[fields[0]]
            if not (0 <= start <= end < np.inf and 0 <= score <= 1):
                raise ValueError("times must rise and a score lies in 0..1")
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(
                f"{path}, line {number}: need `label start end duration score`, got {line[:80]!r} ({error})"
            ) from error
        rows.append(SemanticRow(fields[0], start, end, score))
    return rows


def frame_semantics(rows: list[SemanticRow], frames: int, fps: int = FPS) -> Float[Tensor, " T"]:
    """Score at each frame's time t / fps: the first row that holds it (start included, end not), 0 where none does."""
    scores = torch.zeros(frames)
    for row in reversed(rows):
        first, after = (max(0, int(np.ceil((time - TIME_SLACK) * fps))) for time in (row.start, row.end))
        scores[first:after] = row.score
    return scores


def read_labels(path: Path, frames: int) -> dict[str, Tensor]:
    """The arrays of a label file, cut to `frames`: bool, int64 or float32. ValueError for other shapes and lengths."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except Exception as error:  # a damaged zip makes numpy and zipfile raise nearly anything
        raise ValueError(f"{path}: not an npz of plain arrays ({error}); write it again with numpy.savez") from error
    for key, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "biuf" or len(array) < frames:
            raise ValueError(
                f"{path}: label {key!r} must be numbers [T] with T at least the {frames} frames of motion and audio, "
                f"got {list(array.shape)} of {array.dtype}"
            )
    kinds = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float32}
    return {key: torch.from_numpy(array[:frames].astype(kinds[array.dtype.kind])) for key, array in arrays.items()}


def _load(recording: Recording) -> Clip:
    contents = read_contents(recording.root)
    audio: Audio | None = load_audio(recording.audio) if contents.audio else None
    file = read_motion(recording.motion)
    motion = torch.where(contents.known, to_tensor(file), SMPLX.rest)
    frames = len(motion) if audio is None else min(len(motion), audio.frames(FPS))
    if not frames:
        raise ValueError(f"{recording.audio}: shorter than one motion frame (1/{FPS} s)")
    words: tuple[Word, ...] | None = None
    labels: dict[str, Tensor] = {}
    if recording.semantics.is_file():
        labels["semantic"] = frame_semantics(read_semantics(recording.semantics), frames)
    if recording.textgrid.is_file():
        words = tuple(word for word in read_words(recording.textgrid) if word.start < frames / FPS)
        labels["words"] = frame_words(words, frames)
    if recording.labels.is_file():
        labels |= read_labels(recording.labels, frames)
    return Clip(
        name=recording.id,
        motion=motion[:frames].clone(),
        audio=None if audio is None else audio.samples[: sample_of(frames, FPS)].clone(),
        fps=FPS,
        speaker=speaker_index(recording.id),
        words=words,
        labels=labels,
        betas=torch.from_numpy(file.betas.astype(np.float32)),
    )
