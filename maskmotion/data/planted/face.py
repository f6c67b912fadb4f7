"""Jaw, eyes and expressions: the mouth follows the phones, the rest of the face drifts."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from maskmotion.data.planted.lexicon import MOUTH
from maskmotion.data.planted.noise import drift
from maskmotion.data.planted.parameters import FPS
from maskmotion.data.planted.script import Script
from maskmotion.motion.skeleton import NUM_EXPRESSIONS

EXPRESSION_RANK = 51  # BEAT2's expressions are 51 capture coefficients seen through a linear map
_REST = np.array([-1.0, 0.0, 0.0, 0.3, 0.0, 0.0])  # closed lips between phrases
_MOUTH_SHARE, _DRIFT_SHARE = 0.8, 0.55


def mouth_track(script: Script, frames: int) -> np.ndarray:
    """[T, 6] mouth shape (columns of `Phone.mouth`), coarticulated over about 50 ms, without delay."""
    fine = 4
    times = np.arange(frames * fine) / (FPS * fine)
    table = script.phone_table
    row = np.clip(np.searchsorted(table[:, 1], times, side="right") - 1, 0, None)
    speaking = (table[row, 1] <= times) & (times < table[row, 2])
    target = np.where(speaking[:, None], MOUTH[table[row, 0].astype(int)] * (1 + 0.3 * table[row, 3:4]), _REST)
    return ndimage.gaussian_filter1d(target, 1.15 * fine, axis=0)[::fine]


def _expression_map(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[51, 100] map and [100] mean, the mean inside the map's span."""
    rng = np.random.default_rng([seed, 13])
    spread = np.exp(-np.arange(EXPRESSION_RANK) / 4.0)
    spread[:10] = 1.0
    mixing = rng.standard_normal((EXPRESSION_RANK, NUM_EXPRESSIONS)) * spread[:, None]
    mean = rng.standard_normal(EXPRESSION_RANK) @ mixing
    return mixing, mean * (1.0 / mean.std())


def expressions(mouth: np.ndarray, seed: int, rng: np.random.Generator) -> np.ndarray:
    """[T, 100] float64 of rank at most 51: six mouth channels, four of mood, the rest small and fast."""
    mixing, mean = _expression_map(seed)
    frames = len(mouth)
    mood = drift(rng, frames, 4, corner=0.35)
    flicker = drift(rng, frames, EXPRESSION_RANK - 10, corner=1.5, power=3.0)
    lively = (mouth - mouth.mean(axis=0)) / mouth.std(axis=0)
    latent = np.concatenate([_MOUTH_SHARE * lively, _DRIFT_SHARE * 1.6 * mood, 0.8 * flicker], axis=1)
    return mean + 0.16 * latent @ mixing


def jaw(mouth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[T, 3] degrees: opening about x, next to nothing about y and z."""
    opening = 1.15 + 0.95 * (mouth[:, 0] + 0.35) + 0.3 * drift(rng, len(mouth), 1, corner=0.8)[:, 0]
    return np.concatenate([opening[:, None], 0.1 * drift(rng, len(mouth), 2, corner=1.5)], axis=1)


def eyes(rng: np.random.Generator, frames: int) -> np.ndarray:
    """[T, 2, 3] degrees: both eyes wander together."""
    gaze = drift(rng, frames, 3, corner=0.55, power=3.4) * np.array([0.7, 0.8, 0.7])
    return np.stack([gaze, gaze * np.array([1.0, 0.9, 0.9])], axis=1)
