"""The tokenizers that EchoMask and SemTalk ship, and their global motion predictor, from stock PyTorch layers.

Part of the yardsticks: official state dicts load strictly, and motion is decoded as the releases decode it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from plain_emage import ROTATIONS, SIZES, PlainTokenizer, orthonormal
from torch import Tensor, nn

PARTS = ("face", "hands", "upper", "lower")
BODY = ("upper", "hands", "lower")
SEED, BOOKS = 4, 6


class Block(nn.Module):
    """x + two convolutions of x, the first a dilated one."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(dim, dim, 3, 1, dilation, dilation), nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T], same shape."""
        return x + F.dropout(self.conv2(F.relu(self.conv1(F.relu(x)))), 0.2, self.training)


class Stack(nn.Module):
    """Three blocks."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Block(dim, dilation) for dilation in (9, 3, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T], same shape."""
        return self.model(x)


class Side(nn.Module):
    """An encoder or decoder under the name `model`, on [B, T, C]."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, S, out]."""
        return self.model(x.mT).mT


class PlainRvq(nn.Module):
    """The RVQ-VAE of one part."""

    def __init__(self, size: int, dim: int = 256, codes: int = 256) -> None:
        super().__init__()
        shrink = (nn.Sequential(nn.Conv1d(dim, dim, 4, 2, 1), Stack(dim)) for _ in range(2))
        grow = (
            nn.Sequential(Stack(dim), nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv1d(dim, dim, 3, 1, 1))
            for _ in range(2)
        )
        enter, leave = nn.Conv1d(size, dim, 3, 1, 1), nn.Conv1d(dim, size, 3, 1, 1)
        between = [nn.Conv1d(dim, dim, 3, 1, 1) for _ in range(3)]
        self.encoder = Side(enter, nn.ReLU(), *shrink, between[0])
        self.decoder = Side(between[1], nn.ReLU(), *grow, between[2], nn.ReLU(), leave)
        self.quantizer = nn.Module()
        self.quantizer.layers = nn.ModuleList(nn.Module() for _ in range(BOOKS))
        for layer in self.quantizer.layers:
            layer.register_buffer("codebook", torch.zeros(codes, dim))

    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, C] -> codes [B, N, 6] and their vectors [6, B, N, C]."""
        codes, vectors = [], []
        for layer in self.quantizer.layers:
            codes.append(torch.cdist(latents, layer.codebook[None]).argmin(-1))
            vectors.append(layer.codebook[codes[-1]])
            latents = latents - vectors[-1]
        return torch.stack(codes, -1), torch.stack(vectors)

    def decode(self, codes: Tensor) -> Tensor:
        """[B, N, 6] -> motion columns [B, 4 N, D]."""
        return self.decoder(sum(layer.codebook[codes[..., book]] for book, layer in enumerate(self.quantizer.layers)))


class PlainBody(nn.Module):
    """The tokenizers of the four parts and the global motion predictor."""

    def __init__(self, dim: int = 256, codes: int = 256) -> None:
        super().__init__()
        for part in PARTS:
            self.add_module(part, PlainRvq(SIZES[part], dim, codes))
        self.predictor = PlainTokenizer(SIZES["lower"], dim, 4, 0)

    def load_official(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> PlainBody:
        """Load state dicts of the release by part, "global" among them."""
        for part, values in tensors.items():
            (self.predictor if part == "global" else getattr(self, part)).load_state_dict(values)
        return self.eval()

    def seed(self, codes: Mapping[str, Tensor], start: Tensor) -> Tensor:
        """A window's codes -> what the next one begins with [B, 4, 337]: jaw and eyes at rest, a path that begins anew."""
        decoded = {part: getattr(self, part).decode(codes[part]) for part in BODY}
        path = _path(decoded["lower"][..., 54:57], start)
        motion = torch.cat([_rotations(decoded), path, decoded["lower"][..., 57:]], -1)
        return motion[:, -SEED:]

    def finish(self, codes: Mapping[str, Tensor], start: Tensor) -> dict[str, Tensor]:
        """Codes of a clip -> "rotations" [B, T, 330], "expressions" [B, T, 100], "translation" [B, T, 3], "contacts"."""
        decoded = {part: getattr(self, part).decode(codes[part]) for part in PARTS}
        lower = decoded["lower"]
        legs = orthonormal(lower[..., :54].unflatten(-1, (-1, 6))).flatten(-2)
        feet = torch.cat([legs, torch.zeros_like(lower[..., 54:57]), lower[..., 57:]], -1)
        moves = self.predictor.decoder(self.predictor.encoder(feet))[..., 54:57]
        return {
            "rotations": _rotations(decoded),
            "expressions": decoded["face"][..., 6:],
            "translation": _path(moves, start),
            "contacts": lower[..., 57:],
        }


def _rotations(decoded: Mapping[str, Tensor]) -> Tensor:
    """[B, T, 330] with proper rotations; what no part holds is at rest."""
    found = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(*decoded["lower"].shape[:2], 55, 1)
    for part, values in decoded.items():
        joints = ROTATIONS[part]
        found[:, :, joints] = values[..., : 6 * len(joints)].unflatten(-1, (-1, 6))
    return orthonormal(found).flatten(2)


def _path(moves: Tensor, start: Tensor) -> Tensor:
    """Sideways and forward velocities are summed from `start` [B, 3], the height is taken as it is."""
    flat = start[:, None, 0::2] + F.pad(moves[:, :-1, 0::2] / 30, (0, 0, 1, 0)).cumsum(1)
    return torch.stack([flat[..., 0], moves[..., 1], flat[..., 1]], -1)
