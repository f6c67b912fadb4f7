"""Which clip a picture shows: by its id in a data set, from a speech file or a motion file, and which stretch of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maskmotion.data.beat2 import load_clip, recordings
from maskmotion.data.corpus import data_root
from maskmotion.data.windows import split_time
from maskmotion.evaluation.masks import semantic_frames
from maskmotion.model import Model
from maskmotion.shapes import Int
from maskmotion.types import Clip

_HELD_OUT_FIRST = ("test", "val", "train", "additional")
_NAMED = 8  # ids that an error lists


def open_clip(
    name: str | Path | None,
    data: str | Path = "planted",
    *,
    model: Model | None = None,
    speech: str | Path | None = None,
    text: str | Path | None = None,
) -> Clip:
    """A clip with motion and speech, to look at.

    Args:
        name: id of a recording of `data`; or a motion file (.npz), whose `speech` must be named; or a speech file, for
            which `model` makes the motion; None: the first recording of the test split, or of the first split there is.
        data: "planted", or the path of a BEAT2 tree.
        text: transcript of a file; recordings of a data set bring their own.

    Raises:
        ValueError: an id that the data set does not have, a motion file without speech, a speech file without model.
        FileNotFoundError: no such file or data set.
    """
    suffix = "" if name is None else Path(name).suffix.lower()
    if suffix == ".npz":
        assert name is not None
        return _from_motion(Path(name), speech, text)
    if speech is not None or (text is not None and not suffix):
        raise ValueError(f"speech and text go with a file of your own; the clip is {name or 'one of the data set'}")
    if name is not None and (Path(name).is_file() or suffix in (".wav", ".flac", ".mp3", ".ogg")):
        if model is None:
            raise ValueError(f"{name}: a speech file has no motion; give the model that makes it, or a motion file")
        return model.generate(name, text=text)
    root, known = _with_motion(data)
    if name is not None and str(name) not in known:
        some = ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
        raise ValueError(
            f"{root} has no recording {str(name)!r} with motion; it has {some}. A file ends in .npz or .wav"
        )
    return load_clip(root, known[0] if name is None else str(name))


def held_out(data: str | Path = "planted", count: int = 8) -> list[str]:
    """Ids of up to `count` recordings with motion, evenly from the test split, or from the first split there is.

    Errors as in `open_clip`.
    """
    root, known = _with_motion(data)
    rows = {row.id: row.split for row in recordings(root)}
    split = [name for name in known if rows[name] == rows[known[0]]]
    return split[:: -(-len(split) // count)]


def _with_motion(data: str | Path) -> tuple[Path, list[str]]:
    """Folder of the data set, and ids of its recordings that have motion, those of the test split first."""
    root = data_root(data)
    rows = sorted(recordings(root), key=lambda row: _HELD_OUT_FIRST.index(row.split))
    known = [row.id for row in rows if row.motion.is_file()]
    if not known:
        raise ValueError(f"{root}: no recording has motion; run `maskmotion data check {root}` to see what is there")
    return root, known


def excerpt(clip: Clip, seconds: float | int, start: float | int | None = None) -> Clip:
    """A stretch of a clip; the whole clip where it is not longer.

    start: seconds; None: where frames with and without meaning are most evenly mixed, at a whole second (the beginning
    where no meaning is known). ValueError for a start outside the clip.
    """
    frames = min(clip.frames, round(seconds * clip.fps))
    if frames < 1:
        raise ValueError(f"{clip.name}: a stretch has at least one frame, got {seconds:g} s")
    first = first_frame(clip, frames, start)
    if frames == clip.frames:
        return clip
    name = f"{clip.name} from {first / clip.fps:g} s on"
    part = split_time(clip, first / clip.fps)[1] if first else clip
    return replace(split_time(part, frames / clip.fps)[0] if part.frames > frames else part, name=name)


def first_frame(clip: Clip, frames: int, start: float | int | None = None) -> int:
    """The frame at which `excerpt` starts, so that `frames` frames follow it if the clip has them."""
    last = max(0, clip.frames - frames)
    if start is not None:
        if not 0 <= start * clip.fps < clip.frames:
            raise ValueError(f"{clip.name} lasts {clip.frames / clip.fps:.2f} s, so nothing starts at {start:g} s")
        return min(round(start * clip.fps), last)
    if "semantic" not in clip.labels or last == 0:
        return 0
    share = semantic_frames(clip.labels).float().unfold(0, frames, clip.fps).mean(1)
    return int(torch.minimum(share, 1 - share).argmax()) * clip.fps


def spoken(clip: Clip) -> dict[str, Any]:
    """What the pictures of masks and attention show beside their rows: audio, fps, semantic, gesture, words.

    ValueError for a clip without audio.
    """
    if clip.audio is None:
        raise ValueError(f"{clip.name} has no sound, so there is nothing that speech could choose by")
    gesture: Int[torch.Tensor, " T"] | None = clip.labels.get("gesture")
    return {
        "audio": clip.audio,
        "fps": clip.fps,
        "semantic": clip.labels.get("semantic"),
        "gesture": gesture,
        "words": clip.words or (),
    }


def _from_motion(path: Path, speech: str | Path | None, text: str | Path | None) -> Clip:
    from maskmotion.data.audio import load_audio, sample_of
    from maskmotion.data.textgrid import read_transcript
    from maskmotion.motion.files import FPS, read_motion, to_tensor

    if speech is None:
        raise ValueError(f"{path}: a motion file holds no sound; name its speech too (--speech)")
    motion, audio = to_tensor(read_motion(path)), load_audio(speech)
    frames = min(len(motion), audio.frames(FPS))
    if not frames:
        raise ValueError(f"{speech}: shorter than one motion frame (1/{FPS} s)")
    words = None if text is None else read_transcript(text, audio.seconds, audio)
    return Clip(path.stem, motion[:frames].clone(), audio.samples[: sample_of(frames, FPS)].clone(), FPS, words=words)
