"""Hints come back number by number, the rest runs smoothly into them and nothing else changes; bad hints are told of."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
import roma
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maskmotion as mm
from maskmotion.data.windows import split_time
from maskmotion.motion.files import read_motion, write_motion
from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import JOINTS, PART_JOINTS, joint
from maskmotion.sampling.blend import REACH, blend_body, blend_root
from maskmotion.sampling.borders import (
    SHORTEST_GAP,
    accelerations,
    border_accelerations,
    border_triples,
    percentiles,
    short_gaps,
)
from maskmotion.sampling.clip import Speech, generate_clip
from maskmotion.sampling.exact import hold, keep_exactly
from maskmotion.sampling.hints import Hints
from maskmotion.testing import example_generator

KEYS = ("poses", "expressions", "trans")
quietly = pytest.mark.filterwarnings("ignore:between two hinted stretches")
examples = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def model(quick_run):
    return mm.Model.from_pretrained(quick_run)


@pytest.fixture(scope="module")
def take(small_corpus):
    return small_corpus.train[0]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Seconds -> a wav of noise so long."""
    import soundfile

    folder = tmp_path_factory.mktemp("sound")

    @cache
    def write(frames: int):
        path = folder / f"{frames}.wav"
        noise = 0.1 * np.random.default_rng(0).standard_normal(-(-frames * 16000 // 30))
        soundfile.write(path, noise, 16000)
        return path

    return write


@st.composite
def masks(draw, frames: int, channels: int, shortest_gap: int = 1):
    """Bool [frames, channels]: stretches of some channels, with at least `shortest_gap` free frames between them."""
    mask = np.zeros((frames, channels), bool)
    for _ in range(draw(st.integers(1, 3))):
        chosen = np.zeros(channels, bool)
        chosen[draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=channels, unique=True))] = True
        chosen &= ~mask.any(0)
        start = draw(st.integers(0, frames - 1))
        while start < frames:
            length = draw(st.one_of(st.integers(1, 3), st.integers(1, frames)))
            mask[start : start + length, chosen] = True
            start += length + draw(st.one_of(st.just(shortest_gap), st.integers(shortest_gap, 3 * REACH)))
    return mask


@st.composite
def free_hints(draw, longest: int):
    """Frames of the clip and any hints for it: noise or smooth motion at any angles, also beyond pi."""
    frames = draw(st.integers(6, longest))
    given = draw(st.integers(1, frames))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = {key: rng.normal(0, draw(st.sampled_from([0.0, 0.3, 3.0])), (given, width))
               for key, width in (("poses", 165), ("expressions", 100), ("trans", 3))}  # fmt: skip
    mask = draw(masks(given, 57))
    mask[0, 0] |= not mask.any()
    return frames, Hints(
        numbers["poses"], mask[:, :55], numbers["expressions"], mask[:, 55], numbers["trans"], mask[:, 56]
    )


@quietly
@given(free_hints(150), st.sampled_from(["predicted", "in_place"]))
@settings(examples, max_examples=30)
def test_hints_come_back_bit_by_bit_and_nothing_out_of_reach_changes(model, sound, tmp_path, drawn, root):
    frames, hints = drawn
    clip = model.generate(sound(frames), hints=hints, root=root)
    soft = model.generate(sound(frames), hints=hints, root=root, keep="soft")
    with np.load(clip.save(tmp_path / "exact.npz")) as exact, np.load(soft.save(tmp_path / "soft.npz")) as seen:
        for key, (values, mask) in hints.arrays(frames).items():
            assert exact[key].dtype == values.dtype
            assert exact[key][mask].tobytes() == values[mask].tobytes(), key
        near = np.array([mask_near(column) for column in hints.arrays(frames)["poses"][1].T]).T
        assert np.array_equal(exact["poses"][~near], seen["poses"][~near])
        near = np.array([mask_near(column) for column in hints.arrays(frames)["expressions"][1].T]).T
        assert np.array_equal(exact["expressions"][~near], seen["expressions"][~near])
        assert all(np.isfinite(exact[key]).all() for key in KEYS)
        if not (hints.known_trans.any() or hints.known_joints[:, list(PART_JOINTS["lower"])].any()):
            assert np.array_equal(exact["trans"], seen["trans"])


