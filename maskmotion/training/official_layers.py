"""Layers of PyTorch that all the releases build from: their names in official networks and in ours, and their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from maskmotion.nn.transformer import positions

LEAVES = ("weight", "bias")
_TABLE = 64  # frames whose positions a release reads: those of its windows


def linear_keys(official: str, ours: str) -> Iterator[tuple[str, str]]:
    """(official, ours) of a linear layer or a convolution."""
    for leaf in LEAVES:
        yield f"{official}.{leaf}", f"{ours}.{leaf}"


def mlp_keys(official: str, ours: str, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(official, ours) of an `Mlp`, whose two layers have these official names."""
    for name, mine in zip(names, ("enter", "leave"), strict=True):
        yield from linear_keys(f"{official}.{name}", f"{ours}.{mine}")


def layer_keys(official: str, ours: str, decoder: bool = True) -> Iterator[tuple[str, str]]:
    """(official, ours) of a `DecoderLayer` or an `EncoderLayer`; the official one is PyTorch's own."""
    attentions = {"self_attn": "attention"} | ({"multihead_attn": "cross"} if decoder else {})
    for theirs, mine in attentions.items():
        for leaf in LEAVES:
            yield f"{official}.{theirs}.in_proj_{leaf}", f"{ours}.{mine}.project.{leaf}"
        yield from linear_keys(f"{official}.{theirs}.out_proj", f"{ours}.{mine}.out")
    yield from linear_keys(f"{official}.linear1", f"{ours}.feed.enter")
    yield from linear_keys(f"{official}.linear2", f"{ours}.feed.leave")
    for number, name in enumerate(("attention", "cross", "feed") if decoder else ("attention", "feed"), 1):
        yield from linear_keys(f"{official}.norm{number}", f"{ours}.norm_{name}")


def check_names(given: Mapping[str, str], keys: Mapping[str, str], passed_over: Iterable[str]) -> None:
    """ValueError that names every tensor that is missing from a file, or else everyone that has no place in ours.

    given: official name -> what the file calls it. keys: official name -> ours. passed_over: names that need no place.
    """
    known = {*keys, *passed_over}
    if absent := [name for name in keys if name not in given]:
        raise ValueError(f"missing: {', '.join(absent)}")
    if unknown := [called for name, called in given.items() if name not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}")


def copy_weights(
    given: Mapping[str, Tensor],
    keys: Mapping[str, str],
    state: Mapping[str, Tensor],
    shape_of: Callable[[str, tuple[int, ...]], tuple[int, ...]],
    as_ours: Callable[[str, Tensor], Tensor],
    tables: Iterable[str],
) -> None:
    """Copy official tensors to where they belong. ValueError that tells everyone of another shape, with nothing copied.

    shape_of: name and shape of ours -> the official shape. tables: official names of tables of positions, which are only
    looked at: they must be the sinusoidal ones.
    """
    odd = []
    for name, ours in keys.items():
        got, needed = given[name], state[ours]
        shape = shape_of(ours, tuple(needed.shape))
        if tuple(got.shape) != shape or got.is_floating_point() != needed.is_floating_point():
            odd.append(f"{name} is {tuple(got.shape)} {got.dtype}, needed {shape} {needed.dtype}")
    odd += [
        f"{name} is not the sinusoidal table that every release has"
        for name in tables
        if name in given and not _sinusoidal(given[name])
    ]
    if odd:
        raise ValueError("; ".join(odd))
    for name, ours in keys.items():
        state[ours].copy_(as_ours(ours, given[name]))


def _sinusoidal(table: Tensor) -> bool:
    if table.ndim != 3 or table.shape[1] < _TABLE:
        return False
    wave = positions(_TABLE, table.shape[-1], torch.zeros(()))
    return torch.allclose(table[0, :_TABLE].float(), wave, atol=1e-3)
