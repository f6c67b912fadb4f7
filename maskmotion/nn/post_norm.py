"""Transformer layers with rectifiers as the releases of EMAGE and EchoMask stack them: normalised after each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
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

    def query(self, x: Float[Tensor, "*any T C"]) -> Float[Tensor, "*any T C"]:
        """What each step asks of a memory."""
        return linear(x, self.project.weight[: self.dim], self.project.bias[: self.dim])

    def remember(self, memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B S E"]:
        """Keys and values of a memory, [B, S, 2 * dim]; worth doing once for many questions."""
        return linear(memory, self.project.weight[self.dim :], self.project.bias[self.dim :])

    def remember_keys(self, memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        """Keys alone, for those who ask only where attention goes."""
        here = slice(self.dim, 2 * self.dim)
        return linear(memory, self.project.weight[here], self.project.bias[here])

    def remember_through(self, x: Float[Tensor, "B S F"], before: nn.Linear) -> Float[Tensor, "B S E"]:
        """`remember(before(x))` by one product, which pays where x is narrow and long."""
        weight, bias = self.project.weight[self.dim :], self.project.bias[self.dim :]
        return linear(x, weight @ before.weight, weight @ before.bias + bias)

    def recall(
        self,
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        valid: Bool[Tensor, "B S"] | None = None,
        bias: Float[Tensor, "T S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """What each query gathers from the valid steps of what was remembered; bias: added to the logits."""
        key, value = memory.split(self.dim, dim=-1)
        return self._gather(query, key, value, valid, bias)

    def weights(
        self, query: Float[Tensor, "B T C"], key: Float[Tensor, "B S C"], valid: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B H T S"]:
        """How much of each valid step every query takes, by head; rows sum to 1."""
        logits = self._split(query) @ self._split(key).mT / math.sqrt(self.dim // self.heads)
        if valid is not None:
            logits = logits.masked_fill(~_never_empty(valid), -torch.inf)
        return logits.softmax(dim=-1)

    def weigh(
        self,
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        valid: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T S"]]:
        """As `recall`, and the weights that `recall` never writes down, averaged over heads."""
        key, value = memory.split(self.dim, dim=-1)
        weights = self.weights(query, key, valid)
        gathered = (weights @ self._split(value)).transpose(1, 2).flatten(2)
        return self.out(gathered), weights.mean(dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, T, c]

    def _gather(
        self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        q, k, v = self._split(query), self._split(key), self._split(value)
        mask = None if valid is None else _never_empty(valid)
        if bias is not None:
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


def _never_empty(valid: Tensor) -> Tensor:
    """A row that is all padding attends to its padding: its result is thrown away, but must not be NaN."""
    return (valid | ~valid.any(dim=1, keepdim=True))[:, None, None, :]


class _Feed(nn.Module):
    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.enter, self.leave = Linear(dim, width, slope=0.0), Linear(width, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.dropout(self.enter(x)))


class EncoderLayer(nn.Module):
    """Self-attention, feed-forward; each is added to its input, then normalised.

    feed: width of the feed-forward, None: twice `dim`. before: normalise what each reads instead of what it gives, which
    learns faster in small networks.
    """

    def __init__(
        self, dim: int, heads: int, dropout: float = 0.1, feed: int | None = None, before: bool = False
    ) -> None:
        super().__init__()
        self.before = before
        self.attention, self.feed = Attention(dim, heads), _Feed(dim, feed or 2 * dim, dropout)
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """Same shape; padded steps are never attended to."""
        if self.before:
            x = x + self.dropout(self.attention(self.norm_attention(x), valid))
            return x + self.dropout(self.feed(self.norm_feed(x)))
        x = self.norm_attention(x + self.dropout(self.attention(x, valid)))
        return self.norm_feed(x + self.dropout(self.feed(x)))


class DecoderLayer(nn.Module):
    """Self-attention, attention over a memory, feed-forward; each is added to its input, then normalised.

    feed, before: as in `EncoderLayer`.
    """

    def __init__(
        self, dim: int, heads: int, dropout: float = 0.1, feed: int | None = None, before: bool = False
    ) -> None:
        super().__init__()
        self.before = before
        self.attention, self.cross = Attention(dim, heads), Attention(dim, heads)
        self.feed = _Feed(dim, feed or 2 * dim, dropout)
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
        return self.listen(x, self.ask(x), memory, memory_valid)

    def ask(self, x: Float[Tensor, "*any T C"]) -> Float[Tensor, "*any T C"]:
        """The queries of what `look` gave."""
        return self.cross.query(self.norm_cross(x) if self.before else x)

    def look(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B T C"]:
        """The first third: the layer's own steps."""
        if self.before:
            return x + self.dropout(self.attention(self.norm_attention(x), valid))
        return self.norm_attention(x + self.dropout(self.attention(x, valid)))

    def listen(
        self,
        x: Float[Tensor, "B T C"],
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        memory_valid: Bool[Tensor, "B S"] | None = None,
        bias: Float[Tensor, "T S"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The rest, given the queries that `ask` made of what `look` gave. bias: as in `Attention.recall`."""
        return self._think(x, self.cross.recall(query, memory, memory_valid, bias))

    def weigh(
        self,
        x: Float[Tensor, "B T C"],
        query: Float[Tensor, "B T C"],
        memory: Float[Tensor, "B S E"],
        memory_valid: Bool[Tensor, "B S"] | None = None,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T S"]]:
        """As `listen`, and the attention over the memory, averaged over heads; rows sum to 1."""
        gathered, weights = self.cross.weigh(query, memory, memory_valid)
        return self._think(x, gathered), weights

    def _think(self, x: Tensor, gathered: Tensor) -> Tensor:
        if self.before:
            x = x + self.dropout(gathered)
            return x + self.dropout(self.feed(self.norm_feed(x)))
        x = self.norm_cross(x + self.dropout(gathered))
        return self.norm_feed(x + self.dropout(self.feed(x)))


def remember_together(layers: Iterable[DecoderLayer], memory: Float[Tensor, "B S C"]) -> Float[Tensor, "B S E"]:
    """What the cross-attentions of all layers remember, side by side, by one product: [B, S, layers * 2 * dim].

    It pays where the weights are small beside the memory; one's own share is a `chunk` of the last axis.
    """
    crosses = [layer.cross for layer in layers]
    weight = torch.cat([cross.project.weight[cross.dim :] for cross in crosses])
    return linear(memory, weight, torch.cat([cross.project.bias[cross.dim :] for cross in crosses]))
