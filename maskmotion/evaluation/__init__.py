"""Measures of motion, masks and meaning; each module is imported where it is used, so that this costs nothing.

fgd: Frechet gesture distance · beat: beat constancy and alignment · diversity: L1 diversity ·
masks: how well hidden frames hit known meanings · semantics: does a clip show the gestures of its words.
All of them are protocol `maskmotion-v1`: what the papers' formulas say.
"""

from __future__ import annotations

PROTOCOL = "maskmotion-v1"
