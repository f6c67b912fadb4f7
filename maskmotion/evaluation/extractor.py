"""The feature extractor of FGD: a small motion autoencoder, trained on the training split where no official one is at hand."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from maskmotion.evaluation.features import DOWNSAMPLE, READS, MotionFeatures
from maskmotion.shapes import Float

__all__ = ["DOWNSAMPLE", "WINDOW", "FeatureExtractor", "MotionFeatures", "train_extractor"]

WINDOW = 64  # frames the extractor is trained on
_BATCH = 24
_STILL = 0.02  # about a degree: columns that move less are not blown up to the size of the others


class FeatureExtractor(MotionFeatures):
    """A small 1-D convolutional autoencoder on the rot6d of all 55 joints; its codes are the features of FGD.

    Columns are standardised by the training motion's mean and spread and turned into its principal components (most of
    330 columns are redundant); features are standardised by the training features. All of it is held as buffers.
    Untrained until `train_extractor` has run.

    Args:
        dim: C, channels of a feature vector.
        width: channels of the hidden layers.
        components: principal components that are read; 96 hold 99 % of planted motion, 95 % of an unseen real part.
        reads: "body", or "motion" and "face" for AsynFusion's FMD and FED (`READS`).
    """

    kind = "autoencoder"
    input_mean: Tensor
    input_basis: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, dim: int = 32, width: int = 64, components: int = 96, reads: str = "body") -> None:
        super().__init__()
        columns = len(READS[reads])
        components = min(components, columns)
        self.dim, self.reads = dim, reads
        self.config = {"dim": dim, "width": width, "components": components, "reads": reads}
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
        self.register_buffer("input_mean", torch.zeros(columns))
        self.register_buffer("input_basis", torch.eye(columns)[:, :components].clone())
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_scale", torch.ones(dim))

    def components(self, columns: Float[Tensor, "*any D"]) -> Float[Tensor, "*any P"]:
        """Principal components, scaled so that their mean variance over the training motion is 1."""
        return (columns - self.input_mean) @ self.input_basis

    def forward(self, columns: Float[Tensor, "B T D"]) -> Float[Tensor, "B N C"]:
        """[B, T, 330] (of the body) -> [B, T/16, C]; T a multiple of 16. Raises ValueError for any other T."""
        if columns.shape[1] % DOWNSAMPLE:
            raise ValueError(f"T must be a multiple of {DOWNSAMPLE}, got {columns.shape[1]}; cut the clip")
        codes = self.encoder(self.components(columns).mT.contiguous())
        return (codes.mT - self.feature_mean) / self.feature_scale

    def reconstruction_error(self, components: Float[Tensor, "B T P"]) -> Float[Tensor, ""]:
        """Share of the components' variance that the autoencoder loses, []."""
        target = components.mT.contiguous()
        return nn.functional.mse_loss(self.decoder(self.encoder(target)), target)


def train_extractor(
    motions: Iterable[Float[Tensor, "_ D"]], steps: int = 600, seed: int = 0, reads: str = "body"
) -> FeatureExtractor:
    """Train the feature extractor as an autoencoder on random windows of 64 frames of the training split.

    The same motions, steps, seed and number of threads give the same fingerprint.

    Args:
        motions: the training split's clips [T, 437]; shorter ones than 64 frames are left out.
        steps: optimiser steps of 24 windows each.
        seed: of initialisation and windows.
        reads: which columns, a key of `READS`.

    Raises:
        ValueError: no clip is long enough.
    """
    columns = list(READS[reads])
    clips = [motion[:, columns].float().cpu() for motion in motions if len(motion) >= WINDOW]
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
        extractor = FeatureExtractor(reads=reads)
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
    whole = [clip[: len(clip) - len(clip) % DOWNSAMPLE] for clip in clips]
    with torch.no_grad():
        features = torch.cat([extractor.eval()(clip[None])[0] for clip in whole])
    scale, mean = torch.std_mean(features, 0, correction=0)
    extractor.feature_mean.copy_(mean)
    extractor.feature_scale.copy_(scale.clamp(min=1e-6))
    extractor.about = {"trained on": f"{len(frames)} frames of {len(clips)} clips", "steps": steps, "seed": seed}
    return extractor


def _fit_components(extractor: FeatureExtractor, frames: Float[Tensor, "n D"]) -> None:
    spread, mean = torch.std_mean(frames, 0, correction=0)
    spread = spread.clamp(min=_STILL)
    standard = ((frames - mean) / spread).double()
    variance, directions = torch.linalg.eigh(standard.T @ standard / len(standard))
    count = extractor.config["components"]
    kept = directions[:, -count:] / variance[-count:].mean().clamp(min=1e-6).sqrt()
    extractor.input_mean.copy_(mean)
    extractor.input_basis.copy_(kept / spread[:, None])
