"""The official tokenizers: which part a file holds, how big its network is, and where each of its tensors belongs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from maskmotion.config import Body, Root, Spec, Tokenizer
from maskmotion.motion.layout import FOUR_PARTS, SMPLX
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS
from maskmotion.training.official import EMAGE_2024, RVQ_RELEASE, Release

Shapes = Mapping[str, tuple[int, ...]]
ROOT = "root"  # where a part's name stands: the global motion predictor
PART_OF_SIZE: Mapping[int, str] = {SMPLX.size(part): part for part in SMPLX.parts}
DILATIONS, HALVINGS, BOOKS = (9, 3, 1), 2, 6  # of the released RVQ-VAEs

_PART_LOSSES = dict.fromkeys(
    (
        *("geodesic", "rotation_velocity", "rotation_acceleration", "contact"),
        *("expression", "expression_velocity", "expression_acceleration"),
    ),
    1.0,
)
_LEG_LOSSES = {"joints": 1.0, "foot_sliding": 20.0}


@dataclass(frozen=True)
class TokenizerNetwork:
    """An autoencoder in a file.

    part: "root" is the global motion predictor. family: the component, "plain" (EMAGE) or "dilated" (EchoMask, SemTalk).
    size: columns of motion. layers: of a plain one. width: of the latents. codes: K; books: Q; both 0 for "root".
    keys: official name -> ours, within the part tokenizer or the root network. commitment: its weight in the release.
    """

    part: str
    family: Literal["plain", "dilated"]
    size: int
    layers: int
    width: int
    codes: int
    books: int
    keys: Mapping[str, str] = field(repr=False)
    commitment: float = 1.0

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.part == ROOT:
            return f"the global motion predictor: {self.layers} layers, width {self.width}"
        if self.family == "plain":
            return f"{self.part}: EMAGE's VQ-VAE, {self.layers} layers, width {self.width}, {self.codes} codes"
        return f"{self.part}: RVQ-VAE of EchoMask and SemTalk, width {self.width}, {self.books} x {self.codes} codes"

    @property
    def release(self) -> Release:
        """Whose layout it is, when the file itself is not known."""
        return EMAGE_2024 if self.family == "plain" else RVQ_RELEASE


def tokenizer_network(shapes: Shapes) -> TokenizerNetwork | None:
    """Which tokenizer a state dict holds, by its names and shapes; None for none.

    Raises ValueError for a tokenizer whose first convolution is missing or reads motion columns that no part has.
    """
    if any(name.startswith("encoder.main.") for name in shapes):
        return _plain(shapes)
    if any(name.startswith("encoder.model.") for name in shapes):
        return _dilated(shapes)
    return None


def body_of(parts: Mapping[str, TokenizerNetwork]) -> Body:
    """The section `body` of these parts."""
    table = {part: names for part, names in FOUR_PARTS.items() if part in parts}
    return Body(parts="four" if len(table) == len(FOUR_PARTS) else table)


def tokenizer_of(parts: Mapping[str, TokenizerNetwork]) -> Tokenizer:
    """The section `tokenizer` of these parts, which share family, width, codes and books, with the release's losses.

    Without the terms on vertices, which need a licensed mesh (and which the releases difference along the wrong axis).
    """
    first = next(iter(parts.values()))
    of_part: dict[str, dict[str, Any]] = {}
    for part, one in parts.items():
        of_part[part] = {"quantizer.commitment": one.commitment}
        if one.family == "plain":  # the face's differences are squared in EMAGE alone
            of_part[part] |= {"network.layers": one.layers, "difference": "l2" if part == "face" else "l1"}
    common = {name: _most_common([settings[name] for settings in of_part.values()]) for name in of_part[first.part]}
    own = {part: {n: v for n, v in settings.items() if v != common[n]} for part, settings in of_part.items()}
    quantizer: dict[str, Any] = {"codebook_size": first.codes, "commitment": common["quantizer.commitment"]}
    if first.family == "plain":
        network = Spec("plain", layers=common["network.layers"])
        quantizer = {"name": "vq", **quantizer, "learning": "gradient", "revive_below": 0.0}
    else:
        network = Spec("dilated", downsample=2**HALVINGS, dilations=DILATIONS, dropout=0.2)
        quantizer = {"name": "rvq", **quantizer, "num_layers": first.books, "temperature": 0.5}
    return Tokenizer(
        width=first.width,
        network=network,
        quantizer=Spec(**quantizer),
        losses=_PART_LOSSES | (_LEG_LOSSES if "lower" in parts else {}),
        difference=common.get("difference", "l1"),
        normalise=False,
        by_part={part: settings for part, settings in own.items() if settings},
    )


def root_of(network: TokenizerNetwork) -> Root:
    """The section `root` of a global motion predictor."""
    return Root(
        network="plain", width=network.width, layers=network.layers, losses=dict(ROOT_WEIGHTS), velocity="central"
    )


def _most_common(values: list[Any]) -> Any:
    return max(values, key=values.count)


def _plain(shapes: Shapes) -> TokenizerNetwork:
    width, size, part = _enters(shapes, "encoder.main.0.weight")
    layers = 1 + _largest(r"encoder\.main\.(\d+)\.", shapes) // 3
    table = shapes.get("quantizer.embedding.weight")
    predictor = table is None and part == "lower"
    keys = _with_bias(_plain_convolutions(layers), "plain" if predictor else "network")
    if predictor:
        return TokenizerNetwork(ROOT, "plain", size, layers, width, 0, 0, keys)
    keys["quantizer.embedding.weight"] = "quantizer.layers.0.codes"
    return TokenizerNetwork(part, "plain", size, layers, width, (table or (0,))[0], 1, keys)


def _dilated(shapes: Shapes) -> TokenizerNetwork:
    width, size, part = _enters(shapes, "encoder.model.0.weight")
    books = max(1, 1 + _largest(r"quantizer\.layers\.(\d+)\.codebook$", shapes))
    keys = _with_bias(_dilated_convolutions(), "network")
    keys |= {f"quantizer.layers.{book}.codebook": f"quantizer.layers.{book}.codes" for book in range(books)}
    codes = (shapes.get("quantizer.layers.0.codebook") or (0,))[0]
    return TokenizerNetwork(part, "dilated", size, 0, width, codes, books, keys)


def _enters(shapes: Shapes, name: str) -> tuple[int, int, str]:
    """Width, motion columns and part, from the first convolution."""
    if len(shape := shapes.get(name, ())) != 3:
        raise ValueError(f"{name} is missing" if name not in shapes else f"{name} is {shape}, which is no convolution")
    if shape[1] not in PART_OF_SIZE:
        known = ", ".join(f"{part} {columns}" for columns, part in PART_OF_SIZE.items())
        raise ValueError(f"it codes {shape[1]} motion columns, which no part has ({known})")
    return shape[0], shape[1], PART_OF_SIZE[shape[1]]


def _largest(pattern: str, shapes: Shapes) -> int:
    return max((int(found[1]) for name in shapes if (found := re.match(pattern, name))), default=-1)


def _with_bias(convolutions: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {
        f"{official}.{leaf}": f"{prefix}.{ours}.conv.{leaf}"
        for official, ours in convolutions.items()
        for leaf in ("weight", "bias")
    }


def _plain_convolutions(layers: int) -> dict[str, str]:
    """Official name -> ours: in the release a convolution, a rectifier and a residual block are numbered through."""
    names = {f"encoder.main.{3 * i}": f"encoder.{i}.conv" for i in range(layers)}
    for number, half in ((0, "first"), (2, "second")):
        names |= {f"encoder.main.{3 * i + 2}.model.{number}": f"encoder.{i}.block.{half}" for i in range(layers)}
        names |= {f"decoder.main.{i}.model.{number}": f"decoder.blocks.{i}.{half}" for i in range(2)}
    names |= {f"decoder.main.{2 * i + 2}": f"decoder.convs.{i}" for i in range(layers)}
    return names | {f"decoder.main.{2 * layers + 2}": "decoder.leave"}


def _dilated_convolutions() -> dict[str, str]:
    """Official name -> ours, for two halvings of the rate with a stack of three blocks each."""
    names = {"encoder.model.0": "encoder.enter", f"encoder.model.{2 + HALVINGS}": "encoder.leave"}
    names |= {"decoder.model.0": "decoder.enter", f"decoder.model.{2 + HALVINGS}": "decoder.middle"}
    names |= {f"decoder.model.{4 + HALVINGS}": "decoder.leave"}
    for level in range(HALVINGS):
        names[f"encoder.model.{2 + level}.0"] = f"encoder.shrinks.{level}"
        names[f"decoder.model.{2 + level}.2"] = f"decoder.grows.{level}"
        for block in range(len(DILATIONS)):
            for side, place in (("encoder", 1), ("decoder", 0)):
                official = f"{side}.model.{2 + level}.{place}.model.{block}"
                ours = f"{side}.stacks.{level}.{block}"
                names |= {f"{official}.conv1": f"{ours}.wide", f"{official}.conv2": f"{ours}.point"}
    return names
