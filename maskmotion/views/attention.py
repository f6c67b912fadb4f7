"""How speech looks at motion: the attention maps of one window, its frame scores, its words and its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset
from maskmotion.model import Model
from maskmotion.shapes import Float, Int
from maskmotion.strategies import attention_scores
from maskmotion.types import SAMPLE_RATE, SEMANTIC_SCORE, Clip, Word
from maskmotion.views.canvas import GREY, INK, ORANGE, PALE, envelope, new_figure, runs, save_png
from maskmotion.views.clips import excerpt, first_frame

_WORDS, _VOICE, _MAP, _SMALL = 1.15, 0.5, 4.3, 1.85  # inches
_STRIP, _SCORES, _HEAD, _FOOT, _GAP = 0.16, 1.0, 0.95, 0.75, 0.12
_SHARE_SHOWN = 99.5  # percentile of the values at which the colours end


@torch.no_grad()
def attention_map(
    model: Model, clip: Clip, start: float | int | None = None
) -> tuple[dict[str, Float[Tensor, "S T"]], Clip]:
    """Part -> attention of speech (queries) over unmasked motion (keys) in one window, and the part of the clip it shows.

    start: seconds; None: where frames with and without meaning are most evenly mixed. Features are heard in the whole
    clip. Raises ValueError for a model without speech-to-motion attention and a start outside the clip.
    """
    size, generator = model.recipe.body.window, model.generator.eval()
    attend = getattr(generator, "teacher_attention", None)
    first = first_frame(clip, size, start)
    data = WindowDataset([clip], size, 1, model.extractors, FeatureCache(None), audio=model.reads_audio)
    try:
        if attend is None:
            raise ValueError(f"{type(generator).__name__} has no method teacher_attention")
        attention = attend(data.batch([first]).to(model.device))
    except ValueError as error:
        raise ValueError(
            f"{model.recipe.name} has no speech-to-motion attention to show ({error}); "
            "look at a model with the generator 'tiny' or 'echomask'"
        ) from error
    shown = excerpt(clip, size / clip.fps, first / clip.fps)
    return {part: found[0, : shown.frames, : shown.frames].cpu() for part, found in attention.items()}, shown


def plot_attention(
    path: str | Path,
    *,
    attention: Mapping[str, Tensor],
    audio: Float[Tensor, " samples"],
    fps: int,
    semantic: Float[Tensor, " T"] | None = None,
    gesture: Int[Tensor, " T"] | None = None,
    words: Sequence[Word] = (),
    title: str = "",
) -> Path:
    """Draw the map summed over parts, each part's own, and the frame scores (EchoMask, Figure 9); returns the PNG's path.

    Speech runs down, motion to the right, both in seconds. Weights and scores are in units of even attention: 1 is what
    every frame would get if speech looked everywhere alike.

    Args:
        path: file to write, .png.
        attention: part -> weights [T, T] of one window, rows over the motion frames.
        audio: mono waveform at `SAMPLE_RATE`, of the window. fps: motion frames a second.
        semantic: scores on BEAT2's scale; frames above 0.15 are marked on both axes.
        gesture: int64 [T], class of the gesture shown, -1 for none; labels the marks.
        words: drawn along the speech. title: headline.

    Raises:
        ValueError: no map, maps that are not [T, T] of one T, or another length of `semantic`.
    """
    shapes = {part: tuple(weights.shape) for part, weights in attention.items()}
    frames = next(iter(shapes.values()), (0,))[-1]
    if not frames or set(shapes.values()) != {(frames, frames)}:
        raise ValueError(f"attention needs maps [T, T] of one T for all parts, got {shapes or 'none'}")
    if semantic is not None and len(semantic) != frames:
        raise ValueError(f"semantic has {len(semantic)} frames, the attention {frames}")
    maps = {part: weights.detach().cpu().numpy() * frames for part, weights in attention.items()}
    total = np.mean(list(maps.values()), axis=0)
    scores = attention_scores({part: weights[None] for part, weights in attention.items()})[0].detach().cpu().numpy()
    meaning = None if semantic is None else semantic.detach().cpu().numpy() > SEMANTIC_SCORE
    page = _Page(len(maps), frames / fps)
    shown = [total, *maps.values()] if len(maps) > 1 else [total]
    top = float(np.percentile(np.stack(shown), _SHARE_SHOWN))
    axes = page.main()
    image = _draw_map(axes, total, page.seconds, top)
    spans = [] if meaning is None else [(start / fps, stop / fps) for start, stop in runs(meaning)]
    page.speech(axes, audio.detach().cpu().numpy(), words)
    if meaning is not None:
        page.meaning(axes, meaning, None if gesture is None else gesture.detach().cpu().numpy(), fps)
    page.scores(axes, scores, meaning, fps)
    for number, (part, weights) in enumerate(maps.items() if len(maps) > 1 else ()):
        small = page.part(number, part)
        _draw_map(small, weights, page.seconds, top)
        for span in spans:
            small.plot(span, (0, 0), color=ORANGE, linewidth=3, solid_capstyle="butt", clip_on=False, zorder=5)
    page.head(title or "Speech looks at motion", image, ", ".join(maps), meaning is not None)
    return save_png(page.figure, path)


class _Page:
    """Places the panels; lengths are inches from the lower left corner.

    Args:
        parts: number of maps. seconds: length of the window.
    """

    def __init__(self, parts: int, seconds: float) -> None:
        self.columns = 0 if parts == 1 else -(-parts // 2)
        self.seconds = seconds
        self.left, self.bottom = _WORDS + _VOICE + _STRIP + 2 * _GAP, _FOOT + _SCORES + _GAP
        self.width = self.left + _MAP + 1.0 + self.columns * (_SMALL + 0.25)
        self.height = self.bottom + _MAP + _STRIP + _HEAD
        self.figure = new_figure(self.width, self.height, dpi=110)

    def axes(self, left: float, bottom: float, width: float, height: float, **shared: Any) -> Any:
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        made = self.figure.add_axes(box, **shared)
        made.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False, color=GREY, labelcolor=INK)
        made.tick_params(labelsize=8)
        for side in made.spines.values():
            side.set_color(PALE)
        return made

    def main(self) -> Any:
        return self.axes(self.left, self.bottom, _MAP, _MAP)

    def part(self, number: int, name: str) -> Any:
        column, row = number % self.columns, number // self.columns
        left = self.left + _MAP + 0.55 + column * (_SMALL + 0.25)
        axes = self.axes(left, self.bottom + (1 - row) * (_MAP - _SMALL), _SMALL, _SMALL)
        axes.set_title(name, fontsize=9, color=INK, pad=3)
        return axes

    def speech(self, axes: Any, audio: np.ndarray, words: Sequence[Word]) -> None:
        """The waveform downwards and its words, left of the map; a word without room is left out."""
        beside = self.axes(self.left - _STRIP - _GAP - _VOICE, self.bottom, _VOICE, _MAP, sharey=axes)
        low, high = envelope(audio[: round(self.seconds * SAMPLE_RATE)], 500)
        peak = max(float(np.abs(audio).max(initial=0)), 1e-3)
        time = np.linspace(0, len(audio) / SAMPLE_RATE, len(low))
        beside.fill_betweenx(time, low / peak, high / peak, color=GREY, linewidth=0.4)
        beside.set_xlim(-1.1, 1.1)
        free, room = 0.0, 0.16 * self.seconds / _MAP
        for word in sorted(words, key=lambda word: word.start):
            middle = (word.start + min(word.end, self.seconds)) / 2
            if middle - room / 2 >= free and middle + room / 2 < self.seconds:
                beside.text(-1.25, middle, word.text, ha="right", va="center", fontsize=9, color=INK)
                free = middle + room / 2
            for edge in (word.start, word.end):
                beside.plot([-1.1, -0.85], [edge, edge], color=INK, linewidth=0.6)
        beside.set_ylim(self.seconds, 0)
        beside.set_title("speech", fontsize=9, color=INK, pad=3)

    def meaning(self, axes: Any, meaning: np.ndarray, gesture: np.ndarray | None, fps: int) -> None:
        """Semantic frames as bars along both axes of the map."""
        above = self.axes(self.left, self.bottom + _MAP + 0.03, _MAP, _STRIP, sharex=axes)
        beside = self.axes(self.left - _STRIP - 0.03, self.bottom, _STRIP, _MAP, sharey=axes)
        above.set_ylim(0, 1)
        for start, stop in runs(meaning):
            above.axvspan(start / fps, stop / fps, color=ORANGE, linewidth=0)
            beside.axhspan(start / fps, stop / fps, color=ORANGE, linewidth=0)
            kinds = np.unique(gesture[start:stop]) if gesture is not None else np.empty(0, np.int64)
            label = ", ".join(f"gesture {kind}" for kind in kinds if kind >= 0)
            above.text((start + stop) / 2 / fps, 1.25, label, ha="center", va="bottom", fontsize=8, color=INK)

    def scores(self, axes: Any, scores: np.ndarray, meaning: np.ndarray | None, fps: int) -> None:
        """Frame scores (eq. 6) under the map, on its motion axis."""
        below = self.axes(self.left, _FOOT, _MAP, _SCORES, sharex=axes)
        for start, stop in runs(np.zeros(len(scores), bool) if meaning is None else meaning):
            below.axvspan(start / fps, stop / fps, color=ORANGE, alpha=0.3, linewidth=0)
        below.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        below.plot((np.arange(len(scores)) + 0.5) / fps, scores, color=INK, linewidth=1.2)
        below.set_ylim(0, 1.08 * max(1.0, float(scores.max())))
        below.tick_params(left=True, labelleft=True, bottom=True, labelbottom=True)
        below.set_xlabel("motion, seconds", fontsize=9, color=INK)
        below.text(-0.11, 0.5, "frame score\n(eq. 6)", transform=below.transAxes, ha="right", va="center", fontsize=9)

    def head(self, title: str, image: Any, parts: str, marked: bool) -> None:
        """Headline, what the large map is, and the colours."""
        top = self.height - 0.25
        self.figure.text(
            self.left / self.width, top / self.height, title, va="center", fontsize=12, color=INK, weight="bold"
        )
        about = f"mean over {parts}" if ", " in parts else parts
        about += " · dotted: the same moment"
        self.figure.text(
            self.left / self.width, (top - 0.24) / self.height, about, va="center", fontsize=8.5, color=INK
        )
        if self.columns:
            bar = self.axes(self.left + _MAP + 0.55, _FOOT + 0.45, 2 * _SMALL + 0.25, 0.14)
            place = "horizontal"
        else:
            bar, place = self.axes(self.left + _MAP + 0.15, self.bottom, 0.14, _MAP), "vertical"
        made = self.figure.colorbar(image, cax=bar, orientation=place, extend="max")
        made.ax.tick_params(bottom=place == "horizontal", labelbottom=place == "horizontal", labelsize=8)
        made.set_label("attention (1: even)", fontsize=8.5, color=INK)
        if marked:
            x, y = (self.left - 0.45) / self.width, (_FOOT + 0.06) / self.height
            self.figure.text(x, y, "\N{BLACK SQUARE} semantic frames", fontsize=8.5, color=ORANGE, ha="right")


def _draw_map(axes: Any, weights: np.ndarray, seconds: float, top: float) -> Any:
    image = axes.imshow(
        weights, cmap="Blues", vmin=0, vmax=top, extent=(0, seconds, seconds, 0), aspect="auto", interpolation="nearest"
    )
    axes.plot([0, seconds], [0, seconds], color=INK, linewidth=0.7, linestyle=(0, (1, 3)))
    axes.set_xlim(0, seconds)
    axes.set_ylim(seconds, 0)
    return image
