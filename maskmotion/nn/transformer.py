"""Pre-norm transformer blocks with key padding, and sinusoidal positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.shapes import Bool, Float


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory`; weights are computed only where somebody reads them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} heads={heads}")
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def _project(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, S, c]
        key, value = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, T, c]
        return query, key, value

    def forward(
        self, x: Float[Tensor, "B S C"], memory: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B S C"]:
        """What each step of `x` gathers from the valid steps of `memory`."""
        query, key, value = self._project(x, memory)
        valid = _never_empty(valid)
        gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=valid[:, None, None, :])
        return self.out(gathered.transpose(1, 2).flatten(2))

    def read(self, x: Float[Tensor, "#B C"], memory: Float[Tensor, "B T C"]) -> Float[Tensor, "B C"]:
        """What a single step gathers from all of a memory, as `forward` would, without making keys and values.

        Their projections are applied to the one query and to the one sum instead of to every step (a key's bias adds the
        same to all logits). x: of one row it asks all memories the same.
        """
        key, value = self.key_value.weight.unflatten(0, (2, self.heads, -1))  # [H, c, C]
        query = self.query(x).unflatten(-1, (self.heads, -1))  # [B, H, c]
        asked = torch.einsum("bhc,hcd->bhd", query, key) / math.sqrt(query.shape[-1])
        gathered = (asked @ memory.mT).softmax(dim=-1) @ memory  # [B, H, C]
        values = torch.einsum("bhd,hcd->bhc", gathered, value).flatten(1)
        return self.out(values + self.key_value.bias[len(self.key_value.bias) // 2 :])

    def weigh(
        self, x: Float[Tensor, "B S C"], memory: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B S T"]]:
        """The same, with the attention weights averaged over heads; rows sum to 1 over the valid steps."""
        query, key, value = self._project(x, memory)
        valid = _never_empty(valid)
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        weights = logits.masked_fill(~valid[:, None, None, :], -torch.inf).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2)), weights.mean(dim=1)


def _never_empty(valid: Tensor) -> Tensor:
    """A row that is all padding attends to its padding: its result is thrown away, but must not be NaN."""
    return valid | ~valid.any(dim=1, keepdim=True)


class Block(nn.Module):
    """One pre-norm transformer layer: self-attention, then a feed-forward of four times the width."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Same shape; padded steps are never attended to."""
        y = self.norm_attention(x)
        x = x + self.dropout(self.attention(y, y, valid))
        return x + self.dropout(self.feed(self.norm_feed(x)))


def positions(steps: int, dim: int, like: Tensor) -> Float[Tensor, "steps dim"]:
    """Sinusoidal positions (Vaswani et al., 2017), base 10000."""
    angle = torch.arange(steps, device=like.device)[:, None] * torch.exp(
        torch.arange(0, dim, 2, device=like.device) * (-math.log(10000.0) / dim)
    )
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim].to(like.dtype)
