"""Every registered component keeps its interface's contract; new built-ins are tested for free."""

from __future__ import annotations

import pytest
import torch

import maskmotion as mm
from maskmotion.quantizers import RVQ
from maskmotion.registry import KINDS
from maskmotion.testing import ContractError, check
from maskmotion.tokenizers import Dilated, Plain

NEED_A_CHECKPOINT = ("speech", "released_speech", "aligned")  # checked where a test writes one
SMALL = {"echomask": {"dim": 32, "features": 16, "layers": 2, "feed": 64, "face_layers": 1, "residual_feed": 32}}
COMPONENTS = [(kind, name) for kind in KINDS for name in mm.names(kind) if name not in NEED_A_CHECKPOINT]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_contract(kind, name):
    check(mm.lookup(kind, name), **SMALL.get(name, {}))


def test_contract_of_instances():
    from maskmotion.strategies import Random, SpeechQueried

    check(Random(ratio=0.7, unit="joint"))
    check(Random(ratio=0.3, unit="column", exact=False))
    check(SpeechQueried(ratio=0.5, hard=mm.Linear(0.0, 0.3), soft=mm.Linear(0.3, 0.0)))
    check(Dilated(6, 4, downsample=2), dim=6, width=4)
    check(Dilated, downsample=8, dilations=(9, 3, 1))
    check(Plain, dim=5, layers=4)


class HidesPadding(mm.Masker):
    def scores(self, context):
        return torch.zeros(context.batch.valid.shape)

    def forward(self, context):
        return torch.ones_like(context.batch.valid)


class LooksAtNeighbours(mm.Masker):
    def scores(self, context):
        return context.batch.motion.norm(dim=-1).flip(0)


class Forgetful(mm.Quantizer):
    num_layers, codebook_size = 0, 0

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, latents):
        codes = torch.zeros(*latents.shape[:2], 0, dtype=torch.long)
        return mm.Quantized(latents.detach(), codes, latents.sum() * 0, torch.zeros(0))

    def embed(self, codes):
        return torch.zeros(*codes.shape, self.dim)


class Unlearning(RVQ):
    """What training moves is not saved."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim, 16, 2)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, latents):
        self.steps += self.training
        return super().forward(latents)


class Dicing(RVQ):
    """What chance sets when it is built is not saved: who loads it gets another one."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim, 16, 2)
        self.register_buffer("noise", torch.rand(()), persistent=False)


class Deaf(RVQ):
    straight_through = False

    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim, 16, 2)

    def forward(self, latents):
        return super().forward(latents.detach() + 0 * latents)


class Scaled(RVQ):
    """Its gradient is two."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__(dim, 16, 2)

    def forward(self, latents):
        return super().forward(2 * latents)


class ProjectsOnce(Scaled):
    """As it says."""

    straight_through = False


class Shortsighted(Dilated):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width)
        self.encoder_reach -= 1


class ShortsightedDecoder(Plain):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width)
        self.decoder_reach -= 1


class ReadsPadding(Plain):
    def encode(self, x, valid=None):
        return super().encode(x)


class DecodesPadding(Plain):
    def decode(self, x, valid=None):
        return super().decode(x)


class Idle(Plain):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width)
        self.unused = torch.nn.Linear(2, 2)


def test_a_quantizer_says_whether_its_gradient_is_one():
    check(ProjectsOnce)


@pytest.mark.parametrize(
    ("component", "rule"),
    [
        (HidesPadding, "padding"),
        (LooksAtNeighbours, "rows are independent"),
        (Forgetful, "straight-through"),
        (Scaled, "straight-through gradient is one"),
        (Deaf, "gradient reaches the latents"),
        (Unlearning, "all state is saved"),
        (Unlearning(), "all state is saved"),
        (Dicing, "all state is saved"),
        (Shortsighted, "further than encoder_reach, got 32 frames"),
        (ShortsightedDecoder, "further than decoder_reach, got 7 tokens"),
        (ReadsPadding, "padding never changes valid tokens"),
        (DecodesPadding, "padding never changes valid frames"),
        (Idle, "gradient reaches every parameter"),
    ],
)
def test_broken_components_are_caught(component, rule):
    with pytest.raises(ContractError, match=rule):
        check(component)


def test_what_is_no_component_is_refused():
    with pytest.raises(TypeError, match="no Quantizer, Masker, Conditioner, Generator or Autoencoder"):
        check(torch.nn.Linear(2, 2))
