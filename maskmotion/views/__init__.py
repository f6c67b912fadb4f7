"""Pictures and videos of motions, masks and training (extra `viz`: matplotlib and imageio-ffmpeg)."""

from __future__ import annotations

from maskmotion.views.curves import plot_losses
from maskmotion.views.hints import plot_hints
from maskmotion.views.masks import plot_masks
from maskmotion.views.video import render_video

__all__ = ["plot_hints", "plot_losses", "plot_masks", "render_video"]
