"""How training went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskmotion.views.canvas import BLUE, GREY, INK, PALE, VERMILLION, new_figure, save_png

_KINDS = {"losses": BLUE, "validation": VERMILLION}  # what a row of the log holds, and its colour


def plot_losses(path: str | Path, log: Sequence[Mapping[str, Any]], *, title: str = "") -> Path:
    """Draw one panel per stage and named loss over the steps, training and validation together; returns the PNG's path.

    Args:
        path: file to write, .png.
        log: rows as in a run's log.jsonl: {"stage": ..., "step": ..., "losses" or "validation": {name: number}}.
            Rows need not hold the same names; numbers that are not finite are left out.
        title: headline.

    Raises:
        ValueError: no row has a step and a number.
    """
    curves: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for row in log:
        for kind in _KINDS:
            for name, value in row.get(kind, {}).items():
                if math.isfinite(value):
                    panel = curves.setdefault((row.get("stage", ""), name), {})
                    panel.setdefault(kind, []).append((float(row["step"]), float(value)))
    if not curves:
        raise ValueError(
            "nothing to draw: a log has rows like {'stage': 'generator', 'step': 10, 'losses': {'code': 2.3}}"
        )
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = new_figure(max(3.4 * columns, 5), 2.3 * lines + 0.5)
    figure.set_layout_engine("constrained")
    figure.suptitle(title or "training", fontsize=12, weight="bold", color=INK)
    for index, ((stage, name), panel) in enumerate(curves.items()):
        _draw(figure.add_subplot(lines, columns, index + 1), f"{stage}: {name}" if stage else name, panel)
    return save_png(figure, path)


def _draw(axes: Any, title: str, panel: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for kind, points in panel.items():
        steps, measured = zip(*sorted(points))
        marker = {"marker": "o", "markersize": 2.5} if kind == "validation" or len(points) == 1 else {}
        label = "validation" if kind == "validation" else "training"
        axes.plot(steps, measured, linewidth=1.3, color=_KINDS[kind], label=label, **marker)
    values = [value for points in panel.values() for _, value in points]
    if min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel("step", fontsize=8, color=INK)
    axes.grid(color=PALE, linewidth=0.6)
    axes.tick_params(labelsize=7.5, color=GREY)
    for side in axes.spines.values():
        side.set_color(PALE)
    axes.legend(fontsize=7, frameon=False)
