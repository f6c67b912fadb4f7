"""Row-6D <-> matrix <-> axis-angle, the library's only copy (roma underneath).

Row-6D is the first two ROWS of the rotation matrix, flattened (the convention of EMAGE, SemTalk and EchoMask);
roma's Gram-Schmidt reads COLUMNS, hence the transposes. One test pins the convention.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from maskmotion.motion.layout import ROTATIONS
from maskmotion.shapes import Float


def matrix_to_6d(matrix: Float[Tensor, "*any 3 3"]) -> Float[Tensor, "*any 6"]:
    """Rotation matrices -> row-6D; the identity is (1, 0, 0, 0, 1, 0)."""
    return matrix[..., :2, :].flatten(-2)


def matrix_from_6d(rotation: Float[Tensor, "*any 6"]) -> Float[Tensor, "*any 3 3"]:
    """Row-6D (any two independent rows) -> the rotation matrix by Gram-Schmidt; row 3 = row 1 x row 2."""
    return roma.special_gramschmidt(rotation.unflatten(-1, (2, 3)).mT).mT


def proper(motion: Float[Tensor, "*any D"]) -> Float[Tensor, "*any D"]:
    """Motion whose rotation columns are rotations: what a network decodes is any two rows, of any length."""
    rows = motion[..., ROTATIONS].unflatten(-1, (-1, 6))
    return torch.cat([matrix_to_6d(matrix_from_6d(rows)).flatten(-2), motion[..., ROTATIONS.stop :]], dim=-1)


def axis_angle_to_6d(rotvec: Float[Tensor, "*any 3"]) -> Float[Tensor, "*any 6"]:
    """Axis-angle in radians -> row-6D."""
    return matrix_to_6d(roma.rotvec_to_rotmat(rotvec))


def axis_angle_from_6d(rotation: Float[Tensor, "*any 6"]) -> Float[Tensor, "*any 3"]:
    """Row-6D -> axis-angle in radians, angle in [0, pi]."""
    return roma.rotmat_to_rotvec(matrix_from_6d(rotation))