def mask_near(known: np.ndarray) -> np.ndarray:
    """Frames within REACH of a known one, by brute force."""
    frames = np.arange(len(known))
    return (np.abs(frames[:, None] - frames[known]) <= REACH).any(axis=1)


@pytest.mark.parametrize("root", ["predicted", "in_place"])
def test_the_clips_motion_holds_the_hints_too_and_the_file_is_read_back_as_that_motion(
    model, sound, take, tmp_path, root
):
    hints = Hints.from_clip(take, slice(30, 60), expressions=True, translation=True)
    clip = model.generate(sound(120), hints=hints, root=root)
    given, hinted = hints.tensors(120)
    assert torch.equal(clip.motion[hinted], given[hinted])
    loaded = read_motion(clip.save(tmp_path / "a.npz"))
    again = torch.from_numpy(loaded.poses).unflatten(-1, (55, 3))
    assert torch.allclose(axis_angle_to_6d(again).flatten(1), clip.motion[:, ROTATIONS], atol=1e-5)
    assert np.allclose(loaded.trans, clip.motion[:, TRANSLATION], atol=1e-6)


def limits_of(clips) -> dict[str, float]:
    return percentiles([clip.motion for clip in clips])


@pytest.fixture(scope="module")
def planted(small_corpus):
    """Planted clips, and the 99th percentiles of their accelerations."""
    clips = [*small_corpus.train, *small_corpus.validation]
    return clips, limits_of(clips)


@st.composite
def cut_hints(draw, clips, shortest_gap: int = SHORTEST_GAP):
    """Hints cut from a clip, the motion they meet (another stretch of the clips), and what is hinted, by column."""
    frames = draw(st.integers(40, 200))

    def cut():
        motion = draw(st.sampled_from(clips)).motion
        first = draw(st.integers(0, len(motion) - frames))
        return motion[first : first + frames]

    mask = torch.from_numpy(draw(masks(frames, 57, shortest_gap)))
    hinted = torch.zeros(frames, 437, dtype=torch.bool)
    hinted[:, ROTATIONS] = mask[:, :55].repeat_interleave(6, dim=1)
    hinted[:, TRANSLATION], hinted[:, EXPRESSIONS] = mask[:, 55:56], mask[:, 56:57]
    return cut(), cut(), hinted


def assert_border_law(motion, hinted, limits):
    for kind, found in border_accelerations(motion, hinted).items():
        assert found.numel() == 0 or float(found.max()) <= limits[kind], kind


@given(st.data())
@settings(examples, max_examples=60)
def test_the_border_law_holds_for_planted_hints_that_meet_the_motion_of_another_clip(planted, data):
    clips, limits = planted
    given, soft, hinted = data.draw(cut_hints(clips))
    assert_border_law(keep_exactly(soft, given, hinted, torch.clone), hinted, limits)


@given(st.data())
@settings(examples, max_examples=15)
def test_the_border_law_holds_for_planted_hints_and_a_model_that_has_learned_nothing(model, sound, take, planted, data):
    frames = data.draw(st.integers(40, 150))
    mask = data.draw(masks(frames, 57, SHORTEST_GAP))
    first = data.draw(st.integers(0, take.frames - frames))
    whole = Hints.from_clip(take, slice(first, first + frames), expressions=True, translation=True, at=0)
    mask[0] |= not mask.any()
    hints = Hints(whole.poses, mask[:, :55], whole.expressions, mask[:, 55], whole.trans, mask[:, 56])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = model.generate(sound(frames), hints=hints, root=data.draw(st.sampled_from(["predicted", "in_place"])))
    assert_border_law(clip.motion, hints.tensors(frames)[1], planted[1])


@pytest.fixture(scope="module")
def real(beat2):
    """Clips of the real tree, and the 99th percentiles of their accelerations."""
    corpus = mm.open_corpus(beat2)
    clips = [clip for clip in (*corpus.train, *corpus.validation) if clip.frames >= 200]
    return clips, limits_of(clips)


@given(st.data())
@settings(examples, max_examples=30)
def test_the_border_law_holds_for_hints_cut_from_a_real_take(real, data):
    given, soft, hinted = data.draw(cut_hints(real[0]))
    assert_border_law(keep_exactly(soft, given, hinted, torch.clone), hinted, real[1])


