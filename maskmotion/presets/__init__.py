"""Presets: one paper, one function, one page."""

from maskmotion.presets.tiny import tiny

__all__ = ["tiny"]
