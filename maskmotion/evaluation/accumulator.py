"""Measures that are summed up clip by clip, so that neither the size of a batch nor the number of processes changes them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor

_Own = TypeVar("_Own", bound="Accumulator")


class Accumulator(ABC):
    """What a measure keeps of the clips it has seen; each has an `update` of its own.

    `state` holds float64 tensors by name. Here they are sums: two parts of the clips, measured apart, add up to the
    whole. A measure that is no sum has a `merge` of its own, whose tensors may grow along the first axis.
    """

    state: dict[str, Tensor]

    @abstractmethod
    def result(self) -> Any:
        """The measure over all clips so far."""

    def merge(self: _Own, other: _Own) -> None:
        """Add the clips that `other` has seen."""
        self.state = {name: value + other.state[name] for name, value in self.state.items()}

    def settled(self) -> dict[str, Tensor]:
        """`state`, brought up to date by a measure that puts new clips aside first."""
        return self.state

    def gather(self: _Own) -> _Own:
        """The measure over the clips of all processes (accelerate, torchrun), the same in each.

        All processes have to call it, also one that has seen no clip.
        """
        first, *rest = (self._of(state) for state in gather_states(self.settled()))
        for other in rest:
            first.merge(other)
        return first

    def _of(self: _Own, state: dict[str, Tensor]) -> _Own:
        own = copy.copy(self)
        own.state = dict(state)
        return own


def sums(*values: float | int | Tensor) -> Tensor:
    """Numbers as one float64 vector on the CPU, a sum that can be added to."""
    return torch.stack([torch.as_tensor(value).detach().double().cpu() for value in values])


def gather_states(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The states of all processes in the order of their ranks; tensors may differ in their first axis."""
    from accelerate import PartialState
    from accelerate.utils import gather, pad_across_processes

    processes = PartialState()
    if processes.num_processes == 1:
        return [state]
    found: list[dict[str, Tensor]] = [{} for _ in range(processes.num_processes)]
    for name, value in state.items():
        there = value.to(processes.device)
        rows = gather(torch.tensor([len(value)], device=processes.device)).tolist()
        whole = gather(pad_across_processes(there)).cpu()
        for own, part, count in zip(found, whole.chunk(len(found)), rows):
            own[name] = part[:count]
    return found