def test_hints_that_are_pasted_in_break_the_border_law(planted):
    clips, limits = planted
    hinted = torch.zeros(200, 437, dtype=torch.bool)
    hinted[80:120] = True
    hinted[:, CONTACTS] = False
    pasted = torch.where(hinted, clips[0].motion[:200], clips[1].motion[300:500])
    found = border_accelerations(pasted, hinted)
    assert all(float(found[kind].max()) > 2 * limits[kind] for kind in ("rotations", "expressions"))


def test_accelerations_are_second_differences_in_plain_units():
    time = torch.arange(20, dtype=torch.float64) / 30
    motion = SMPLX.rest.double().repeat(20, 1)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    motion[:, 6:12] = axis_angle_to_6d(0.5 * 7.0 * time.square()[:, None] * axis)  # 7 rad/s^2 about a fixed axis
    motion[:, TRANSLATION] = 0.5 * 3.0 * time.square()[:, None] * torch.tensor([0.0, 0.6, 0.8])
    motion[:, 340] = -0.5 * 11.0 * time.square()
    found = accelerations(motion.float())
    assert found["rotations"].shape == (18, 55)
    assert found["rotations"][:, 1].numpy() == pytest.approx(7.0, rel=1e-2)
    assert found["rotations"][:, 2:].abs().max() < 1e-6
    assert found["translation"].numpy() == pytest.approx(3.0, rel=1e-2)
    assert found["expressions"][:, 3].numpy() == pytest.approx(11.0, rel=1e-2)


def test_border_triples_hold_hinted_and_free_frames():
    known = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=torch.bool)[:, None]
    assert border_triples(known)[:, 0].nonzero()[:, 0].tolist() == [1, 2, 5, 6]


def test_the_free_frames_run_on_at_the_hints_speed():
    time = torch.arange(60.0)
    given, soft = SMPLX.rest.repeat(60, 1), SMPLX.rest.repeat(60, 1)
    given[:, 6:12] = axis_angle_to_6d(torch.stack([0.05 * time, 0 * time, 0 * time], dim=1))
    hinted = torch.zeros(60, 437, dtype=torch.bool)
    hinted[:20, 6:12] = True
    angle = roma.rotmat_to_rotvec(
        roma.special_gramschmidt(blend_body(soft, given, hinted)[:, 6:12].unflatten(1, (2, 3)).mT).mT
    )
    steps = angle[:, 0].diff()
    assert steps[19] == pytest.approx(0.05, abs=2e-3)
    assert (steps.diff().abs() * 900).max() < 40, "1 rad is taken back in a second"
    assert angle[19 + REACH + 1 :].abs().max() < 1e-6


def test_a_model_that_turns_the_other_way_does_not_wind_a_short_gap_round():
    turn = torch.cat([torch.zeros(20), torch.linspace(0, 6.0, 40), torch.zeros(20)])
    soft, given = SMPLX.rest.repeat(80, 1), SMPLX.rest.repeat(80, 1)
    soft[:, :6] = axis_angle_to_6d(torch.stack([0 * turn, turn + 1.0, 0 * turn], dim=1))
    hinted = torch.zeros(80, 437, dtype=torch.bool)
    hinted[:20, :6] = hinted[60:, :6] = True
    still = blend_body(soft, given, hinted)
    assert float(accelerations(still)["rotations"].max()) < 30
    assert still[40, 0] > 0.5, "half way it looks the way both hints look"


def test_a_root_that_is_hinted_nowhere_else_is_moved_as_it_is():
    path = torch.stack(
        [torch.arange(200) * 0.01, 1.3 + 0 * torch.arange(200), torch.sin(torch.arange(200) / 30)], dim=1
    )
    hinted = torch.zeros(200, dtype=torch.bool)
    hinted[100] = True
    given = path + torch.tensor([5.0, -0.2, 3.0])
    blended = blend_root(path, given, hinted)
    near = torch.from_numpy(mask_near(hinted.numpy()))
    assert torch.allclose(blended[~near], given[~near], atol=1e-5)
    assert torch.allclose(blended, given, atol=0.02), "through a single frame it goes straight"
    assert torch.equal(blended[100], given[100])
    hinted[100] = False
    assert torch.equal(blend_root(path, given, hinted), path)


