"""Clips to batches: fixed-length windows, gathered by tensor indexing, and the cut of one clip in time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from maskmotion.data.audio import sample_of
from maskmotion.data.contents import Contents
from maskmotion.data.features import FeatureCache
from maskmotion.interfaces import Extractor
from maskmotion.motion.layout import SMPLX
from maskmotion.types import NO_GESTURE, Batch, Clip, Word

_NEUTRAL = {"gesture": NO_GESTURE, "word_class": NO_GESTURE}  # elsewhere 0 (False): what padding and absence mean


class WindowDataset:
    """Windows of `window` frames, one every `stride`; a last one ends with its clip, so that no frame is lost.

    A clip shorter than a window is one row with padding: `valid` False, motion at rest, audio, features and labels
    neutral (0; -1 for "gesture" and "word_class"). A label that only some clips have is neutral in the others.
    Clips, features and labels are concatenated once; a batch is a handful of tensor look-ups.

    Works as a `torch.utils.data.DataLoader` data set with a batch sampler and `collate_fn=lambda batch: batch`.

    Args:
        clips: at least one; all of one frame rate and with the 437 columns of `SMPLX`.
        window: frames a row.
        stride: frames between the starts of windows.
        extractors: audio features to compute for whole clips; they appear in `Batch.features` by their key.
        cache: where features are kept; None computes them and keeps nothing on disk.
        audio: also give the waveforms [B, round(window * 16000 / fps)], from sample round(first * 16000 / fps).
        contents: what the clips have; without speech, waveforms and features are zeros and the batch is `silent`.
        number: of the data set among those of a training. Above 0 no speaker is named: its people are none of the
            main data set's.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        window: int = 64,
        stride: int = 20,
        extractors: Sequence[Extractor] = (),
        cache: FeatureCache | None = None,
        audio: bool = False,
        contents: Contents = Contents(),  # noqa: B008  frozen
        number: int = 0,
    ) -> None:
        if window < 1 or stride < 1:
            raise ValueError(f"window and stride are frames, at least 1, got window={window}, stride={stride}")
        _require_alike(clips, contents.audio and (audio or bool(extractors)))
        self.clips, self.window, self.fps = tuple(clips), window, clips[0].fps
        self.contents, self.number = contents, number
        lengths = [clip.frames for clip in clips]
        starts = [window_starts(frames, window, stride) for frames in lengths]
        self._clip = torch.arange(len(clips)).repeat_interleave(torch.tensor([len(s) for s in starts]))
        self._first = torch.tensor([first for s in starts for first in s])
        self._length, self._offset = torch.tensor(lengths), _offsets(lengths)
        self._speaker = torch.tensor([clip.speaker for clip in clips])
        self._motion = torch.cat([clip.motion.detach().cpu().float() for clip in clips])
        self._labels = _joined_labels(clips)
        cache = cache if cache is not None else FeatureCache(None)

        def features(extractor: Extractor, clip: Clip) -> Tensor:
            if not contents.audio:
                return torch.zeros(clip.frames, extractor.dim)
            return cache.get(extractor, _audio(clip), clip.frames, clip.fps, clip.name)

        self._features = {one.key: torch.cat([features(one, clip) for clip in clips]) for one in extractors}
        # A frame past the clip is padding, and so is its sound.
        silence = torch.zeros(sample_of(window, self.fps))
        sounds = [torch.cat([_sound(clip, contents.audio), silence]) for clip in clips if audio]
        self._audio = torch.cat(sounds) if audio else None
        self._sample_offset = _offsets([len(sound) for sound in sounds])

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: int) -> Batch:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return self.batch([index % len(self)])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return self.batch(indices)

    def batches(self, size: int) -> Iterator[Batch]:
        """All windows in order, `size` a batch; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The windows of these numbers, one a row."""
        index = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)
        clip, first = self._clip[index], self._first[index]
        frame = first[:, None] + torch.arange(self.window)
        valid = frame < self._length[clip, None]
        where = self._offset[clip, None] + torch.minimum(frame, self._length[clip, None] - 1)
        return Batch(
            motion=torch.where(valid[..., None], self._motion[where], SMPLX.rest),
            valid=valid,
            audio=None if self._audio is None else self._waveforms(self._audio, clip, first),
            speaker=None if self.number else self._speaker[clip],
            text=None if self._texts is None else tuple(self._texts[i] for i in index.tolist()),
            labels={key: torch.where(valid, x[where], _neutral(key, x)) for key, x in self._labels.items()},
            features={key: torch.where(valid[..., None], x[where], 0.0) for key, x in self._features.items()},
            source=tuple((self.clips[c].name, f) for c, f in zip(clip.tolist(), first.tolist())),
            fps=self.fps,
            known=None if bool(self.contents.known.all()) else self.contents.known.expand(len(index), -1),
            silent=not self.contents.audio,
            data=self.number,
        )

    def _waveforms(self, audio: Tensor, clip: Tensor, first: Tensor) -> Tensor:
        start = self._sample_offset[clip] + torch.tensor([sample_of(frame, self.fps) for frame in first.tolist()])
        return audio.unfold(0, sample_of(self.window, self.fps), 1)[start]

    @cached_property
    def _texts(self) -> tuple[str, ...] | None:
        """The words of every window, made when the first batch is; None when no clip has a transcript."""
        if all(clip.words is None for clip in self.clips):
            return None
        ordered = [sorted(clip.words or (), key=lambda word: word.start) for clip in self.clips]
        starts = [[word.start for word in words] for words in ordered]
        ends = [[word.end for word in words] for words in ordered]
        texts = []
        for clip, first in zip(self._clip.tolist(), self._first.tolist()):
            begin, end = first / self.fps, (first + self.window) / self.fps
            words = ordered[clip][bisect_right(ends[clip], begin) : bisect_left(starts[clip], end)]
            texts.append(" ".join(word.text for word in words))
        return tuple(texts)


