"""Random streams: one per clip, so that no result depends on its batch mates."""

from __future__ import annotations

import torch
from torch import Tensor

from maskmotion.shapes import Float


class Rng:
    """Independent random streams, one a row. Draws are made on the CPU, so a seed means the same on every device."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        if not seeds:
            raise ValueError("an Rng needs at least one seed")
        self.seeds = tuple(int(seed) for seed in seeds)
        self._streams = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self._streams)

    def uniform(self, *shape: int) -> Float[Tensor, "rows *shape"]:
        """Uniform numbers in [0, 1), row i from stream i."""
        return torch.stack([torch.rand(shape, generator=stream) for stream in self._streams])

    def gumbel(self, *shape: int) -> Float[Tensor, "rows *shape"]:
        """Standard Gumbel noise, row i from stream i: argmax(logits + gumbel) samples from softmax(logits)."""
        tiny = torch.finfo(torch.float32).tiny
        return -torch.log(-torch.log(self.uniform(*shape).clamp(min=tiny, max=1 - 1e-7)))

    def repeat(self, count: int) -> Rng:
        """`count` streams for every stream of this one; the first repeats this one's seeds (variants of a clip)."""
        return Rng(tuple(seed + 1_000_003 * k for seed in self.seeds for k in range(count)))


def seed(value: int = 0) -> Rng:
    """One random stream for one clip."""
    return Rng((value,))
