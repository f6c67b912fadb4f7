"""EMA: the averaged copy of a model that scores frames (the teacher) and is saved."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from maskmotion.interfaces import Conditioner


class EMA:
    """A moving average of the trainable parameters; buffers are copied, frozen modules and extractors are shared.

    Args:
        model: what is averaged.
        decay: share of the old value kept in a step; warmed up as min(decay, (1 + step) / (10 + step)), so that a short
            run does not end at its start (the release's constant 0.9999 does). None: `model` itself, no copy.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.model = model if decay is None else _copy(model)
        if decay is not None:
            self.model.requires_grad_(False).eval()
        self._source: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        self._average: list[Tensor] = [p for name, p in self.model.named_parameters() if name in names]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model after optimizer step number `step` (from 0)."""
        if self.decay is None:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._source], 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            if mine is not theirs:
                mine.copy_(theirs)


def _copy(model: nn.Module) -> nn.Module:
    shared: dict[int, object] = {}
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            shared[id(module)] = module
        if isinstance(module, Conditioner):
            shared |= {id(extractor): extractor for extractor in module.extractors}
    return copy.deepcopy(model, shared)
