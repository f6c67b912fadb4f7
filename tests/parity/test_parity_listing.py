"""Every file and key in the folder of fixtures is known: an unknown one is a gap, and fails here."""

from __future__ import annotations

import math

import pytest
from cases import FILES, KEYS, files, owner, present, present_file, read_json
from official_files import LAYERS, emage_shapes, rvq_shapes

from maskmotion.training.official import OtherNetwork, other_network
from maskmotion.training.official_tokenizers import TokenizerNetwork, tokenizer_network

HAS_KEYS = [name for name in files() if name.endswith("_golden.json")]
NETWORKS = {
    "echomask": {"echomask": 84847708, "fgd_aeskconv": 115680},
    "semtalk": {"base": 17611008, "sparse": 17414658},
}
"""Release -> network that is kept as it is -> numbers in it that the release never uses, as its fact sheet counts them."""
TOKENIZERS = ("rvq_face", "rvq_upper", "rvq_hands", "rvq_lower", "global_motion")


@pytest.mark.parametrize("file", files() or [pytest.param(None, id="no fixtures")])
def test_parity_every_file_belongs_to_somebody(file, golden):
    assert owner(file, FILES) is not None


@pytest.mark.parametrize(
    ("file", "key"),
    [(file, key) for file in HAS_KEYS for key in read_json(file)] or [pytest.param(None, None, id="no fixtures")],
)
def test_parity_every_key_belongs_to_somebody(file, key, golden):
    release = file.removesuffix("_golden.json")
    assert release in KEYS, f"{file} is of a release that is not known"
    assert owner(key, KEYS[release]) is not None


def test_parity_an_unknown_file_and_an_unknown_key_belong_to_nobody():
    assert owner("emage/small_vq.npz", FILES) == "tokenizers"
    assert owner("emage/small_wq.npz", FILES) is None
    assert owner("rvq", KEYS["semtalk"]) == "tokenizers"
    assert owner("rvqs", KEYS["semtalk"]) is None


def test_parity_what_is_absent_is_skipped():
    with pytest.raises(pytest.skip.Exception):
        present_file("emage/huge_vq.npz")
    with pytest.raises(pytest.skip.Exception):
        present({}, "x", "emage/huge_vq.npz")


def _networks() -> list[tuple[str, str]]:
    known = [(release, name) for release, kept in NETWORKS.items() for name in (*TOKENIZERS, *kept)]
    found = [
        (name.removesuffix("_statedict_keys.json"), network)
        for name in files()
        if name.endswith("_statedict_keys.json")
        for network in read_json(name)
    ]
    return list(dict.fromkeys([*known, *found]))


@pytest.mark.parametrize(("release", "name"), _networks())
def test_parity_of_the_names_and_shapes_of_a_released_network(release, name):
    file = f"{release}_statedict_keys.json"
    given = present(read_json(file), name, file)
    shapes = {key: tuple(shape) for key, shape in given.items()}
    if name in TOKENIZERS:
        ours = tokenizer_network(shapes)
        assert isinstance(ours, TokenizerNetwork)
        assert set(ours.keys) == set(shapes)
        expected = emage_shapes("global") if name == "global_motion" else rvq_shapes(name.removeprefix("rvq_"))
        assert shapes == expected, "what the tests write is what the release has"
        return
    assert name in NETWORKS[release], f"{file} has a network that is not known"
    assert tokenizer_network(shapes) is None
    other = other_network(shapes)
    assert isinstance(other, OtherNetwork)
    assert len(shapes) == other.tensors
    dead = sum(math.prod(shape) for key, shape in shapes.items() if other.is_dead(key))
    assert dead == NETWORKS[release][name]


@pytest.mark.parametrize("part", LAYERS)
def test_parity_of_the_names_and_shapes_of_emages_small_tokenizers(part):
    from safetensors import safe_open

    file = present_file(f"emage/small/emage_vq/{part}/model.safetensors")
    with safe_open(str(file), framework="pt") as opened:
        shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    assert shapes == emage_shapes(part, width=32, codes=32)
