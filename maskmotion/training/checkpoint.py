"""Checkpoints: everything a stage needs to go on exactly, in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskmotion.storage import atomic


class RunError(RuntimeError):
    """A run folder that cannot be used; says why and the way out. What the folder held is untouched."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write a safetensors file so that a crash, a full disk or a read-only folder leaves the old file as it was.

    Raises RunError with the reason and the way out.
    """
    from safetensors.torch import save_file

    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        with atomic(path) as temporary:
            save_file(own, str(temporary), metadata={"about": json.dumps(dict(about or {}))})
    except Exception as error:  # safetensors wraps the system's errors in its own
        if isinstance(error, OSError) or "os error" in str(error).lower():
            raise RunError(
                f"cannot write {path} ({error}); free some space or give another --run folder. "
                "What was saved before is untouched: the same command goes on from there."
            ) from error
        raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and the JSON beside them. RunError for a file that is cut short or no safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118  not a dict
    except (SafetensorError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is damaged ({error}); remove it to start that stage again") from error


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically; RunError as `write_tensors`."""
    try:
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({error.strerror}); free some space, check the folder's permissions, "
            "or give another --run folder"
        ) from error


def put_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Put saved weights into what a recipe has built. RunError when they do not fit, with one that does not."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        built = module.state_dict()
        sizes = ((name, list(built[name].shape), list(tensors[name].shape)) for name in built if name in tensors)
        odd = next((f"{name} is {new} here and {old} there" for name, new, old in sizes if new != old), str(error))
        raise RunError(
            f"the weights in {where} do not fit the model that its recipe builds: {odd}. Something that the recipe names "
            "has another size than when they were saved, as a `checkpoint` of speech may have: name the one that they "
            "were trained with, or train again"
        ) from error


def pack(model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, average, optimizer state and random state as one flat dict of tensors."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average is not model:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def unpack(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    where: str | Path = "the checkpoint",
) -> None:
    """The inverse of `pack`, into existing objects; `where` the tensors are from, for errors (`put_weights`)."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    put_weights(model, under("model."), where)
    if average is not model:
        put_weights(average, under("average."), where)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in under("optimizer.").items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
