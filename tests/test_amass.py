"""AMASS npz files, written here in its layout, become a tree that can be learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import maskmotion as mm
from maskmotion.data.amass import read_amass
from maskmotion.data.beat2 import load_clip
from maskmotion.data.contents import Contents
from maskmotion.data.importing import import_mocap
from maskmotion.motion.files import to_tensor
from maskmotion.motion.kinematics import OFFSETS, forward_kinematics
from maskmotion.motion.layout import ROTATIONS, TRANSLATION
from maskmotion.motion.skeleton import joint


def recording(frames: int = 240, joints: int = 52, rate: float = 120.0, **changes) -> dict[str, np.ndarray]:
    """A walk along x with z up, at AMASS' keys and dtypes."""
    time = np.arange(frames) / rate
    poses = 0.3 * np.sin(2 * np.pi * time[:, None, None] * np.linspace(0.3, 1.1, joints)[:, None] + np.arange(3))
    poses[:, 0] = (
        Rotation.from_euler("z", 30 * time[:, None], degrees=True) * Rotation.from_euler("x", 90, degrees=True)
    ).as_rotvec()
    key = "mocap_framerate" if joints == 52 else "mocap_frame_rate"
    return {
        "poses": poses.reshape(frames, -1),
        "trans": np.stack([time, 0 * time, 0.95 + 0 * time], axis=1),
        "betas": np.arange(16.0),
        key: np.array(rate),
        "gender": np.array("neutral"),
    } | changes  # fmt: skip


def write(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("joints", [52, 55])
def test_body_and_hands_find_their_smplx_joints(tmp_path, joints):
    written = recording(joints=joints)
    motion = read_amass(write(tmp_path / "a.npz", **written))
    given, read = written["poses"].reshape(240, joints, 3), motion.poses.reshape(240, 55, 3)
    assert np.array_equal(read[:, 1:22], given[:, 1:22])
    assert np.array_equal(read[:, 25:], given[:, -30:])
    assert not read[:, 22:25].any(), "face at rest"
    assert motion.fps == 120
    assert motion.betas[:16].any() == (joints == 55), "SMPL+H's shape is another body's"


@pytest.mark.parametrize("joints", [52, 55])
def test_z_up_becomes_y_up(tmp_path, joints):
    written = recording(joints=joints)
    tensor = to_tensor(read_amass(write(tmp_path / "a.npz", **written)))
    places = forward_kinematics(tensor[:, ROTATIONS].unflatten(-1, (55, 6)), tensor[:, TRANSLATION])
    pelvis = places[:, 0]
    assert np.allclose(pelvis[:, 1], 0.95, atol=0.02)
    assert float(pelvis[-1, 0] - pelvis[0, 0]) == pytest.approx(59 / 30, abs=1e-3)
    assert ((places[:, joint("neck")] - pelvis)[:, 1] > 0.3).all(), "upright"


def test_the_pelvis_is_where_the_models_put_it(tmp_path):
    """SMPL models turn about the pelvis: pelvis = its place at rest + trans, then z up to y up."""
    written = recording(joints=55)
    motion = read_amass(write(tmp_path / "a.npz", **written))
    rest = OFFSETS[0].numpy()
    expected = (rest + written["trans"])[:, [0, 2, 1]] * [1, 1, -1]
    assert np.allclose(rest + motion.trans, expected, atol=1e-6)
    turned = Rotation.from_rotvec(motion.poses[:, :3]).as_matrix()
    source = Rotation.from_rotvec(written["poses"][:, :3]).as_matrix()
    assert np.allclose(turned, np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) @ source, atol=1e-9)


