"""Pictures and videos of motions, masks, attention and training (extra `viz`: matplotlib, scikit-learn, imageio-ffmpeg)."""

from __future__ import annotations

from maskmotion.views.attention import attention_map, plot_attention
from maskmotion.views.clips import excerpt, open_clip, spoken
from maskmotion.views.curves import plot_losses
from maskmotion.views.hints import plot_hints
from maskmotion.views.masks import plot_masks
from maskmotion.views.space import joint_space, plot_space
from maskmotion.views.strategies import masking_rows
from maskmotion.views.video import render_video

__all__ = [
    "attention_map",
    "excerpt",
    "joint_space",
    "masking_rows",
    "open_clip",
    "plot_attention",
    "plot_hints",
    "plot_losses",
    "plot_masks",
    "plot_space",
    "render_video",
    "spoken",
]
