"""Tokenizers: motion to tokens and back, one network a body part."""

from maskmotion.tokenizers.autoencoder import Autoencoder, Dilated, Plain
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.tokenizers.part import PartTokenizer
from maskmotion.tokenizers.root import RootPredictor

__all__ = ["Autoencoder", "BodyTokenizer", "Dilated", "PartTokenizer", "Plain", "RootPredictor"]
