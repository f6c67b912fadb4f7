"""Moments of clips: where gestures are shown, where nothing is, and the motion around many such moments at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import NO_GESTURE, Clip


@dataclass(frozen=True)
class Moments:
    """N frames of clips with what is shown there: index of the clip, frame, gesture class (-1 none)."""

    clip: Int[Tensor, " N"]
    frame: Int[Tensor, " N"]
    gesture: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.frame)

    def pick(self, rows: Bool[Tensor, " N"]) -> Moments:
        """The moments where `rows` is True."""
        return Moments(self.clip[rows], self.frame[rows], self.gesture[rows])


def _label(clip: Clip, name: str) -> Tensor:
    if name not in clip.labels:
        raise ValueError(
            f"clip {clip.name!r} has no frame label {name!r}, only {sorted(clip.labels)}: semantic gesture accuracy "
            "needs data whose gestures are known, such as the planted corpus"
        )
    return clip.labels[name].cpu()


def gesture_moments(clips: Sequence[Clip]) -> Moments:
    """The middle of every planted gesture: one moment for every run of one class in the label "gesture"."""
    found = []
    for index, clip in enumerate(clips):
        gesture = torch.nn.functional.pad(_label(clip, "gesture"), (1, 1), value=NO_GESTURE)
        change = (gesture.diff() != 0).nonzero()[:, 0]  # frame at which a run starts
        shown = gesture[change[:-1] + 1] if len(change) else change
        middle = (change[:-1] + change[1:] - 1) // 2
        found.append(torch.stack([torch.full_like(middle, index), middle, shown])[:, shown != NO_GESTURE])
    return Moments(*torch.cat(found, 1)) if found else Moments(*torch.zeros(3, 0, dtype=torch.long))


def quiet_moments(clips: Sequence[Clip], reach: int, step: int) -> Moments:
    """Every `step`-th frame with no gesture and no semantic word within `reach` frames, and not nearer to an end."""
    found = []
    for index, clip in enumerate(clips):
        meaning = _label(clip, "gesture") != NO_GESTURE
        if "word_class" in clip.labels:
            meaning |= _label(clip, "word_class") != NO_GESTURE
        if len(meaning) <= 2 * reach:
            continue
        near = torch.nn.functional.max_pool1d(meaning[None].float(), 2 * reach + 1, stride=1)[0] > 0
        frame = (~near).nonzero()[:, 0] + reach
        frame = frame[frame % step == 0]
        found.append(torch.stack([torch.full_like(frame, index), frame, torch.full_like(frame, NO_GESTURE)]))
    return Moments(*torch.cat(found, 1)) if found else Moments(*torch.zeros(3, 0, dtype=torch.long))


def gather_windows(
    tracks: Sequence[Float[Tensor, "_ C"]],
    moments: Moments,
    shifts: Int[Tensor, " S"],
    offsets: Int[Tensor, " W"],
    before: int,
) -> Float[Tensor, "N S W C"]:
    """The tracks at moment + shift + offset, minus their mean over the `before` frames ahead of the window.

    Frames outside the clip repeat its first or last one. All windows are gathered at once.
    """
    lengths = torch.tensor([len(track) for track in tracks])
    begin, flat = (lengths.cumsum(0) - lengths)[moments.clip][:, None], torch.cat(list(tracks))
    last = lengths[moments.clip][:, None] - 1
    centre = moments.frame[:, None] + shifts
    frames = (centre[..., None] + offsets).clamp(min=0).minimum(last[..., None])
    high = (centre + offsets[0]).clamp(min=1).minimum(last + 1)
    low = (high - before).clamp(min=0)
    sums = torch.nn.functional.pad(flat.double().cumsum(0), (0, 0, 1, 0))
    mean = (sums[begin + high] - sums[begin + low]) / (high - low)[..., None]
    return flat[begin[..., None] + frames] - mean[..., None, :].to(flat.dtype)
