"""What is said and how, as a frozen HuBERT hears it."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.conditioners.hubert import FIELD, STEP, Hubert
from maskmotion.conditioners.signal import read_valid
from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, Batch, Condition

BLOCK = 1500  # steps kept of a block: 30 s
CONTEXT = 250  # steps a block hears on either side of what is kept: 5 s


class HubertLayers(Extractor):
    """A low and a high hidden layer of a frozen HuBERT, [frames, 2 * size]: low first.

    Speech up to 40 s is one pass. Longer speech is heard in blocks of 30 s with 5 s of context on either side, so
    memory stays bounded at any length (attention is quadratic in 40 s, not in the recording) and a step's features
    ignore what is more than 5 s away from its block. Steps are interpolated linearly between their exact centres.
    """

    def __init__(self, checkpoint: str, low: int, high: int) -> None:
        self.hubert = Hubert(checkpoint, low, high)
        self.dim = 2 * self.hubert.size
        self.key = f"hubert-v1-{self.hubert.name}"

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, 2 * size]."""
        audio = self.hubert.prepare(audio)
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
        heard = self.hubert.hear(audio[first * STEP : (stop + CONTEXT - 1) * STEP + FIELD])
        return heard[start - first : stop - first]


class Speech(Conditioner):
    """Low (acoustic) and high (semantic) hidden layers of a frozen HuBERT; `features` is the high one.

    Both are in `Condition.levels`. The encoder is loaded when it is first needed and is no part of the module: its
    weights are never trained and never saved with a model, the recipe names the checkpoint.

    Args:
        checkpoint: a local folder with config.json and model.safetensors, a name on the Hugging Face hub, or "planted",
            which `maskmotion data speech` trains.
        low: hidden layer, 0 (before the first) to the number of layers; negative counts from the end.
        high: the same.
    """

    levels = ("low", "high")

    def __init__(self, checkpoint: str = "facebook/hubert-large-ls960-ft", low: int = 11, high: int = -1) -> None:
        super().__init__()
        self.extractor = HubertLayers(checkpoint, low, high)
        self.extractors = (self.extractor,)
        self.dim = self.extractor.hubert.size

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, size] and levels low, high of the same shape, zero in padded frames."""
        low, high = read_valid(self.extractor, batch).split(self.dim, dim=-1)
        return Condition(high, batch.valid, levels={"low": low, "high": high})
