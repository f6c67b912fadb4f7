"""Presets: one paper, one function, one page."""

from maskmotion.presets.emage import emage
from maskmotion.presets.tiny import tiny

__all__ = ["emage", "tiny"]
