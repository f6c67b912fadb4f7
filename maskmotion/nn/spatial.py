"""Masked motion as EMAGE sees it: a transformer over the joints of a frame, then attention over time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.nn.transformer import Attention
from maskmotion.shapes import Bool, Float

_GROUND = slice(TRANSLATION.start, CONTACTS.stop)


class SpatialEncoder(nn.Module):
    """One frame's joints to one vector: self-attention over joint tokens, read at a class token (EMAGE, eq. 6, SSAT).

    Tokens: 55 joints, one for translation and contacts, the class token, with learned positions. A token of which any
    column is hidden is the learned mask embedding: zero is a pose too. Only the class token leaves the last layer, so
    that layer is computed for it alone.

    Args:
        dim: width of the tokens and of what comes out. heads: of the attention. layers: transformer layers.
    """

    def __init__(self, dim: int, heads: int = 4, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        # a projection of its own for each joint: through a shared one, what the class token reads would be a mean of joints
        self.joint = nn.Parameter(torch.randn(NUM_JOINTS, 6, dim) * 6**-0.5)
        self.ground = nn.Linear(_GROUND.stop - _GROUND.start, dim)
        self.mask_embedding = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.positions = nn.Parameter(torch.randn(NUM_JOINTS + 2, dim) * dim**-0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True) for _ in range(layers - 1)
        )
        self.read, self.norm_read = Attention(dim, heads), nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
        self.norm_feed, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)

    def forward(self, motion: Float[Tensor, "B T D"], hidden: Bool[Tensor, "B T D"]) -> Float[Tensor, "B T C"]:
        """[B, T, D] -> [B, T, dim]; values under `hidden` have no effect."""
        rotations = motion[..., ROTATIONS].unflatten(-1, (NUM_JOINTS, 6))
        joints = torch.einsum("btji,jic->btjc", rotations, self.joint)
        ground = self.ground(motion[..., _GROUND])[..., None, :]
        tokens = torch.cat([torch.zeros_like(ground), joints, ground], dim=-2)  # the class token is its own position
        masked = hidden[..., ROTATIONS].unflatten(-1, (NUM_JOINTS, 6)).any(-1)
        masked = torch.cat([masked, hidden[..., _GROUND].any(-1, keepdim=True)], dim=-1)
        tokens = torch.where(F.pad(masked, (1, 0))[..., None], self.mask_embedding, tokens) + self.positions
        x = tokens.flatten(0, 1)  # [B * T, 57, C]
        for layer in self.layers:
            x = layer(x)
        asks = x[:, 0] if len(self.layers) else self.positions[:1]
        first = self.norm_read(asks + self.dropout(self.read.read(asks, x)))
        return self.norm_feed(first + self.dropout(self.feed(first))).unflatten(0, tokens.shape[:2])


class TemporalAttention(nn.Module):
    """Self-attention over time without a feed-forward (EMAGE, eq. 6, TSA)."""

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention, self.norm, self.dropout = Attention(dim, heads), nn.LayerNorm(dim), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Same shape; padding is never attended to."""
        return self.norm(x + self.dropout(self.attention(x, x, valid)))


class CrossDecoder(nn.Module):
    """Temporal cross-attention transformer decoder (EMAGE, TCAT): a query over a memory, post-norm, padding-blind."""

    def __init__(self, dim: int, heads: int, layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(dim, heads, 2 * dim, dropout, batch_first=True) for _ in range(layers)
        )

    def forward(
        self, x: Float[Tensor, "B T C"], memory: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T C"]:
        """Same shape as the query; query and memory share their padding."""
        padding = ~(valid | ~valid.any(dim=1, keepdim=True))  # a row that is all padding must not be NaN
        for layer in self.layers:
            x = layer(x, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=padding)
        return x
