"""The branches of EchoMask's network below its attention: the face, the body's parts, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from maskmotion.nn.linear import Linear, Mlp
from maskmotion.nn.post_norm import DecoderLayer
from maskmotion.nn.transformer import positions
from maskmotion.shapes import Bool, Float

FACE, OWN = "face", ("upper", "hands", "lower")
SLOPE = 0.2  # of the two-layer networks' rectifiers below zero, as released


class Fold(nn.Module):
    """Convolutions of kernel and stride 2 over time, one after another: each makes one step of two.

    Args:
        dim: channels. times: how many; 2 ** times frames become a step.
    """

    def __init__(self, dim: int, times: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(Linear(2 * dim, dim) for _ in range(times))

    def forward(self, x: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> [B, T / 2 ** times, C] and which of these steps are real: those with any real frame in them."""
        for pair in self.pairs:
            x = pair((x * valid[..., None]).unflatten(1, (-1, 2)).flatten(2))
            valid = valid.unflatten(1, (-1, 2)).any(-1)
        return x, valid


class Place(nn.Module):
    """Adds positions from the start of the window, then drops out."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Same shape."""
        return self.dropout(x + positions(x.shape[1], x.shape[2], x))


class FaceBranch(nn.Module):
    """From speaker and position, a decoder listens to speech and to the motion it sees; then folded to tokens.

    Args:
        dim: of the decoder. features: of speech, motion and tokens. layers: of the decoder. layer: makes one.
        folds: how often two steps become one, first and after the two-layer network between.
        dropout: after positions.
    """

    def __init__(
        self,
        dim: int,
        features: int,
        layers: int,
        layer: Callable[[int], DecoderLayer],
        folds: tuple[int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.hint = Mlp(features, dim, features, SLOPE)
        self.memory = Linear(2 * features, dim)
        self.place = Place(dropout)
        self.layers = nn.ModuleList(layer(dim) for _ in range(layers))
        self.leave = Linear(dim, features)
        self.first, self.second = Fold(features, folds[0]), Fold(features, folds[1])
        self.between = Mlp(features, dim, features, SLOPE)

    def begin(self, who: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
        """What the first layer knows before it listens, and its queries, [B, T, dim] each: of the speaker alone."""
        first = self.layers[0]
        assert isinstance(first, DecoderLayer)
        x = first.look(self.place(who), some(valid))
        return x, first.ask(x)

    def forward(
        self,
        motion: Float[Tensor, "B T F"],
        speech: Float[Tensor, "B T F"],
        begun: tuple[Float[Tensor, "B T C"], Float[Tensor, "B T C"]],
        valid: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B N F"]:
        """Face tokens [B, N, features]; begun: of `begin`."""
        memory = self.memory(torch.cat([speech, self.hint(motion)], dim=-1))
        real = some(valid)
        x, query = begun
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            kept = layer.cross.remember(memory)
            x = layer.listen(x, query, kept, real) if number == 0 else layer(x, kept, real, real)
        x, valid = self.first(self.leave(x), valid)
        return self.second(self.between(x), valid)[0]


class BodyBranch(nn.Module):
    """Motion features to the tokens of upper body, hands and lower body; each is refined by the other two.

    Args:
        dim: of the features. out: of the tokens. layer: makes the one decoder layer of a part.
        folds: how often two steps become one, for all parts together and for each. dropout: after positions.
    """

    def __init__(
        self, dim: int, out: int, layer: Callable[[int], DecoderLayer], folds: tuple[int, int], dropout: float
    ) -> None:
        super().__init__()
        self.fold, self.fold_speaker = Fold(dim, folds[0]), Fold(dim, folds[0])
        self.split = nn.ModuleDict({part: Mlp(dim, dim, dim, SLOPE) for part in OWN})
        self.place = Place(dropout)
        self.refine = nn.ModuleDict({part: layer(dim) for part in OWN})
        self.leave = nn.ModuleDict({part: Linear(dim, out) for part in OWN})
        self.narrow = nn.ModuleDict({part: Fold(out, folds[1]) for part in OWN})

    def speaker(self, who: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, "B M C"]:
        """The speaker on the clock of the folded features."""
        return self.fold_speaker(who, valid)[0]

    def forward(
        self, x: Float[Tensor, "B T C"], speaker: Float[Tensor, "B M C"], valid: Bool[Tensor, "B T"]
    ) -> dict[str, Float[Tensor, "B N F"]]:
        """Part -> [B, N, out]; speaker: as `speaker` gives it."""
        x, valid = self.fold(x, valid)
        split = {part: layer(x) for part, layer in self.split.items()}
        together, real = sum(split.values()), some(valid)
        assert isinstance(together, Tensor)
        tokens = {}
        for part, layer in self.refine.items():
            assert isinstance(layer, DecoderLayer)
            memory = layer.cross.remember(together - split[part])
            refined = layer(self.place(split[part] + speaker), memory, real, real)
            tokens[part], _ = self.narrow[part](self.leave[part](refined + split[part]), valid)
        return tokens


class Exchange(nn.Module):
    """One decoder layer a part: hands read the face and the face the hands, upper and lower body read what goes with them.

    Args:
        dim: of the tokens. layer: makes one.
    """

    def __init__(self, dim: int, layer: Callable[[int], DecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({part: layer(dim) for part in (FACE, *OWN)})

    def forward(
        self, tokens: Mapping[str, Float[Tensor, "B N C"]], valid: Bool[Tensor, "B N"]
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """Part -> tokens after the exchange, same shapes."""
        told, real = {}, some(valid)

        def read(part: str, memory: Tensor) -> None:
            layer = self.layers[part]
            assert isinstance(layer, DecoderLayer)
            told[part] = layer(tokens[part], layer.cross.remember(memory), real, real)

        read("hands", tokens[FACE])
        read(FACE, tokens["hands"])
        read("upper", told["hands"] + tokens["lower"])
        read("lower", tokens["upper"] + told["hands"])
        return told


def halvings(fold: int) -> tuple[int, int]:
    """How often two steps become one until `fold` frames are a token: in the common part, and in each part's own.

    ValueError for a number that is no power of two.
    """
    times = fold.bit_length() - 1
    if fold != 1 << times:
        raise ValueError(
            f"this network folds frames to tokens by halves: {fold} frames a token is no power of two; "
            "choose tokenizers that downsample by 1, 2, 4 or 8"
        )
    return times - times // 2, times // 2


def some(valid: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"] | None:
    """None where everything is valid, which attention is faster with."""
    return None if bool(valid.all()) else valid


def decoder_layers(layers: nn.ModuleList) -> Iterator[DecoderLayer]:
    """The layers of a stack, by their type."""
    for layer in layers:
        assert isinstance(layer, DecoderLayer)
        yield layer
