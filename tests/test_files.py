from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from maskmotion.motion.files import MotionFile, atomic, from_tensor, read_motion, save_motion, to_tensor, write_motion
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION
from maskmotion.motion.rotations import axis_angle_from_6d, matrix_from_6d
from maskmotion.types import Clip


def arrays(frames: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "poses": rng.normal(0, 0.3, (frames, 165)).astype(np.float32),
        "trans": rng.normal(0, 1, (frames, 3)),
        "expressions": rng.normal(0, 1, (frames, 100)),
        "betas": rng.normal(0, 1, 300).astype(np.float32),
    }


def raw(path: Path, **changes: object) -> Path:
    content = {**arrays(), "model": "smplx2020", "gender": "neutral", "mocap_frame_rate": np.int32(30), **changes}
    np.savez(path, **{key: value for key, value in content.items() if value is not None})  # type: ignore[arg-type]
    return path


@pytest.fixture
def take() -> Path:
    root = os.environ.get("MASKMOTION_BEAT2")
    if not root:
        pytest.skip("MASKMOTION_BEAT2 names no BEAT2 tree, so there is no real take to read")
    return Path(root) / "smplxflame_30" / "2_scott_0_1_1.npz"


def test_a_written_file_has_the_keys_shapes_and_dtypes_of_the_real_one(take, tmp_path):
    ours = write_motion(tmp_path / "ours.npz", **arrays(7))
    with np.load(take) as real, np.load(ours) as written:
        assert written.files == real.files
        for key in real.files:
            assert written[key].dtype == real[key].dtype, key
            assert written[key].shape == tuple(7 if n == 1906 else n for n in real[key].shape), key
        assert (written["model"], written["gender"]) == (real["model"], real["gender"])
        assert written["mocap_frame_rate"] == 30


def test_the_real_take_survives_the_round_trip(take, tmp_path):
    real = read_motion(take)
    clip = Clip("take", to_tensor(real), betas=torch.from_numpy(real.betas))
    again = read_motion(save_motion(tmp_path / "again.npz", clip))
    turn = Rotation.from_rotvec(real.poses.reshape(-1, 3)).inv() * Rotation.from_rotvec(again.poses.reshape(-1, 3))
    assert turn.magnitude().max() < 1e-5  # radians
    assert np.abs(again.trans - real.trans).max() < 1e-6
    assert np.abs(again.expressions - real.expressions).max() < 1e-5
    assert np.array_equal(again.betas, real.betas)
    assert 0.2 < float(clip.motion[:, CONTACTS].mean()) < 1.0  # a standing speaker's feet rest most of the time


def test_write_and_read_give_the_same_numbers_back(tmp_path):
    values = arrays()
    motion = read_motion(write_motion(tmp_path / "deep" / "er" / "m.npz", **values))
    for key, value in values.items():
        assert np.array_equal(getattr(motion, key), value), key
    assert motion.fps == 30
    assert motion.frames == 12


def test_a_name_without_npz_gets_it(tmp_path):
    assert write_motion(tmp_path / "clip.v1", **arrays()).name == "clip.v1.npz"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.v1.npz"]


def test_amass_spelling_of_the_frame_rate_is_read(tmp_path):
    assert read_motion(raw(tmp_path / "a.npz", mocap_frame_rate=None, mocap_framerate=np.float64(120.0))).fps == 120


def test_short_betas_are_filled_with_zeros(tmp_path):
    betas = read_motion(raw(tmp_path / "a.npz", betas=np.ones(16))).betas
    assert betas.shape == (300,)
    assert betas[:16].all()
    assert not betas[16:].any()


