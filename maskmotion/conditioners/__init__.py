"""Conditioners: from the batch's signals to features a generator can attend to."""

from __future__ import annotations

from maskmotion.conditioners.mel import Mel
from maskmotion.conditioners.rhythm import Rhythm
from maskmotion.conditioners.speaker import Speaker
from maskmotion.conditioners.speech import Speech
from maskmotion.conditioners.transcript import Transcript

__all__ = ["Mel", "Rhythm", "Speaker", "Speech", "Transcript"]
