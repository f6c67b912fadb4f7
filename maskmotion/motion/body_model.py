"""Skeleton proportions from the user's own SMPL-X model file; the file is never part of this library."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskmotion.motion.kinematics import offsets_from_joints
from maskmotion.motion.skeleton import NUM_JOINTS
from maskmotion.shapes import Float

_NEEDED = ("v_template", "shapedirs", "J_regressor")


def smplx_offsets(path: str | Path, betas: Float[Tensor, " betas"] | None = None) -> Float[Tensor, "55 3"]:
    """Bone offsets [55, 3] in metres of an SMPL-X model file (.npz) in a body shape, for `forward_kinematics(offsets=)`.

    Joints at rest are J_regressor @ (v_template + shapedirs @ betas) (Pavlakos et al., 2019, eq. 2 and 3). Only these
    three arrays are read, and nothing pickled.

    Raises:
        FileNotFoundError: no file there. ValueError: no SMPL-X npz, or more betas than the model has shape directions.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no SMPL-X model at {path}; download SMPLX_NEUTRAL_2020.npz from its makers and give its path"
        )
    try:
        with np.load(path, allow_pickle=False) as model:
            missing = [name for name in _NEEDED if name not in model.files]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            template, directions, regressor = (torch.from_numpy(model[name]).float() for name in _NEEDED)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is no SMPL-X model in npz form: {error}") from error
    if regressor.shape[0] != NUM_JOINTS or regressor.shape[1] != len(template):
        raise ValueError(f"{path} is no SMPL-X model: J_regressor is {list(regressor.shape)}, not [55, vertices]")
    if betas is not None:
        # the 300 shape directions come first, then the expressions'
        if len(betas) > min(300, directions.shape[-1]):
            raise ValueError(f"{path} has {min(300, directions.shape[-1])} shape directions, got {len(betas)} betas")
        template = template + directions[..., : len(betas)] @ betas.to(template)
    return offsets_from_joints(regressor @ template)
