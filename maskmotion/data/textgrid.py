"""Transcripts with times: Praat TextGrids (through praatio) and plain text; words as frame-aligned labels."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskmotion.data.audio import Audio
from maskmotion.shapes import Int
from maskmotion.types import SAMPLE_RATE, Word

TIME_SLACK = 5e-4  # seconds; label files round to milliseconds, so a frame this close to a bound is on it

# Both of Praat's text formats, long and short: the number of tiers, then the number of entries of every tier.
_TIERS = re.compile(r"<exists>\s*(?:size\s*=\s*)?(\d+)")
_NUMBER = r"[\d.eE+-]+"
_ENTRIES = re.compile(
    r'"(?:IntervalTier|TextTier)"\s+(?:name\s*=\s*)?"(?:[^"]|"")*"\s+'
    rf"(?:xmin\s*=\s*)?{_NUMBER}\s+(?:xmax\s*=\s*)?{_NUMBER}\s+(?:(?:intervals|points)\s*:\s*size\s*=\s*)?(\d+)"
)


def read_textgrid(path: str | Path) -> dict[str, tuple[Word, ...]]:
    """Tier name -> its marks in order of time; empty marks are silence and are left out.

    Points of a point tier start and end at the same time. Any format praatio reads: long, short, JSON.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a TextGrid, or fewer tiers or marks than it announces (a file cut short).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such TextGrid")
    from praatio import textgrid

    try:
        grid = textgrid.openTextgrid(str(path), True, reportingMode="silence", duplicateNamesMode="rename")
    except Exception as error:  # praatio raises nearly anything on a damaged file
        raise ValueError(
            f"{path}: not a TextGrid, or one cut short ({type(error).__name__}: {error}); copy it again, save it "
            f"again from Praat, or remove it: transcripts are optional"
        ) from error
    _require_whole(path, [len(tier.entries) for tier in grid.tiers])
    return {tier.name: tuple(_marks(tier.entries)) for tier in grid.tiers}


def read_words(path: str | Path) -> tuple[Word, ...]:
    """The words of a TextGrid: its tier "words" (any case), or its first tier (BEAT2). Errors: `read_textgrid`."""
    tiers = read_textgrid(path)
    named = (marks for name, marks in tiers.items() if name.lower() == "words")
    return next(named, next(iter(tiers.values()), ()))


def read_transcript(path: str | Path, seconds: float | int, audio: Audio | None = None) -> tuple[Word, ...]:
    """Words with times from a `.TextGrid` or a plain `.txt`.

    Plain words are spread over `seconds` in proportion to their letters: an approximation, good to about a second in
    fluent speech. With `audio` they are spread over the time in which somebody speaks (sound above a tenth of the loud
    passages), which follows the pauses. Raises FileNotFoundError, ValueError for other files and damaged ones.
    """
    path = Path(path)
    if path.suffix.lower() == ".textgrid":
        return read_words(path)
    if path.suffix.lower() != ".txt":
        raise ValueError(f"{path}: a transcript is a .TextGrid or a plain .txt, got {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such transcript")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason}); save the transcript as UTF-8") from error
    words = [word for word in (raw.strip(".,;:!?\"'()[]«»„“”‘’…-–—") for raw in text.split()) if word]
    share = np.cumsum([0, *(len(word) for word in words)]) / max(1, sum(len(word) for word in words))
    times = _spoken_times(share, seconds, audio)
    return tuple(Word(word, float(a), float(b)) for word, a, b in zip(words, times[:-1], times[1:]))


def word_id(text: str) -> int:
    """A stable number for a word: CRC-32 of the lower-cased text, never 0. No vocabulary file is needed."""
    return zlib.crc32(text.lower().encode()) or 1


def frame_words(words: tuple[Word, ...], frames: int, fps: int = 30) -> Int[Tensor, " T"]:
    """`word_id` of the word spoken at each frame's time t / fps (start included, end not); 0 for silence."""
    if not words:
        return torch.zeros(frames, dtype=torch.long)
    ordered = sorted(words, key=lambda word: word.start)
    starts, ends = np.array([w.start for w in ordered]), np.array([w.end for w in ordered])
    ids = np.array([word_id(w.text) for w in ordered], dtype=np.int64)
    times = np.arange(frames) / fps + TIME_SLACK
    latest = np.searchsorted(starts, times, side="right") - 1
    spoken = (latest >= 0) & (times < ends[latest])
    return torch.from_numpy(np.where(spoken, ids[latest], 0))


def _marks(entries: tuple) -> list[Word]:
    texts = [
        (entry[-1].strip(), float(entry[0]), float(entry[1] if len(entry) == 3 else entry[0])) for entry in entries
    ]
    return [Word(text, start, end) for text, start, end in texts if text]


def _require_whole(path: Path, found: list[int]) -> None:
    """Praatio reads what is there of a cut file without a word; the announced counts tell."""
    data = path.read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")
    tiers = _TIERS.search(text)
    announced = [int(count) for count in _ENTRIES.findall(text)]
    if tiers is None:  # praatio's JSON, which does not parse when cut
        return
    whole = len(announced) == int(tiers[1]) == len(found) and all(a <= b for a, b in zip(announced, found))
    if not whole:
        raise ValueError(
            f"{path}: this TextGrid is cut short: it announces {tiers[1]} tiers with {announced} marks and holds "
            f"{found}; copy it again, save it again from Praat, or remove it: transcripts are optional"
        )


def _spoken_times(share: np.ndarray, seconds: float | int, audio: Audio | None) -> np.ndarray:
    """Where on the clock each share (0..1) of the speaking time has passed."""
    hop = SAMPLE_RATE // 100
    steps = 0 if audio is None else len(audio.samples) // hop
    if audio is None or not steps:
        return share * seconds
    loudness = audio.samples[: steps * hop].view(steps, hop).square().mean(dim=1).sqrt().numpy()
    speaking = loudness > 0.1 * np.quantile(loudness, 0.95)
    if not speaking.any():
        return share * seconds
    # A sliver of every pause keeps the clock strictly rising, so that it can be inverted.
    passed = np.concatenate([[0], np.cumsum(np.where(speaking, 1.0, 1e-6))])
    return np.interp(share * passed[-1], passed, np.linspace(0, steps * hop / SAMPLE_RATE, steps + 1)).clip(0, seconds)
