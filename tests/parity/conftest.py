"""Official tokenizers with the weights of the fixtures, converted; each is built once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from cases import GOLDEN, present, read_json
from official_files import LAYERS, SIZES, emage_shapes, rvq_shapes, write_bin, write_emage_folder
from recipe import echomask_weights, emage_vq_weights, semtalk_weights
from torch import Tensor

from maskmotion.tokenizers.pretrained import Tokenizers
from maskmotion.training.convert import convert
from maskmotion.training.official import other_network

Converted = Callable[[str], Tokenizers]


@pytest.fixture(scope="session")
def emage_tokenizers(tmp_path_factory) -> Converted:
    """Size -> EMAGE's tokenizers: from the weights in the folder of fixtures, those of full size from the recipe."""

    @functools.cache
    def of(size: str) -> Tokenizers:
        folder = tmp_path_factory.mktemp(size)
        source = folder / "official"
        if GOLDEN is not None and (GOLDEN / "emage" / size / "emage_vq").is_dir():
            source = GOLDEN / "emage" / size
        elif size == "full":
            write_emage_folder(source, {p: emage_vq_weights(emage_shapes(p), f"{size}/vq/{p}", p) for p in LAYERS})
        else:
            pytest.fail(
                f"emage/ has fixtures of size {size}, but no weights, and only those of full size have a recipe"
            )
        convert(source, folder / "converted")
        return Tokenizers.from_pretrained(folder / "converted")

    return of


@pytest.fixture(scope="session")
def rvq_tokenizers(tmp_path_factory) -> Converted:
    """Release -> its tokenizers, from the recipe, by way of files as its scripts write them."""

    @functools.cache
    def of(release: str) -> Tokenizers:
        folder = tmp_path_factory.mktemp(release)
        for number, part in enumerate(SIZES):
            shapes = rvq_shapes(part)
            weights = semtalk_weights(shapes, part) if release == "semtalk" else echomask_weights(shapes)
            write_bin(folder / "official" / f"{number}.bin", weights)
        write_bin(folder / "official" / "global.bin", echomask_weights(emage_shapes("global")))
        convert(folder / "official", folder / "converted")
        return Tokenizers.from_pretrained(folder / "converted")

    return of


@pytest.fixture(scope="session")
def echomask_network() -> dict[str, Tensor]:
    """Every weight of EchoMask's main network that its release uses, by official name; a quarter of a billion numbers."""
    file = "echomask_statedict_keys.json"
    shapes = {name: tuple(shape) for name, shape in present(read_json(file), "echomask", file).items()}
    network = other_network(shapes)
    assert network is not None
    return echomask_weights({name: shape for name, shape in shapes.items() if not network.is_dead(name)})
