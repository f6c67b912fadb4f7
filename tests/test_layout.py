from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, ROTATIONS, SMPLX, TRANSLATION, BodyLayout, rotation_columns
from maskmotion.motion.skeleton import FEET, JOINTS, PARENTS, PART_JOINTS, joint

EYES = rotation_columns((joint("left_eye"), joint("right_eye")))


def test_the_four_parts_have_the_sizes_of_the_field():
    assert {part: SMPLX.size(part) for part in SMPLX.parts} == {"face": 106, "upper": 78, "hands": 180, "lower": 61}


def test_named_columns_tile_the_tensor_and_parts_cover_all_but_the_eyes():
    named = [list(range(437))[s] for s in (ROTATIONS, TRANSLATION, CONTACTS, EXPRESSIONS)]
    assert [column for columns in named for column in columns] == list(range(437))
    covered = sorted(column for columns in SMPLX.columns.values() for column in columns)
    assert covered == sorted(set(range(437)) - set(EYES))


def test_a_part_starts_with_its_joints_in_order():
    motion = torch.arange(437.0)
    parts = SMPLX.split(motion)
    for part, joints in PART_JOINTS.items():
        assert parts[part][: 6 * len(joints)].tolist() == [6 * j + i for j in joints for i in range(6)]
    assert parts["lower"][54:].tolist() == list(range(330, 337))
    assert parts["face"][6:].tolist() == list(range(337, 437))


@given(shape=st.lists(st.integers(1, 5), min_size=0, max_size=3), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_join_is_the_inverse_of_split_and_rests_the_eyes(shape, seed):
    motion = torch.randn(*shape, 437, generator=torch.Generator().manual_seed(seed))
    joined = SMPLX.join(SMPLX.split(motion))
    eyes = list(EYES)
    others = sorted(set(range(437)) - set(eyes))
    assert torch.equal(joined[..., others], motion[..., others])
    assert torch.equal(joined[..., eyes], torch.tensor([1.0, 0, 0, 0, 1, 0] * 2).expand(*shape, 12))


def test_join_leaves_the_shared_rest_pose_alone_and_keeps_the_dtype():
    before = SMPLX.rest.clone()
    joined = SMPLX.join({"upper": torch.ones(2, 3, 78, dtype=torch.float64)})
    joined.zero_()
    assert joined.dtype == torch.float64
    assert torch.equal(SMPLX.rest, before)


def test_expand_hides_whole_frames():
    mask = torch.tensor([[True, False, True]])
    full = SMPLX.expand(mask)
    assert full.shape == (1, 3, 437)
    assert torch.equal(full.all(dim=-1), mask)
    assert torch.equal(full.any(dim=-1), mask)


def test_expand_hides_all_columns_that_follow_a_joint():
    mask = torch.zeros(1, 2, 55, dtype=torch.bool)
    mask[0, 0, joint("jaw")] = True
    mask[0, 1, joint("pelvis")] = True
    full = SMPLX.expand(mask)
    jaw = [*rotation_columns((22,)), *range(337, 437)]
    assert full[0, 0].nonzero()[:, 0].tolist() == jaw
    assert full[0, 1].nonzero()[:, 0].tolist() == [*range(6), *range(330, 337)]


def test_expand_takes_columns_as_they_are():
    mask = torch.rand(2, 4, 437, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(SMPLX.expand(mask), mask)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 54), (2, 4, 5, 437)])
def test_expand_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"a mask is \[B, T\]"):
        SMPLX.expand(torch.zeros(shape, dtype=torch.bool))


@pytest.mark.parametrize("columns", [(), (437,), (-1, 3)])
def test_a_part_outside_the_tensor_is_refused(columns):
    with pytest.raises(ValueError, match=r"part 'tail': columns must lie in 0\.\.436"):
        BodyLayout({"tail": columns})


def test_own_parts_split_and_join():
    arms = rotation_columns((joint("left_elbow"), joint("right_elbow")))
    layout = BodyLayout({"arms": arms})
    motion = torch.randn(2, 437, generator=torch.Generator().manual_seed(0))
    joined = layout.join(layout.split(motion))
    assert torch.equal(joined[:, list(arms)], motion[:, list(arms)])
    others = sorted(set(range(437)) - set(arms))
    assert torch.equal(joined[:, others], SMPLX.rest[others].expand(2, -1))


def test_the_skeleton_is_a_tree_with_parents_first():
    assert len(JOINTS) == len(PARENTS) == len(set(JOINTS)) == 55
    assert PARENTS[0] == -1
    assert all(0 <= parent < child for child, parent in enumerate(PARENTS) if child)
    assert [JOINTS[PARENTS[joint(name)]] for name in ("left_index1", "right_thumb1", "jaw", "left_eye", "neck")] == [
        "left_wrist",
        "right_wrist",
        "head",
        "head",
        "spine3",
    ]
    for name in JOINTS:  # a left joint hangs on a left joint or on the middle
        if "left" in name:
            assert "right" not in JOINTS[PARENTS[joint(name)]]
    assert [JOINTS[foot] for foot in FEET] == ["left_ankle", "right_ankle", "left_foot", "right_foot"]
    with pytest.raises(ValueError, match="no joint named 'tail'; known: pelvis"):
        joint("tail")


# Array of golden/emage/motion_io.npz -> the joints we say it marks; what the others mean is no matter of the layout.
MASKS = {
    "upper_mask": PART_JOINTS["upper"],
    "lower_mask": PART_JOINTS["lower"],
    "local_upper_mask": PART_JOINTS["upper"] + PART_JOINTS["hands"],
}


@pytest.mark.parametrize("array", MASKS)
def test_parity_of_joint_masks_with_emage(array):
    folder = os.environ.get("MASKMOTION_GOLDEN")
    if not folder:
        pytest.skip("MASKMOTION_GOLDEN names no folder of fixtures")
    path = Path(folder) / "emage" / "motion_io.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path) as file:
        if array not in file.files:
            pytest.skip(f"{path} holds no {array}")
        assert tuple(np.flatnonzero(file[array])) == MASKS[array]
