"""Masked motion modeling: models that hide part of a motion and learn to fill it in from speech.

Public names in teaching order. They are loaded on first use, so that importing maskmotion does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskmotion.ablations.runner import ablate
    from maskmotion.config import Body, Recipe, RecipeError, Root, Spec, Tokenizer, Training
    from maskmotion.data.corpus import Corpus, open_corpus
    from maskmotion.generators.masked import MaskedGenerator
    from maskmotion.generators.passes import Pass
    from maskmotion.interfaces import Conditioner, Extractor, Generator, MaskContext, Masker, Quantizer
    from maskmotion.model import Model
    from maskmotion.plugins import PluginError, hookimpl
    from maskmotion.registry import RegistryError, lookup, names, register, unregister
    from maskmotion.rng import Rng, seed
    from maskmotion.sampling.hints import Hints
    from maskmotion.schedules import Cosine, Linear, value_at
    from maskmotion.tokenizers.pretrained import Tokenizers
    from maskmotion.training.checkpoint import RunError
    from maskmotion.training.stages import train
    from maskmotion.types import Batch, Clip, Condition, Prediction, Quantized, Window, Word

__version__ = "0.1.0"

_HOMES = {
    "model": ("Model",),
    "rng": ("seed", "Rng"),
    "training.stages": ("train",),
    "ablations.runner": ("ablate",),
    "config": ("Recipe", "Spec", "Training", "Tokenizer", "Body", "Root", "RecipeError"),
    "schedules": ("Linear", "Cosine", "value_at"),
    "registry": ("register", "unregister", "lookup", "names", "RegistryError"),
    "plugins": ("hookimpl", "PluginError"),
    "interfaces": ("Quantizer", "Masker", "Conditioner", "Generator", "MaskContext", "Extractor"),
    "generators.masked": ("MaskedGenerator",),
    "generators.passes": ("Pass",),
    "sampling.hints": ("Hints",),
    "types": ("Batch", "Condition", "Quantized", "Prediction", "Window", "Clip", "Word"),
    "data.corpus": ("Corpus", "open_corpus"),
    "training.checkpoint": ("RunError",),
    "tokenizers.pretrained": ("Tokenizers",),
}
_HOME = {name: module for module, found in _HOMES.items() for name in found}

__all__ = [*_HOME, "preset"]


def preset(name: str, scale: str | None = None) -> Recipe:
    """The recipe of a preset by name; `maskmotion list` shows them. RegistryError lists what exists.

    scale: "full", "small" or "tiny", for presets that are published methods; None: the preset's own size.
    """
    import inspect

    from maskmotion.config import RecipeError
    from maskmotion.registry import lookup

    function = lookup("preset", name)
    if scale is None:
        recipe: Recipe = function()
        return recipe
    scales = inspect.signature(function).parameters.get("scale")
    known = () if scales is None else ("full", "small", "tiny")
    if scale not in known:
        raise RecipeError(f"{name} has no scale {scale!r}; it has: {', '.join(known) or 'one size'}")
    recipe = function(scale=scale)
    return recipe


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"maskmotion.{_HOME[name]}"), name)
    raise AttributeError(f"module 'maskmotion' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
