"""Speech queries and motion in one space (EchoMask, section 3.3), and means over the tokens and the time of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.nn.post_norm import DecoderLayer, EncoderLayer
from maskmotion.nn.transformer import positions
from maskmotion.shapes import Bool, Float

BOTH = "both"  # the levels of speech at once
_PLACES = (("low", BOTH), ("high",))  # what is heard before encoders 1, and before encoders 2


class Alignment(nn.Module):
    """One joint space: learned queries that listen to levels of speech, and the transformer they share with motion.

    Args:
        dim: C. heads: of every attention. encoders: layers of the shared transformer before, between and after the
            attentions over the two levels. levels: those that are heard, "low" before "high"; or "both" at once.
        queries: learned vectors; step t has number t % queries. query_std: of their start.
        dropout: after positions, and in every layer.
        near: frames; attention over a level falls by exp(-distance / near). None: by what is learned alone.
        pre_norm: layers normalise what they read instead of what they give.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        encoders: Sequence[int],
        levels: Sequence[str],
        queries: int,
        query_std: float,
        dropout: float,
        near: float | None = None,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.near = near
        self.queries = nn.Parameter(query_std * torch.randn(queries, dim))
        self.encoders = nn.ModuleList(
            nn.ModuleList(EncoderLayer(dim, heads, dropout, before=pre_norm) for _ in range(count))
            for count in encoders
        )
        self.decoders = nn.ModuleDict({level: DecoderLayer(dim, heads, dropout, before=pre_norm) for level in levels})
        self.dropout = nn.Dropout(dropout)

    def listen(
        self, heard: Mapping[str, Float[Tensor, "B T C"]], valid: Bool[Tensor, "B T"] | None
    ) -> dict[str, Float[Tensor, "_ T C"]]:
        """Levels, with their positions, to the queries of every frame on their way: "queries", each level, "aligned".

        Before the first level the queries of all rows are the same where nothing tells rows apart, and are then one row.
        """
        like = next(iter(heard.values()))
        rows, frames, dim = like.shape
        x = self.queries[torch.arange(frames, device=like.device) % len(self.queries)]
        x = (x + positions(frames, dim, like))[None]
        way = {"queries": x}
        if valid is not None or (self.training and self.dropout.p > 0):
            x = x.expand(rows, -1, -1)
        x, bias = self._encode(0, self.dropout(x), valid), self._bias(frames, like)
        for number, place in enumerate(_PLACES, 1):
            for level in (level for level in place if level in self.decoders):
                decoder = self.decoders[level]
                assert isinstance(decoder, DecoderLayer)
                x = decoder.look(x, valid).expand(rows, -1, -1)
                memory = decoder.cross.remember(heard[level])
                x = decoder.listen(x, decoder.ask(x), memory, valid, bias)
                way[level] = x
            x = self._encode(number, x, valid)
        return way | {"aligned": x.expand(rows, -1, -1)}

    def encode(self, motion: Float[Tensor, "B N C"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B N C"]:
        """Motion by the same transformer, past the levels of speech."""
        x = self.dropout(motion + positions(motion.shape[1], motion.shape[2], motion))
        for number in range(len(self.encoders)):
            x = self._encode(number, x, valid)
        return x

    def _bias(self, frames: int, like: Tensor) -> Tensor | None:
        """[T, T], the logarithm of what distance leaves (a linear bias: Press et al., 2022, with one slope for all heads)."""
        if self.near is None:
            return None
        at = torch.arange(frames, device=like.device, dtype=like.dtype)
        return -(at[:, None] - at).abs() / self.near

    def _encode(self, number: int, x: Tensor, valid: Tensor | None) -> Tensor:
        layers = self.encoders[number]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, valid)
        return x


def token_means(x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"], fold: int) -> Float[Tensor, "B N C"]:
    """Mean over the valid frames of each token of `fold` frames, zero where there are none; a last one may be shorter."""
    short = -x.shape[1] % fold
    frames = F.pad(x * valid[..., None], (0, 0, 0, short)).unflatten(1, (-1, fold))
    count = F.pad(valid, (0, short)).unflatten(1, (-1, fold)).sum(2)
    return frames.sum(2) / count.clamp(min=1)[..., None]


def time_mean(x: Float[Tensor, "B S C"], valid: Bool[Tensor, "B S"]) -> Float[Tensor, "B C"]:
    """Mean over the valid steps of each row, zero where there are none."""
    return (x * valid[..., None]).sum(1) / valid.sum(1).clamp(min=1)[:, None]
