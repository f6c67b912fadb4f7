"""Long motions in pieces that overlap by what a network sees: the same tokens and frames, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor


def pieces(total: int, size: int, reach: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut 0..total into pieces of `size`: for each, what to read, what of the result to keep, and where that belongs."""
    for start in range(0, total, size):
        stop = min(total, start + size)
        left, right = max(0, start - reach), min(total, stop + reach)
        yield slice(left, right), slice(start - left, stop - left), slice(start, stop)


def in_pieces(
    function: Callable[[slice], Mapping[str, Tensor]], total: int, size: int, reach: int, fold: int = 1
) -> dict[str, Tensor]:
    """Run `function` on pieces of the time axis and put the results together.

    Args:
        function: of the units to read; returns name -> [B, units * fold, ...].
        total: units in all. size: units a piece. reach: units that a result sees beyond its own.
        fold: length of the result for each unit (frames a token).
    """
    whole: dict[str, Tensor] = {}
    for read, keep, place in pieces(total, size, reach):
        for name, values in function(read).items():
            if name not in whole:
                shape = (values.shape[0], total * fold, *values.shape[2:])
                whole[name] = torch.empty(shape, dtype=values.dtype, device=values.device)
            kept = values[:, keep.start * fold : keep.stop * fold]
            whole[name][:, place.start * fold : place.stop * fold] = kept
    return whole