def test_between_two_hinted_places_the_root_goes_from_one_to_the_other(model, sound):
    trans = np.zeros((200, 3))
    trans[150] = [2.0, 0.0, -1.0]
    known = np.isin(np.arange(200), (0, 150))
    clip = model.generate(sound(200), hints=Hints(trans=trans, known_trans=known), root="in_place")
    path = clip.motion[:, TRANSLATION]
    assert path[0].tolist() == [0, 0, 0]
    assert path[150].tolist() == [2, 0, -1]
    assert path[75].tolist() == pytest.approx([1.0, float(path[75, 1]), -0.5], abs=1e-3)
    assert path[199, [0, 2]].tolist() == pytest.approx([2.0, -1.0], abs=0.1), "after the last hint it stays"


def test_the_root_may_be_said_once_only(model, sound, take):
    hints = Hints.from_clip(take, slice(0, 10), translation=True)
    with pytest.raises(ValueError, match="start says where the root is and so do the hints, in 10 frames"):
        model.generate(sound(40), hints=hints, start=torch.zeros(3))


class Recorder(mm.Generator):
    """Remembers what it was told, and says 9 everywhere."""

    def forward(self, batch, *, teacher, progress, stage):
        return {}

    def generate(self, batch, hidden, rng=None, **sampling):
        self.told.append((batch.motion.clone(), hidden.clone()))
        return mm.Window(torch.full_like(batch.motion, 9.0))


def test_hints_are_visible_in_the_windows_they_fall_in_and_override_seeds_column_by_column():
    generator = example_generator(Recorder)
    generator.told = []
    given = torch.arange(100.0)[None, :, None].expand(2, 100, 437).clone()
    hinted = torch.zeros(2, 100, 437, dtype=torch.bool)
    hinted[0, 20:40, :6] = True  # frames 28.. of the clip are also seeds of the second window
    generate_clip(generator, Speech(torch.tensor([100, 90])), torch.zeros(2, 4, 437), 32, hints=(given, hinted))
    (first, first_hidden), (second, second_hidden) = generator.told[:2]
    assert not first_hidden[0, 20:, :6].any() and first_hidden[0, 20:, 6:].all() and first_hidden[0, 4:20].all()
    assert torch.equal(first[0, 20:, 0], torch.arange(20.0, 32.0))
    assert torch.equal(second[0, :12, 0], torch.arange(28.0, 40.0)), "the hint, not the seed"
    assert (second[0, :4, 330:] == 9).all(), "columns that are not hinted keep the seed (its rotations are made proper)"
    assert not second_hidden[0, :12, :6].any() and second_hidden[0, 12:, :6].all()
    assert all(torch.equal(hidden[1, 4:28], torch.ones_like(hidden[1, 4:28])) for _, hidden in generator.told[:3])
    assert (first[1, :4] == 0).all() and (second[1, :4, 330:] == 9).all()


def test_a_hinted_row_leaves_the_other_rows_of_a_batch_as_they_were():
    generator = example_generator()
    features = {e.key: torch.rand(2, 80, e.dim) for c in generator.conditioners.values() for e in c.extractors}
    speech, seed = Speech(torch.tensor([80, 80]), features), SMPLX.rest.expand(2, 4, -1)
    hinted = torch.zeros(2, 80, 437, dtype=torch.bool)
    hinted[0, 10:50] = True
    given = torch.randn(2, 80, 437)
    free = generate_clip(generator, speech, seed, 32).motion
    told = generate_clip(generator, speech, seed, 32, hints=(given, hinted)).motion
    assert torch.equal(free[1], told[1])
    assert not torch.equal(free[0], told[0]), "the model reads what it is given"


def test_soft_hints_are_seen_and_not_copied(model, sound, take, tmp_path):
    hints = Hints.from_clip(take, slice(30, 60))
    soft, free = (model.generate(sound(90), **options) for options in ({"hints": hints, "keep": "soft"}, {}))
    assert not torch.equal(soft.motion, free.motion)
    assert soft.kept == {}
    assert not np.allclose(np.load(soft.save(tmp_path / "soft.npz"))["poses"][30:60], hints.poses[30:60], atol=1e-3)


def test_a_hinted_first_pose_is_held_over_the_seed_frames():
    pose, given = torch.zeros(4, 437), torch.arange(40.0)[:, None].expand(40, 437)
    hinted = torch.zeros(40, 437, dtype=torch.bool)
    hinted[0, 0] = hinted[1, 1] = hinted[3, 1] = hinted[10, 2] = True
    held = hold(pose + 7, given, hinted)
    assert held[:, 0].tolist() == [0, 0, 0, 0]
    assert held[:, 1].tolist() == [1, 1, 1, 3]
    assert held[:, 2].tolist() == [7, 7, 7, 7]
    assert hold(pose, given[:2], hinted[:2]).shape == (4, 437)


