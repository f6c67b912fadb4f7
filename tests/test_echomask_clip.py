"""Clips by EchoMask: as the plain loop makes them, in whichever windows; and the release's, as its own graph makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from echomask_files import PARTS, echomask_weights, write_echomask_folder
from hubert_folder import write_hubert
from jaxtyping import TypeCheckError
from official_files import emage_shapes, random_weights, rvq_shapes

import maskmotion as mm
from maskmotion.generators import echomask_clip as module
from maskmotion.generators.echomask import EchoMask
from maskmotion.generators.echomask_clip import library_plan, released_plan
from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import matrix_from_6d, proper
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.training.convert import convert

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

SIZES = {"dim": 16, "features": 8, "hint_feed": 24, "codes": 5, "speakers": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """`echomask` at tiny scale with large random weights, so that what is chosen depends on everything that is known."""
    hubert = write_hubert(tmp_path_factory.mktemp("hubert"))
    changes = {"conditioners.speech.speech.checkpoint": str(hubert), "generator.face_layers": 1}
    model = mm.Model.build(mm.preset("echomask", scale="tiny").but(changes)).eval()
    torch.manual_seed(0)
    for name, values in model.generator.state_dict().items():
        if name.endswith(".codes"):
            values.normal_()
        elif values.ndim > 1 and not name.startswith("body."):
            values.normal_(0, values[0].numel() ** -0.5)
    return model


def spoken(model, *lengths, seed=1):
    """Random speech of so many frames a row, a known first pose, and some of what follows."""
    torch.manual_seed(seed)
    rows, frames = len(lengths), max(lengths)
    features = {one.key: torch.randn(rows, frames, one.dim) for one in model.extractors}
    speech = Speech(torch.tensor(lengths), features, speaker=torch.arange(rows))
    pose = model.rest_pose().expand(rows, 4, -1) + 0.1 * torch.randn(rows, 4, 437)
    return speech, pose, (torch.randn(rows, frames, 437), torch.rand(rows, frames, 437) > 0.8)


def both(model, monkeypatch, speech, pose, window=64, **options):
    """The clip window by window, and as the generator makes it."""
    streams = {"rng": mm.seed(0).repeat(len(pose))} if options.get("temperature") else {}
    with monkeypatch.context() as patch:
        patch.setattr(EchoMask, "generate_clip", lambda *_, **__: None)
        plain = generate_clip(model.generator, speech, pose, window, **streams, **options)
    streams = {"rng": mm.seed(0).repeat(len(pose))} if options.get("temperature") else {}
    return plain, generate_clip(model.generator, speech, pose, window, **streams, **options)


def same(plain, own):
    assert plain.motion.shape == own.motion.shape
    assert (plain.motion - own.motion).abs().max() < 1e-4
    assert {part: values.shape for part, values in plain.latents.items()} == {
        part: values.shape for part, values in own.latents.items()
    }


@pytest.mark.parametrize(
    ("lengths", "options"),
    [
        *[(lengths, {"decode": "latents"}) for lengths in ((250,), (190, 100), (64,), (40,))],
        *[((124, 124), options) for options in ({"temperature": 1.0}, {})],
    ],
    ids=str,
)
def test_a_clip_is_what_the_plain_loop_makes_of_it(lengths, options, model, monkeypatch):
    speech, pose, _ = spoken(model, *lengths)
    plain, own = both(model, monkeypatch, speech, pose, **options)
    same(plain, own)
    assert own.motion.shape[1] == max(lengths), "nothing is lost"


def test_hints_count_as_in_the_plain_loop(model, monkeypatch):
    speech, pose, hints = spoken(model, 190, 100)
    plain, own = both(model, monkeypatch, speech, pose, hints=hints, decode="latents")
    same(plain, own)
    free = generate_clip(model.generator, speech, pose, 64, decode="latents")
    assert (free.motion - own.motion).abs().max() > 0.02


def test_a_window_is_seeded_by_the_one_before(model, monkeypatch):
    speech, pose, _ = spoken(model, 124)
    one = generate_clip(model.generator, speech, pose, 64, decode="latents").latents
    seeds = []
    real = module._next_seed
    monkeypatch.setattr(module, "_next_seed", lambda *a: seeds.append(real(*a)) or seeds[-1] + 1)
    other = generate_clip(model.generator, speech, pose, 64, decode="latents").latents
    for part in one:
        assert torch.equal(one[part][:, :16], other[part][:, :16])
        assert not torch.allclose(one[part][:, 16:], other[part][:, 16:], atol=1e-2)
    whole = model.body.decode({part: values[:, :16] for part, values in one.items()})
    assert (seeds[0] - proper(whole[:, -4:])).abs().max() < 1e-4, "rows that are nearly parallel round badly"


def test_long_clips_hear_so_many_windows_at_once(model, monkeypatch):
    speech, pose, _ = spoken(model, 310, 250)
    heard = []
    hear = EchoMask.hear
    monkeypatch.setattr(EchoMask, "hear", lambda *a, **k: heard.append(len(a[2])) or hear(*a, **k))
    whole = generate_clip(model.generator, speech, pose, 64, decode="latents")
    assert heard == [2 * 4, 2 * 2], "those with padding by themselves"
    heard.clear()
    monkeypatch.setattr(module, "TOGETHER", 3)
    pieces = generate_clip(model.generator, speech, pose, 64, decode="latents")
    assert heard == [6, 2, 4]
    assert torch.allclose(whole.motion, pieces.motion, atol=1e-5)


def test_every_window_is_reported(model):
    speech, pose, _ = spoken(model, 190)
    told = []
    generate_clip(model.generator, speech, pose, 64, on_window=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("window", [64, 70])
def test_seeds_and_windows_that_are_no_whole_tokens(window, model, monkeypatch):
    """A window of 70 frames has tokens of which two frames lie beyond it; six seed frames are a token and a half."""
    speech, pose, _ = spoken(model, 150)
    pose = torch.cat([pose, pose], dim=1)[:, : 4 if window == 70 else 6]
    plain, own = both(model, monkeypatch, speech, pose, window, decode="latents")
    same(plain, own)


def test_sampling_options_are_checked(model):
    speech, pose, _ = spoken(model, 64)
    with pytest.raises(TypeError, match=r"no sampling option \['steps'\]; a clip by EchoMask has: temperature, decode"):
        generate_clip(model.generator, speech, pose, 64, steps=3)
    with pytest.raises(ValueError, match="temperature is 0 or more and needs an rng"):
        generate_clip(model.generator, speech, pose, 64, temperature=1.0)
    with pytest.raises((ValueError, TypeCheckError), match="precision"):
        generate_clip(model.generator, speech, pose, 64, precision="half")


def test_half_the_precision_is_near(model):
    speech, pose, _ = spoken(model, 130)
    whole = generate_clip(model.generator, speech, pose, 64, decode="latents").motion
    half = generate_clip(model.generator, speech, pose, 64, decode="latents", precision="bfloat16").motion
    assert half.dtype == torch.float32
    assert 0 < (whole - half).abs().mean() < 0.1 * whole.std()


def test_the_plan_of_the_library_loses_nothing():
    for frames in (1, 4, 63, 64, 65, 124, 125, 1800):
        plan = library_plan(frames, 64, 4)
        assert plan.frames == frames
        assert plan.firsts[-1] + 64 >= frames
        assert len(plan.firsts) == 1 or plan.firsts[-1] + 4 < frames


@pytest.mark.parametrize(
    ("frames", "windows", "kept"), [(1800, 29, 1744), (64, 1, 64), (124, 1, 64), (128, 2, 124), (127, 1, 64)]
)
def test_the_plan_of_the_release(frames, windows, kept):
    plan = released_plan(frames, 64, 4)
    assert (len(plan.firsts), plan.frames) == (windows, kept)


def test_speech_shorter_than_a_window_of_the_release():
    with pytest.raises(ValueError, match='63 frames is too short for windows="release", which need 64; give longer'):
        released_plan(63, 64, 4)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A small official folder, converted, and the yardstick with the same weights."""
    from plain_echomask import PlainEchoMask
    from plain_rvq import PlainBody

    folder = tmp_path_factory.mktemp("echomask")
    weights = echomask_weights(seed=3)
    convert(write_echomask_folder(folder / "official", weights), folder / "model")
    tokenizers = {part: random_weights(rvq_shapes(part, 8, 5), number) for number, part in enumerate(PARTS)}
    tokenizers["global"] = random_weights(emage_shapes("global", 8), 9)
    network = PlainEchoMask(**SIZES).load_official(weights)
    model = mm.Model.from_pretrained(folder / "model")
    model.generator.conditioners["speech"].speech.extractor.key = "drawn"  # its own would look for the checkpoint
    return model, network, PlainBody(8, 5).load_official(tokenizers)


