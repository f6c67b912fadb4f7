"""Generators: networks that learn motion from conditions."""

from maskmotion.generators.echomask import EchoMask
from maskmotion.generators.emage import Emage
from maskmotion.generators.emage_release import EmageRelease
from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.passes import Pass
from maskmotion.generators.tiny import Tiny

__all__ = ["EchoMask", "Emage", "EmageRelease", "MaskedGenerator", "Pass", "Tiny"]