def test_contacts_follow_where_the_whole_lower_body_and_the_root_are_given(take):
    given, hinted = Hints.from_clip(take, slice(10, 20), joints="lower", translation=True).tensors(30)
    assert hinted[:, CONTACTS].all(1).nonzero()[:, 0].tolist() == list(range(10, 19))
    assert torch.equal(given[10:19, CONTACTS], take.motion[10:19, CONTACTS])
    assert not Hints.from_clip(take, slice(10, 20), joints="lower").tensors(30)[1][:, CONTACTS].any()


def test_short_gaps_are_named_and_long_ones_are_not(model, sound, take):
    hints = Hints.from_clip(take, [slice(10, 20), slice(27, 40), slice(55, 60)], joints=["left_wrist", "jaw"])
    assert short_gaps(*hints.channels()) == {(20, 26): ["left_wrist", "jaw"]}
    with pytest.warns(UserWarning, match=r"left_wrist, jaw: frames 20 to 26 \(7\)\. Hint those frames too"):
        model.generate(sound(90), hints=hints)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(sound(90), hints=hints, keep="soft")
        model.generate(sound(90), hints=Hints.from_clip(take, [slice(0, 20), slice(20 + SHORTEST_GAP, 40)]))
    many = Hints.from_clip(take, [0, 2], expressions=True, translation=True)
    with pytest.warns(UserWarning, match=r"pelvis, left_hip, right_hip and 54 more: frames 1 to 1 \(1\)"):
        model.generate(sound(90), hints=many)


def test_hints_of_a_file_have_its_very_numbers(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "poses": rng.normal(0, 2, (50, 165)),
        "trans": rng.normal(size=(50, 3)),
        "expressions": rng.normal(size=(50, 100)),
    }
    path = write_motion(tmp_path / "take.npz", **arrays)
    hints = Hints.from_clip(path, range(20, 30), joints=["hands", "jaw"], expressions=True, translation=True, at=5)
    assert hints.frames == 15
    columns = np.repeat(np.isin(np.arange(55), [22, *PART_JOINTS["hands"]]), 3)
    assert np.array_equal(hints.poses[5:, columns], read_motion(path).poses[20:30, columns])
    assert np.array_equal(hints.trans[5:], arrays["trans"][20:30])
    assert not hints.poses[:, ~columns].any() and not hints.known_joints[:5].any()
    assert Hints.from_clip(path, 3).known_joints[3].all()
    assert Hints.from_clip(path, slice(-1, None), joints=(), expressions=True).known_expressions[49].all()
    assert Hints.from_clip(path, [slice(0, 2), 9, range(4, 6)]).known_joints[:, 0].nonzero()[0].tolist() == [
        0,
        1,
        4,
        5,
        9,
    ]


def test_a_file_of_another_rate_is_resampled_before_it_is_cut(tmp_path):
    arrays = {"poses": np.zeros((121, 165)), "trans": np.zeros((121, 3)), "expressions": np.zeros((121, 100))}
    arrays["trans"][:, 0] = np.arange(121) / 120
    path = write_motion(tmp_path / "fast.npz", **arrays, fps=120)
    hints = Hints.from_clip(path, translation=True)
    assert hints.frames == 31
    assert hints.trans[:, 0] == pytest.approx(np.arange(31) / 30, abs=1e-6)


def test_a_generated_clip_gives_its_hints_on_also_when_it_is_cut(model, sound, take):
    hints = Hints.from_clip(take, slice(30, 60), expressions=True, translation=True)
    clip = model.generate(sound(90), hints=hints)
    _, later = split_time(clip, 40 / 30)
    again = Hints.from_clip(later, slice(0, 20), expressions=True, translation=True)
    assert all(np.array_equal(getattr(again, key), getattr(hints, key)[40:60]) for key in KEYS)


