"""Several data sets as one stream of batches: each batch comes from one of them, in proportion to their windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from maskmotion.data.windows import WindowDataset


class Turns:
    """Whose turn it is: a function of the batch's number alone, so that an interrupted run goes on exactly.

    In every epoch each data set has as many batches as its windows fill, in shuffled order.

    Args:
        sets: at least one; the first is the main one.
    """

    def __init__(self, sets: Sequence[WindowDataset]) -> None:
        if not sets:
            raise ValueError("no data set to take turns with; give at least one")
        self.sets = tuple(sets)

    def turn(self, number: int, size: int, seed: int) -> tuple[WindowDataset, int]:
        """The data set of batch `number` of `size` windows, and how many batches it gave before."""
        batches = torch.tensor([-(-len(one) // size) for one in self.sets])
        epoch, place = divmod(number, int(batches.sum()))
        order = torch.arange(len(self.sets)).repeat_interleave(batches)
        order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed + epoch))]
        which = int(order[place])
        before = int((order[:place] == which).sum())
        return self.sets[which], epoch * int(batches[which]) + before
