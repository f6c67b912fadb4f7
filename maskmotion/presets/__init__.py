"""Presets: one paper, one function, one page."""

from maskmotion.presets.echomask import echomask, echomask_release
from maskmotion.presets.emage import emage
from maskmotion.presets.emage_release import emage_2024_audio, emage_2024_text, emage_release
from maskmotion.presets.tiny import tiny

__all__ = ["echomask", "echomask_release", "emage", "emage_2024_audio", "emage_2024_text", "emage_release", "tiny"]
