"""The embedded corpus: speech and motion made by a procedure, with the meaning of every frame known."""

from __future__ import annotations

from maskmotion.data.planted.corpus import planted_root, write_corpus
from maskmotion.data.planted.gestures import GESTURE_JOINTS
from maskmotion.data.planted.parameters import Planted

__all__ = ["GESTURE_JOINTS", "Planted", "planted_root", "write_corpus"]
