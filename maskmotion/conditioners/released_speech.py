"""Speech as EchoMask's release hears it: HuBERT at the wrong rate, projected at random."""

from __future__ import annotations

from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.conditioners.hubert import FIELD, STEP, Hubert
from maskmotion.conditioners.signal import read_valid
from maskmotion.interfaces import Conditioner, Extractor
from maskmotion.shapes import Float
from maskmotion.types import SAMPLE_RATE, Batch, Condition

RELEASED_RATE = 22050  # samples a second of what its HuBERT takes for 16 kHz, librosa's default
BLOCK = 1000  # steps heard at a time, without context: 14.5 s
_SEED = 42  # of the projection


class ReleasedLayers(Extractor):
    """Two layers of a HuBERT that is given 22.05 kHz samples as if they were 16 kHz, [frames, 2 * dim]: low first.

    As the released scripts do it (specified in its section "speech features"): normalised as a whole, heard in blocks of
    1000 steps with 80 samples beyond their last, one step short or long of (samples - 80) // 320 made up with zeros or
    cut; interpolated with aligned corners to one step in 533 samples of 16 kHz (the whole part of 16000 / 30, so 30.02
    steps a second), and by one random orthonormal matrix projected to `dim` channels.

    The data set wants as many steps as frames: what is beyond them is cut, and the last step is repeated where motion
    outlasts the sound. Sound shorter than one step's field (18 ms) is followed by silence.
    """

    def __init__(self, checkpoint: str, low: int, high: int, dim: int) -> None:
        self.checkpoint, self.low, self.high = checkpoint, low, high
        self.dim = 2 * dim

    @cached_property
    def hubert(self) -> Hubert:
        """The checkpoint, looked for when it is first needed. ValueError when it is too narrow."""
        hubert = Hubert(self.checkpoint, self.low, self.high)
        if 2 * hubert.size < self.dim:
            raise ValueError(
                f"released_speech.dim={self.dim // 2}: {self.checkpoint} has {hubert.size} channels, and an orthonormal "
                "projection cannot have more; set dim to that or less"
            )
        return hubert

    @cached_property
    def key(self) -> str:  # type: ignore[override]  # as any attribute, but it says which weights, so it must look
        """Checkpoint, layers and width."""
        return f"hubert-released-v1-{self.hubert.name}-{self.dim // 2}"

    def __call__(self, audio: Float[Tensor, " samples"], frames: int, fps: int) -> Float[Tensor, "frames C"]:
        """[samples] -> [frames, 2 * dim]."""
        steps = max(1, len(audio) // (SAMPLE_RATE // fps))
        heard = self._project(self._steps(self.hubert.prepare(_upsampled(audio.float()))))
        features = F.interpolate(heard.mT[None], size=steps, mode="linear", align_corners=True)[0].mT
        return features[torch.arange(frames).clamp(max=steps - 1)]

    def _steps(self, audio: Float[Tensor, " heard"]) -> Float[Tensor, "steps C"]:
        count = (len(audio) - (FIELD - STEP)) // STEP
        pieces = [audio[first : first + BLOCK * STEP + FIELD - STEP] for first in range(0, len(audio), BLOCK * STEP)]
        heard = torch.cat([self.hubert.hear(piece) for piece in pieces if len(piece) >= FIELD])[:count]
        return F.pad(heard, (0, 0, 0, count - len(heard)))

    def _project(self, steps: Float[Tensor, "steps C"]) -> Float[Tensor, "steps E"]:
        """Before they are interpolated, which comes to the same and needs less memory."""
        matrix = projection(self.hubert.size, self.dim // 2)
        return (steps.unflatten(-1, (2, -1)) @ matrix).flatten(1)


class ReleasedSpeech(Conditioner):
    """HuBERT's layers as EchoMask's weights expect them, quirks and all; `features` is the high one.

    Both are in `Condition.levels`. Nothing is read when it is built, so a converted model loads without HuBERT.

    Args:
        checkpoint: a local folder with config.json and model.safetensors, or a name on the Hugging Face hub.
        low, high: hidden layers, as in `speech`.
        dim: channels of both levels after the projection.
    """

    levels = ("low", "high")

    def __init__(
        self, checkpoint: str = "facebook/hubert-large-ls960-ft", low: int = 11, high: int = -1, dim: int = 256
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"released_speech.dim is at least 1, got {dim}")
        self.extractor = ReleasedLayers(checkpoint, low, high, dim)
        self.extractors = (self.extractor,)
        self.dim = dim

    def forward(self, batch: Batch) -> Condition:
        """Features [B, T, dim] and levels low, high of the same shape, zero in padded frames."""
        low, high = read_valid(self.extractor, batch).split(self.dim, dim=-1)
        return Condition(high, batch.valid, levels={"low": low, "high": high})


@lru_cache(maxsize=2)
def projection(size: int, dim: int) -> Float[Tensor, "size dim"]:
    """The release's random orthonormal columns: Q of a square standard normal matrix that the CPU draws from seed 42."""
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(_SEED))
    return torch.linalg.qr(drawn).Q[:, :dim].contiguous()


def _upsampled(audio: Float[Tensor, " samples"]) -> Float[Tensor, " more"]:
    """At 22.05 kHz, as librosa reads a file of 16 kHz."""
    if not len(audio):
        return audio
    import librosa

    return torch.from_numpy(librosa.resample(audio.numpy(), orig_sr=SAMPLE_RATE, target_sr=RELEASED_RATE))