def test_hints_are_joined_and_contradictions_named(take):
    one, two = (
        Hints.from_clip(take, slice(0, 10), joints="upper"),
        Hints.from_clip(take, slice(5, 30), joints=["head", "jaw"]),
    )
    both = one | two
    assert both.frames == 30
    assert both.known_joints[:, joint("head")].all() and not both.known_joints[10:, joint("spine1")].any()
    assert np.array_equal(both.poses[:, 45:48], take_poses(take)[:30, 45:48])
    moved = Hints.from_clip(take, slice(100, 110), joints=["head"], at=4)
    with pytest.raises(ValueError, match=r"two values for head at frame 4, .* \(6 frames clash\); let only one"):
        one | moved
    here, there = (Hints(trans=np.full((3, 3), x), known_trans=[0, 1, 0]) for x in (0.0, 1.0))
    with pytest.raises(ValueError, match="two values for translation at frame 1, 0 and 1"):
        here | there


def take_poses(clip) -> np.ndarray:
    return Hints.from_clip(clip).poses


def test_a_hint_file_is_an_npz_that_anybody_can_write(tmp_path, take):
    hints = Hints.from_clip(take, slice(3, 9), joints="hands", expressions=True)
    again = Hints.read(hints.save(tmp_path / "hints"))
    for name in ("poses", "known_joints", "expressions", "known_expressions", "trans", "known_trans"):
        mine, read = getattr(hints, name), getattr(again, name)
        assert mine.dtype == read.dtype and np.array_equal(mine, read)
    np.savez(
        tmp_path / "by-hand.npz", trans=np.ones((4, 3)), known_trans=[True, False, False, True], poses=np.zeros((9, 1))
    )
    own = Hints.read(tmp_path / "by-hand.npz")
    assert own.known_trans.tolist() == [True, False, False, True] and not own.known_joints.any()


POSES, KNOWN = np.zeros((8, 165)), np.ones((8, 55), bool)
NAN = np.where(np.arange(165) == 48, np.nan, POSES)  # joint 16


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({}, "no frames; give poses"),
        ({"poses": POSES}, "poses comes without known_joints; give both"),
        ({"known_trans": KNOWN[:, 0]}, "known_trans comes without trans; give both"),
        ({"poses": POSES, "known_joints": ~KNOWN}, "nothing is marked as given; set known_joints"),
        ({"poses": POSES, "known_joints": KNOWN[:, :54]}, r"known_joints must be \[8, 55\].* got \[8, 54\]"),
        ({"poses": POSES, "known_joints": KNOWN[:, 0]}, r"known_joints must be \[8, 55\].* got \[8\]"),
        ({"poses": POSES, "known_joints": KNOWN[:7]}, r"known_joints must be \[8, 55\].* got \[7, 55\]"),
        ({"poses": POSES[:, :63], "known_joints": KNOWN}, r"poses must be \[8, 165\] numbers.* got \[8, 63\]"),
        ({"poses": POSES[None], "known_joints": KNOWN}, r"poses must be \[8, 165\] numbers.* got \[1, 8, 165\]"),
        ({"poses": POSES.astype(str), "known_joints": KNOWN}, "poses must be .* numbers"),
        ({"poses": POSES, "known_joints": 0.5 * KNOWN}, "known_joints must be True or False .* got float64"),
        ({"poses": POSES, "known_joints": 2 * KNOWN}, "known_joints must be True or False"),
        ({"poses": NAN, "known_joints": KNOWN}, "left_shoulder is marked as given at frame 0 but is nan, as in 8 frames"),
        ({"poses": POSES, "known_joints": KNOWN, "trans": POSES[:5, :3], "known_trans": KNOWN[:5, 0]},
         r"known_trans must be \[8\] where the longest array has 8 frames; got \[5\]"),
        ({"expressions": POSES[:, :100], "known_expressions": KNOWN}, r"must be \[8\] or \[8, 100\]"),
        ({"trans": 3.0, "known_trans": True}, "no frames"),
    ],
)  # fmt: skip
def test_bad_hints_are_told_of(arrays, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        Hints(**arrays)
    if arrays and any(name.startswith("known") for name in arrays):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=rf"bad\.npz: hints: .*{told}"):
            Hints.read(tmp_path / "bad.npz")


def test_what_is_not_given_may_hold_anything(model, sound):
    known = np.arange(55)[None] != 16
    hints = Hints(poses=NAN, known_joints=np.repeat(known, 8, axis=0))
    assert np.isfinite(hints.poses).all()
    assert model.generate(sound(40), hints=hints).motion.isfinite().all()


