"""Generators: networks that learn motion from conditions."""

from maskmotion.generators.masked import MaskedGenerator, Pass
from maskmotion.generators.tiny import Tiny

__all__ = ["MaskedGenerator", "Pass", "Tiny"]
