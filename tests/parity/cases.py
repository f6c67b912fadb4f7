"""What the folder of fixtures holds, at collection: every file, array and key is a case, and belongs to somebody."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(os.environ["MASKMOTION_GOLDEN"]) if os.environ.get("MASKMOTION_GOLDEN") else None
THE_FILE = "the file"  # the one case of a file that is not there

FILES = {
    "README.md": "documentation",
    "emage/README.md": "documentation",
    "emage/weights_recipe.py": "documentation",
    "emage/*_vq.npz": "tokenizers",
    "emage/*_vq_losses.npz": "tokenizers",
    "emage/*_container.npz": "tokenizers",
    "emage/*/emage_vq/*/config.json": "tokenizers",
    "emage/*/emage_vq/*/model.safetensors": "tokenizers",
    "emage/*/config.json": "generator",
    "emage/*/model.safetensors": "generator",
    "emage/*_forward_*.npz": "generator",
    "emage/*_infer_*.npz": "generator",
    "emage/*_train_losses.npz": "generator",
    "emage/*_info.json": "generator",
    "emage/paper_era/emage_*_small*": "generator",
    "emage/paper_era/onset_amplitude.npz": "conditioners",
    "emage/metrics/*": "evaluation",
    "emage/motion_io.npz": "motion",
    "emage/rotations.npz": "motion",
    "foot_contact/emage_cache_*.npz": "motion",
    "*_golden.json": "tokenizers, and others by key",
    "*_statedict_keys.json": "conversion",
}
"""File -> whose it is; the first pattern counts."""

_GENERATOR = {"inputs": "generator", "losses": "generator", "loss_terms*": "generator", "total_loss": "generator"}
_TOKENIZERS = {"rvq": "tokenizers", "global_motion": "tokenizers"}
KEYS = {
    "echomask": {
        **_TOKENIZERS,
        **_GENERATOR,
        **dict.fromkeys(("mam_*", "seed_pass*", "teacher_scores", "masked_*_pass*"), "generator"),
        **dict.fromkeys(("fgd_encoder*", "l1div*", "bc*", "frechet*"), "evaluation"),
        "rot": "motion",
    },
    "semtalk": {
        **_TOKENIZERS,
        **_GENERATOR,
        "recipe": "documentation",
        **dict.fromkeys(("base_*", "sparse_*", "generate_*"), "generator"),
    },
}
"""Release -> key of its JSON -> whose it is."""


def owner(name: str, table: Mapping[str, str]) -> str | None:
    """Whose a file or key is; None for one that nobody knows."""
    return next((whose for pattern, whose in table.items() if fnmatch(name, pattern)), None)


def files() -> list[str]:
    """Every file of the folder, by its path in it."""
    if GOLDEN is None:
        return []
    return sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())


def sizes() -> list[str]:
    """Sizes of EMAGE's models: those that are known, and whatever else has fixtures."""
    found: set[str] = set()
    for name in files():
        folder, _, stem = name.rpartition("/")
        ends = (end for end in ("_vq.npz", "_vq_losses.npz", "_container.npz") if stem.endswith(end))
        found |= {stem.removesuffix(end) for end in ends if folder == "emage"}
    return ["small", "full", *sorted(found - {"small", "full"})]


@functools.cache
def arrays(name: str) -> dict[str, Tensor]:
    """The arrays of an npz file of the folder; none of a file that is not there."""
    if GOLDEN is None or not (GOLDEN / name).is_file():
        return {}
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


@functools.cache
def read_json(name: str) -> dict[str, Any]:
    """A JSON file of the folder; empty for one that is not there."""
    if GOLDEN is None or not (GOLDEN / name).is_file():
        return {}
    return json.loads((GOLDEN / name).read_text())


def emage_cases(stem: str, known: Iterable[str]) -> list[Any]:
    """(size, array) of every size: what is known and what is found; a single case of a file that is not there."""
    found = []
    for size in sizes():
        here = arrays(f"emage/{size}_{stem}.npz")
        marks = () if size == "small" else pytest.mark.slow
        names = list(dict.fromkeys([*known, *here])) if here else [THE_FILE]
        found += [pytest.param(size, name, marks=marks, id=f"{size}-{name}") for name in names]
    return found


def present_file(name: str) -> Path:
    """Where a file of the folder is, or a skip with the reason."""
    present(dict.fromkeys(files()), name, "the folder of fixtures")
    assert GOLDEN is not None
    return GOLDEN / name


def present(given: Mapping[str, Any], name: str, file: str) -> Any:
    """What a fixture says under a name, or a skip with the reason."""
    if GOLDEN is None:
        pytest.skip("MASKMOTION_GOLDEN is not set: it names the folder of parity fixtures, which are not ours to ship")
    if name not in given:
        pytest.skip(f"{file} has no {name}" if given else f"there is no {file}")
    return given[name]
