"""Quantizers: continuous latents to discrete codes and back."""

from maskmotion.quantizers.identity import Identity
from maskmotion.quantizers.rvq import RVQ
from maskmotion.quantizers.vq import VQ

__all__ = ["RVQ", "VQ", "Identity"]
