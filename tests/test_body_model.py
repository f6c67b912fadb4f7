"""A user's SMPL-X file replaces our generic proportions; the file here is random, of the same layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskmotion.motion.body_model import smplx_offsets
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import SMPLX
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
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="is no SMPL-X model in npz form"):
        smplx_offsets(tmp_path / "text.npz")
