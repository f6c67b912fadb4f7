"""One codebook: learned by moving averages or by gradient, started on data, revived where dead, the same on every process."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.linear import linear
from maskmotion.shapes import Float, Int

Learning = Literal["ema", "gradient"]


class Codebook(nn.Module):
    """K code vectors in C dimensions (van den Oord et al., 2017).

    `learning="ema"`: each code is the moving average of the latents that chose it (appendix A.1 there), started on latents
    of the first batch. `"gradient"`: codes are parameters, started within 1/K of zero (EMAGE); the quantizer's loss moves
    them. All other state is in buffers, so that training goes on exactly after loading. With several processes counts and
    sums are those of all of them, and latents for starting and reviving are drawn from all of them: as many processes
    with a share of a batch each end with the codebook of one process with the whole batch.

    Args:
        dim: C. codebook_size: K. decay: of the moving averages.
        revive_below: a code whose average count per batch falls below this is put on a random latent of the batch; 0: never.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        decay: float = 0.99,
        revive_below: float = 1.0,
        learning: Learning = "ema",
    ) -> None:
        super().__init__()
        self.decay, self.revive_below, self.learning = decay, revive_below, learning
        if learning == "gradient":
            self.codes = nn.Parameter((2 * torch.rand(codebook_size, dim) - 1) / codebook_size)
        else:
            self.register_buffer("codes", torch.zeros(codebook_size, dim))
            self.register_buffer("sums", torch.zeros(codebook_size, dim))
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("started", torch.tensor(learning == "gradient"))

    @torch.no_grad()
    def choose(self, latents: Float[Tensor, "M C"], temperature: float = 0.0) -> Int[Tensor, " M"]:
        """Index of the closest code to each latent (Euclidean; ties go to the lower index).

        temperature: above 0, argmax of -distance^2 / temperature + Gumbel noise, so that a code is drawn with probability
        softmax(-distance^2 / temperature).
        """
        codes = self.codes.detach()
        distance = linear(latents, -2 * codes, codes.square().sum(1))  # but for the latents' own length
        if temperature > 0:
            gumbel = torch.empty_like(distance).exponential_().log_()  # minus a Gumbel variable
            distance = distance.div_(temperature).add_(gumbel)
        return distance.argmin(dim=1)

    @torch.no_grad()
    def start(self, latents: Float[Tensor, "M C"]) -> None:
        """Put the codes on random latents of the first batch (with a little noise where there are fewer than K)."""
        if self.started or _rows_everywhere(latents)[1] == 0:
            return
        self.codes.copy_(self._candidates(latents))
        if self.learning == "ema":
            self.sums.copy_(self.codes)
        self.counts.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, latents: Float[Tensor, "M C"], index: Int[Tensor, " M"]) -> Int[Tensor, ""]:
        """Count who was chosen, move the averages, revive the codes nobody chooses; returns how many those were."""
        size, dim = self.codes.shape
        seen = torch.zeros(size, dim + 1, dtype=self.codes.dtype, device=latents.device)
        seen[:, dim] = torch.bincount(index, minlength=size)
        if self.learning == "ema":
            seen[:, :dim] = torch.zeros_like(self.codes).index_add_(0, index, latents)
        if _several():
            dist.all_reduce(seen)
        self.counts.lerp_(seen[:, dim], 1 - self.decay)
        if self.learning == "ema":
            self.sums.lerp_(seen[:, :dim], 1 - self.decay)
            self.codes.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])
        dead = self.counts < self.revive_below
        if bool(dead.any()) and _rows_everywhere(latents)[1]:
            fresh = self._candidates(latents)
            self.codes[dead] = fresh[dead]
            self.counts[dead] = self.revive_below
            if self.learning == "ema":
                self.sums[dead] = fresh[dead] * self.revive_below
        return dead.sum()

    def _candidates(self, latents: Tensor) -> Tensor:
        """K random latents of all processes' batches together, the same on every process."""
        size, (first, total) = self.codes.shape[0], _rows_everywhere(latents)
        rng = _common_generator(latents.device)
        order = torch.randperm(total, generator=rng)[:size]
        order = torch.cat([order, torch.randint(total, (size - len(order),), generator=rng)]).to(latents.device)
        mine = (order >= first) & (order < first + len(latents))
        picked = torch.zeros_like(self.codes)
        picked[mine] = latents[order[mine] - first]
        if _several():
            dist.all_reduce(picked)
        if total < size:
            noise = torch.randn(size - total, picked.shape[1], generator=rng).to(picked)
            picked[total:] += 0.01 * picked.std() * noise
        return picked


def embed_codes(table: Float[Tensor, "K C"], codes: Int[Tensor, "*any"]) -> Float[Tensor, "*any C"]:
    """Code vectors of indices; -1 means a dropped layer and gives zeros. IndexError for any other index outside K."""
    if codes.numel() and (int(codes.max()) >= table.shape[0] or int(codes.min()) < -1):
        raise IndexError(
            f"codes run from -1 (dropped) to {table.shape[0] - 1}, got {int(codes.min())}..{int(codes.max())}"
        )
    return F.embedding(codes.clamp(min=0), table).masked_fill((codes < 0)[..., None], 0.0)


def perplexity(codes: Int[Tensor, " M"], size: int) -> Float[Tensor, ""]:
    """Exp of the entropy of code use: how many codes are in use, between 1 and K."""
    share = torch.bincount(codes[codes >= 0], minlength=size).float()
    share = share / share.sum().clamp(min=1)
    return torch.exp(-(share * torch.log(share + 1e-10)).sum())


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rows_everywhere(latents: Tensor) -> tuple[int, int]:
    """How many rows the processes before this one hold, and how many all of them hold."""
    if not _several():
        return 0, len(latents)
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=latents.device)
    counts[dist.get_rank()] = len(latents)
    dist.all_reduce(counts)
    return int(counts[: dist.get_rank()].sum()), int(counts.sum())


def _common_generator(device: torch.device) -> torch.Generator:
    """Random numbers that are the same on every process: seeded by the first one's stream."""
    seed = torch.randint(2**62, (1,)).to(device)
    if _several():
        dist.broadcast(seed, src=0)
    return torch.Generator().manual_seed(int(seed))
