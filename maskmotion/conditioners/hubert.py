"""A frozen HuBERT by its checkpoint: which layers it has, what it takes, and what it hears in a waveform."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskmotion.data.features import default_folder
from maskmotion.shapes import Float

PLANTED = "planted"  # names the small encoder that `maskmotion data speech` trains
STEP = 320  # samples between two HuBERT steps (20 ms): product of its convolutions' strides
FIELD = 400  # samples one step sees (25 ms); step k is centred at STEP * k + FIELD / 2
_HASHED = 1 << 24  # bytes of each file that its fingerprint reads: names, shapes and the first weights


class Hubert:
    """A low and a high hidden layer. The checkpoint's small files are read at once, its weights when it first hears.

    Args:
        checkpoint: a local folder with config.json and model.safetensors, a name on the Hugging Face hub, or "planted",
            the small encoder of the planted corpus.
        low, high: hidden layers, 0 (before the first) to the number of layers; negative counts from the end.

    Attributes:
        size: channels of a layer. name: tells checkpoints, weights and layers apart.
    """

    def __init__(self, checkpoint: str, low: int, high: int) -> None:
        if checkpoint == PLANTED:
            checkpoint = str(_require_planted())
        self.checkpoint = checkpoint
        self._folder = _folder(checkpoint)
        config = _read_config(self._folder, checkpoint)
        self.size, self._count = int(config["hidden_size"]), int(config["num_hidden_layers"])
        self.low, self.high = (
            _layer(name, index, self._count, checkpoint) for name, index in (("low", low), ("high", high))
        )
        self.name = f"{Path(checkpoint).name}-{_fingerprint(self._folder)}-{self.low}-{self.high}"

    @cached_property
    def normalises(self) -> bool:
        """Whether the checkpoint was trained on waveforms of zero mean and unit variance (its preprocessor says so)."""
        path = self._folder / "preprocessor_config.json"
        return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))

    def prepare(self, audio: Float[Tensor, " samples"]) -> Float[Tensor, " heard"]:
        """A whole recording as the checkpoint takes it, with silence behind it where it is shorter than a step's field."""
        audio = audio.float()
        if self.normalises and len(audio):
            audio = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
        return nn.functional.pad(audio, (0, max(0, FIELD - len(audio))))

    def hear(self, audio: Float[Tensor, " heard"]) -> Float[Tensor, "steps C"]:
        """Both layers of a prepared piece of at least `FIELD` samples, [steps, 2 * size]: low first."""
        model = _load(self.checkpoint)
        with torch.no_grad():
            output = model(audio[None].to(next(model.parameters()).device), output_hidden_states=True)
        # the last entry of hidden_states lacks the final norm in some versions of transformers
        layers = [*output.hidden_states[: self._count], output.last_hidden_state]
        return torch.cat([layers[self.low][0], layers[self.high][0]], dim=-1).cpu()


def planted_folder(data: str = "planted-v1") -> Path:
    """Where the encoder trained on a planted corpus's phones is kept: speech/NAME in the cache's folder."""
    return default_folder() / "speech" / data


def _require_planted() -> Path:
    folder = planted_folder()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"speech.checkpoint={PLANTED!r} names {folder}, which is not there: train it once with `maskmotion data speech` "
            "(about two minutes), or give the path of a HuBERT's folder"
        )
    return folder


@contextmanager
def _quiet_without_terminal() -> Iterator[None]:
    """Bars of transformers where somebody sees them, and nothing in a log."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@lru_cache(maxsize=1)
def _load(checkpoint: str) -> Any:
    """The frozen model, one in memory, on the accelerator where there is one."""
    from transformers import HubertModel

    try:
        with _quiet_without_terminal():
            model = HubertModel.from_pretrained(checkpoint, use_safetensors=True)
    except OSError as error:
        raise FileNotFoundError(
            f"no safetensors weights for speech.checkpoint={checkpoint!r}. Pickled weights (pytorch_model.bin) are "
            "never loaded, because they can run code: use a checkpoint with model.safetensors, or convert yours once "
            "with HubertModel.from_pretrained(...).save_pretrained(FOLDER) and name that folder"
        ) from error
    return model.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def _folder(checkpoint: str) -> Path:
    """The local folder, or the hub's snapshot folder with the two small JSON files in it."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        config = Path(hf_hub_download(checkpoint, "config.json"))
        try:
            hf_hub_download(checkpoint, "preprocessor_config.json")
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise  # offline, so whether the checkpoint has one is unknown; without it, it takes waveforms as they are
    except (OSError, ValueError) as error:  # not found, offline, or no repository name at all
        raise FileNotFoundError(
            f"speech.checkpoint={checkpoint!r} is neither a local folder nor a model that the Hugging Face hub gave "
            f"({type(error).__name__}). Give the path of a folder with config.json and model.safetensors, "
            "go online once so that it is cached, or use the conditioner 'mel', which needs no weights"
        ) from error
    return config.parent


def _read_config(folder: Path, checkpoint: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: speech.checkpoint must be a folder that save_pretrained wrote")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    strides = config.get("conv_stride", [5, 2, 2, 2, 2, 2, 2])
    if config.get("model_type") != "hubert" or torch.tensor(strides).prod() != STEP:
        raise ValueError(
            f"speech.checkpoint={checkpoint!r} is no HuBERT with one step per {STEP} samples "
            f"(model_type {config.get('model_type')!r}, conv_stride {strides}); choose another checkpoint"
        )
    return config


def _layer(name: str, index: int, count: int, checkpoint: str) -> int:
    layer = index + count + 1 if index < 0 else index
    if not 0 <= layer <= count:
        raise ValueError(
            f"speech.{name}={index}: {checkpoint} has hidden layers 0 to {count} (or -1 to -{count + 1} from the end)"
        )
    return layer


def _fingerprint(folder: Path) -> str:
    """Changes with the settings and the weights: a local folder's files, or a hub model's commit (a snapshot's name)."""
    digest = hashlib.sha256()
    names = ["config.json", "preprocessor_config.json"]
    if folder.parent.name == "snapshots":
        digest.update(folder.name.encode())
    else:
        names += sorted(path.name for path in folder.glob("*.safetensors"))
    for path in (folder / name for name in names if (folder / name).is_file()):
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HASHED))
    return digest.hexdigest()[:12]
