"""Where numbers come from: versions, recipes, extractors, the clips that were measured on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from maskmotion.config import Recipe
from maskmotion.types import Clip

_PACKAGES = ("maskmotion", "torch", "numpy", "scipy", "librosa")


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def recipe_hash(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that name a recipe whatever its seed."""
    text = json.dumps(recipe.model_dump(mode="json", exclude={"seed"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def clips_hash(clips: Sequence[Clip]) -> str:
    """Sha256 of the names, motions and sound of clips."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.name.encode())
        for values in (clip.motion, clip.audio):
            digest.update(b"" if values is None else values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def differences(first: dict[str, Any], second: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """What two tables do not share: `key: this, that`."""
    return [f"{key}: {first[key]}, {second[key]}" for key in keys if first[key] != second[key]]
