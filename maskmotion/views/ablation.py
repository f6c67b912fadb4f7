"""An ablation in pictures: every row's seeds and intervals by measure, and how rows differ while they learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskmotion.evaluation.intervals import t_interval
from maskmotion.views.canvas import BLUE, GREEN, GREY, INK, ORANGE, PALE, SKY, VERMILLION, new_figure, save_png

if TYPE_CHECKING:
    from maskmotion.ablations.results import Results

_COLUMNS = 4
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, SKY, GREY, INK)
_STYLES = ("-", "--", ":")
_REFERENCES = {"chance": (GREY, ":"), "ground truth": (GREEN, "--"), "oracle": (VERMILLION, "--")}
_FAR = 1.5  # ranges of the rows' values
_FOLLOWED = ("lift", "auroc_within", "auroc", "gesture_accuracy", "gesture_choice", "loss")


def plot_rows(path: str | Path, results: Results) -> Path:
    """One panel a measure: a dot a seed, mean and 95 % interval a row, lines for chance, oracle and ground truth.

    A row whose difference to the one it is compared with has a direction is drawn in colour. Returns the PNG's path.
    """
    from maskmotion.ablations.results import column

    names, labels = results.measures, list(results.cells)
    lines = math.ceil(len(names) / _COLUMNS)
    figure = new_figure(2.6 * min(_COLUMNS, len(names)) + 2.2, lines * (0.24 * len(labels) + 0.75) + 0.7)
    figure.set_layout_engine("constrained")
    about = results.about
    figure.suptitle(
        f"{results.table.name}: {about['data']}, {results.seeds} seeds, mean and 95 % interval\n"
        "blue: the difference to the row it is compared with has a direction",
        fontsize=9.5,
        color=INK,
    )
    panels = figure.subplots(lines, min(_COLUMNS, len(names)), sharey=True, squeeze=False).flatten()
    for axes, name in zip(panels, names):
        _measure(axes, results, labels, name)
        better = {"higher": " (higher is better)", "lower": " (lower is better)", "": ""}[column(name).better]
        axes.set_title(column(name).title + better, fontsize=8, color=INK)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    known = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(known.values(), known, fontsize=7.5, frameon=False, loc="outside lower center", ncols=len(known) or 1)
    return save_png(figure, path)


def _measure(axes: Any, results: Results, labels: Sequence[str], name: str) -> None:
    for place, label in enumerate(labels):
        found, against = results.interval(label, name), results.difference(label, name)
        if not found.n:
            continue
        values = list(results.values(label, name).values())
        color = BLUE if against is not None and against.direction and name != "seconds" else INK
        axes.plot(values, [place + 0.28] * len(values), "o", color=color, alpha=0.45, markersize=2.8, markeredgewidth=0)
        if not math.isnan(found.half):
            axes.plot([found.low, found.high], [place, place], color=color, linewidth=1.4)
        axes.plot([found.mean], [place], "|", color=color, markersize=9, markeredgewidth=1.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=7.5)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    _references(axes, results, name)
    axes.locator_params(axis="x", nbins=5)
    _quiet(axes)


def _references(axes: Any, results: Results, name: str) -> None:
    """Lines for what is known; one so far away that rows would no longer be told apart is named below."""
    low, high = axes.get_xlim()
    beyond = []
    for row, (color, style) in _REFERENCES.items():
        value = results.sanity.get(row, {}).get(name, math.nan)
        if low - _FAR * (high - low) <= value <= high + _FAR * (high - low):
            axes.axvline(value, color=color, linestyle=style, linewidth=1, label=row)
        elif math.isfinite(value):
            beyond.append(f"{row} {value:.3g} →" if value > high else f"← {row} {value:.3g}")
    axes.set_xlabel(", ".join(beyond), fontsize=7, color=INK)


def plot_training(path: str | Path, results: Results) -> Path:
    """Held-out measures over the steps, a line a row with its band of 95 %: mask lift, AUROC, gestures, loss.

    Returns the PNG's path. Raises ValueError when nothing was measured while training.
    """
    from maskmotion.ablations.results import column

    points = [point for row in results.curves.values() for curve in row.values() for point in curve]
    names = [name for name in _FOLLOWED if any(name in point for point in points)]
    if not names:
        raise ValueError("nothing was measured while training; give data with a validation split")
    columns = len(names) if len(names) <= _COLUMNS else math.ceil(len(names) / 2)
    lines = math.ceil(len(names) / columns)
    figure = new_figure(3.6 * columns + 2.4, 3.0 * lines + 0.4)
    figure.set_layout_engine("constrained")
    figure.suptitle(f"{results.table.name}: held-out clips while training", fontsize=11, color=INK)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(panels, names):
        for number, (label, row) in enumerate(results.curves.items()):
            _curve(axes, label, row, name, number)
        titles = {"loss": "loss with all but the seed hidden"}
        axes.set_title(titles.get(name, column(name).title), fontsize=9, color=INK)
        axes.set_xlabel("step", fontsize=8, color=INK)
        _quiet(axes)
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[1]))
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="outside right center")
    return save_png(figure, path)


def _curve(axes: Any, label: str, row: Mapping[int, Sequence[Mapping[str, Any]]], name: str, number: int) -> None:
    measured: dict[int, list[float]] = {}
    for curve in row.values():
        for point in curve:
            if name in point:
                measured.setdefault(point["step"], []).append(point[name])
    if not measured:
        return
    steps = sorted(measured)
    found = [t_interval(measured[step]) for step in steps]
    color, style = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]
    axes.plot(steps, [one.mean for one in found], style, color=color, linewidth=1.4, label=label)
    low, high = np.array([one.low for one in found]), np.array([one.high for one in found])
    axes.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)


def _quiet(axes: Any) -> None:
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, color=GREY, labelcolor=INK)
    for side in axes.spines.values():
        side.set_color(PALE)
