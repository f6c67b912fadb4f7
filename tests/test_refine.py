"""Truncation at three sigma, finger limits, faces from blendshape weights: what is within limits stays, the rest comes in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import maskmotion as mm
from maskmotion.data.arkit import ARKIT, face_of, read_matrix, read_weights
from maskmotion.data.contents import Contents, write_contents
from maskmotion.data.refine import BLEND, FLEXION, SPREAD, Statistics, limit_fingers, truncate
from maskmotion.data.refining import refine_tree
from maskmotion.motion.files import read_motion, write_motion
from maskmotion.motion.skeleton import JOINTS, joint

ELBOW = joint("left_elbow")
seeds = st.integers(0, 10_000)


def smooth(frames: int, seed: int) -> np.ndarray:
    """Smooth poses [T, 165] float32 around a pose that is not zero."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 30
    sway = 0.2 * np.sin(2 * np.pi * time * rng.uniform(0.2, 1.0, 165) + rng.uniform(0, 6, 165))
    return (sway + 0.4 * rng.standard_normal(165)).astype(np.float32)


def spiked(poses: np.ndarray, frames: list[int], number: int = ELBOW, by: float = 1.8) -> np.ndarray:
    out = poses.copy()
    out[frames, 3 * number + 1] += by
    return out


def deviations(poses: np.ndarray, statistics: Statistics) -> np.ndarray:
    """In units of sigma, [T, 55, 3]."""
    mean = Rotation.from_rotvec(np.tile(statistics.mean, (len(poses), 1)))
    turned = mean.inv() * Rotation.from_rotvec(poses.astype(np.float64).reshape(-1, 3))
    return turned.as_rotvec().reshape(len(poses), 55, 3) / statistics.sigma


def near(frames: int, outliers: np.ndarray, reach: int = BLEND) -> np.ndarray:
    """bool [T]: within `reach` frames of an outlier."""
    return (np.abs(np.arange(frames)[:, None] - np.flatnonzero(outliers)) <= reach).any(axis=1)


@settings(max_examples=25, deadline=None)
@given(seeds, st.lists(st.integers(0, 299), min_size=1, max_size=4, unique=True), st.floats(1.2, 2.5))
def test_truncation_keeps_what_is_inside_and_brings_in_what_is_not(seed, frames, by):
    clean = smooth(300, seed)
    statistics = Statistics.of([clean])
    poses = spiked(clean, frames, by=by)
    outside = (np.abs(deviations(poses, statistics)) > 3).any(axis=-1)
    result = truncate(poses, statistics)
    assert result.dtype == poses.dtype
    assert (np.abs(deviations(result, statistics))[:, 1:] <= 3 + 1e-3).all()
    touched = (result != poses).reshape(300, 55, 3).any(axis=-1)
    assert touched[:, ELBOW].any()
    for number in range(55):
        allowed = near(300, outside[:, number]) if number else np.zeros(300, dtype=bool)
        assert not (touched[:, number] & ~allowed).any(), f"{JOINTS[number]}: bit-equal outside the blend"
    assert np.array_equal(truncate(result, statistics), result), "a second time changes nothing"


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(20, 270))
def test_a_spike_leaves_no_jolt(seed, frame):
    clean = smooth(300, seed)
    poses = spiked(clean, [frame], by=2.0)
    result = truncate(poses, Statistics.of([clean]))

    def jolt(motion: np.ndarray) -> float:
        return float(np.abs(np.diff(motion[:, 3 * ELBOW : 3 * ELBOW + 3], n=2, axis=0)).max())

    assert jolt(result) < 0.25 * jolt(poses)
    hard = truncate(poses, Statistics.of([clean]), blend=0)
    assert jolt(result) < jolt(hard), "blending, not clipping"


def test_clean_motion_comes_back_bit_by_bit():
    poses = smooth(300, 3)  # a sine never leaves 1.5 sigma
    assert np.array_equal(truncate(poses), poses)


def test_the_pelvis_may_turn_any_way():
    poses = smooth(200, 1)
    poses[:, :3] = 0
    poses[100:105, 1] = 3.0
    assert np.array_equal(truncate(poses), poses)


def test_statistics_are_those_of_all_frames():
    one, two = smooth(120, 1), smooth(200, 2) * 0.5
    both = Statistics.of([one, two])
    joined = Statistics.of([np.concatenate([one, two])])
    assert np.allclose(both.mean, joined.mean, atol=1e-9)
    assert np.allclose(both.sigma, joined.sigma, atol=1e-9)
    expected = Rotation.from_rotvec(np.concatenate([one, two])[:, 3 * ELBOW : 3 * ELBOW + 3]).mean()
    assert np.allclose(both.mean[ELBOW], expected.as_rotvec(), atol=1e-6)


