"""Where official checkpoints lie: files of a folder, of a hub repository, and the config.json beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmotion.data.vocabulary import Vocabulary
from maskmotion.tokenizers.pretrained import PLAN
from maskmotion.training.conversion_report import ConvertError
from maskmotion.training.official_tokenizers import ROOT, TokenizerNetwork

PICKLED, WORDS, CONFIG = "vocab.pkl", "vocab.json", "config.json"
_WAY_OUT = (
    f"{PICKLED} is a pickled object, which may run code when it is opened, and is left alone; docs/convert.md has the "
    f"lines that write {WORDS} from it in the official environment"
)


@dataclass(frozen=True)
class Source:
    """Files that are to be read, and what was left alone. words: the checked vocab.json, if there is one."""

    title: str
    root: Path
    files: tuple[Path, ...]
    words: Path | None = None
    notes: tuple[str, ...] = ()


def find(source: str | Path) -> Source:
    """What a folder, a file or a hub id holds. ConvertError for nothing of use, FileNotFoundError for no source."""
    path = Path(source)
    if path.name == PICKLED and path.is_file():
        raise ConvertError(f"{path}: {_WAY_OUT}")
    if path.is_file():
        return Source(path.name, path.parent, (path,))
    root = path if path.is_dir() else _download(str(source))
    every = sorted(file for file in root.rglob("*") if file.is_file() and not _passed_over(root, file))
    weights = [file for file in every if file.suffix in (".bin", ".safetensors")]
    safe = {file.parent for file in weights if file.name == "model.safetensors"}
    twice = [file for file in weights if file.name == "pytorch_model.bin" and file.parent in safe]
    notes = [f"{_below(root, file)} is not read: model.safetensors beside it holds the same weights" for file in twice]
    notes += [f"{_below(root, file)}: {_WAY_OUT}" for file in every if file.name == PICKLED]
    rest = [file for file in every if file not in weights and file.name not in (PICKLED, WORDS, CONFIG)]
    if rest:
        shown = ", ".join(_below(root, file) for file in rest[:6])
        notes.append(f"not read: {shown}" + (f" and {len(rest) - 6} more" if len(rest) > 6 else ""))
    if not weights:
        raise ConvertError("\n".join([f"{source} holds no .bin and no .safetensors file to convert", *notes]))
    files = tuple(file for file in weights if file not in twice)
    return Source(
        path.resolve().name if path.is_dir() else str(source),
        root,
        files,
        _words([file for file in every if file.name == WORDS]),
        tuple(notes),
    )


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of the Hugging Face layout beside a file; empty where there is none of EMAGE's."""
    beside = path.parent / CONFIG
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConvertError(f"{beside} is no JSON file ({error})") from None
    known = isinstance(found, dict) and str(found.get("model_type", "")).startswith("emage_")
    return found if known else {}


def contradictions(path: Path, network: TokenizerNetwork, config: dict[str, Any]) -> Iterator[str]:
    """Where the Hugging Face layout says other things of a tokenizer than its weights do."""
    if not config:
        return
    predictor = network.part == ROOT
    means = {
        "model_type": "emage_vaeconv" if predictor else "emage_vqvaeconv",
        "vae_layer": network.layers,
        "vae_length": network.width,
        "vae_test_dim": network.size,
    } | ({} if predictor else {"vae_codebook_size": network.codes})
    for name, value in means.items():
        if config.get(name, value) != value:
            yield f"{CONFIG} says {name} {config[name]!r}, the weights {value!r}"
    folder, expected = path.parent.name, "global" if predictor else network.part
    if folder in ("face", "upper", "hands", "lower", "global") and folder != expected:
        yield f"it lies in the folder of {folder!r}, but its weights are those of {expected!r}"


def _words(files: list[Path]) -> Path | None:
    if len(files) > 1:
        raise ConvertError(f"one {WORDS} at most, found {', '.join(map(str, files))}")
    for file in files:
        try:
            Vocabulary.read(file)
        except ValueError as error:
            raise ConvertError(str(error)) from None
    return files[0] if files else None


def _passed_over(root: Path, file: Path) -> bool:
    """Hidden files and folders (the hub's own notes), and what has been converted already."""
    return any(step.startswith(".") for step in file.relative_to(root).parts) or (file.parent / PLAN).is_file()


def _below(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError(f"no file or folder {name}; give one, or a hub id as OWNER/NAME")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.bin", "*.safetensors"]))
    except Exception as error:  # the hub's client has many errors for one fact
        raise FileNotFoundError(
            f"no file or folder {name}, and the hub did not give it ({type(error).__name__}: {error})"
        ) from error
