"""A random model file of the SMPL-X layout: right names, shapes and sizes, no numbers of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskmotion.motion.kinematics import OFFSETS
from maskmotion.motion.skeleton import NUM_JOINTS, PARENTS

VERTICES = 10475


class Unpickled(Exception):
    """Raised by the pickled array of the file when somebody opens it."""


class _Trap:
    def __reduce__(self):
        return _spring, ()


def _spring():
    raise Unpickled("a pickled array of the model file was opened")


def write_random_smplx(
    path: Path, seed: int = 0, directions: int = 400, hand_mean: float = 0.2, vertices: int = VERTICES
) -> dict[str, np.ndarray]:
    """Write the file; returns its plain arrays. Its skeleton at rest is the generic one; one array in it is pickled.

    Vertices lie around the joints; the first `NUM_JOINTS` of them are the joints, which alone make up J_regressor.
    Shape directions move all vertices, expression directions move those of the head only, but not its joints.
    """
    rng = np.random.default_rng(seed)
    rest = OFFSETS.double().numpy().copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        rest[joint] += rest[parent]
    owner = np.arange(vertices) % NUM_JOINTS
    template = rest[owner] + 0.03 * rng.standard_normal((vertices, 3))
    template[:NUM_JOINTS] = rest
    regressor = np.zeros((NUM_JOINTS, vertices))
    regressor[np.arange(NUM_JOINTS), np.arange(NUM_JOINTS)] = 1.0
    shapedirs = 0.01 * rng.standard_normal((vertices, 3, directions), dtype=np.float32)
    shapes = 300 if directions >= 400 else 10
    shapedirs[..., shapes:] *= (np.isin(owner, (15, 22)) & (np.arange(vertices) >= NUM_JOINTS))[:, None, None]
    arrays = {
        "v_template": template,
        "shapedirs": shapedirs,
        "J_regressor": regressor,
        "posedirs": 1e-4 * rng.standard_normal((vertices, 3, 9 * (NUM_JOINTS - 1)), dtype=np.float32),
        "weights": 0.9 * np.eye(NUM_JOINTS)[owner] + 0.1 * np.eye(NUM_JOINTS)[np.maximum(PARENTS, 0)[owner]],
        "f": rng.integers(0, vertices, (500, 3)).astype(np.uint32),
        "kintree_table": np.array([(2**32 - 1, *PARENTS[1:]), range(NUM_JOINTS)]),
        "lmk_faces_idx": rng.integers(0, 500, 51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
        **{f"hands_mean{side}": hand_mean * rng.standard_normal(45) for side in "lr"},
        **{f"hands_components{side}": np.eye(45) for side in "lr"},
    }
    np.savez(path, **arrays, joint2num=np.array(_Trap(), dtype=object))
    return arrays