def kept(real, found):
    """A function, and what it gives."""
    return lambda *arguments: found.append(real(*arguments)) or found[-1]


def test_a_clip_of_the_release_is_what_its_graph_makes_of_it(released, monkeypatch):
    from plain_echomask import generate

    model, network, body = released
    seeds = {"plain": [], "own": []}
    monkeypatch.setattr(body, "seed", kept(body.seed, seeds["plain"]))
    monkeypatch.setattr(module, "_next_seed", kept(module._next_seed, seeds["own"]))
    torch.manual_seed(0)
    low, high = torch.randn(2, 330, 8), torch.randn(2, 330, 8)
    speaker = torch.tensor([0, 2])
    pose = model.rest_pose().expand(2, 4, -1) + 0.2 * torch.randn(2, 4, 437)
    plain = generate(network, body, high, low, speaker, pose[..., :337], pose[:, 0, TRANSLATION])
    features = {"drawn": torch.cat([low, high], dim=-1)}
    made = generate_clip(model.generator, Speech(torch.tensor([330, 330]), features, speaker=speaker), pose, 64)
    assert made.motion.shape == (2, 304, 437)
    assert len(seeds["own"]) == 4
    for plain_seed, own in zip(seeds["plain"], seeds["own"]):
        assert (plain_seed - own[..., :337]).abs().max() < 1e-4
    for name, columns in (("rotations", ROTATIONS), ("expressions", EXPRESSIONS), ("contacts", CONTACTS)):
        assert (made.motion[..., columns] - plain[name]).abs().max() < 1e-4, name
    placed = model.place(made.motion[:1])[..., TRANSLATION]
    path = plain["translation"][:1] - pose[:1, :1, TRANSLATION] * torch.tensor([1.0, 0.0, 1.0])
    assert (placed - path).abs().max() < 1e-4
    assert len(set(made.motion[0, :, 0].tolist())) > 50, "a motion that moves"


def test_rotations_of_the_release_are_rotations(released):
    model, _, _ = released
    speech = Speech(torch.tensor([70]), {"drawn": torch.randn(1, 70, 16)})
    made = generate_clip(model.generator, speech, model.rest_pose().expand(1, 4, -1), 64).motion
    rows = made[..., ROTATIONS].unflatten(-1, (-1, 6))
    assert torch.allclose(matrix_from_6d(rows)[..., :2, :].flatten(-2), rows, atol=1e-5)


def test_rows_of_the_release_are_equally_long(released):
    model, _, _ = released
    speech = Speech(torch.tensor([130, 70]), {"drawn": torch.randn(2, 130, 16)})
    with pytest.raises(ValueError, match=r'windows="release" needs clips of one length, got \[130, 70\] frames'):
        generate_clip(model.generator, speech, model.rest_pose().expand(2, 4, -1), 64)


def test_windows_of_the_release_need_whole_tokens(released):
    model, _, _ = released
    with pytest.raises(ValueError, match='windows="release" needs seed frames that are whole tokens, got 6 and 4'):
        mm.Model.build(model.recipe.but({"body.seed_frames": 6}))
