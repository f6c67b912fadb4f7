"""BodyTokenizer: the part tokenizers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION, BodyLayout
from maskmotion.shapes import Bool, Float, Int
from maskmotion.tokenizers.part import PartTokenizer
from maskmotion.types import Batch, Quantized

if TYPE_CHECKING:
    from collections.abc import Iterable

_KINDS = (ROTATIONS, TRANSLATION, CONTACTS, EXPRESSIONS)


class BodyTokenizer(nn.Module):
    """Whole-body motion [B, T, D] <-> tokens by part. All parts share rate, latent width and number of codes.

    Args:
        tokenizers: part -> PartTokenizer, in the layout's order.
        layout: which columns each part owns.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tokenizers: Mapping[str, PartTokenizer], layout: BodyLayout = SMPLX) -> None:
        super().__init__()
        if tuple(tokenizers) != layout.parts:
            raise ValueError(f"need one tokenizer a part, {layout.parts}, got {tuple(tokenizers)}")
        self.layout = layout
        self.tokenizers = nn.ModuleDict(tokenizers)
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
        """Centre every column and scale every kind of column by its spread over these motions."""
        motion = torch.cat(list(motions))
        self.mean.copy_(motion.mean(0))
        spread = motion.var(0, correction=0)
        for part in self.parts:
            columns = torch.tensor(self.layout.columns[part])
            scale = torch.ones(len(columns))
            for kind in _KINDS:
                mine = (columns >= kind.start) & (columns < kind.stop)
                if mine.any():
                    scale[mine] = spread[columns[mine]].mean().sqrt().clamp(min=1e-3)
            self.scale[columns] = scale
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
        return {
            f"{part}/{name}": loss for part, motion in split.items() for name, loss in self[part](motion, valid).items()
        }

    def encode(self, motion: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"] | None = None) -> dict[str, Quantized]:
        """Part -> tokens of that part."""
        return {part: self[part].encode(columns, valid) for part, columns in self.layout.split(motion).items()}

    def embed(self, codes: Mapping[str, Int[Tensor, "B N Q"]]) -> dict[str, Float[Tensor, "B N Q C"]]:
        """Part -> code vectors of each layer."""
        return {part: self[part].quantizer.embed(index) for part, index in codes.items()}

    def decode(
        self, latents: Mapping[str, Float[Tensor, "B N C"]], frames: int | None = None
    ) -> Float[Tensor, "B T D"]:
        """Part -> latents (summed over layers) to motion, cut to `frames`. A missing part raises KeyError."""
        motion = self.layout.join({part: self[part].decode(latents[part]) for part in self.parts})
        return motion if frames is None else motion[:, :frames]

    def decode_codes(self, codes: Mapping[str, Int[Tensor, "B N Q"]], frames: int | None = None) -> Tensor:
        """Part -> codes to motion [B, T, D]: embed, sum over layers, decode."""
        return self.decode({part: vectors.sum(dim=2) for part, vectors in self.embed(codes).items()}, frames)
