"""What a BEAT2 tree holds and what is wrong with it: `maskmotion data check PATH`. Bad files are rows, never exceptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TypeVar

from maskmotion.data.audio import Audio, load_audio
from maskmotion.data.beat2 import (
    SPLIT_FILE,
    SPLITS,
    Recording,
    SemanticRow,
    read_labels,
    read_semantics,
    read_split,
    speaker_index,
)
from maskmotion.data.contents import CONTENTS_FILE, read_contents
from maskmotion.data.textgrid import read_words
from maskmotion.motion.files import FPS, MotionFile, read_motion

MAX_DIFFERENCE = 1.0  # seconds by which motion and audio may differ (and are cropped) before the report remarks on it

_Value = TypeVar("_Value")


@dataclass
class Row:
    """One recording. Lengths in seconds; None where the file is absent or cannot be read.

    `problems` keep a recording from being used, `notes` are worth knowing.
    """

    id: str
    split: str
    motion_seconds: float | None = None
    fps: float | None = None
    audio_seconds: float | None = None
    words: int | None = None
    semantic_rows: int | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float | None:
        """Seconds by which the audio outlasts the motion (negative: the motion is longer)."""
        if self.motion_seconds is None or self.audio_seconds is None:
            return None
        return self.audio_seconds - self.motion_seconds


@dataclass
class Report:
    """What `check` found: a row for every line of the split csv, and what concerns the tree as a whole."""

    root: Path
    rows: list[Row] = field(default_factory=list)
    tree_problems: list[str] = field(default_factory=list)
    tree_notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that stands in the way of loading, one sentence each; empty when the tree is usable."""
        return self.tree_problems + [f"{row.id}: {problem}" for row in self.rows for problem in row.problems]

    @property
    def notes(self) -> list[str]:
        """What is worth knowing and stops nothing."""
        return self.tree_notes + [f"{row.id}: {note}" for row in self.rows for note in row.notes]

    @property
    def splits(self) -> dict[str, int]:
        """Recordings in each split."""
        count = Counter(row.split for row in self.rows)
        return {split: count[split] for split in SPLITS}

    def render(self, width: int = 120) -> str:
        """The report as a text table of `width` columns, then problems and notes."""
        from rich.console import Console
        from rich.table import Table

        table = Table("recording", "split")
        for column in ("motion s", "fps", "audio s", "audio - motion s", "words", "semantic rows"):
            table.add_column(column, justify="right")
        table.add_column("state")
        for row in self.rows:
            numbers = (row.motion_seconds, row.fps, row.audio_seconds, row.difference)
            cells = [_cell(number) for number in (*numbers, row.words, row.semantic_rows)]
            table.add_row(row.id, row.split, *cells, "bad" if row.problems else "ok")
        console = Console(file=StringIO(), width=width, highlight=False, markup=False, emoji=False)
        if self.rows:
            console.print(table)
        console.print(f"{self.root}: " + ", ".join(f"{count} {split}" for split, count in self.splits.items()))
        for title, lines in (("Problems", self.problems), ("Notes", self.notes)):
            if lines:
                console.print("\n".join([f"{title} ({len(lines)})", *(f"  {line}" for line in lines)]), soft_wrap=True)
        if not self.problems:
            console.print("No problems.")
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()


def check(root: str | Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read every file that the split csv of a BEAT2 tree names and say what is wrong; raises for no bad file.

    `progress` is called with (done, total) after each recording.
    """
    report = Report(Path(root))
    try:
        found, contents = read_split(root), read_contents(root)
    except (OSError, ValueError) as error:
        report.tree_problems.append(str(error))
        return report
    for recording in found:
        report.rows.append(_row(recording, contents.audio))
        if progress is not None:
            progress(len(report.rows), len(found))
    for name, count in Counter(row.id for row in found).items():
        if count > 1:
            splits = ", ".join(row.split for row in found if row.id == name)
            report.tree_problems.append(f"{name} stands {count} times in {SPLIT_FILE} ({splits}); keep one line")
    if not found:
        report.tree_problems.append(f"{Path(root) / SPLIT_FILE} names no recording")
    elif not any(row.split == "train" and row.motion_seconds for row in report.rows):
        report.tree_notes.append("no recording of the split train has motion: nothing to train on")
    if not contents.whole:
        report.tree_notes.append(f"{CONTENTS_FILE}: it has only {contents.describe()}; name it after a whole data set")
    unlisted = sorted({path.stem for path in Path(root).glob("wave16k/*.wav")} - {row.id for row in found})
    if unlisted:
        names = ", ".join(unlisted[:5]) + (", ..." if len(unlisted) > 5 else "")
        report.tree_notes.append(f"{len(unlisted)} recording(s) in wave16k/ are in no split: {names}")
    return report


def _row(recording: Recording, heard: bool) -> Row:
    row = Row(recording.id, recording.split)
    _try(row, lambda: speaker_index(recording.id))
    audio = _try(row, lambda: load_audio(recording.audio)) if heard else None
    motion = _try(row, lambda: read_motion(recording.motion)) if recording.motion.is_file() else None
    if audio is not None:
        row.audio_seconds = audio.seconds
    if motion is not None:
        row.motion_seconds, row.fps = motion.frames / motion.fps, motion.fps
    elif not recording.motion.is_file():
        row.notes.append("speech only: no motion in smplxflame_30/")
    _lengths(row, audio, motion)
    if recording.textgrid.is_file():
        words = _try(row, lambda: read_words(recording.textgrid))
        row.words = None if words is None else len(words)
    if recording.semantics.is_file():
        semantics = _try(row, lambda: read_semantics(recording.semantics))
        row.semantic_rows = None if semantics is None else len(semantics)
        _coverage(row, semantics)
    if recording.labels.is_file():
        _try(row, lambda: read_labels(recording.labels, _frames(audio, motion, heard)))
    return row


def _frames(audio: Audio | None, motion: MotionFile | None, heard: bool = True) -> int:
    if (audio is None and heard) or motion is None:
        return 0
    frames = int((motion.frames - 1) * FPS / motion.fps + 1e-6) + 1
    return frames if audio is None else min(audio.frames(FPS), frames)


def _lengths(row: Row, audio: Audio | None, motion: MotionFile | None) -> None:
    if row.fps is not None and row.fps != FPS:
        row.notes.append(f"{row.fps:g} frames per second, resampled to {FPS}")
    if audio is not None and motion is not None and not _frames(audio, motion):
        row.problems.append(f"audio of {audio.seconds:.3f} s is shorter than one motion frame")
    if row.difference is not None and abs(row.difference) > MAX_DIFFERENCE:
        longer = "audio" if row.difference > 0 else "motion"
        row.notes.append(f"the {longer} is {abs(row.difference):.2f} s longer and is cropped; are they one take?")


def _coverage(row: Row, semantics: list[SemanticRow] | None) -> None:
    """Remark on time without a semantic row, which scores 0."""
    shared = min((s for s in (row.motion_seconds, row.audio_seconds) if s is not None), default=None)
    if semantics is None or shared is None:
        return
    covered = reached = 0.0
    for interval in sorted(semantics, key=lambda interval: interval.start):
        start, end = max(interval.start, reached), min(interval.end, shared)
        covered += max(0.0, end - start)
        reached = max(reached, end)
    if shared - covered > 0.1:
        row.notes.append(f"the semantic rows cover {covered:.2f} s of {shared:.2f} s; the rest scores 0")


def _try(row: Row, read: Callable[[], _Value]) -> _Value | None:
    try:
        return read()
    except (OSError, ValueError) as error:
        row.problems.append(str(error))
        return None


def _cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
