"""One codebook learned by moving averages: start-up from data, dead-code revival, the same on every process."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.shapes import Float, Int


class Codebook(nn.Module):
    """K code vectors, each the moving average of the latents that chose it (van den Oord et al., 2017, appendix A.1).

    All of its state is in buffers and saved, so that training goes on exactly after loading. With several processes the
    statistics are summed and start-up vectors come from the first process, so that every copy stays the same.

    Args:
        dim: C. codebook_size: K. decay: of the moving averages.
        revive_below: a code whose average count per batch falls below this is put on a random latent of the batch.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, dim: int, codebook_size: int, decay: float = 0.99, revive_below: float = 1.0) -> None:
        super().__init__()
        self.decay, self.revive_below = decay, revive_below
        self.register_buffer("codes", torch.zeros(codebook_size, dim))
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("sums", torch.zeros(codebook_size, dim))
        self.register_buffer("started", torch.tensor(False))

    def nearest(self, latents: Float[Tensor, "M C"]) -> Int[Tensor, " M"]:
        """Index of the closest code to each latent, by Euclidean distance; ties go to the lower index."""
        return (self.codes.square().sum(1) - 2 * latents @ self.codes.T).argmin(dim=1)

    @torch.no_grad()
    def start(self, latents: Float[Tensor, "M C"]) -> None:
        """Put the codes on random latents of the first batch (with a little noise where there are fewer than K)."""
        if self.started or latents.shape[0] == 0:
            return
        self.codes.copy_(self._candidates(latents))
        self.sums.copy_(self.codes)
        self.counts.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, latents: Float[Tensor, "M C"], codes: Int[Tensor, " M"]) -> None:
        """Move the averages towards the latents that chose each code, then revive the codes nobody chooses."""
        size = self.codes.shape[0]
        counts = torch.bincount(codes, minlength=size).to(latents.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, latents)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.codes.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])
        dead = self.counts < self.revive_below
        if dead.any() and latents.shape[0]:
            fresh = self._candidates(latents)
            self.codes[dead] = fresh[dead]
            self.counts[dead] = self.revive_below
            self.sums[dead] = fresh[dead] * self.revive_below

    def _candidates(self, latents: Tensor) -> Tensor:
        """K random latents of the first process's batch, the same on every process."""
        size, found = self.codes.shape[0], latents.shape[0]
        order = torch.randperm(found)[:size].to(latents.device)
        picked = latents[order]
        if found < size:
            again = latents[torch.randint(found, (size - found,)).to(latents.device)]
            picked = torch.cat([picked, again + 0.01 * latents.std() * torch.randn_like(again)])
        if dist.is_available() and dist.is_initialized():
            picked = picked.contiguous()
            dist.broadcast(picked, src=0)
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