BAD = {
    "missing keys": ({"trans": None, "betas": None}, "missing trans, betas"),
    "missing rate": ({"mocap_frame_rate": None}, "missing mocap_frame_rate"),
    "wrong width": ({"poses": np.zeros((12, 156))}, r"poses must be \[T, 165\].*\[12, 156\]"),
    "wrong axes": ({"trans": np.zeros((12, 1, 3))}, r"trans must be \[T, 3\]"),
    "too many betas": ({"betas": np.zeros(301)}, r"betas must be \[300\]"),
    "no frames": ({"poses": np.zeros((0, 165))}, "poses must be"),
    "text": ({"expressions": np.full((12, 100), "a")}, "expressions must be"),
    "nan": (
        {"expressions": np.where(np.arange(12)[:, None] == 5, np.nan, np.zeros((12, 100)))},
        "expressions.*frame 5",
    ),
    "infinite": (
        {"trans": np.where(np.arange(12)[:, None] > 8, np.inf, np.zeros((12, 3)))},
        "trans.*frame 9, in 3 of 12",
    ),
    "pickled": ({"poses": np.array([{}], dtype=object)}, "pickled object; refused"),
    "pickled aside": ({"notes": np.array([{}], dtype=object)}, "pickled object; refused"),
    "unequal": ({"trans": np.zeros((11, 3))}, "unequal length: poses 12, trans 11, expressions 12"),
    "rate zero": ({"mocap_frame_rate": np.int32(0)}, "frame rate"),
    "rate list": ({"mocap_frame_rate": np.array([30, 60])}, "frame rate"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        read_motion(raw(tmp_path / "bad.npz", **changes))
    assert "bad.npz" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: no such motion file"):
        read_motion(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(share, tmp_path):
    path = raw(tmp_path / "cut.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"cut\.npz: not an npz file"):
        read_motion(path)


@pytest.mark.parametrize("at", [0.02, 0.3, 0.6])
def test_a_file_with_flipped_bytes_is_refused(at, tmp_path):
    path = raw(tmp_path / "flipped.npz")
    content = bytearray(path.read_bytes())
    start = int(len(content) * at)
    content[start : start + 64] = bytes(255 - byte for byte in content[start : start + 64])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flipped\.npz"):
        read_motion(path)


def test_a_plain_array_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not an npz file"):
        read_motion(tmp_path / "a.npy")


def test_nan_is_never_written(tmp_path):
    values = arrays()
    values["trans"][3] = np.nan
    with pytest.raises(ValueError, match=r"trans has NaN.*frame 3"):
        write_motion(tmp_path / "never.npz", **values)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "kept.npz"
    path.write_text("old")

    def half() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.npz"]


def test_to_tensor_and_from_tensor_are_inverse():
    values = arrays(9, seed=1)
    motion = to_tensor(MotionFile(**values))
    assert motion.shape == (9, 437)
    back = from_tensor(motion)
    for key in ("poses", "trans", "expressions"):
        assert np.allclose(back[key], values[key], atol=1e-5), key
    assert set(motion[:, CONTACTS].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("fps", [15, 24, 60, 120, 29.97])
def test_other_frame_rates_are_resampled_along_the_shortest_arc(fps):
    values = arrays(25, seed=2)
    motion = to_tensor(MotionFile(**values, fps=fps))
    times = np.arange(len(motion)) / 30
    assert times[-1] <= 24 / fps + 1e-6 < times[-1] + 1 / 30 + 2e-6
    expected = np.stack([np.interp(times, np.arange(25) / fps, column) for column in values["trans"].T], axis=1)
    assert np.allclose(motion[:, TRANSLATION], expected, atol=1e-4)
    elbow = Slerp(np.arange(25) / fps, Rotation.from_rotvec(values["poses"][:, 54:57]))(np.minimum(times, 24 / fps))
    matrices = matrix_from_6d(motion[:, ROTATIONS].unflatten(-1, (55, 6)))[:, 18]
    assert np.allclose(matrices, elbow.as_matrix(), atol=1e-4)


def test_resampling_crosses_pi_without_a_spin():
    poses = np.zeros((2, 165), dtype=np.float32)
    poses[:, 1] = (np.pi - 0.1, -np.pi + 0.1)  # 0.2 rad apart, although the vectors are far apart
    rest = {"trans": np.zeros((2, 3)), "expressions": np.zeros((2, 100)), "betas": np.zeros(300)}
    motion = to_tensor(MotionFile(poses=poses, **rest, fps=15))
    middle = axis_angle_from_6d(motion[1, :6])
    assert float(middle.norm()) == pytest.approx(np.pi, abs=1e-3)
