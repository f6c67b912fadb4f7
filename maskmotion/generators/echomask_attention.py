"""Speech-queried attention: a decoder that asks motion what speech means, for all attended parts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from maskmotion.generators.echomask_parts import decoder_layers, some
from maskmotion.nn.linear import Linear
from maskmotion.nn.post_norm import DecoderLayer
from maskmotion.shapes import Bool, Float
from maskmotion.types import Record

Fusion = Literal["sum", "learned"]


@dataclass(frozen=True)
class Asked(Record):
    """What speech alone decides of the first layer: its steps, and their queries. P attended parts.

    It is the same for every mask and every motion, so one serves all passes of a step, and all windows of a clip.
    """

    steps: Float[Tensor, "B P T C"]
    queries: Float[Tensor, "B P T C"]
    valid: Bool[Tensor, "B T"]


class SpeechQueriedAttention(nn.Module):
    """One decoder, run for several parts: aligned speech, by a map of the part's own, queries motion (section 3.4).

    All parts look at the same motion, so that they share its keys and values, and stand side by side as queries.

    Args:
        attended: the parts, in the order of their weights.
        width: of speech. dim: of motion and of the decoder. layers, feed: of the decoder. layer: makes one.
        fusion: "sum": all parts count alike; "learned": each has a learned weight, that begins at 0.33 (the release).
    """

    def __init__(
        self,
        attended: tuple[str, ...],
        width: int,
        dim: int,
        layers: int,
        feed: int,
        layer: Callable[..., DecoderLayer],
        fusion: Fusion,
    ) -> None:
        super().__init__()
        self.attended = attended
        self.project = nn.ModuleDict({part: Linear(width, dim) for part in attended})
        self.layers = nn.ModuleList(layer(dim, feed=feed) for _ in range(layers))
        self.fusion = nn.Parameter(torch.full((len(attended),), 0.33)) if fusion == "learned" else None

    def ask(self, speech: Mapping[str, Float[Tensor, "B T F"]], valid: Bool[Tensor, "B T"]) -> Asked:
        """The part of the first layer that motion has no part in. speech: part -> its aligned speech."""
        queries = torch.stack([self.project[part](speech[part]) for part in self.attended], dim=1)
        first = next(decoder_layers(self.layers))
        steps = _look(first, queries, some(valid))
        return Asked(steps, first.ask(steps), valid)

    def forward(self, motion: Float[Tensor, "B T C"], asked: Asked) -> Float[Tensor, "B T C"]:
        """What speech gathers from motion, the mean over the parts (each times its weight, where they are learned)."""
        x, real = asked.steps, some(asked.valid)
        for number, layer in enumerate(decoder_layers(self.layers)):
            x = x if number == 0 else _look(layer, x, real)
            query = asked.queries if number == 0 else layer.ask(x)
            memory = layer.cross.remember(motion)
            x = layer.listen(x.flatten(1, 2), query.flatten(1, 2), memory, real).view_as(x)
        return x.mean(1) if self.fusion is None else (x * self.fusion[:, None, None]).mean(1)

    def attend(self, motion: Float[Tensor, "B T C"], asked: Asked) -> dict[str, Float[Tensor, "B S T"]]:
        """Part -> attention of speech steps over motion frames, the mean over layers and heads.

        Rows of real steps sum to 1 (times the part's weight, where they are learned), those of padding to 0. Of the
        last layer nothing is computed but queries, keys and weights.
        """
        x, real = asked.steps, some(asked.valid)
        last = len(self.layers) - 1
        total = motion.new_zeros(())
        for number, layer in enumerate(decoder_layers(self.layers)):
            x = x if number == 0 else _look(layer, x, real)
            query = (asked.queries if number == 0 else layer.ask(x)).flatten(1, 2)
            if number == last:
                weights = layer.cross.weights(query, layer.cross.remember_keys(motion), real).mean(1)
            else:
                memory = layer.cross.remember(motion)
                y, weights = layer.weigh(x.flatten(1, 2), query, memory, real)
                x = y.view_as(x)
            total = total + weights
        maps = total.unflatten(1, (len(self.attended), -1)) / (last + 1) * asked.valid[:, None, :, None]  # [B, P, S, T]
        if self.fusion is not None:
            maps = maps * self.fusion[:, None, None]
        return dict(zip(self.attended, maps.unbind(1), strict=True))


def _look(layer: DecoderLayer, x: Tensor, valid: Tensor | None) -> Tensor:
    """Every part looks at its own steps only."""
    each = None if valid is None else valid.repeat_interleave(x.shape[1], dim=0)
    return layer.look(x.flatten(0, 1), each).view_as(x)