def bend(name: str, degrees: float, frames: int = 60) -> np.ndarray:
    """Poses with one finger joint bent towards the palm: -z at the left hand, +z at the right."""
    poses = np.zeros((frames, 165), dtype=np.float32)
    poses[:, 3 * joint(name) + 2] = np.deg2rad(degrees) * (-1 if name.startswith("left") else 1)
    return poses


@pytest.mark.parametrize("side", ["left", "right"])
def test_fingers_do_not_bend_backward_and_thumbs_may(side):
    for place in (1, 2, 3):
        low, high = FLEXION[place - 1]
        name = f"{side}_middle{place}"
        for degrees, expected in ((-60, low), (170, high), (40, 40), (low + 1, low + 1)):
            result = limit_fingers(bend(name, degrees))
            wanted = bend(name, expected)
            assert np.allclose(result, wanted, atol=1e-6)
            assert np.array_equal(result, bend(name, degrees)) == (degrees == expected)
        thumb = bend(f"{side}_thumb{place}", -60)
        assert np.array_equal(limit_fingers(thumb), thumb)
    elbow = bend(f"{side}_elbow", -170)
    assert np.array_equal(limit_fingers(elbow), elbow), "no finger"


def test_bending_towards_the_palm_moves_the_tip_down():
    """The sign of the axis, seen in the skeleton itself: palms face down at rest."""
    import torch

    from maskmotion.motion.kinematics import forward_kinematics
    from maskmotion.motion.rotations import axis_angle_to_6d

    for side in ("left", "right"):
        poses = torch.from_numpy(bend(f"{side}_index1", 45, 1).reshape(1, 55, 3))
        moved = forward_kinematics(axis_angle_to_6d(poses), torch.zeros(1, 3))[0, joint(f"{side}_index3")]
        still = forward_kinematics(axis_angle_to_6d(poses * 0), torch.zeros(1, 3))[0, joint(f"{side}_index3")]
        assert moved[1] < still[1] - 0.02


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_finger_limits_hold_and_leave_the_rest(seed):
    rng = np.random.default_rng(seed)
    poses = (smooth(150, seed) + (rng.random((150, 165)) < 0.002) * rng.uniform(-3, 3, 165)).astype(np.float32)
    result = limit_fingers(poses)
    joints = np.rad2deg(result.astype(np.float64)).reshape(150, 55, 3)
    for number, name in enumerate(JOINTS):
        if name[-1] not in "123" or "spine" in name or "thumb" in name:
            assert np.array_equal(result.reshape(150, 55, 3)[:, number], poses.reshape(150, 55, 3)[:, number])
            continue
        place = int(name[-1]) - 1
        flexion = joints[:, number, 2] * (-1 if name.startswith("left") else 1)
        assert FLEXION[place][0] - 1e-3 <= flexion.min() and flexion.max() <= FLEXION[place][1] + 1e-3
        assert np.abs(joints[:, number, 1]).max() <= SPREAD[place] + 1e-3
    assert np.array_equal(limit_fingers(result), result)


def test_fingers_are_judged_with_the_mean_hand():
    mean = np.zeros((30, 3))
    mean[:15, 2], mean[15:, 2] = -0.5, 0.5  # 29 degrees bent
    straight = bend("left_ring2", -29)  # a flat finger, seen from a bent mean
    assert not np.array_equal(limit_fingers(straight), straight)
    result = limit_fingers(straight, mean)
    assert np.array_equal(result, straight)
    with pytest.raises(ValueError, match=r"mean_hands is \[30, 3\]"):
        limit_fingers(straight, mean[:15])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: truncate(np.zeros((5, 156))), r"poses are \[T, 165\]"),
        (lambda: truncate(np.zeros((0, 165))), r"poses are \[T, 165\]"),
        (lambda: truncate(np.zeros((5, 165)), sigma=0.0), "sigma is positive"),
        (lambda: truncate(np.zeros((5, 165)), blend=-1), "blend not negative"),
        (lambda: limit_fingers(np.zeros((5, 3))), r"poses are \[T, 165\]"),
        (lambda: limit_fingers(np.zeros((5, 165)), blend=-1), "blend is a number of frames"),
        (lambda: Statistics.of([]), "no frame to take statistics of"),
        (lambda: face_of(np.zeros((5, 52)), np.zeros((51, 103))), r"weights are \[T, 51\]"),
    ],
)
def test_wrong_arguments_are_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arkit_names_are_fifty_one_in_alphabetical_order():
    assert len(set(ARKIT)) == 51
    assert list(ARKIT) == sorted(ARKIT)
    assert (ARKIT[0], ARKIT[24], ARKIT[50]) == ("browDownLeft", "jawOpen", "noseSneerRight")
    assert "tongueOut" not in ARKIT


