"""Every registered component keeps its interface's contract; new built-ins are tested for free."""

from __future__ import annotations

import pytest
import torch

import maskmotion as mm
from maskmotion.registry import KINDS
from maskmotion.testing import ContractError, check

COMPONENTS = [
    (kind, name) for kind in KINDS for name in mm.names(kind) if name != "speech"
]  # speech: needs a checkpoint


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_contract(kind, name):
    check(mm.lookup(kind, name))


def test_contract_of_instances():
    from maskmotion.strategies import Random, SpeechQueried

    check(Random(ratio=0.7, unit="joint"))
    check(Random(ratio=0.3, unit="column", exact=False))
    check(SpeechQueried(ratio=0.5, hard=mm.Linear(0.0, 0.3), soft=mm.Linear(0.3, 0.0)))


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


@pytest.mark.parametrize(
    ("component", "rule"),
    [(HidesPadding, "padding"), (LooksAtNeighbours, "rows are independent"), (Forgetful, "straight-through")],
)
def test_broken_components_are_caught(component, rule):
    with pytest.raises(ContractError, match=rule):
        check(component)


def test_what_is_no_component_is_refused():
    with pytest.raises(TypeError, match="no Quantizer, Masker"):
        check(torch.nn.Linear(2, 2))
