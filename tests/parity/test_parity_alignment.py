"""EchoMask's alignment of speech and motion, by what its fixture keeps of it: every part's speech, and the loss."""

from __future__ import annotations

import functools

import pytest
import torch
from cases import present, read_json
from official_files import SIZES
from recipe import agree, echomask_weights, rows

import maskmotion as mm
from maskmotion.conditioners import Aligned
from maskmotion.motion.layout import SMPLX
from maskmotion.quantizers import Identity
from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer
from maskmotion.training.official_aligned import aligned_keys

FILE, NAMES = "echomask_golden.json", "echomask_statedict_keys.json"
PARTS = tuple(SIZES)
IN_THE_FIXTURE = ("face", "hands", "upper", "lower")  # seeds 10 .. 13 of their latents
RELEASE = {
    **{"by_part": True, "project": False, "queries": 1, "query_std": 0.0, "encoders": (2, 2, 2)},
    **{"negatives": "clip", "sentence": 0.0, "match": 1.0, "match_negatives": False, "regress": 1.0},
}


class Given(mm.Conditioner):
    """Levels that stand in the batch."""

    levels, dim = ("low", "high"), 256

    def forward(self, batch):
        return mm.Condition(batch.features["high"], batch.valid, levels=dict(batch.features))


def official_shapes():
    given = present(read_json(NAMES), "echomask", NAMES)
    table = ("MAM.position_embeddings", "MAM.transformer_")  # computed, and never used
    return {
        name: tuple(shape) for name, shape in given.items() if name.startswith("MAM.") and not name.startswith(table)
    }


@functools.cache
def alignment():
    """The conditioner with the release's arguments and the recipe's weights."""
    body = BodyTokenizer(
        {
            part: PartTokenizer(columns, Dilated(len(columns), 256), Identity(256))
            for part, columns in SMPLX.columns.items()
        }
    )
    aligned = Aligned(body, Given(), **RELEASE).eval()
    weights, keys = echomask_weights(official_shapes()), dict(aligned_keys(PARTS))
    state = {keys[name]: value.flatten(0, -2) if value.ndim == 3 else value for name, value in weights.items()}
    aligned.load_state_dict(state)
    return aligned


@functools.cache
@torch.no_grad()
def heard():
    """The fixture's window, and the speech of every part."""
    levels = {"high": rows(1, 1, 64, 256), "low": rows(2, 1, 64, 256)}
    batch = mm.Batch(torch.zeros(1, 64, SMPLX.dim), torch.ones(1, 64, dtype=torch.bool), features=levels)
    return batch, alignment()(batch)


def cases():
    return list(dict.fromkeys([*IN_THE_FIXTURE, *read_json(FILE).get("mam_cond", {})]))


@pytest.mark.parametrize("part", cases())
def test_parity_of_a_parts_aligned_speech(part):
    expected = present(present(read_json(FILE), "mam_cond", FILE), part, f"mam_cond of {FILE}")
    assert part in PARTS, f"{FILE} has a part that is not known"
    assert agree(heard()[1].parts[part], expected) == []


@torch.no_grad()
def test_parity_of_the_alignments_loss():
    expected = present(read_json(FILE), "mam_loss_total", FILE)
    batch, condition = heard()
    nothing = torch.zeros(1, 16, 0, dtype=torch.long), torch.zeros(()), torch.zeros(0)
    motion = {
        part: mm.Quantized(rows(10 + number, 1, 6, 1, 16, 256).sum(1)[:, 0], *nothing)
        for number, part in enumerate(IN_THE_FIXTURE)
    }
    losses = alignment().losses(batch, condition, motion)
    assert set(losses) == {"frame", "match", "regress"}
    assert float(sum(losses.values())) == pytest.approx(expected, rel=1e-5)


def test_parity_of_the_names_of_the_alignment():
    """One tensor of ours for each of theirs, of the same numbers."""
    given, ours = official_shapes(), alignment().state_dict()
    keys = dict(aligned_keys(PARTS))
    assert set(keys) == set(given)
    assert sorted(keys.values()) == sorted(ours)
    for name, mine in keys.items():
        assert given[name][-ours[mine].ndim :] == ours[mine].shape, name


def test_parity_a_wrong_part_is_told():
    given = present(read_json(FILE), "mam_cond", FILE)
    assert agree(heard()[1].parts["face"], given["hands"]) != []