def write_json(path: Path, names: list[str], values: np.ndarray, fps: float = 60.0) -> Path:
    frames = [{"weights": list(map(float, row)), "time": number / fps} for number, row in enumerate(values)]
    path.write_text(json.dumps({"names": names, "frames": frames}))
    return path


def test_weights_are_read_by_name_at_thirty_frames(tmp_path):
    names = [*reversed(ARKIT), "tongueOut"]
    values = np.linspace(0, 1, 121)[:, None] * np.arange(52)
    read = read_weights(write_json(tmp_path / "a.json", names, values))
    assert read.shape == (61, 51)
    assert np.allclose(read, values[::2, :51][:, ::-1], atol=1e-9)
    header = ",".join(["Timecode", "time", *(name[0].upper() + name[1:] for name in names)])
    rows = [f"00:00,{number / 60}," + ",".join(map(str, row)) for number, row in enumerate(values)]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    assert np.allclose(read_weights(tmp_path / "a.csv"), read)
    (tmp_path / "b.csv").write_text("\n".join(row.split(",", 2)[2] for row in [header, *rows]))
    assert np.allclose(read_weights(tmp_path / "b.csv", fps=60.0), read)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of ARKit weights"),
        ('{"names": [], "frames": []}', "no weights named browDownLeft"),
        ('{"frames": []}', "not a file of ARKit weights"),
        (json.dumps({"names": list(ARKIT), "frames": []}), "not a file of ARKit weights"),
        (json.dumps({"names": list(ARKIT), "frames": [{"weights": [0] * 51, "time": 1}] * 2}), "times rise"),
        (
            json.dumps({"names": list(ARKIT), "frames": [{"weights": [0] * 50, "time": 1}]}),
            "not a file of ARKit weights",
        ),
    ],
)
def test_wrong_weights_are_told(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / "a.json")
    (tmp_path / "a.csv").write_text(",".join(ARKIT) + "\n" + ",".join("0" * 51))
    with pytest.raises(ValueError, match="frame rate must be given"):
        read_weights(tmp_path / "a.csv")


def test_a_matrix_is_checked_and_an_unknown_one_noted(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(51, 103))
    matrix, note = read_matrix(tmp_path / "a.npy")
    assert matrix.shape == (51, 103) and "is not the known mat_final.npy" in note
    for wrong, message in ((np.zeros((103, 51)), r"need numbers \[51, 103\]"), (np.full((51, 103), np.nan), "NaN")):
        np.save(tmp_path / "b.npy", wrong)
        with pytest.raises(ValueError, match=message):
            read_matrix(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="not an npy file of numbers"):
        read_matrix(tmp_path / "c.npy")
    with pytest.raises(FileNotFoundError, match="no such matrix"):
        read_matrix(tmp_path / "d.npy")


