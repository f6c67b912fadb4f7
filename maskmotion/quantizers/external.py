"""Any quantizer of vector-quantize-pytorch behind our interface (extra `vq`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.interfaces import Quantizer
from maskmotion.quantizers.codebook import perplexity
from maskmotion.shapes import Float, Int
from maskmotion.types import Quantized

_BOOK, _GRID = {"codebook_size": 256}, {"levels": [8, 5, 5, 5]}  # the grid: table 1 of FSQ (Mentzer et al., 2024), 2^10
_DEPTH = {"num_quantizers": 6}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "FSQ": _GRID,
    "FSP": _GRID,
    "LFQ": _BOOK,
    "LatentQuantize": _GRID,
    "SimVQ": _BOOK,
    "VectorQuantize": _BOOK,
    "ResidualVQ": _BOOK | _DEPTH,
    "ResidualFSQ": _GRID | _DEPTH,
    "ResidualLFQ": _BOOK | _DEPTH,
    "ResidualSimVQ": _BOOK | _DEPTH,
    "GroupedResidualVQ": _BOOK | _DEPTH | {"groups": 2},
    "GroupedResidualFSQ": _GRID | _DEPTH | {"groups": 2},
    "GroupedResidualLFQ": _BOOK | _DEPTH | {"groups": 2},
}
"""Kind -> arguments where the user gives none."""
REFUSED: Mapping[str, str] = {
    "RandomProjectionQuantizer": "it gives codes alone, which nothing turns back into latents",
    "BinaryMapper": "it draws one-hot vectors of 2^bits codes, which are no latents of the width that came in",
    "HierarchicalVQ": "its coarse levels have fewer codes than there are tokens",
    "EvoLFQ": "it is a whole autoencoder around LFQ; use LFQ",
}
"""Kind -> why it cannot stand behind our interface."""


class External(Quantizer):
    """A quantizer class of vector-quantize-pytorch: `External(64, "LFQ", {"codebook_size": 1024})`.

    Q is its residual layers, its heads or its codebooks side by side; with groups, the layers of all groups, coarsest
    first. What is quantized is quantized in full precision. Gradients are the class's own (projections, rotation trick),
    and some have none in evaluation.

    Args:
        dim: C, given by the tokenizer.
        kind: name of the class, a key of `KINDS`.
        arguments: of its constructor, without `dim`; what is not said is as in `KINDS`, then as the class has it.

    Raises ImportError without the package, and ValueError for an unknown kind, arguments that the class does not take,
    and those with which its codes do not give its latents back (a channel order of images, say).
    """

    straight_through = False

    def __init__(self, dim: int, kind: str = "FSQ", arguments: Mapping[str, Any] = {}) -> None:
        super().__init__()
        self.dim = dim
        self.module = _build(kind, {"dim": dim, **KINDS.get(kind, {}), **arguments})
        self.transposed = kind == "LatentQuantize"  # the only one that wants channels before time
        sizes = [getattr(module, "codebook_size", None) for module in self.module.modules()]
        self.codebook_size = max((size for size in sizes if isinstance(size, int)), default=0)
        try:
            self.num_layers = _examine(self)
        except Exception as error:
            raise ValueError(f"{kind} with {dict(arguments)} cannot be used on {dim} dimensions: {error}") from error

    def forward(self, latents: Float[Tensor, "B N C"]) -> Quantized:
        """[B, N, C] -> codes and quantized latents; loss is the sum of the class's own, as it weights them."""
        with torch.autocast(latents.device.type, enabled=False), _started(self.module, pretend=not self.training):
            quantized, codes, *losses = self.module(self._turned(latents.float()))
        codes = _layers_last(codes)
        return Quantized(
            latents=self._turned(quantized).to(latents.dtype),
            codes=codes,
            loss=losses[0].sum() if losses else latents.new_zeros(()),
            perplexity=torch.stack([perplexity(layer.flatten(), self.codebook_size) for layer in codes.unbind(-1)]),
        )

    def embed(self, codes: Int[Tensor, "B N Q"]) -> Float[Tensor, "B N Q C"]:
        """[B, N, Q] -> [B, N, Q, C]: what each layer adds to the latents (code -1: zero); sum over Q to decode.

        A constant of the output (the bias of a projection) belongs to the first residual layer; codebooks side by side
        share it. IndexError for codes outside -1..K-1.
        """
        if codes.numel() and (int(codes.max()) >= self.codebook_size or int(codes.min()) < -1):
            raise IndexError(
                f"codes run from -1 (dropped) to {self.codebook_size - 1}, got {int(codes.min())}..{int(codes.max())}"
            )
        groups: list[Any] = list(getattr(self.module, "rvqs", [self.module]))
        width = self.dim // len(groups)
        vectors = []
        for number, (group, mine) in enumerate(zip(groups, codes.unflatten(-1, (-1, len(groups))).unbind(-1))):
            parts = _residual_vectors(group, mine) if hasattr(group, "layers") else self._parallel_vectors(mine)
            vectors.append(F.pad(parts, (number * width, self.dim - (number + 1) * width)))
        return torch.stack(vectors, dim=3).flatten(2, 3)

    def _turned(self, x: Tensor) -> Tensor:
        return x.mT if self.transposed else x

    def _parallel_vectors(self, codes: Tensor) -> Tensor:
        """[B, N, Q] -> [B, N, Q, C] of codebooks side by side, whose output is a sum of one term a codebook."""
        known = codes.clamp(min=0)
        if codes.shape[-1] == 1:
            vectors = self._output(known)[..., None, :]
        else:
            layers = torch.arange(codes.shape[-1], device=codes.device)
            alone = [self._output(known.where(layers == layer, 0)) for layer in range(len(layers))]
            constant = self._output(
                torch.zeros_like(known)
            )  # what code 0 everywhere gives is counted once, not Q times
            vectors = torch.stack(alone, dim=2) - constant[:, :, None] * (1 - 1 / len(layers))
        return vectors.masked_fill((codes < 0)[..., None], 0.0)

    def _output(self, codes: Tensor) -> Tensor:
        module: Any = self.module
        decode = getattr(module, "get_output_from_indices", None) or module.indices_to_codes
        several = codes.shape[-1] > 1 or getattr(module, "keep_num_codebooks_dim", False)
        return self._turned(decode(codes if several else codes[..., 0]))


