"""From a part's token to all its codes: the coarse layer, then each residual layer from those before it and from speech."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from maskmotion.generators.echomask_parts import SLOPE, decoder_layers, some
from maskmotion.losses import code_losses, weighted_mean
from maskmotion.nn.linear import Linear, Mlp
from maskmotion.nn.post_norm import DecoderLayer, remember_together
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import Prediction


class ResidualHead(nn.Module):
    """Class scores and latents of every layer of a residual quantizer, predicted in turn.

    Layer 0 is the token; layer k is what layers 0 to k - 1 together, by a map, make of aligned speech in a decoder of its
    own. Latents are the tokens themselves; where a codebook has another width, a map of the part's own.

    Args:
        dim: hidden channels of the coarse classes. features: of tokens and speech. width: of the codebook's vectors.
        depth: quantizer layers. codes: in each, 0 without codebooks. layers: of each decoder. layer: makes one.
    """

    def __init__(
        self,
        dim: int,
        features: int,
        width: int,
        depth: int,
        codes: int,
        layers: int,
        layer: Callable[[int], DecoderLayer],
    ) -> None:
        super().__init__()
        self.codes, later = codes, range(1, depth)
        self.join = nn.ModuleList(Linear(number * features, features) for number in later[1:])
        self.decoders = nn.ModuleList(nn.ModuleList(layer(features) for _ in range(layers)) for _ in later)
        sizes = [dim, *(features for _ in later)] if codes else []
        self.classes = nn.ModuleList(Mlp(features, hidden, codes, SLOPE) for hidden in sizes)
        self.to_latents = Linear(features, width) if width != features else nn.Identity()

    def remember(self, speech: Float[Tensor, "B T C"]) -> Float[Tensor, "B T E"] | None:
        """Keys and values of speech for all decoders, one product: the same for every pass. None with one layer."""
        every = [layer for decoder in self.decoders for layer in _layers(decoder)]
        return remember_together(every, speech) if every else None

    def forward(
        self,
        token: Float[Tensor, "B N C"],
        memory: Float[Tensor, "B T E"] | None,
        valid: Bool[Tensor, "B N"],
        heard: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B N Q K"], Float[Tensor, "B N Q W"]]:
        """Class scores and latents. memory: of `remember`."""
        found, real, listened = [token], some(valid), some(heard)
        for number, decoder in enumerate(self.decoders):
            assert memory is not None
            before = token if number == 0 else self.join[number - 1](torch.cat(found, dim=-1))
            kept = memory.chunk(len(self.decoders), dim=-1)[number].chunk(len(_layers(decoder)), dim=-1)
            x = before
            for layer, mine in zip(_layers(decoder), kept, strict=True):
                x = layer(x, mine, real, listened)
            found.append(x + before)
        latents = torch.stack([self.to_latents(x) for x in found], dim=2)
        if not self.codes:
            return latents[..., :0], latents
        return torch.stack([head(x) for head, x in zip(self.classes, found, strict=True)], dim=2), latents


def released_losses(
    prediction: Prediction,
    codes: Mapping[str, Int[Tensor, "B N Q"]],
    vectors: Mapping[str, Float[Tensor, "B N Q C"]],
    tokens: Mapping[str, Float[Tensor, "B N"]],
) -> dict[str, Tensor]:
    """Sums over parts as the release has them: "codes", layer q by 1 / (q + 1), and "latents", of every layer as it is.

    vectors: of the codebooks. tokens: part -> what each token counts.
    """
    total = {name: torch.zeros((), device=next(iter(tokens.values())).device) for name in ("codes", "latents")}
    for part, weight in tokens.items():
        missed = (prediction.latents[part] - vectors[part]).square().mean((-1, -2))
        total["latents"] = total["latents"] + weighted_mean(missed, weight)
        if depth := codes[part].shape[-1]:
            errors = code_losses(prediction.logits[part], codes[part])
            shares = 1 / torch.arange(1, depth + 1, device=errors.device)
            total["codes"] = total["codes"] + weighted_mean(errors @ shares, weight)
    return total


def _layers(decoder: nn.Module) -> list[DecoderLayer]:
    assert isinstance(decoder, nn.ModuleList)
    return list(decoder_layers(decoder))
