"""Masking strategies: which frames (and joints) to hide."""

from maskmotion.strategies.loss_based import LossBased
from maskmotion.strategies.oracle import Oracle
from maskmotion.strategies.random import Random
from maskmotion.strategies.selection import select
from maskmotion.strategies.span import Span
from maskmotion.strategies.speech_queried import SpeechQueried, attention_scores

__all__ = ["LossBased", "Oracle", "Random", "Span", "SpeechQueried", "attention_scores", "select"]
