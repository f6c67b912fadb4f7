"""Post-norm transformer layers (Vaswani et al., 2017) as EMAGE stacks them: rectifier, feed-forward of twice the width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.linear import Linear, linear
from maskmotion.shapes import Bool, Float


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values are one product where they come from one place."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} heads={heads}")
        self.dim, self.heads = dim, heads
        self.project, self.out = Linear(dim, 3 * dim), Linear(dim, dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """What each step gathers from the valid steps; without `valid` from all."""
        query, key, value = self.project(x).split(self.dim, dim=-1)
        return self._gather(query, key, value, valid)

    def query(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """What each step asks of a memory."""
        return linear(x, self.project.weight[: self.dim], self.project.bias[: self.dim])

    def remember(self, memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B S E"]:
        """Keys and values of a memory, [B, S, 2 * dim]; worth doing once for many questions."""
        return linear(memory, self.project.weight[self.dim :], self.project.bias[self.dim :])

    def remember_through(self, x: Float[Tensor, "B S F"], before: nn.Linear) -> Float[Tensor, "B S E"]:
        """`remember(before(x))` by one product, which pays where x is narrow and long."""
        weight, bias = self.project.weight[self.dim :], self.project.bias[self.dim :]
        return linear(x, weight @ before.weight, weight @ before.bias + bias)

    def recall(
        self,
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        valid: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """What each query gathers from the valid steps of what was remembered."""
        key, value = memory.split(self.dim, dim=-1)
        return self._gather(query, key, value, valid)

    def _gather(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))  # [B, H, T, c]
        mask = None
        if valid is not None:  # a row that is all padding attends to its padding: it must not be NaN
            mask = (valid | ~valid.any(dim=1, keepdim=True))[:, None, None, :]
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class _Feed(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.enter, self.leave = Linear(dim, 2 * dim, slope=0.0), Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.dropout(self.enter(x)))


class EncoderLayer(nn.Module):
    """Self-attention, feed-forward; each is added to its input, then normalised."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention, self.feed = Attention(dim, heads), _Feed(dim, dropout)
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """Same shape; padded steps are never attended to."""
        x = self.norm_attention(x + self.dropout(self.attention(x, valid)))
        return self.norm_feed(x + self.dropout(self.feed(x)))


class DecoderLayer(nn.Module):
    """Self-attention, attention over a memory, feed-forward; each is added to its input, then normalised."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention, self.cross, self.feed = Attention(dim, heads), Attention(dim, heads), _Feed(dim, dropout)
        self.norm_attention, self.norm_cross, self.norm_feed = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        valid: Bool[Tensor, "B T"] | None = None,
        memory_valid: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Same shape. memory: as `self.cross.remember` gives it."""
        x = self.look(x, valid)
        return self.listen(x, self.cross.query(x), memory, memory_valid)

    def look(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """The first third: the layer's own steps."""
        return self.norm_attention(x + self.dropout(self.attention(x, valid)))

    def listen(
        self,
        x: Float[Tensor, "B T C"],
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        memory_valid: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The rest, given the queries of what `look` gave."""
        x = self.norm_cross(x + self.dropout(self.cross.recall(query, memory, memory_valid)))
        return self.norm_feed(x + self.dropout(self.feed(x)))
