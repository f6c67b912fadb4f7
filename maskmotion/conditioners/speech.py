"""What is said and how, as a frozen HuBERT hears it."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskmotion.conditioners.signal import read_valid
from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, Batch, Condition

STEP = 320  # samples between two HuBERT steps (20 ms): product of its convolutions' strides
FIELD = 400  # samples one step sees (25 ms); step k is centred at STEP * k + FIELD / 2
BLOCK = 1500  # steps kept of a block: 30 s
_HASHED = 1 << 24  # bytes of each file that its fingerprint reads: names, shapes and the first weights
CONTEXT = 250  # steps a block hears on either side of what is kept: 5 s


class HubertLayers(Extractor):
    """A low and a high hidden layer of a frozen HuBERT, [frames, 2 * size]: low first.

    Speech up to 40 s is one pass. Longer speech is heard in blocks of 30 s with 5 s of context on either side, so
    memory stays bounded at any length (attention is quadratic in 40 s, not in the recording) and a step's features
    ignore what is more than 5 s away from its block. Steps are interpolated linearly between their exact centres.
    """

    def __init__(self, checkpoint: str, low: int, high: int) -> None:
        self.checkpoint = checkpoint
        self.folder = _folder(checkpoint)
        config = _read_config(self.folder, checkpoint)
        self.size, count = int(config["hidden_size"]), int(config["num_hidden_layers"])
        self.low, self.high = (_layer(name, index, count, checkpoint) for name, index in (("low", low), ("high", high)))
        self.final = count
        self.dim = 2 * self.size
        self.key = f"hubert-v1-{Path(checkpoint).name}-{_fingerprint(self.folder)}-{self.low}-{self.high}"

    @cached_property
    def normalises(self) -> bool:
        """Whether the checkpoint was trained on waveforms of zero mean and unit variance (its preprocessor says so)."""
        path = self.folder / "preprocessor_config.json"
        return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, 2 * size]."""
        audio = audio.float()
        if self.normalises and len(audio):
            audio = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
        audio = nn.functional.pad(audio, (0, max(0, FIELD - len(audio))))
        steps = (len(audio) - FIELD) // STEP + 1
        keep = BLOCK if steps > BLOCK + 2 * CONTEXT else steps
        features = torch.cat([self._block(audio, start, min(start + keep, steps)) for start in range(0, steps, keep)])
        centres = (torch.arange(frames, dtype=torch.float64) + 0.5) / fps
        position = ((centres * SAMPLE_RATE - FIELD / 2) / STEP).clamp(0, steps - 1)
        before = position.floor().long()
        after = (before + 1).clamp(max=steps - 1)
        return torch.lerp(features[before], features[after], (position - before)[:, None].float())

    def _block(self, audio: Float[Tensor, " samples"], start: int, stop: int) -> Float[Tensor, "kept C"]:
        """Steps start .. stop - 1, heard with their context."""
        first = max(0, start - CONTEXT)
        model = _load(self.checkpoint)
        device = next(model.parameters()).device
        heard = audio[first * STEP : (stop + CONTEXT - 1) * STEP + FIELD].to(device)
        with torch.no_grad():
            output = model(heard[None], output_hidden_states=True)
        # the last entry of hidden_states lacks the final norm in some versions of transformers
        layers = [*output.hidden_states[: self.final], output.last_hidden_state]
        both = torch.cat([layers[self.low][0], layers[self.high][0]], dim=-1)
        return both[start - first : stop - first].cpu()


class Speech(Conditioner):
    """Low (acoustic) and high (semantic) hidden layers of a frozen HuBERT; `features` is the high one.

    Both are in `Condition.levels`. The encoder is loaded when it is first needed and is no part of the module: its
    weights are never trained and never saved with a model, the recipe names the checkpoint.

    Args:
        checkpoint: a local folder with config.json and model.safetensors, or a name on the Hugging Face hub.
        low: hidden layer, 0 (before the first) to the number of layers; negative counts from the end.
        high: the same.
    """

    levels = ("low", "high")

    def __init__(self, checkpoint: str = "facebook/hubert-large-ls960-ft", low: int = 11, high: int = -1) -> None:
        super().__init__()
        self.extractor = HubertLayers(checkpoint, low, high)
        self.extractors = (self.extractor,)
        self.dim = self.extractor.size

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, size] and levels low, high of the same shape, zero in padded frames."""
        low, high = read_valid(self.extractor, batch).split(self.dim, dim=-1)
        return Condition(high, batch.valid, levels={"low": low, "high": high})


@lru_cache(maxsize=1)
def _load(checkpoint: str) -> Any:
    """The frozen model, one in memory, on the accelerator where there is one."""
    from transformers import HubertModel

    try:
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
