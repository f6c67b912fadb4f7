"""The yardstick of EchoMask's benchmarks computes what the release does: every number that its fixtures keep."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import KEYS, owner, present, read_json
from echomask_files import echomask_shapes
from official_files import SIZES, emage_shapes, rvq_shapes
from recipe import agree, echomask_weights, rows

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import plain_echomask as plain
from plain_rvq import PARTS, PlainBody

FILE = "echomask_golden.json"
GIVEN = read_json(FILE)
STAGES = ("motion_encoder", "motion_self_encoder", "face_decoder", "mask_generator", "body1d", "face1d_2")
OUTPUTS = {
    **{f"rec_{part}": f"rec_{part}" for part in PARTS},
    **{f"cls_{part}": f"cls_{part}" for part in PARTS},
    **{"hubert_cons_loss": "face_nce", "beat_cons_loss": "hands_nce", "loss_moau": "mam"},
}
MASKED = re.compile(r"masked_(?P<name>\w+)_pass\(frames 0,3,6.. masked; (no )?speech hints\)")
CASES = [
    (key, field)
    for key, value in (GIVEN or {"the file": None}).items()
    for field in (value if isinstance(value, dict) and "shape" not in value else ("",))
    if not GIVEN or owner(key, KEYS["echomask"]) in ("generator", "tokenizers")
]


def windows() -> plain.Windows:
    codes = {
        part: torch.as_tensor(np.random.RandomState(20 + n).randint(0, 256, (1, 16, 6))) for n, part in enumerate(PARTS)
    }
    return plain.Windows(
        high=rows(1, 1, 64, 256),
        low=rows(2, 1, 64, 256),
        motion=rows(3, 1, 64, 337),
        speaker=torch.ones(1, 64, dtype=torch.long),
        zq={part: rows(10 + n, 1, 6, 1, 16, 256)[:, :, 0] for n, part in enumerate(PARTS)},
        codes=codes,
    )


@pytest.fixture(scope="module")
def network(echomask_network):
    return plain.PlainEchoMask().load_official(echomask_network)


@functools.cache
@torch.no_grad()
def run(network, name):
    """Outputs, stages and loss terms of a pass by name."""
    batch, seen = windows(), {}
    hooks = [
        network.get_submodule(stage).register_forward_hook(
            lambda _, __, out, stage=stage: seen.__setitem__(stage, out[0] if isinstance(out, tuple) else out)
        )
        for stage in STAGES
    ]
    hidden = torch.arange(64) >= 4 if name == "seed" else torch.arange(64) % 3 == 0
    out = network(*batch.given, hidden.float()[None], name != "self", batch.zq)
    for hook in hooks:
        hook.remove()
    return out, seen, plain.losses(out, batch, True)


@pytest.mark.slow  # weights of the release's size are drawn
@pytest.mark.parametrize(("key", "field"), CASES)
@torch.no_grad()
def test_parity_of_the_yardstick(key, field, network):
    expected = present(GIVEN, key, FILE)
    expected = expected[field] if field else expected
    if key == "inputs":
        return
    if key == "mam_cond":
        batch = windows()
        assert agree(network.MAM(batch.high, batch.low)[field], expected) == []
    elif key == "seed_pass_intermediates":
        found = run(network, "seed")[1][field]
        assert agree(found.mT if field.endswith(("1d", "1d_2")) else found, expected) == []
    elif key == "seed_pass_argmax_codes":
        assert run(network, "seed")[0][f"cls_{field}"][0].argmax(1).tolist() == expected
    elif key == "teacher_scores":
        batch = windows()
        assert torch.allclose(network.scores(*batch.given, batch.zq)[0], torch.tensor(expected), rtol=0, atol=1e-7)
    elif key == "mam_loss_total":
        assert run(network, "seed")[0]["mam"].item() == pytest.approx(expected, rel=1e-5)
    elif key.startswith("loss_terms"):
        terms = run(network, field)[2]
        assert {name: terms[name].item() for name in expected} == pytest.approx(expected, rel=1e-5)
    elif key == "total_loss":
        terms = [(name, *one) for name in ("seed", "self", "word") for one in run(network, name)[2].items()]
        counted = [value for name, term, value in terms if name == "seed" or not term.endswith("_nce")]
        assert sum(counted).item() == pytest.approx(expected, rel=1e-5)
    elif key in ("rvq", "global_motion"):
        tokenizer(field, expected)
    else:
        found = MASKED.fullmatch(key)
        assert found or key == "seed_pass", f"{FILE} has a key that is not known"
        value = run(network, found["name"] if found else "seed")[0][OUTPUTS[field]]
        if value.ndim == 0:
            assert value.item() == pytest.approx(expected, rel=1e-5)
        else:
            assert agree(value[:, :, None] if field.startswith("rec") else value, expected) == []


@functools.cache
def body() -> PlainBody:
    weights = {part: echomask_weights(rvq_shapes(part)) for part in PARTS}
    return PlainBody().load_official(weights | {"global": echomask_weights(emage_shapes("global"))})


def tokenizer(part, expected):
    if not part:
        motion = body().predictor.encoder(rows(40, 1, 64, 61))
        assert agree(body().predictor.decoder(motion), expected) == []
        return
    seed, one = 30 + ("face", "upper", "hands", "lower").index(part), getattr(body(), part)
    latents = one.encoder(rows(seed, 1, 64, SIZES[part]))
    codes, vectors = one.quantize(latents)
    assert codes[0].tolist() == expected["codes"]
    assert agree(latents.mT, expected["encoder"]) == []
    assert agree(vectors, expected["zq"]) == []
    assert agree(one.decode(codes), expected["decode"]) == []


def test_parity_of_the_names_and_shapes_that_tests_write_for_echomask():
    file = "echomask_statedict_keys.json"
    expected = present(read_json(file), "echomask", file)
    assert echomask_shapes() == {name: tuple(shape) for name, shape in expected.items()}


def test_the_yardstick_needs_every_weight():
    sizes = {"dim": 16, "features": 8, "hint_feed": 24, "codes": 5, "speakers": 3}
    weights = {name: value + 1 for name, value in plain.PlainEchoMask(**sizes).state_dict().items()}
    loaded = plain.PlainEchoMask(**sizes).load_official(weights | {"joint_dim_reducer.linears.0.bias": torch.ones(6)})
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    del weights["body1d.bias"]
    with pytest.raises(KeyError, match="body1d.bias"):
        plain.PlainEchoMask(**sizes).load_official(weights)


def test_the_yardstick_hides_what_is_looked_at_most():
    scores = torch.rand(8, 64)
    for progress in (0.0, 0.5, 1.0):
        hidden = plain.select(scores, progress)
        assert (hidden.sum(1) == 24).all()
        top = scores.argsort(-1, descending=True)[:, :12]
        assert (hidden.gather(1, top) == 1).all()
