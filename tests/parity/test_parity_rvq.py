"""The tokenizers of EchoMask and SemTalk and their global motion predictor, by what the JSON fixtures keep of them."""

from __future__ import annotations

import pytest
import torch
from cases import KEYS, present, read_json
from official_files import SIZES
from recipe import agree, rows

FIELDS = {
    "echomask": ("input", "encoder", "codes", "zq", "decode", "commit_eval"),
    "semtalk": ("indices", "zq_each_layer", "decode"),
}
SEED = {"face": 30, "upper": 31, "hands": 32, "lower": 33}


def cases():
    """(release, part, field): what is known and whatever else is found."""
    found = []
    for release in KEYS:
        given = read_json(f"{release}_golden.json").get("rvq", {})
        for part in dict.fromkeys([*SIZES, *given]):
            found += [(release, part, field) for field in dict.fromkeys([*FIELDS[release], *given.get(part, {})])]
    return found


@pytest.mark.parametrize(("release", "part", "field"), cases())
@torch.no_grad()
def test_parity_of_an_rvq_tokenizer(release, part, field, rvq_tokenizers):
    file = f"{release}_golden.json"
    expected = present(present(present(read_json(file), "rvq", file), part, file), field, f"rvq/{part} of {file}")
    assert part in SIZES, f"{file} has a part that is not known"
    assert field in FIELDS[release], f"{file} has a key that is not known"
    if field == "input":
        assert expected == f"seed {SEED[part]} shape (1,64,{SIZES[part]})"
        return
    one = rvq_tokenizers(release).body[part]
    motion = rows(SEED[part], 1, 64, SIZES[part])
    tokens = one.encode(motion)
    if field in ("codes", "indices"):
        assert tokens.codes[0].tolist() == expected
    elif field == "commit_eval":
        assert tokens.loss.item() == pytest.approx(expected, rel=1e-5)
    elif field == "encoder":
        assert agree(one.network.encode(motion).mT, expected) == []
    elif field == "decode":
        assert agree(one.decode(tokens.latents), expected) == []
    else:
        assert agree(one.quantizer.embed(tokens.codes).permute(2, 0, 1, 3), expected) == []


@pytest.mark.parametrize("release", KEYS)
@torch.no_grad()
def test_parity_of_the_global_motion_predictor(release, rvq_tokenizers):
    file = f"{release}_golden.json"
    expected = present(read_json(file), "global_motion", file)
    plain = rvq_tokenizers(release).root.plain
    assert agree(plain.decode(plain.encode(rows(40, 1, 64, 61))), expected) == []


def test_parity_a_difference_is_told():
    values = rows(1, 2, 3)
    kept = {"shape": [2, 3], "sum": values.sum().item(), "first8": values.flatten().tolist()}
    assert agree(values, kept) == []
    assert agree(values + 0.01, kept) != []
    assert agree(values.mT, kept)[0].startswith("shape")
