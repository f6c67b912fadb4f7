"""BodyTokenizer: the part tokenizers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskmotion.motion.layout import KINDS, SMPLX, BodyLayout
from maskmotion.shapes import Bool, Float, Int
from maskmotion.tokenizers.body_losses import BodyLosses
from maskmotion.tokenizers.part import PartTokenizer
from maskmotion.tokenizers.pieces import in_pieces
from maskmotion.types import Batch, Quantized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maskmotion.motion.body_model import BodyModel

PIECE = 1024  # tokens that are coded at a time; a window of training is far shorter


class BodyTokenizer(nn.Module):
    """Whole-body motion [B, T, D] <-> tokens by part. All parts share rate, latent width and number of codes.

    Args:
        tokenizers: part -> PartTokenizer, in the layout's order.
        layout: which columns each part owns.
        losses: name -> weight of the losses on the whole body, see `tokenizers.body_losses.BODY_TERMS`.
        normalise: False: `set_statistics` leaves the part tokenizers reading motion as it is, as the releases do.

    Attributes:
        observed: after `forward`, numbers worth logging that are no losses: `upper/perplexity/0` and so on.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        tokenizers: Mapping[str, PartTokenizer],
        layout: BodyLayout = SMPLX,
        losses: Mapping[str, float] | None = None,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if tuple(tokenizers) != layout.parts:
            raise ValueError(f"need one tokenizer a part, {layout.parts}, got {tuple(tokenizers)}")
        self.layout, self.normalises = layout, normalise
        self.tokenizers = nn.ModuleDict(tokenizers)
        self.losses = dict(losses or {})
        self.observed: dict[str, Tensor] = {}
        self._body_model: list[BodyModel] = []  # in a list, so that the mesh is not a submodule and not saved
        _same_tokens(tokenizers)
        self.register_buffer("mean", layout.rest.clone())
        self.register_buffer("scale", torch.ones(layout.dim))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts."""
        return self.layout.parts

    @property
    def _first(self) -> PartTokenizer:
        return self[self.parts[0]]

    @property
    def downsample(self) -> int:
        """Frames a token."""
        return self._first.downsample

    @property
    def dim(self) -> int:
        """C, the width of the latents."""
        return self._first.quantizer.dim

    @property
    def codebook_size(self) -> int:
        """K, 0 without codebooks."""
        return self._first.quantizer.codebook_size

    @property
    def num_layers(self) -> int:
        """Q, 0 without codebooks."""
        return self._first.quantizer.num_layers

    def __getitem__(self, part: str) -> PartTokenizer:
        tokenizer = self.tokenizers[part]
        assert isinstance(tokenizer, PartTokenizer)
        return tokenizer

    def tokens(self, frames: int) -> int:
        """Number of tokens of so many frames."""
        return -(-frames // self.downsample)

    def token_mask(self, frames: Bool[Tensor, "B T"]) -> Bool[Tensor, "B N"]:
        """[B, T] -> [B, N]: the tokens of which any frame is True."""
        short = -frames.shape[1] % self.downsample
        return nn.functional.pad(frames, (0, short)).unflatten(1, (-1, self.downsample)).any(-1)

    @torch.no_grad()
    def set_statistics(self, motions: Iterable[Float[Tensor, "_ D"]]) -> None:
        """Centre every column and scale every kind of column by its spread over these motions.

        `normalise` (for networks that read motion) always uses them; the part tokenizers only where they normalise.
        """
        motion = torch.cat(list(motions))
        self.mean.copy_(motion.mean(0))
        spread = motion.var(0, correction=0)
        for part in self.parts:
            columns = torch.tensor(self.layout.columns[part])
            scale = torch.ones(len(columns))
            for kind in KINDS.values():
                mine = (columns >= kind.start) & (columns < kind.stop)
                if mine.any():
                    scale[mine] = spread[columns[mine]].mean().sqrt().clamp(min=1e-3)
            self.scale[columns] = scale
            if self.normalises:
                self[part].set_statistics(self.mean[columns], scale)

    def normalise(self, motion: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Columns centred and scaled as the tokenizers see them; networks that read motion use the same."""
        return (motion - self.mean) / self.scale

    def forward(
        self, batch: Batch, *, teacher: Any = None, progress: float = 0.0, stage: str = "tokenizer"
    ) -> dict[str, Tensor]:
        """Named losses of every part, `upper/reconstruction` and so on; trained by the same loop as generators."""
        split = self.layout.split(batch.motion)
        valid = None if bool(batch.valid.all()) else batch.valid
        decoded: dict[str, Tensor] = {}
        losses: dict[str, Tensor] = {}
        self.observed = {}
        for part, motion in split.items():
            decoded[part], named, tokens = self[part].reconstruct(motion, valid)
            losses |= {f"{part}/{name}": loss for name, loss in named.items()}
            self.observed |= _observed(part, tokens)
        if self.losses:
            body_losses = BodyLosses(self.losses, self.body_model)
            # what no part covers is at rest on both sides
            losses |= body_losses(self.layout.join(decoded), self.layout.join(split), valid)
        return losses

    @property
    def body_model(self) -> BodyModel | None:
        """The SMPL-X mesh for the losses on vertices, None without."""
        return self._body_model[0] if self._body_model else None

    def use_body_model(self, model: BodyModel) -> None:
        """Give the losses on vertices their mesh; it is no part of the tokenizers and never saved."""
        self._body_model = [model.to(self.mean.device)]

    def encode(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> dict[str, Quantized]:
        """Part -> tokens of that part."""
        return {part: self[part].encode(columns, valid) for part, columns in self.layout.split(motion).items()}

    @torch.no_grad()
    def tokenize(self, motion: Float[Tensor, "B T D"], piece: int = PIECE) -> dict[str, Int[Tensor, "B N Q"]]:
        """Part -> codes of a motion of any length, `piece` tokens at a time: what `encode` gives, in bounded memory."""
        reach = max(self[part].network.encoder_reach for part in self.parts)
        fold, frames = self.downsample, motion.shape[1]

        def code(tokens: slice) -> dict[str, Tensor]:
            read = motion[:, tokens.start * fold : min(frames, tokens.stop * fold)]
            return {part: coded.codes for part, coded in self.encode(read).items()}

        return in_pieces(code, self.tokens(frames), piece, -(-reach // fold))

    def detokenize(
        self, codes: Mapping[str, Int[Tensor, "B N Q"]], frames: int | None = None, piece: int = PIECE
    ) -> Float[Tensor, "B T D"]:
        """Part -> codes to motion of any length, cut to `frames`: embed, sum over layers, decode, in bounded memory."""

        def latents(tokens: slice) -> dict[str, Tensor]:
            picked = {part: index[:, tokens] for part, index in codes.items()}
            return {part: vectors.sum(dim=2) for part, vectors in self.embed(picked).items()}

        return self._decode(latents, _length(codes), frames, piece)

    def embed(self, codes: Mapping[str, Int[Tensor, "B N Q"]]) -> dict[str, Float[Tensor, "B N Q C"]]:
        """Part -> code vectors of each layer."""
        return {part: self[part].quantizer.embed(index) for part, index in codes.items()}

    def decode(
        self, latents: Mapping[str, Float[Tensor, "B N C"]], frames: int | None = None, piece: int = PIECE
    ) -> Float[Tensor, "B T D"]:
        """Part -> latents (summed over layers) to motion, cut to `frames`; a part that is not given is at rest."""
        return self._decode(
            lambda tokens: {part: values[:, tokens] for part, values in latents.items()},
            _length(latents),
            frames,
            piece,
        )

    def _decode(
        self, latents: Callable[[slice], Mapping[str, Tensor]], tokens: int, frames: int | None, piece: int
    ) -> Tensor:
        def motion(read: slice) -> dict[str, Tensor]:
            return {"motion": self.layout.join({part: self[part].decode(x) for part, x in latents(read).items()})}

        if tokens <= piece:  # with its gradient
            return motion(slice(0, tokens))["motion"][:, :frames]
        reach = max(self[part].network.decoder_reach for part in self.parts)
        with torch.no_grad():
            return in_pieces(motion, tokens, piece, reach, self.downsample)["motion"][:, :frames]


def _length(tokens: Mapping[str, Tensor]) -> int:
    lengths = {part: values.shape[1] for part, values in tokens.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"need the tokens of at least one part, all parts equally long, got {lengths}")
    return next(iter(lengths.values()))


def _same_tokens(tokenizers: Mapping[str, PartTokenizer]) -> None:
    shapes = {
        part: (t.downsample, t.quantizer.dim, t.quantizer.codebook_size, t.quantizer.num_layers)
        for part, t in tokenizers.items()
    }
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "all parts need the same frames a token, width, codebook size and layers; got "
            + ", ".join(f"{part}: {shape}" for part, shape in shapes.items())
        )


def _observed(part: str, tokens: Quantized) -> dict[str, Tensor]:
    """Perplexity and whatever else the quantizer tells, one entry a layer."""
    told = {"perplexity": tokens.perplexity, **tokens.stats}
    return {
        f"{part}/{name}/{layer}": value.detach() for name, values in told.items() for layer, value in enumerate(values)
    }