def window_starts(frames: int, window: int, stride: int) -> list[int]:
    """First frames of the windows over `frames` frames: every stride, and one that ends with the last frame."""
    last = max(0, frames - window)
    return sorted({*range(0, last + 1, stride), last})


def split_time(clip: Clip, seconds: float | int) -> tuple[Clip, Clip]:
    """Cut a clip in two at the frame nearest `seconds`, with its audio, words and labels.

    A word across the cut is in both parts, shortened. Raises ValueError when a part would be empty.
    """
    cut = round(seconds * clip.fps)
    if not 0 < cut < clip.frames:
        raise ValueError(
            f"{clip.name}: cannot cut {clip.frames / clip.fps:.2f} s at {seconds:g} s; both parts need a frame"
        )
    return _part(clip, 0, cut), _part(clip, cut, clip.frames)


def _part(clip: Clip, first: int, after: int) -> Clip:
    whole = after == clip.frames  # the last part keeps the sound and words that outlast the motion
    begin, end = first / clip.fps, float("inf") if whole else after / clip.fps
    words = clip.words
    if words is not None:
        inside = [word for word in words if word.end > begin and word.start < end]
        words = tuple(Word(w.text, max(w.start, begin) - begin, min(w.end, end) - begin) for w in inside)
    sound = slice(sample_of(first, clip.fps), None if whole else sample_of(after, clip.fps))
    return replace(
        clip,
        name=f"{clip.name}[{first}:{after}]",
        motion=clip.motion[first:after],
        audio=None if clip.audio is None else clip.audio[sound],
        words=words,
        labels={key: label[first:after] for key, label in clip.labels.items()},
        extras={key: extra[first:after] for key, extra in clip.extras.items() if len(extra) == clip.frames},
        kept={key: (values[first:after], mask[first:after]) for key, (values, mask) in clip.kept.items()},
    )


def _offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)[:-1]


def _audio(clip: Clip) -> Tensor:
    assert clip.audio is not None  # _require_alike has looked
    return clip.audio.detach().cpu().float()


def _sound(clip: Clip, heard: bool) -> Tensor:
    """Waveform of the clip's frames; zeros where nothing was recorded."""
    samples = sample_of(clip.frames, clip.fps)
    return _audio(clip)[:samples] if heard else torch.zeros(samples)


def _neutral(key: str, label: Tensor) -> Tensor:
    return torch.tensor(_NEUTRAL.get(key, 0), dtype=label.dtype)


def _joined_labels(clips: Sequence[Clip]) -> dict[str, Tensor]:
    kinds = {key: label for clip in reversed(clips) for key, label in clip.labels.items()}

    def rows(key: str, kind: Tensor) -> list[Tensor]:
        absent = _neutral(key, kind)
        return [clip.labels.get(key, absent.expand(clip.frames)).to("cpu", kind.dtype) for clip in clips]

    return {key: torch.cat(rows(key, kind)) for key, kind in kinds.items()}


def _require_alike(clips: Sequence[Clip], needs_audio: bool) -> None:
    if not clips:
        raise ValueError("no clips to make windows of; is the split empty?")
    for clip in clips:
        if clip.motion.shape[-1] != SMPLX.dim or not clip.frames:
            raise ValueError(f"{clip.name}: motion must be [T, {SMPLX.dim}], T > 0, got {list(clip.motion.shape)}")
        if clip.fps != clips[0].fps:
            raise ValueError(
                f"{clip.name}: {clip.fps} fps, but {clips[0].name} has {clips[0].fps}; resample one of them"
            )
        if needs_audio and (clip.audio is None or not len(clip.audio)):
            raise ValueError(f"{clip.name}: no audio, which waveforms and audio features need")
        for key, label in clip.labels.items():
            if label.shape != (clip.frames,):
                raise ValueError(
                    f"{clip.name}: label {key!r} is {list(label.shape)}, the clip has {clip.frames} frames"
                )
