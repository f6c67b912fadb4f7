"""Frechet gesture distance: how far two sets of motions lie apart in the feature space of a motion autoencoder.

FGD of Yoon et al. 2020, as EMAGE eq. 11 writes it. The feature extractor is part of the number: every result carries
its fingerprint, and results of different extractors refuse to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator
from maskmotion.evaluation.extractor import FeatureExtractor, MotionFeatures, train_extractor
from maskmotion.shapes import Float

__all__ = ["FeatureExtractor", "Frechet", "FrechetScore", "fgd", "frechet_distance", "train_extractor"]

SAMPLES_PER_DIMENSION = 10  # below this the covariances, hence the distance, are mostly sampling error
RELEASED_EPS = 1e-6  # on the diagonals inside the root, in the tools that came with EMAGE's release


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
    both = Frechet(a.shape[-1], eps=eps)
    both.update(a, b)
    return float(both.result())


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


class Frechet(Accumulator):
    """Frechet distance of two sets of feature vectors that come in batches: counts, means and scatter of both.

    Merged about the common mean (Chan et al., 1983), so that a mean far from zero costs no digits.

    Args:
        dim: C, channels of a feature vector. eps: as in `frechet_distance`. fingerprint: of the extractor.
    """

    def __init__(self, dim: int, eps: float = 0.0, fingerprint: str = "") -> None:
        self.dim, self.eps, self.fingerprint = dim, eps, fingerprint
        sizes = {"count": (2, 1), "mean": (2, dim), "scatter": (2, dim, dim)}
        self.state = {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}

    def update(self, generated: Float[Tensor, "n c"], reference: Float[Tensor, "m c"]) -> None:
        """Add feature vectors, one a row, of either set; the sets need not come in step.

        Raises:
            ValueError: a value that is not finite.
        """
        for name, rows in (("a (generated)", generated), ("b (reference)", reference)):
            if not torch.isfinite(rows).all():
                raise ValueError(
                    f"{name} holds values that are not finite (NaN or infinity); check the motion it came from"
                )
        batch = [_moments(rows.detach().double().cpu()) for rows in (generated, reference)]
        count, mean, scatter = (torch.stack(values) for values in zip(*batch))
        self._add(count, mean, scatter)

    def merge(self, other: Frechet) -> None:
        """Add the feature vectors that `other` has seen. ValueError for those of another extractor."""
        if other.fingerprint != self.fingerprint:
            raise ValueError(
                f"features of extractor {self.fingerprint[:12]} and of {other.fingerprint[:12]} cannot be added up: "
                "measure all parts with the same extractor"
            )
        self._add(*other.state.values())

    def _add(self, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
        old = self.state
        total = old["count"] + count
        share = count / total.clamp(min=1)
        shift = mean - old["mean"]
        between = (old["count"] * share)[..., None] * shift[:, :, None] * shift[:, None, :]
        self.state = {
            "count": total,
            "mean": old["mean"] + share * shift,
            "scatter": old["scatter"] + scatter + between,
        }

    def result(self) -> FrechetScore:
        """The distance. ValueError with fewer than two feature vectors on a side."""
        counts = self.state["count"][:, 0].long().tolist()
        for name, rows in zip(("a (generated)", "b (reference)"), counts):
            if rows < 2:
                raise ValueError(
                    f"a Frechet distance needs at least 2 feature vectors a set, {name} has {rows}; add motion"
                )
        mean = self.state["mean"]
        a, b = self.state["scatter"] / (self.state["count"][..., None] - 1)
        cross = torch.linalg.svdvals(_root(a, self.eps) @ _root(b, self.eps)).sum()
        value = (mean[0] - mean[1]).square().sum() + a.trace() + b.trace() - 2 * cross
        return FrechetScore(float(value), (counts[0], counts[1]), self.dim, self.fingerprint)


def _moments(rows: Float[Tensor, "n c"]) -> tuple[Tensor, Tensor, Tensor]:
    mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
    centred = rows - mean
    return mean.new_tensor([len(rows)]), mean, centred.T @ centred


def fgd(
    extractor: MotionFeatures,
    generated: Iterable[Float[Tensor, "_ D"]],
    reference: Iterable[Float[Tensor, "_ D"]],
    eps: float = 0.0,
) -> FrechetScore:
    """Frechet gesture distance of generated clips from reference clips (EMAGE eq. 11), clips [T, 437].

    With few samples a dimension (under ten: 320 feature vectors, or 171 s at 30 fps, for the default extractor) the
    covariances are mostly sampling error and the distance is biased upwards: compare it only with numbers of the same
    n. The score says its n and whether it is `reliable`.

    Raises:
        ValueError: fewer than two feature vectors on a side.
    """
    both = Frechet(extractor.dim, eps, extractor.fingerprint)
    both.update(extractor.features(generated), extractor.features(reference))
    return both.result()
