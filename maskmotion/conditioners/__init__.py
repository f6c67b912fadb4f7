"""Conditioners: from the batch's signals to features a generator can attend to."""

from __future__ import annotations

from maskmotion.conditioners.aligned import Aligned
from maskmotion.conditioners.mel import Mel
from maskmotion.conditioners.released_speech import ReleasedSpeech
from maskmotion.conditioners.rhythm import Rhythm
from maskmotion.conditioners.speaker import Speaker
from maskmotion.conditioners.speech import Speech
from maskmotion.conditioners.transcript import Transcript
from maskmotion.conditioners.waveform import Waveform
from maskmotion.conditioners.words import Words

__all__ = ["Aligned", "Mel", "ReleasedSpeech", "Rhythm", "Speaker", "Speech", "Transcript", "Waveform", "Words"]