def test_arrays_that_are_not_needed_may_be_anything(tmp_path):
    latents = np.array([{"a": 1}, None], dtype=object)
    assert read_amass(write(tmp_path / "a.npz", **recording(), labels=latents)).frames == 240


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": np.zeros((240, 72))}, r"poses must be \[T, 156\] \(SMPL\+H\) or \[T, 165\]"),
        ({"poses": np.zeros((0, 156))}, "poses must be numbers"),
        ({"trans": np.zeros((239, 3))}, r"trans must be \[240, 3\]"),
        ({"trans": np.zeros((240, 2))}, r"trans must be \[240, 3\]"),
        ({"mocap_framerate": np.array(0.0)}, "frame rate must be one number"),
        ({"trans": np.full((240, 3), np.nan)}, "trans has NaN or infinite values in 240 frames"),
        ({"poses": np.array([["x"]])}, "poses must be numbers"),
    ],
)
def test_wrong_arrays_are_told(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_amass(write(tmp_path / "a.npz", **recording(**changes)))


def test_missing_keys_pickles_and_cut_files_are_told(tmp_path):
    arrays = recording()
    del arrays["trans"], arrays["mocap_framerate"]
    with pytest.raises(ValueError, match="missing trans, mocap_framerate"):
        read_amass(write(tmp_path / "a.npz", **arrays))
    with pytest.raises(ValueError, match="pickled object"):
        read_amass(write(tmp_path / "b.npz", **recording(poses=np.array([None], dtype=object))))
    whole = write(tmp_path / "c.npz", **recording()).read_bytes()
    (tmp_path / "c.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short"):
        read_amass(tmp_path / "c.npz")
    with pytest.raises(FileNotFoundError, match="no such"):
        read_amass(tmp_path / "d.npz")


def test_a_folder_becomes_a_tree(tmp_path):
    source = tmp_path / "amass"
    for subject, take in (("s1", "walk 1"), ("s1", "walk_2"), ("s2", "run")):
        write(source / "KIT" / subject / f"{take}_poses.npz", **recording())
    write(source / "KIT" / "s1" / "shape.npz", betas=np.zeros(16))
    (source / "KIT" / "s2" / "broken.npz").write_bytes(b"PK")
    done = import_mocap(source, tmp_path / "tree")
    assert done.names == ["1_KIT_s1_walk_1_poses", "1_KIT_s1_walk_2_poses", "2_KIT_s2_run_poses"]
    assert len(done.problems) == 1 and "broken.npz" in done.problems[0]
    corpus = mm.open_corpus(tmp_path / "tree")
    assert corpus.contents == Contents(("upper", "hands", "lower"), audio=False)
    assert len(corpus.train) + len(corpus.validation) == 3
    clip = load_clip(tmp_path / "tree", "2_KIT_s2_run_poses")
    assert clip.audio is None and clip.frames == 60 and clip.speaker == 1
    direct = to_tensor(read_amass(source / "KIT" / "s2" / "run_poses.npz"))
    assert torch.allclose(clip.motion, direct, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_command_line_imports(tmp_path):
    from typer.testing import CliRunner

    from maskmotion.cli import app

    write(tmp_path / "in" / "a.npz", **recording())
    done = CliRunner().invoke(app, ["data", "import", str(tmp_path / "in"), str(tmp_path / "out"), "--parts", "upper"])
    assert done.exit_code == 0
    assert "1 recordings; upper; no speech" in done.output
    (tmp_path / "in" / "b.npz").write_bytes(b"")
    done = CliRunner().invoke(app, ["data", "import", str(tmp_path / "in"), str(tmp_path / "again")])
    assert done.exit_code == 1
    assert "left out" in done.output and "b.npz" in done.output


def test_parts_can_be_left_out_and_still_hands_are_told(tmp_path):
    poses = recording()["poses"]
    poses[:, 66:] = 0.1
    write(tmp_path / "in" / "a.npz", **recording(poses=poses))
    done = import_mocap(tmp_path / "in", tmp_path / "all")
    assert "no finger moves" in done.notes[0]
    done = import_mocap(tmp_path / "in", tmp_path / "some", parts=("upper", "lower"))
    assert done.notes == [] and done.contents.parts == ("upper", "lower")
    with pytest.raises(ValueError, match="none of 1 file.* no face; it has upper, hands, lower"):
        import_mocap(tmp_path / "in", tmp_path / "face", parts=("upper", "face"))
    assert not (tmp_path / "face").exists()


def test_sources_and_targets_that_cannot_be(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file that ends in \.npz, \.bvh"):
        import_mocap(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        import_mocap(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists"):
        import_mocap(write(tmp_path / "a.npz", **recording()), tmp_path / "empty")
    with pytest.raises(ValueError, match="some of face, upper"):
        import_mocap(tmp_path / "a.npz", tmp_path / "out", parts=("arms",))
