"""A user's SMPL-X file replaces our generic proportions; the file here is random, of the same layout."""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import pytest
import torch
from smplx_file import Unpickled, write_random_smplx

from maskmotion.motion.body_model import BodyModel, smplx_offsets
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import SMPLX
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import PARENTS


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    regressor = rng.random((55, 40))
    arrays = {
        "v_template": rng.standard_normal((40, 3)),
        "shapedirs": rng.standard_normal((40, 3, 400)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
    }
    np.savez(tmp_path / "model.npz", **arrays, dynamic=np.array([1.0]))
    return tmp_path / "model.npz", {name: torch.from_numpy(value).float() for name, value in arrays.items()}


def test_the_rest_pose_has_the_models_joints_in_the_shape_of_the_betas(model):
    path, arrays = model
    betas = torch.randn(10)
    vertices = arrays["v_template"] + torch.einsum("vck,k->vc", arrays["shapedirs"][..., :10], betas)
    joints = arrays["J_regressor"] @ vertices
    offsets = smplx_offsets(path, betas)
    posed = forward_kinematics(SMPLX.rest[:330].unflatten(0, (55, 6)), torch.zeros(3), offsets)
    assert torch.allclose(posed - posed[0], joints - joints[0], atol=1e-4)
    assert torch.allclose(offsets[4], joints[4] - joints[PARENTS[4]], atol=1e-5)
    assert not torch.allclose(offsets, smplx_offsets(path))


def test_bad_model_files_say_what_is_wrong(model, tmp_path):
    path, _ = model
    with pytest.raises(FileNotFoundError, match="no SMPL-X model at"):
        smplx_offsets(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="shape directions, got 301 betas"):
        smplx_offsets(path, torch.zeros(301))
    np.savez(tmp_path / "other.npz", v_template=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="has no shapedirs, J_regressor"):
        smplx_offsets(tmp_path / "other.npz")
    np.savez(
        tmp_path / "pickled.npz",
        **{n: np.array([{}], dtype=object) for n in ("v_template", "shapedirs", "J_regressor")},
    )
    with pytest.raises(ValueError, match="is no SMPL-X model in npz form"):
        smplx_offsets(tmp_path / "pickled.npz")
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="is no SMPL-X model in npz form"):
        smplx_offsets(tmp_path / "array.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="is no SMPL-X model in npz form"):
        smplx_offsets(tmp_path / "text.npz")


def test_a_small_file_has_ten_shape_directions_before_its_expressions(tmp_path):
    write_random_smplx(tmp_path / "small.npz", directions=20)
    smplx_offsets(tmp_path / "small.npz", torch.randn(10))
    with pytest.raises(ValueError, match="has 10 shape directions, got 11 betas"):
        smplx_offsets(tmp_path / "small.npz", torch.randn(11))


@pytest.fixture(scope="module")
def smplx():
    return pytest.importorskip("smplx", reason="SMPL-X meshes need the extra `body`")


@pytest.fixture(scope="module")
def full(tmp_path_factory, smplx):
    """A random file with the official number of directions: path, plain arrays, body."""
    path = tmp_path_factory.mktemp("smplx") / "full.npz"
    arrays = write_random_smplx(path)
    return path, arrays, BodyModel(path)


def pose(frames: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Axis-angles [T, 55, 3], expressions [T, 100], betas [300]."""
    torch.manual_seed(seed)
    return 0.6 * torch.randn(frames, 55, 3), torch.randn(frames, 100), torch.randn(300)


def test_the_body_is_the_one_of_the_data_sets_own_settings(full, smplx, tmp_path):
    _, arrays, body = full
    np.savez(tmp_path / "plain.npz", **arrays)
    theirs = smplx.SMPLX(
        str(tmp_path / "plain.npz"), num_betas=300, num_expression_coeffs=100, use_pca=False, batch_size=4
    )
    angles, expressions, betas = pose()
    translation = torch.randn(4, 3)
    expected = theirs(
        betas=betas.expand(4, 300),
        expression=expressions,
        transl=translation,
        global_orient=angles[:, 0],
        body_pose=angles[:, 1:22].flatten(1),
        jaw_pose=angles[:, 22],
        leye_pose=angles[:, 23],
        reye_pose=angles[:, 24],
        left_hand_pose=angles[:, 25:40].flatten(1),
        right_hand_pose=angles[:, 40:].flatten(1),
    )
    vertices, joints = body(axis_angle_to_6d(angles), expressions, betas, translation)
    assert vertices.shape == (4, 10475, 3) and joints.shape == (4, 127, 3)
    torch.testing.assert_close(vertices, expected.vertices, atol=2e-5, rtol=0)
    torch.testing.assert_close(joints, expected.joints, atol=2e-5, rtol=0)


def test_joints_are_those_of_forward_kinematics_but_for_the_mean_hand(full):
    path, arrays, body = full
    angles, expressions, betas = pose()
    joints = body(axis_angle_to_6d(angles), expressions, betas)[1][:, :55]
    offsets = smplx_offsets(path, betas)
    plain = forward_kinematics(axis_angle_to_6d(angles), torch.zeros(4, 3), offsets)
    torch.testing.assert_close(joints[:, :25], plain[:, :25], atol=1e-5, rtol=0)
    assert (joints - plain)[:, 25:].abs().max() > 0.005, "the file's mean hand bends the fingers"
    mean = torch.from_numpy(np.concatenate([arrays["hands_meanl"], arrays["hands_meanr"]])).float()
    angles[:, 25:] += mean.view(30, 3)
    bent = forward_kinematics(axis_angle_to_6d(angles), torch.zeros(4, 3), offsets)
    torch.testing.assert_close(joints, bent, atol=1e-5, rtol=0)
    torch.testing.assert_close(body.offsets, smplx_offsets(path), atol=1e-6, rtol=0)


def test_expressions_move_the_face_alone(full):
    body, rest = full[2], SMPLX.rest[:330].view(1, 55, 6)
    still, joints = body(rest)
    moved, same = body(rest, 2 * torch.ones(1, 100))
    distance = (moved - still).norm(dim=-1)[0]
    face = torch.isin(torch.arange(10475) % 55, torch.tensor([15, 22]))
    face[:55] = False
    assert distance[face].min() > 1e-3
    assert distance[~face].max() < 1e-5
    torch.testing.assert_close(same[:, :55], joints[:, :55], atol=1e-5, rtol=0)


def test_chunks_change_neither_values_nor_gradients(full):
    path, _, body = full
    angles, expressions, betas = pose(frames=7)
    results = []
    for frames_at_once in (128, 3):
        body.frames_at_once = frames_at_once
        rotations = axis_angle_to_6d(angles).requires_grad_()
        vertices, joints = body(rotations, expressions, betas)
        (vertices.square().mean() + joints.square().mean()).backward()
        results.append((vertices.detach(), joints.detach(), rotations.grad))
    body.frames_at_once = 128
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    with pytest.raises(ValueError, match="frames_at_once is 1 or more, got 0"):
        BodyModel(path, frames_at_once=0)


def test_the_gradient_reaches_every_rotation_and_every_coefficient_also_at_rest(full):
    body = full[2]
    rotations = SMPLX.rest[:330].view(55, 6).expand(2, 55, 6).clone().requires_grad_()
    expressions, betas = torch.zeros(2, 100, requires_grad=True), torch.zeros(300, requires_grad=True)
    (body(rotations, expressions, betas)[0] * torch.randn(10475, 3)).sum().backward()
    for given in (rotations, expressions, betas):
        assert given.grad.isfinite().all()
    assert (rotations.grad.abs().sum(-1) > 0).all()
    assert (expressions.grad != 0).all() and (betas.grad != 0).all()


def test_leading_axes_are_free_and_betas_are_of_a_clip_or_of_frames(full):
    body = full[2]
    angles, expressions, betas = pose(frames=6)
    rotations = axis_angle_to_6d(angles)
    flat = body(rotations, expressions, betas, torch.ones(6, 3))
    square = body(
        rotations.view(2, 3, 55, 6), expressions.view(2, 3, 100), betas.expand(2, 1, 300), torch.ones(2, 3, 3)
    )
    single = body(rotations[0], expressions[0, :40], betas)
    for number, shape in enumerate([(10475, 3), (127, 3)]):
        assert square[number].shape == (2, 3, *shape) and single[number].shape == shape
        torch.testing.assert_close(square[number].flatten(0, 1), flat[number], atol=1e-6, rtol=0)
    fewer = body(rotations[0], torch.cat([expressions[0, :40], torch.zeros(60)]), betas)
    torch.testing.assert_close(single[0], fewer[0])


def test_nothing_of_the_model_is_trained_or_saved(full):
    body = full[2]
    assert body.state_dict() == {} and list(body.parameters()) == []
    assert body.layer.v_template.shape == (10475, 3)
    assert (body.num_betas, body.num_expressions) == (300, 100)


def test_a_small_files_missing_directions_are_left_out(tmp_path, smplx):
    write_random_smplx(tmp_path / "small.npz", directions=20)
    body = BodyModel(tmp_path / "small.npz")
    assert (body.num_betas, body.num_expressions) == (10, 10)
    angles, expressions, betas = pose(frames=1)
    rotations = axis_angle_to_6d(angles)
    more = body(rotations, expressions, betas)[0]
    torch.testing.assert_close(more, body(rotations, expressions[:, :10], betas[:10])[0])
    assert not torch.allclose(more, body(rotations, -expressions, betas)[0])


def test_pickled_arrays_of_a_model_file_stay_closed(full, tmp_path, monkeypatch, smplx):
    path, arrays, _ = full
    with np.load(path, allow_pickle=True) as model, pytest.raises(Unpickled):
        model["joint2num"]
    with pytest.raises(Unpickled):
        smplx.SMPLXLayer(str(path))  # what the package does on its own
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    BodyModel(path)
    assert list(tmp_path.iterdir()) == [], "the copy of the plain arrays is gone"
    np.savez(tmp_path / "trap.npz", **{**arrays, "posedirs": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="is no SMPL-X model in npz form: Object arrays cannot be loaded"):
        BodyModel(tmp_path / "trap.npz")


def test_a_body_model_says_what_it_needs(full, tmp_path, monkeypatch):
    path, arrays, _ = full
    with pytest.raises(FileNotFoundError, match="no SMPL-X model at"):
        BodyModel(tmp_path / "none.npz")
    small = {name: array for name, array in arrays.items() if name not in ("shapedirs", "posedirs")}
    np.savez(tmp_path / "offsets.npz", **small, shapedirs=np.zeros((10475, 3, 20)))
    smplx_offsets(tmp_path / "offsets.npz")
    with pytest.raises(ValueError, match="it has no posedirs"):
        BodyModel(tmp_path / "offsets.npz")
    tree = np.array([(0,) * 55, range(55)])
    np.savez(
        tmp_path / "tree.npz", **{**small, "shapedirs": np.zeros(1), "posedirs": np.zeros(1), "kintree_table": tree}
    )
    with pytest.raises(ValueError, match="SMPL-X's tree of 55 joints"):
        BodyModel(tmp_path / "tree.npz")
    write_random_smplx(tmp_path / "few.npz", directions=20, vertices=100)
    with pytest.raises(ValueError, match="it needs 10475 vertices"):
        BodyModel(tmp_path / "few.npz")
    monkeypatch.setitem(sys.modules, "smplx", None)
    with pytest.raises(ImportError, match=r"pip install 'maskmotion\[body\]'"):
        BodyModel(path)
