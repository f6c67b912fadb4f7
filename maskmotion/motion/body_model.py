"""SMPL-X from the user's own model file: proportions of the skeleton, and meshes. The file is never part of this library."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskmotion.motion.kinematics import forward_kinematics, offsets_from_joints
from maskmotion.motion.rotations import axis_angle_from_6d, axis_angle_to_6d, matrix_from_6d
from maskmotion.motion.skeleton import NUM_EXPRESSIONS, NUM_JOINTS, PARENTS
from maskmotion.shapes import Float

NUM_BETAS = 300
_VERTICES = 10475  # smplx picks finger tips and facial points by their number
_SHAPE = ("v_template", "shapedirs", "J_regressor")
_MESH = (*_SHAPE, "posedirs", "weights", "f", "kintree_table", "lmk_faces_idx", "lmk_bary_coords")
_HANDS = tuple(f"hands_{what}{side}" for what in ("mean", "components") for side in "lr")


def smplx_offsets(path: str | Path, betas: Float[Tensor, " betas"] | None = None) -> Float[Tensor, "55 3"]:
    """Bone offsets [55, 3] in metres of an SMPL-X model file (.npz) in a body shape, for `forward_kinematics(offsets=)`.

    Joints at rest are J_regressor @ (v_template + shapedirs @ betas) (Pavlakos et al., 2019, eq. 2 and 3). Only these
    three arrays are read, and nothing pickled.

    Raises:
        FileNotFoundError: no file there. ValueError: no SMPL-X npz, or more betas than the model has shape directions.
    """
    arrays = _read(path, _SHAPE)
    template, directions, regressor = (torch.from_numpy(arrays[name]).float() for name in _SHAPE)
    if betas is not None:
        # as smplx reads a file: 300 directions of shape, then 100 of expression; a smaller file has 10 of each
        shapes = NUM_BETAS if directions.shape[-1] >= NUM_BETAS + NUM_EXPRESSIONS else min(10, directions.shape[-1])
        if len(betas) > shapes:
            raise ValueError(f"{path} has {shapes} shape directions, got {len(betas)} betas")
        template = template + directions[..., : len(betas)] @ betas.to(template)
    return offsets_from_joints(regressor @ template)


class BodyModel(nn.Module):
    """The SMPL-X body: rotations, expressions and shape to vertices and joints, through the `smplx` package.

    Set up as BEAT2's own scripts do: 300 shape and 100 expression coefficients, rotations of every finger joint, and
    the file's mean hand pose added to the axis-angles of the hands (smplx calls this flat_hand_mean=False). So a hand
    at rest is relaxed here and flat in `forward_kinematics`, which knows no mean hand: the finger joints (25 to 54) of
    the two differ by that pose, all others, the feet among them, are the same.

    A file of fewer directions has 10 of shape and 10 of expression; coefficients beyond them are left out, as in smplx.
    Nothing is trained and nothing saved: the state dict is empty, so the model's licence stays with its file.

    Args:
        path: SMPLX_NEUTRAL_2020.npz or another SMPL-X npz. frames_at_once: bounds the memory, 1 to 2 MB a frame beyond
            the 0.13 MB of its vertices; where gradients are asked for, each such chunk is posed again on the way back.

    Raises:
        ImportError: `smplx` is not installed. FileNotFoundError: no file there. ValueError: no SMPL-X file.
    """

    def __init__(self, path: str | Path, frames_at_once: int = 128) -> None:
        super().__init__()
        if frames_at_once < 1:
            raise ValueError(f"frames_at_once is 1 or more, got {frames_at_once}")
        self.frames_at_once = frames_at_once
        self.layer = _smplx_layer(_read(path, _MESH + _HANDS), path)
        self.num_betas: int = self.layer.num_betas
        self.num_expressions: int = self.layer.num_expression_coeffs
        for module in self.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)

    @property
    def offsets(self) -> Float[Tensor, "55 3"]:
        """Bone offsets in metres of the mean body, for `forward_kinematics(offsets=)`."""
        return offsets_from_joints(self.layer.J_regressor @ self.layer.v_template)

    def forward(
        self,
        rotations: Float[Tensor, "*any 55 6"],
        expressions: Float[Tensor, "*any expressions"] | None = None,
        betas: Float[Tensor, "*of betas"] | None = None,
        translation: Float[Tensor, "*any 3"] | None = None,
    ) -> tuple[Float[Tensor, "*any vertices 3"], Float[Tensor, "*any points 3"]]:
        """Vertices [..., 10475, 3] and joints [..., 127, 3] in metres: the 55 of the skeleton, then points on the mesh.

        rotations: row-6D, each joint relative to its parent. betas: of every frame, or [betas] of all of them. What is
        left out is zero.
        """
        shape = rotations.shape[:-2]
        flat = rotations.flatten(0, -3) if shape else rotations[None]
        inputs = (
            flat,
            _rows(expressions, flat, shape, self.num_expressions),
            _rows(betas, flat, shape, self.num_betas),
        )
        chunks = zip(*(rows.split(self.frames_at_once) for rows in inputs))
        with torch.autocast(rotations.device.type, enabled=False):  # 8 bits of bfloat16 are millimetres at arm's length
            posed = [checkpoint(self._pose, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
        vertices, joints = (torch.cat(points) for points in zip(*posed))
        vertices, joints = vertices.view(*shape, *vertices.shape[1:]), joints.view(*shape, *joints.shape[1:])
        if translation is None:
            return vertices, joints
        return vertices + translation[..., None, :], joints + translation[..., None, :]

    def joints(
        self, rotations: Float[Tensor, "*any 55 6"], betas: Float[Tensor, " betas"] | None = None
    ) -> Float[Tensor, "*any 55 3"]:
        """The 55 joints of `forward` alone, in metres, for one body shape: no mesh is posed, which is far cheaper."""
        shape = rotations.new_zeros(0) if betas is None else betas.to(rotations)
        shape = F.pad(shape, (0, self.num_betas - len(shape)))
        rest = self.layer.J_regressor @ (self.layer.v_template + self.layer.shapedirs[..., : len(shape)] @ shape)
        bent = torch.cat([rotations[..., :25, :], self._hands(rotations)], dim=-2)
        return forward_kinematics(bent, rotations.new_zeros(*rotations.shape[:-2], 3), offsets_from_joints(rest))

    def _hands(self, rotations: Tensor) -> Tensor:
        """Row-6D of the finger joints with the file's mean hand pose added to their axis-angles."""
        mean = torch.cat([self.layer.left_hand_mean, self.layer.right_hand_mean]).view(30, 3)
        return axis_angle_to_6d(axis_angle_from_6d(rotations[..., 25:, :]) + mean)

    def _pose(self, rotations: Tensor, expressions: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        hands = matrix_from_6d(self._hands(rotations))
        body = matrix_from_6d(rotations[:, :25])
        posed = self.layer(
            betas=betas,
            expression=expressions,
            global_orient=body[:, :1],
            body_pose=body[:, 1:22],
            jaw_pose=body[:, 22:23],
            leye_pose=body[:, 23:24],
            reye_pose=body[:, 24:25],
            left_hand_pose=hands[:, :15],
            right_hand_pose=hands[:, 15:],
        )
        return posed.vertices, posed.joints


def _rows(values: Tensor | None, like: Tensor, shape: Sequence[int], width: int) -> Tensor:
    """[frames, width]: coefficients cut or filled with zeros to the model's number of them, zeros without any."""
    if values is None:
        return like.new_zeros(len(like), width)
    fitted = F.pad(values.to(like.dtype), (0, width - values.shape[-1]))  # a negative padding cuts
    return fitted.expand(*shape, width).reshape(len(like), width)


def _smplx_layer(arrays: dict[str, np.ndarray], path: str | Path) -> Any:
    """The package's SMPL-X without parameters of its own.

    It unpickles whatever a model file holds, and official files do hold pickled arrays: it is given a copy of the plain
    ones in a folder that only this user can read, and that goes again.
    """
    try:
        import smplx
    except ImportError:
        raise ImportError("SMPL-X meshes need the package smplx: pip install 'maskmotion[body]'") from None
    if len(arrays["v_template"]) != _VERTICES or tuple(arrays["kintree_table"][0, 1:]) != PARENTS[1:]:
        raise ValueError(f"{path} is no SMPL-X model: it needs {_VERTICES} vertices and SMPL-X's tree of 55 joints")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "plain.npz"
        single = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()
        }
        np.savez(copy, **single)  # type: ignore[arg-type]
        return smplx.SMPLXLayer(
            str(copy),
            num_betas=NUM_BETAS,
            num_expression_coeffs=NUM_EXPRESSIONS,
            use_pca=False,
            flat_hand_mean=False,
            use_face_contour=False,
            ext="npz",
        )


def _read(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of a model file, nothing else of it, and nothing pickled."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no SMPL-X model at {path}; download SMPLX_NEUTRAL_2020.npz from its makers and give its path"
        )
    try:
        with np.load(path, allow_pickle=False) as model:
            missing = [name for name in names if name not in model.files]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            arrays = {name: model[name] for name in names}
    except (ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is no SMPL-X model in npz form: {error}") from error
    regressor = arrays["J_regressor"]
    if regressor.shape != (NUM_JOINTS, len(arrays["v_template"])):
        raise ValueError(f"{path} is no SMPL-X model: J_regressor is {list(regressor.shape)}, not [55, vertices]")
    return arrays
