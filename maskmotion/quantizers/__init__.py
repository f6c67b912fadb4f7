"""Quantizers: continuous latents to discrete codes and back."""

from maskmotion.quantizers.external import External
from maskmotion.quantizers.identity import Identity
from maskmotion.quantizers.product import Product
from maskmotion.quantizers.rvq import RVQ
from maskmotion.quantizers.vq import VQ

__all__ = ["RVQ", "VQ", "External", "Identity", "Product"]