def test_bad_hint_files_and_sources_are_told_of(tmp_path, take):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        Hints.read(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match="not an npz"):
        Hints.read(tmp_path / "text.npz")
    np.savez(tmp_path / "object.npz", poses=np.array([{}]), known_joints=KNOWN)
    with pytest.raises(ValueError, match="pickled"):
        Hints.read(tmp_path / "object.npz")
    np.savez(tmp_path / "plain.npz", poses=POSES)
    with pytest.raises(ValueError, match=r"none of known_joints, .* it has poses\. Make a hint file"):
        Hints.read(tmp_path / "plain.npz")
    np.savez(tmp_path / "rate.npz", poses=POSES, known_joints=KNOWN, mocap_frame_rate=60)
    with pytest.raises(ValueError, match="30 frames a second, these 60"):
        Hints.read(tmp_path / "rate.npz")
    with pytest.raises(ValueError, match="no joint named 'elbow'.*or a part: face, upper, hands, lower"):
        Hints.from_clip(take, joints=["elbow"])
    for frames in (slice(5, 5), 900, [slice(0, 3), 1000], range(-3, 2), []):
        with pytest.raises(ValueError, match="the source has frames 0 to 899"):
            Hints.from_clip(take, frames)
    with pytest.raises(ValueError, match="at must be a frame, 0 or more, got -1"):
        Hints.from_clip(take, slice(0, 3), at=-1)
    with pytest.raises(ValueError, match="nothing is marked as given"):
        Hints.from_clip(take, joints=())


def test_hints_longer_than_the_clip_are_refused(model, sound, take):
    with pytest.raises(ValueError, match=r"hints have 91 frames and the clip has 90 \(3\.00 s\)"):
        model.generate(sound(90), hints=Hints.from_clip(take, slice(80, 91)))
    with pytest.raises((ValueError, TypeError), match="firm"):  # a TypeError where annotations are checked, as here
        model.generate(sound(90), keep="firm")


def run(*words):
    from typer.testing import CliRunner

    from maskmotion.cli import app

    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_line_takes_hints(quick_run, sound, take, tmp_path):
    hints = Hints.from_clip(take, slice(20, 40), joints="upper")
    file = hints.save(tmp_path / "hints.npz")
    done = run("generate", quick_run, sound(60), tmp_path / "out.npz", "--hints", file, "--quiet")
    assert done.exit_code == 0, done.output
    mask = hints.arrays(60)["poses"][1]
    assert np.array_equal(np.load(tmp_path / "out.npz")["poses"][mask], hints.arrays(60)["poses"][0][mask])
    done = run("generate", quick_run, sound(60), tmp_path / "soft.npz", "--hints", file, "--keep", "soft", "--quiet")
    assert done.exit_code == 0, done.output
    assert not np.array_equal(np.load(tmp_path / "soft.npz")["poses"][mask], hints.arrays(60)["poses"][0][mask])
    done = run("generate", quick_run, sound(30), tmp_path / "short.npz", "--hints", file, "--quiet")
    assert isinstance(done.exception, ValueError) and "they must not be longer" in str(done.exception)


def test_variants_keep_the_same_hints(model, sound, take):
    hints = Hints.from_clip(take, slice(20, 40))
    one, two = model.variants(sound(60), 2, hints=hints)
    assert torch.equal(one.motion[20:40, ROTATIONS], two.motion[20:40, ROTATIONS])
    assert not torch.equal(one.motion[:20], two.motion[:20])


def test_every_joint_can_be_hinted_by_name(take):
    hints = Hints.from_clip(take, 0, joints=JOINTS)
    assert hints.known_joints.all()


def test_a_picture_of_hints_needs_clips_of_one_length_and_a_joint_that_exists(model, sound, take, tmp_path):
    from maskmotion.views import plot_hints

    hints = Hints.from_clip(take, slice(20, 40), translation=True)
    exact, soft = (model.generate(sound(60), hints=hints, keep=keep) for keep in ("exact", "soft"))
    assert plot_hints(tmp_path / "a.png", hints=hints, exact=exact, soft=soft).stat().st_size > 10_000
    with pytest.raises(ValueError, match="got 60 and 90 frames"):
        plot_hints(tmp_path / "b.png", hints=hints, exact=exact, soft=model.generate(sound(90)))
    with pytest.raises(ValueError, match="no joint named 'elbow'"):
        plot_hints(tmp_path / "b.png", hints=hints, exact=exact, soft=soft, show="elbow")