def test_the_face_is_weights_times_matrix():
    rng = np.random.default_rng(0)
    weights, matrix = rng.random((7, 51)), rng.standard_normal((51, 103))
    expressions, jaw = face_of(weights, matrix)
    assert np.allclose(np.hstack([expressions, jaw]), weights @ matrix)
    assert (expressions.shape, jaw.shape) == ((7, 100), (7, 3))


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two recordings; one has an outlier at its elbow, the other a finger that bends backward."""
    root = tmp_path / "tree"
    (root / "wave16k").mkdir(parents=True)
    clean = [smooth(150, 5), smooth(150, 5)[::-1].copy()]
    for poses in clean:
        poses[:, 75:] = 0
    takes = {"1_a_0_1_1": spiked(clean[0], [70]), "2_b_0_1_1": clean[1]}
    takes["2_b_0_1_1"][40:50, 3 * joint("left_ring2") + 2] = 0.8
    (root / "train_test_split.csv").write_text("id,type\n" + "".join(f"{name},train\n" for name in takes))
    for name, poses in takes.items():
        write_motion(
            root / "smplxflame_30" / f"{name}.npz",
            poses=poses,
            trans=np.ones((150, 3)),
            expressions=np.ones((150, 100)),
        )
        soundfile.write(root / "wave16k" / f"{name}.wav", np.zeros(80000), 16000)
    return root  # fmt: skip


def test_a_tree_is_written_again_with_what_was_refined(tree, tmp_path):
    done = refine_tree(tree, tmp_path / "new", sigma=3.0, fingers=True)
    assert (done.files, done.frames) == (2, 300)
    assert done.changed["beyond 3 sigma"][0] >= 1 and done.changed["fingers"][0] == 1
    one, two = (read_motion(tmp_path / "new" / "smplxflame_30" / f"{name}.npz") for name in ("1_a_0_1_1", "2_b_0_1_1"))
    old = read_motion(tree / "smplxflame_30" / "1_a_0_1_1.npz")
    touched = (one.poses != old.poses).any(axis=1)
    assert touched[70] and not touched[:60].any() and not touched[81:].any()
    assert np.array_equal(one.trans, old.trans) and np.array_equal(one.expressions, old.expressions)
    assert 0 < two.poses[45, 3 * joint("left_ring2") + 2] <= np.deg2rad(5) + 1e-6, "it bent back by 46 degrees"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in tree.iterdir()}
    assert mm.open_corpus(tmp_path / "new", window=16).contents.whole
    single = refine_tree(tree, tmp_path / "own", sigma=3.0, over="clip")
    assert single.changed["beyond 3 sigma"][1] > 0


def test_a_tree_gets_a_face(tree, tmp_path):
    write_contents(tree, Contents(("upper", "hands", "lower")))
    (tmp_path / "arkit").mkdir()
    np.save(tmp_path / "m.npy", np.eye(51, 103))
    for name in ("1_a_0_1_1", "2_b_0_1_1"):
        write_json(tmp_path / "arkit" / f"{name}.json", list(ARKIT), np.random.default_rng(0).random((200, 51)))
    done = refine_tree(tree, tmp_path / "new", arkit=tmp_path / "arkit", matrix=tmp_path / "m.npy")
    assert "is not the known mat_final.npy" in done.render()
    clip = mm.open_corpus(tmp_path / "new", window=16)
    assert clip.contents.whole
    motion = read_motion(tmp_path / "new" / "smplxflame_30" / "1_a_0_1_1.npz")
    weights = read_weights(tmp_path / "arkit" / "1_a_0_1_1.json")
    assert motion.frames == len(weights) == 100
    assert np.allclose(motion.expressions[:, :51], weights)
    (tmp_path / "arkit" / "2_b_0_1_1.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 2_b_0_1_1\.json and no 2_b_0_1_1\.csv"):
        refine_tree(tree, tmp_path / "again", arkit=tmp_path / "arkit", matrix=tmp_path / "m.npy")
    assert not (tmp_path / "again").exists()


def test_what_cannot_be_refined_is_told(tree, tmp_path):
    with pytest.raises(ValueError, match="nothing to refine"):
        refine_tree(tree, tmp_path / "new")
    with pytest.raises(ValueError, match="give both --arkit and --matrix"):
        refine_tree(tree, tmp_path / "new", arkit=tmp_path)
    with pytest.raises(FileExistsError, match="exists"):
        refine_tree(tree, tree, sigma=3.0)
    np.savez(tmp_path / "body.npz", hands_meanl=np.zeros(45))
    with pytest.raises(ValueError, match="no hands_meanl and hands_meanr"):
        refine_tree(tree, tmp_path / "new", fingers=True, body_model=tmp_path / "body.npz")
    assert not (tmp_path / "new").exists()


def test_the_command_line_refines(tree, tmp_path):
    from typer.testing import CliRunner

    from maskmotion.cli import app

    np.savez(tmp_path / "body.npz", hands_meanl=np.zeros(45), hands_meanr=np.zeros(45))
    options = ["--fingers", "--body-model", str(tmp_path / "body.npz")]
    done = CliRunner().invoke(app, ["data", "refine", str(tree), str(tmp_path / "new"), *options])
    assert done.exit_code == 0, done.output
    assert "2 motion files, 300 frames" in done.output and "fingers: 30 frames of 1 files" in done.output


def test_a_real_take_keeps_nearly_all_of_its_fingers(beat2):
    """It was refined before it was published, so limits that touched much of it would be wrong."""
    poses = read_motion(beat2 / "smplxflame_30" / "2_scott_0_1_1.npz").poses
    changed = (limit_fingers(poses) != poses).reshape(len(poses), 55, 3).any(axis=-1)
    assert changed[:, 25:].mean() < 0.02
    statistics = Statistics.of([poses])
    outside = (np.abs(deviations(poses, statistics)) > 3).any(axis=-1)[:, 1:]
    assert 0.0 < outside.mean() < 0.03
