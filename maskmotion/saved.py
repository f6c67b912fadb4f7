"""What a saved model is: its files, the plug-ins that it needs, and how it is fetched from a folder or the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from maskmotion.config import Recipe, RecipeError, Spec

WEIGHTS, RECIPE, PLUGINS = "model.safetensors", "recipe.json", "plugins.json"
HEARS = "hears"  # beside the weights: keys of the audio features


def read_saved(
    path_or_id: str | Path, revision: str | None = None, local_files_only: bool = False
) -> tuple[Recipe, dict[str, Tensor], dict[str, Any]]:
    """Recipe and weights of a saved model, and what stands beside them; errors as in `Model.from_pretrained`."""
    from maskmotion.training.checkpoint import read_tensors

    folder = Path(path_or_id)
    if not folder.is_dir():
        folder = _download(str(path_or_id), revision, local_files_only)
    for name in (RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: it is no saved model, or no stage of its training has finished yet; "
                f"train it with `maskmotion train PRESET --data DATA --run {folder}`"
            )
    plugins = json.loads((folder / PLUGINS).read_text()) if (folder / PLUGINS).is_file() else {}
    try:
        recipe = Recipe.model_validate_json((folder / RECIPE).read_text())
    except RecipeError as error:
        needs = "; ".join(f"{name} comes from {origin}" for name, origin in plugins.items())
        raise RecipeError(f"{folder / RECIPE}: {error}" + (f"\nit needs plug-ins: {needs}" if needs else "")) from None
    return recipe, *read_tensors(folder / WEIGHTS)


def needed_plugins(recipe: Recipe) -> dict[str, str]:
    """Component name -> where it comes from, for every component that is not the library's own."""
    from maskmotion.plugins import origin
    from maskmotion.registry import lookup

    found: dict[str, str] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Spec):
            module = lookup(value._kind, value.name).__module__
            if module.split(".")[0] != "maskmotion":
                found[value.name] = origin(module)
            visit(value.arguments)
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)

    visit({name: getattr(recipe, name) for name in Recipe.model_fields} | {"quantizer": recipe.tokenizer.quantizer})
    return found


def _download(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError(f"no folder {name}; give a run folder, or a hub id as OWNER/NAME")
    try:
        return Path(
            snapshot_download(
                name, revision=revision, local_files_only=local_files_only, allow_patterns=["*.json", "*.safetensors"]
            )
        )
    except Exception as error:  # the hub's client has many errors for one fact
        raise FileNotFoundError(
            f"no folder {name}, and the hub did not give it ({type(error).__name__}: {error})"
        ) from error