def _residual_vectors(module: Any, codes: Tensor) -> Tensor:
    """[B, N, Q] -> [B, N, Q, C]: by how much each further layer changes the output."""
    layers = torch.arange(codes.shape[-1], device=codes.device)
    known = [module.get_output_from_indices(codes.masked_fill(layers > last, -1)) for last in range(len(layers))]
    some = (codes >= 0).cumsum(dim=-1) > 0  # before the first code there is nothing, not even a bias
    outputs = torch.stack(known, dim=2) * some[..., None]
    return outputs.diff(dim=2, prepend=torch.zeros_like(outputs[:, :, :1]))


def _layers_last(codes: Tensor) -> Tensor:
    """[B, N], [B, N, Q] or [groups, B, N, Q] -> int64 [B, N, Q], the layers of groups coarsest first."""
    codes = codes.long()
    if codes.ndim == 4:
        return codes.permute(1, 2, 3, 0).flatten(2)
    return codes[..., None] if codes.ndim == 2 else codes


def _build(kind: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        import vector_quantize_pytorch as library
    except ImportError:
        raise ImportError(
            "the quantizer 'external' needs vector-quantize-pytorch: pip install maskmotion[vq]"
        ) from None
    if kind in REFUSED:
        raise ValueError(f"{kind} is no quantizer of ours: {REFUSED[kind]}")
    if kind not in KINDS or not hasattr(library, kind):
        known = ", ".join(name for name in KINDS if hasattr(library, name))
        raise ValueError(f"vector-quantize-pytorch has no quantizer {kind!r} that works here; choose one of {known}")
    cls = _rounding(library.LatentQuantize) if kind == "LatentQuantize" else getattr(library, kind)
    try:
        module: nn.Module = cls(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        given = {name: value for name, value in arguments.items() if name != "dim"}
        reason = str(error) or "an assertion of its own fails"
        raise ValueError(f"{kind} does not take {given} with {arguments['dim']} dimensions: {reason}") from error
    if kind == "LatentQuantize":
        module.values_per_latent.requires_grad_(False)  # parameters that its loss never reaches
    return module


def _rounding(cls: Any) -> Any:
    """LatentQuantize, which cuts indices to whole numbers, so that 2.9999998 becomes code 2, with indices rounded."""

    class Rounding(cls):
        def codes_to_indices(self, zhat: Tensor) -> Tensor:
            return (self._scale_and_shift(zhat).round() * self._basis).sum(dim=-1).long()

    return Rounding


@contextmanager
def _started(module: nn.Module, pretend: bool = True) -> Iterator[None]:
    """Codebooks that wait for k-means pass for started: they begin on the first latents, also when these only test."""
    flags = [flag for part in module.modules() if isinstance(flag := getattr(part, "initted", None), Tensor)]
    waiting = [flag for flag in flags if pretend and not flag]
    for flag in waiting:
        flag.fill_(True)
    try:
        yield
    finally:
        for flag in waiting:
            flag.fill_(False)


@torch.no_grad()
def _examine(quantizer: External) -> int:
    """Q of a quantizer. ValueError when random latents do not come back from its codes; its state stays as it is."""
    twin = copy.deepcopy(quantizer).eval()
    tokens = quantizer.dim + 1  # not as many as channels, so that neither passes for the other
    latents = torch.randn(2, tokens, quantizer.dim, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]), _started(twin.module):
        first, again = (twin.module(twin._turned(latents)) for _ in range(2))
    quantized, codes = twin._turned(first[0]), _layers_last(first[1])
    if quantized.shape != latents.shape or codes.shape[:2] != latents.shape[:2]:
        raise ValueError(f"latents {list(latents.shape)} became {list(quantized.shape)}, codes {list(codes.shape)}")
    if not torch.equal(first[0], again[0]):
        raise ValueError("evaluation is not deterministic")
    if not torch.allclose(twin.embed(codes).sum(2), quantized, atol=1e-4, rtol=1e-4):
        raise ValueError("its codes do not give its latents back")
    return codes.shape[-1]
