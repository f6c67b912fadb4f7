"""What each strategy hides, under the speech and its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from torch import Tensor

from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, SEMANTIC_SCORE, Word
from maskmotion.views.canvas import (
    GREY,
    INK,
    ORANGE,
    PALE,
    SKY,
    VERMILLION,
    draw_waveform,
    new_figure,
    runs,
    save_png,
)

_WIDTH = 12.0  # inches
_MARGIN_LEFT, _MARGIN_RIGHT = 1.75, 1.35
_SPEECH, _MEANING, _ROW, _HEAD, _FOOT = 1.15, 0.32, 0.72, 0.86, 0.6


def plot_masks(
    path: str | Path,
    *,
    audio: Float[Tensor, " samples"],
    fps: int,
    rows: Mapping[str, tuple[Tensor, Tensor]],
    semantic: Float[Tensor, " T"] | None = None,
    gesture: Tensor | None = None,
    words: Sequence[Word] = (),
    title: str = "",
) -> Path:
    """Draw waveform, meaning, and for each strategy its scores and the frames it hides; returns the PNG's path.

    Args:
        path: file to write, .png.
        audio: mono waveform at `SAMPLE_RATE`.
        fps: motion frames a second.
        rows: strategy -> (scores [T], hidden bool [T]). Every row has its own score scale.
        semantic: scores on BEAT2's scale; frames above 0.15 are shaded.
        gesture: int64 [T], class of the gesture shown, -1 for none; labels the meaning band.
        words: drawn above the waveform; with `semantic`, only the main word of each semantic stretch.
        title: headline.

    Raises:
        ValueError: no rows, or rows of different lengths.
    """
    lengths = {name: {int(t.shape[0]) for t in pair} for name, pair in rows.items()}
    if len(set().union(*lengths.values())) != 1:
        raise ValueError(f"rows need one length T for all scores and masks, got {lengths}")
    frames = next(iter(set().union(*lengths.values())))
    meaning = None if semantic is None else semantic.detach().cpu().numpy() > SEMANTIC_SCORE
    if meaning is not None and len(meaning) != frames:
        raise ValueError(f"semantic has {len(meaning)} frames, the rows have {frames}")

    heights = [_SPEECH, *([] if meaning is None else [_MEANING]), *[_ROW] * len(rows)]
    panels, figure = _panels(heights)
    seconds = frames / fps
    draw_waveform(panels[0], audio.detach().cpu().numpy()[: round(seconds * SAMPLE_RATE)], seconds)
    _name(panels[0], "speech")
    _draw_words(panels[0], words, meaning, fps, seconds)
    if meaning is not None:
        _draw_meaning(panels[1], meaning, None if gesture is None else gesture.detach().cpu().numpy(), fps)
    for axes, (name, (scores, hidden)) in zip(panels[-len(rows) :], rows.items()):
        _draw_row(axes, name, scores.detach().cpu().numpy(), hidden.detach().cpu().numpy(), meaning, fps)
    for axes in panels:
        axes.set_xlim(0, seconds)
    panels[-1].tick_params(bottom=True, labelbottom=True)
    panels[-1].set_xlabel("seconds")
    _draw_head(figure, title, meaning)
    return save_png(figure, path)


def _panels(heights: Sequence[float]) -> tuple[list[Any], Any]:
    """One axes per height in inches, from top to bottom, with a shared time axis."""
    total = sum(heights) + 0.1 * len(heights) + _HEAD + _FOOT
    figure = new_figure(_WIDTH, total, dpi=100)
    panels, top = [], total - _HEAD
    for height in heights:
        box = (
            _MARGIN_LEFT / _WIDTH,
            (top - height) / total,
            1 - (_MARGIN_LEFT + _MARGIN_RIGHT) / _WIDTH,
            height / total,
        )
        axes = figure.add_axes(box)
        axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False, color=GREY, labelcolor=INK)
        for side in axes.spines.values():
            side.set_color(PALE)
        panels.append(axes)
        top -= height + 0.1
    return panels, figure


def _name(axes: Any, text: str) -> None:
    text = "\n".join(wrap(text.replace("_", "_ "), 18)).replace("_ ", "_")  # an underscore is a place to break
    axes.text(-0.012, 0.5, text, transform=axes.transAxes, ha="right", va="center", fontsize=10, color=INK)


def _draw_words(axes: Any, words: Sequence[Word], meaning: np.ndarray | None, fps: int, seconds: float | int) -> None:
    """Words above the waveform; one that has no room on either of two lines is left out."""
    if meaning is not None:
        words = _meant(words, [(start / fps, stop / fps) for start, stop in runs(meaning)])
        for word in words:
            axes.axvspan(word.start, word.end, color=ORANGE, alpha=0.25, linewidth=0)
    free = [0.0, 0.0]  # seconds from which each of the two lines of text is empty
    for word in sorted(words, key=lambda word: word.start):
        middle, half = (word.start + word.end) / 2, 0.0085 * (len(word.text) + 1) * seconds / 2
        line = next((line for line in (0, 1) if middle - half >= free[line]), None)
        if line is not None and middle < seconds:
            axes.text(middle, 1.16 + 0.3 * line, word.text, ha="center", va="bottom", fontsize=8.5, color=INK)
            free[line] = middle + half


def _meant(words: Sequence[Word], spans: Sequence[tuple[float, float]]) -> list[Word]:
    """The word of each span: the one that shares most time with it."""
    found = []
    for start, stop in spans:
        shared = [min(word.end, stop) - max(word.start, start) for word in words]
        if shared and max(shared) > 0:
            found.append(words[int(np.argmax(shared))])
    return found


def _draw_meaning(axes: Any, meaning: np.ndarray, gesture: np.ndarray | None, fps: int) -> None:
    _name(axes, "meaning")
    axes.set_ylim(0, 1)
    for start, stop in runs(meaning):
        axes.axvspan(start / fps, stop / fps, color=ORANGE, linewidth=0)
        shown = np.unique(gesture[start:stop]) if gesture is not None else np.empty(0, dtype=np.int64)
        label = ", ".join(str(kind) for kind in shown if kind >= 0)
        axes.text((start + stop) / 2 / fps, 0.47, label, ha="center", va="center", fontsize=8, color=INK, clip_on=True)


def _draw_row(
    axes: Any, name: str, scores: np.ndarray, hidden: np.ndarray, meaning: np.ndarray | None, fps: int
) -> None:
    """Hidden frames as blocks (two colours where the meaning is known), the scores as a line over them."""
    _name(axes, name)
    known = np.zeros_like(hidden) if meaning is None else meaning
    for frames, color in ((hidden & ~known, SKY), (hidden & known, VERMILLION)):
        for start, stop in runs(frames):
            axes.axvspan(start / fps, stop / fps, color=color, alpha=0.6, linewidth=0)
    finite = np.where(np.isfinite(scores), scores, np.nan)
    low, high = (np.nanmin(finite), np.nanmax(finite)) if np.isfinite(scores).any() else (0.0, 0.0)
    level = (finite - low) / (high - low) if high > low else np.where(np.isnan(finite), np.nan, 0.5)
    axes.plot((np.arange(len(level)) + 0.5) / fps, level, color=INK, linewidth=0.9)
    axes.set_ylim(-0.08, 1.08)
    share = "" if meaning is None or not hidden.any() else f"{known[hidden].mean():.0%}"
    axes.text(1.012, 0.64, share, transform=axes.transAxes, va="center", fontsize=12, color=VERMILLION, weight="bold")
    note = f"{hidden.mean():.0%} hidden"
    axes.text(1.012, 0.24, note, transform=axes.transAxes, va="center", fontsize=8, color=GREY)


def _draw_head(figure: Any, title: str, meaning: np.ndarray | None) -> None:
    """Headline, the legend, and what the share at the right means."""
    height = figure.get_size_inches()[1]
    left, top = _MARGIN_LEFT / _WIDTH, 1 - 0.22 / height
    figure.text(left, top, title, ha="left", va="center", fontsize=12, color=INK, weight="bold")
    known = meaning is not None
    entries = [("score", INK), *([("hidden, semantic", VERMILLION)] if known else []), ("hidden", SKY)]
    bottom = 0.16 / height
    for index, (text, color) in enumerate(reversed(entries)):
        if text == "hidden" and known:
            text = "hidden, not semantic"
        right = 1 - _MARGIN_RIGHT / _WIDTH - index * 0.145
        figure.text(right, bottom, f"\N{BLACK SQUARE} {text}", ha="right", va="center", fontsize=9, color=color)
    if meaning is not None:
        note = f"semantic share\nof hidden frames\n(chance {meaning.mean():.0%})"
        figure.text(
            1 - (_MARGIN_RIGHT - 0.12) / _WIDTH, 1 - (_HEAD + 0.02) / height, note, va="top", fontsize=8, color=INK
        )
