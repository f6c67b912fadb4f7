"""The feature extractor of FGD: a small motion autoencoder, trained on the training split where no official one is at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from maskmotion.motion.layout import ROTATIONS
from maskmotion.shapes import Float
from maskmotion.storage import atomic

WINDOW = 64  # frames the extractor is trained on
DOWNSAMPLE = 16  # frames per feature vector, as in EMAGE's extractor
_BATCH = 24
_STILL = 0.02  # about a degree: columns that move less are not blown up to the size of the others


class FeatureExtractor(nn.Module):
    """A small 1-D convolutional autoencoder on the rot6d of all 55 joints; its codes are the features of FGD.

    Columns are standardised by the training motion's mean and spread and turned into its principal components (most of
    330 columns are redundant); features are standardised by the training features. All of it is held as buffers.
    Untrained until `train_extractor` has run.

    Args:
        dim: C, channels of a feature vector.
        width: channels of the hidden layers.
        components: principal components that are read; 96 hold 99 % of planted motion, 95 % of an unseen real part.
    """

    input_mean: Tensor
    input_basis: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, dim: int = 32, width: int = 64, components: int = 96) -> None:
        super().__init__()
        self.config = {"dim": dim, "width": width, "components": components}
        down = (nn.Conv1d(i, o, 4, 2, 1) for i, o in ((components, width), (width, width), (width, width)))
        up = (nn.ConvTranspose1d(i, o, 4, 2, 1) for i, o in ((dim, width), (width, width), (width, width)))
        self.encoder = nn.Sequential(*(m for layer in down for m in (layer, nn.GELU())), nn.Conv1d(width, dim, 4, 2, 1))
        self.decoder = nn.Sequential(
            *(m for layer in up for m in (layer, nn.GELU())), nn.ConvTranspose1d(width, components, 4, 2, 1)
        )
        for layer in (m for m in self.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)):
            inputs = layer.in_channels * layer.kernel_size[0]
            inputs //= layer.stride[0] if isinstance(layer, nn.ConvTranspose1d) else 1
            nn.init.normal_(layer.weight, std=inputs**-0.5)  # torch's default shrinks the signal 3x a layer
        columns = ROTATIONS.stop
        self.register_buffer("input_mean", torch.zeros(columns))
        self.register_buffer("input_basis", torch.eye(columns)[:, :components].clone())
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_scale", torch.ones(dim))

    def components(self, rotations: Float[Tensor, "*any 330"]) -> Float[Tensor, "*any P"]:
        """Principal components, scaled so that their mean variance over the training motion is 1."""
        return (rotations - self.input_mean) @ self.input_basis

    def forward(self, rotations: Float[Tensor, "B T 330"]) -> Float[Tensor, "B N C"]:
        """[B, T, 330] -> [B, T/16, C]; T a multiple of 16. Raises ValueError for any other T."""
        if rotations.shape[1] % DOWNSAMPLE:
            raise ValueError(f"T must be a multiple of {DOWNSAMPLE}, got {rotations.shape[1]}; cut the clip")
        codes = self.encoder(self.components(rotations).mT.contiguous())
        return (codes.mT - self.feature_mean) / self.feature_scale

    def reconstruction_error(self, components: Float[Tensor, "B T P"]) -> Float[Tensor, ""]:
        """Share of the components' variance that the autoencoder loses, []."""
        target = components.mT.contiguous()
        return nn.functional.mse_loss(self.decoder(self.encoder(target)), target)

    @torch.no_grad()
    def features(self, motions: Iterable[Float[Tensor, "_ D"]]) -> Float[Tensor, "n C"]:
        """Feature vectors of whole clips, one clip after the other, each cut to a multiple of 16 frames.

        Args:
            motions: clips [T, 437] (or their 330 rotation columns); what is shorter than 16 frames has no feature.
        """
        device = self.input_mean.device
        rows = [motion[: len(motion) - len(motion) % DOWNSAMPLE, ROTATIONS].float() for motion in motions]
        kept = [self(row[None].to(device))[0] for row in rows if len(row)]
        return torch.cat(kept) if kept else torch.zeros(0, self.config["dim"])

    @property
    def fingerprint(self) -> str:
        """Sha256 over sizes and every weight: two extractors with one fingerprint give the same numbers."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Write `extractor.safetensors` and `extractor.json` into `folder`; returns it. Each file atomic."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        _write(folder / "extractor.safetensors", save(weights))
        _write(folder / "extractor.json", json.dumps({**self.config, "fingerprint": self.fingerprint}).encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> FeatureExtractor:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: a file is missing. ValueError: the weights are not those that the fingerprint names.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in ("extractor.json", "extractor.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"no {name} in {folder}; write it with FeatureExtractor.save(folder)")
        config = json.loads((folder / "extractor.json").read_text())
        expected = config.pop("fingerprint")
        extractor = cls(**config)
        extractor.load_state_dict(load_file(folder / "extractor.safetensors"))
        if extractor.fingerprint != expected:
            raise ValueError(
                f"{folder}: the weights have fingerprint {extractor.fingerprint[:12]}, extractor.json says "
                f"{expected[:12]}; the two files belong to different extractors, train or copy them again"
            )
        return extractor.eval()


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def train_extractor(motions: Iterable[Float[Tensor, "_ D"]], steps: int = 600, seed: int = 0) -> FeatureExtractor:
    """Train the feature extractor as an autoencoder on random windows of 64 frames of the training split.

    The same motions, steps, seed and number of threads give the same fingerprint.

    Args:
        motions: the training split's clips [T, 437]; shorter ones than 64 frames are left out.
        steps: optimiser steps of 24 windows each.
        seed: of initialisation and windows.

    Raises:
        ValueError: no clip is long enough.
    """
    clips = [motion[:, ROTATIONS].float().cpu() for motion in motions if len(motion) >= WINDOW]
    if not clips:
        raise ValueError(f"an FGD extractor trains on windows of {WINDOW} frames and no clip is that long; add motion")
    frames = torch.cat(clips)
    lengths = torch.tensor([len(clip) for clip in clips])
    starts = torch.ones(len(frames), dtype=torch.bool)
    starts[lengths.cumsum(0)[:, None] - 1 - torch.arange(WINDOW - 1)] = False
    candidates = starts.nonzero()[:, 0]

    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extractor = FeatureExtractor()
    _fit_components(extractor, frames)
    inputs = extractor.components(frames)
    optimizer = torch.optim.Adam(extractor.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=max(steps, 8), pct_start=0.15)
    for _ in range(steps):
        first = candidates[torch.randint(len(candidates), (_BATCH,), generator=random)]
        loss = extractor.reconstruction_error(inputs[first[:, None] + torch.arange(WINDOW)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    scale, mean = torch.std_mean(extractor.eval().features(clips), 0, correction=0)
    extractor.feature_mean.copy_(mean)
    extractor.feature_scale.copy_(scale.clamp(min=1e-6))
    return extractor


def _fit_components(extractor: FeatureExtractor, frames: Float[Tensor, "n 330"]) -> None:
    spread, mean = torch.std_mean(frames, 0, correction=0)
    spread = spread.clamp(min=_STILL)
    standard = ((frames - mean) / spread).double()
    variance, directions = torch.linalg.eigh(standard.T @ standard / len(standard))
    count = extractor.config["components"]
    kept = directions[:, -count:] / variance[-count:].mean().clamp(min=1e-6).sqrt()
    extractor.input_mean.copy_(mean)
    extractor.input_basis.copy_(kept / spread[:, None])
