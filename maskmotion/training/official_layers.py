"""Names of layers in official networks and in ours: what all the releases build from the same layers of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

LEAVES = ("weight", "bias")


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
