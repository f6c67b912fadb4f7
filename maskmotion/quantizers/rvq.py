"""Residual vector quantization: each layer codes what the layers before it left over (Zeghidour et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.quantizers.codebook import Codebook, Learning, embed_codes, perplexity
from maskmotion.shapes import Float, Int
from maskmotion.types import Quantized


class RVQ(Quantizer):
    """Q residual layers, each with a codebook of its own or all with the same.

    Args:
        dim: C, given by the tokenizer.
        codebook_size: K of every layer. num_layers: Q.
        shared: one codebook for all layers.
        learning: "ema": codes are moving averages of their latents; "gradient": the loss moves them (EMAGE).
        decay: of the moving averages.
        commitment: weight of the pull of the latents towards their codes (mean over layers).
        quantizer_dropout: share of the rows that, in training, use only a random number of the first layers; their
            further codes are -1. (EchoMask states 0.2; its release has the code that drops layers commented out.)
        temperature: in training, codes are drawn: argmax of -distance^2 / temperature + Gumbel noise; 0: the nearest.
            (0.5 in the releases of EchoMask and SemTalk, whose papers do not mention it.)
        revive_below: average count per batch under which a code is put on a latent of the batch; 0: never.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 256,
        num_layers: int = 6,
        shared: bool = False,
        learning: Learning = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        quantizer_dropout: float = 0.0,
        temperature: float = 0.0,
        revive_below: float = 1.0,
    ) -> None:
        super().__init__()
        if codebook_size < 2 or num_layers < 1:
            raise ValueError(f"need codebook_size >= 2 and num_layers >= 1, got {codebook_size} and {num_layers}")
        if not 0 <= quantizer_dropout <= 1:
            raise ValueError(f"quantizer_dropout is a share of the rows, 0 to 1, got {quantizer_dropout}")
        if temperature < 0:
            raise ValueError(f"temperature is 0 (the nearest code) or positive, got {temperature}")
        self.dim, self.codebook_size, self.num_layers, self.shared = dim, codebook_size, num_layers, shared
        self.commitment, self.quantizer_dropout, self.temperature = commitment, quantizer_dropout, temperature
        self.layers = nn.ModuleList(
            Codebook(dim, codebook_size, decay, revive_below, learning) for _ in range(1 if shared else num_layers)
        )

    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """[B, N, C] -> codes and their sum, with a straight-through gradient; training also moves the codebooks.

        The output uses the codes as they were before this batch moved them. stats: "error", the mean squared residual
        after each layer, and "dead", codes that were revived, both [Q].
        """
        flat = latents.flatten(0, 1)
        with torch.autocast(latents.device.type, enabled=False):  # distances in half precision choose wrong codes
            coded = self._code(flat.detach().float(), self._kept_layers(latents), flat.requires_grad)
        loss = self.commitment * coded.errors.mean()
        if coded.pull is not None:
            loss = _Known.apply(flat, loss, self.commitment * coded.pull.to(flat))
        if self.training and self.learning == "gradient":
            loss = loss + self._codebook_loss(coded.seen)
        dead = self._update(coded.seen) if coded.seen else coded.dead
        return Quantized(
            latents=(flat - coded.residual.to(flat)).view_as(latents),
            codes=coded.codes.view(*latents.shape[:2], self.num_layers),
            loss=loss,
            perplexity=torch.stack([perplexity(codes, self.codebook_size) for codes in coded.codes.unbind(1)]),
            stats={"error": coded.errors, "dead": torch.stack(dead).expand(self.num_layers)},
        )

    @property
    def codebooks(self) -> list[Codebook]:
        """One a layer, coarsest first; the same one again and again when it is shared."""
        own: list[Any] = list(self.layers)
        return own * self.num_layers if self.shared else own

    @property
    def learning(self) -> Learning:
        """How the codebooks learn."""
        return self.codebooks[0].learning

    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, Q] -> [B, N, Q, C], one code vector per layer (code -1: zero); sum over Q to decode."""
        return torch.stack([embed_codes(layer.codes, codes[..., q]) for q, layer in enumerate(self.codebooks)], dim=-2)

    def _kept_layers(self, latents: Tensor) -> Tensor | None:
        """How many layers each token keeps, where quantizer dropout shortens some rows; None: all of them."""
        if not self.training or self.quantizer_dropout == 0:
            return None
        rows, tokens, _ = latents.shape
        shorter = torch.randint(1, self.num_layers + 1, (rows,), device=latents.device)
        short = torch.rand(rows, device=latents.device) < self.quantizer_dropout
        return torch.where(short, shorter, self.num_layers).repeat_interleave(tokens)

    @torch.no_grad()
    def _code(self, flat: Tensor, kept: Tensor | None, learns: bool) -> _Coded:
        residual, pull = flat.clone(), torch.zeros_like(flat) if learns else None
        codes, errors, dead, seen = [], [], [], []
        later = self.shared or self.learning == "gradient"  # codebooks that must not move before all layers are coded
        for number, book in enumerate(self.codebooks):
            rows = None if kept is None else (kept > number).nonzero()[:, 0]
            left = residual if rows is None else residual[rows]
            if self.training:
                book.start(left)
            index = book.choose(left, self.temperature if self.training else 0.0)
            vectors = book.codes.index_select(0, index)
            if self.training and later:
                seen.append((left.clone(), index))
            dead.append(book.update(left, index) if self.training and not later else index.new_zeros(()))
            left -= vectors
            if rows is not None:
                residual[rows] = left
                index = torch.full((len(flat),), -1, device=flat.device).index_copy_(0, rows, index)
            codes.append(index)
            if pull is not None:
                here = pull if rows is None else pull[rows]
                here.add_(left, alpha=2 / (self.num_layers * max(1, left.numel())))
                pull = here if rows is None else pull.index_copy_(0, rows, here)
            errors.append(torch.linalg.vector_norm(left).square() / max(1, left.numel()))
        return _Coded(torch.stack(codes, dim=1), residual, pull, torch.stack(errors), dead, seen)

    def _codebook_loss(self, seen: list[_Seen]) -> Tensor:
        """The codes' pull towards the latents that chose them, mean over layers (van den Oord et al., 2017, eq. 3)."""
        pulls = [F.mse_loss(F.embedding(index, book.codes), left) for book, (left, index) in zip(self.codebooks, seen)]
        return torch.stack(pulls).mean()

    def _update(self, seen: list[_Seen]) -> list[Tensor]:
        """Move the codebooks after all layers are coded; a shared one by the residuals of all layers together."""
        if not self.shared:
            return [book.update(left, index) for book, (left, index) in zip(self.codebooks, seen)]
        lefts, indices = zip(*seen)
        together = torch.cat if self.quantizer_dropout else _by_token  # dropped layers leave rows of several lengths
        return [self.codebooks[0].update(together(lefts), together(indices))]


def _by_token(layers: Sequence[Tensor]) -> Tensor:
    """[M, ...] of every layer to [M * Q, ...], token by token: the shares of several processes in a row are the batch."""
    return torch.stack(list(layers), dim=1).flatten(0, 1)


_Seen = tuple[Tensor, Tensor]  # residuals before a layer, and the codes they chose


class _Coded(NamedTuple):
    codes: Tensor  # [M, Q]
    residual: Tensor  # [M, C], after the last layer
    pull: Tensor | None  # [M, C], gradient of the mean error; None where nothing learns
    errors: Tensor  # [Q]
    dead: list[Tensor]  # one a layer
    seen: list[_Seen]  # one a layer; empty where the codebooks have moved already


class _Known(torch.autograd.Function):
    """A scalar whose gradient is known in closed form: the commitment's is the sum of the residuals."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return above * gradient, None, None
