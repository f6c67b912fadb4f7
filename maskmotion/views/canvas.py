"""What the views share: figures off screen, colours, runs of frames, atomic files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from maskmotion.storage import atomic
from maskmotion.types import SAMPLE_RATE

# Okabe and Ito's palette, told apart with any colour vision
INK, GREY, PALE = "#222222", "#8a8a8a", "#e4e4e4"
BLUE, SKY, ORANGE, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"


def viz(module: str) -> Any:
    """Import a package of the extra `viz`; ImportError names the extra."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0].replace("_", "-").replace("sklearn", "scikit-learn")
        raise ImportError(
            f"pictures and videos need {package}, which is not installed: pip install maskmotion[viz]"
        ) from error


def new_figure(width: float | int, height: float | int, dpi: int = 150) -> Any:
    """A figure of width x height inches drawn by Agg, without a window and without matplotlib's global state."""
    figure = viz("matplotlib.figure").Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    viz("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: str | Path) -> Path:
    """Write the figure as PNG at its own resolution; returns the path."""
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures are written as PNG; give a name that ends in .png")
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", pil_kwargs={"optimize": True})
    return Path(path)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Maximal runs [start, stop) of True in [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def envelope(audio: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sample of each of `columns` equal spans (fewer when there are fewer samples)."""
    if not len(audio):
        return np.zeros(1), np.zeros(1)
    starts = np.unique(np.linspace(0, len(audio), columns, endpoint=False).astype(np.int64))
    return np.minimum.reduceat(audio, starts), np.maximum.reduceat(audio, starts)


def draw_waveform(axes: Any, audio: np.ndarray, seconds: float | int, color: str = GREY) -> None:
    """Fill the waveform's envelope, its largest sample at full height, on an axis of 0 .. seconds."""
    low, high = envelope(audio, 1600)
    time = np.linspace(0, len(audio) / SAMPLE_RATE, len(low))
    peak = max(float(np.abs(audio).max(initial=0)), 1e-3)
    axes.fill_between(time, low / peak, high / peak, color=color, linewidth=0.4)
    axes.set_xlim(0, seconds)
    axes.set_ylim(-1.1, 1.1)
    axes.set_yticks([])
