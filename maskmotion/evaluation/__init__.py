"""Measures of motion, masks and meaning; each module is imported where it is used, so that this costs nothing.

protocols: named sets of measures · evaluation: all measures of one, streamed over clips · bench: on a corpus ·
report: tables and what their numbers depend on · fgd: Frechet distances · beat, released_beat: beats · diversity, feet,
smoothness, accuracy: of joints and faces · masks: how well hidden frames hit known meanings · semantics: does a clip show
the gestures of its words · files, leakage: motion of anyone's model.
"""

from __future__ import annotations

PROTOCOL = "maskmotion-v1"
