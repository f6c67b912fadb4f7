"""Frechet gesture distance: how far two sets of motions lie apart in the feature space of a motion autoencoder.

FGD of Yoon et al. 2020, as EMAGE eq. 11 writes it. The feature extractor is part of the number: every result carries
its fingerprint, and results of different extractors refuse to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskmotion.evaluation.extractor import FeatureExtractor, train_extractor
from maskmotion.shapes import Float

__all__ = ["FeatureExtractor", "FrechetScore", "fgd", "frechet_distance", "train_extractor"]

SAMPLES_PER_DIMENSION = 10  # below this the covariances, hence the distance, are mostly sampling error


def frechet_distance(a: Float[Tensor, "n c"], b: Float[Tensor, "m c"], eps: float = 0.0) -> float:
    """Frechet distance of the Gaussians fitted to two sets of feature vectors (EMAGE eq. 11), in float64.

    The trace of (A B)^1/2 is taken as the sum of singular values of A^1/2 B^1/2, the roots from symmetric
    eigenvalues: real, and exact where a covariance has no full rank.

    Args:
        a: one set, one vector a row; b: the other. At least two rows each (covariances are unbiased).
        eps: added to both diagonals inside the root only; 1e-6 reproduces EMAGE's release, 0 is the formula.

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    for name, rows in (("a", a), ("b", b)):
        if len(rows) < 2:
            raise ValueError(
                f"a Frechet distance needs at least 2 feature vectors a set, {name} has {len(rows)}; add motion"
            )
        if not torch.isfinite(rows).all():
            raise ValueError(
                f"{name} holds values that are not finite (NaN or infinity); check the motion it came from"
            )
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    cov_a, cov_b = torch.atleast_2d(torch.cov(a.T)), torch.atleast_2d(torch.cov(b.T))
    shift = (a.mean(0) - b.mean(0)).square().sum()
    cross = torch.linalg.svdvals(_root(cov_a, eps) @ _root(cov_b, eps)).sum()
    return float(shift + cov_a.trace() + cov_b.trace() - 2 * cross)


def _root(covariance: Float[Tensor, "c c"], eps: float) -> Float[Tensor, "c c"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * (values.clamp(min=0) + eps).sqrt()) @ vectors.T


@dataclass(frozen=True)
class FrechetScore:
    """An FGD with what it depends on; `float(score)` is the number.

    samples: feature vectors of generated and reference motion. dim: channels of each.
    """

    value: float
    samples: tuple[int, int]
    dim: int
    fingerprint: str

    @property
    def reliable(self) -> bool:
        """Whether there are ten feature vectors a dimension in both sets."""
        return min(self.samples) >= SAMPLES_PER_DIMENSION * self.dim

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __str__(self) -> str:
        few = "" if self.reliable else f", fewer than {SAMPLES_PER_DIMENSION} a dimension"
        return f"{self.value:.4g} (n={self.samples[0]}/{self.samples[1]}{few}; extractor {self.fingerprint[:12]})"

    def __sub__(self, other: FrechetScore) -> float:
        if self.fingerprint != other.fingerprint:
            raise ValueError(
                f"FGD under extractor {self.fingerprint[:12]} cannot be compared with one under "
                f"{other.fingerprint[:12]}: evaluate both motions with the same extractor"
            )
        return self.value - other.value

    def __lt__(self, other: FrechetScore) -> bool:
        return self - other < 0

    def __gt__(self, other: FrechetScore) -> bool:
        return self - other > 0


def fgd(
    extractor: FeatureExtractor,
    generated: Iterable[Float[Tensor, "_ D"]],
    reference: Iterable[Float[Tensor, "_ D"]],
) -> FrechetScore:
    """Frechet gesture distance of generated clips from reference clips (EMAGE eq. 11), clips [T, 437].

    With few samples a dimension (under ten: 320 feature vectors, or 171 s at 30 fps, for the default extractor) the
    covariances are mostly sampling error and the distance is biased upwards: compare it only with numbers of the same
    n. The score says its n and whether it is `reliable`.

    Raises:
        ValueError: fewer than two feature vectors on a side.
    """
    first, second = extractor.features(generated), extractor.features(reference)
    return FrechetScore(
        value=frechet_distance(first, second),
        samples=(len(first), len(second)),
        dim=extractor.config["dim"],
        fingerprint=extractor.fingerprint,
    )
