"""Smooth random processes with a chosen spectrum."""

from __future__ import annotations

import numpy as np
from scipy import fft

from maskmotion.data.planted.parameters import FPS


def drift(rng: np.random.Generator, frames: int, channels: int, corner: float, power: float = 4.5) -> np.ndarray:
    """[T, channels] of unit variance with power spectrum 1 / (1 + (f / corner)^power), f in Hz.

    The model that fits every joint group of a real take; corners lie near 0.5 Hz for the trunk and 1.2 Hz for fingers.
    """
    pad = 3 * FPS  # the process is periodic: cut the seam off
    hertz = fft.rfftfreq(frames + pad, 1 / FPS)
    gain = 1 / np.sqrt(1 + (hertz / corner) ** power)
    gain[0] = 0
    gain /= np.sqrt(2 * np.sum(gain**2) / (frames + pad))
    return fft.irfft(
        fft.rfft(rng.standard_normal((frames + pad, channels)), axis=0) * gain[:, None], n=frames + pad, axis=0
    )[:frames]
