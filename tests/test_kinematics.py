from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskmotion.motion.kinematics import OFFSETS, foot_contacts, forward_kinematics, offsets_from_joints
from maskmotion.motion.layout import IDENTITY_6D
from maskmotion.motion.rotations import axis_angle_to_6d, matrix_from_6d
from maskmotion.motion.skeleton import FEET, NUM_JOINTS, PARENTS, joint

REST = torch.tensor(IDENTITY_6D).repeat(NUM_JOINTS, 1)
seeds = st.integers(0, 2**31 - 1)


def rest_joints(offsets: torch.Tensor = OFFSETS) -> torch.Tensor:
    joints = offsets.clone()
    for child, parent in enumerate(PARENTS[1:], start=1):
        joints[child] += joints[parent]
    return joints


def random_pose(seed: int, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rotvec = torch.randn(frames, NUM_JOINTS, 3, generator=generator, dtype=torch.float64)
    return axis_angle_to_6d(rotvec), torch.randn(frames, 3, generator=generator, dtype=torch.float64)


def test_identity_pose_gives_the_rest_joints():
    torch.testing.assert_close(forward_kinematics(REST, torch.zeros(3)), rest_joints())


def test_rest_pose_is_an_adult_of_about_1_7_metres_in_t_pose():
    body = rest_joints()
    height = body[joint("left_eye"), 1] - body[joint("left_foot"), 1]
    assert 1.5 < height < 1.65  # eyes stand about 12 cm below the top of the head
    assert body[joint("left_wrist"), 0] > 0.6
    assert body[joint("left_foot"), 2] > body[joint("left_ankle"), 2]  # toes point to +z
    mirrored = body * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored[joint("right_thumb3")], body[joint("left_thumb3")])


def test_offsets_from_joints_inverts_the_chain():
    torch.testing.assert_close(offsets_from_joints(rest_joints()), OFFSETS)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_bones_keep_their_length_in_any_pose(seed):
    rotations, translation = random_pose(seed)
    positions = forward_kinematics(rotations, translation)
    bones = positions[:, 1:] - positions[:, list(PARENTS[1:])]
    torch.testing.assert_close(bones.norm(dim=-1), OFFSETS[1:].double().norm(dim=-1).expand(3, -1))


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_translation_moves_every_joint_alike(seed):
    rotations, translation = random_pose(seed)
    moved = forward_kinematics(rotations, translation)
    still = forward_kinematics(rotations, torch.zeros_like(translation))
    torch.testing.assert_close(moved - still, translation[:, None].expand_as(moved))


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_turning_the_root_turns_the_body_about_the_pelvis(seed):
    rotations, translation = random_pose(seed)
    turned = rotations.clone()
    turned[:, 0] = torch.tensor(IDENTITY_6D)
    reference = forward_kinematics(turned, torch.zeros_like(translation))
    positions = forward_kinematics(rotations, torch.zeros_like(translation))
    root = matrix_from_6d(rotations[:, 0])
    expected = (reference - OFFSETS[0]) @ root.mT + OFFSETS[0]
    torch.testing.assert_close(positions, expected)


def test_matches_the_plain_recursion_joint_by_joint():
    rotations, translation = random_pose(7)
    local = matrix_from_6d(rotations)
    turned, placed = [local[:, 0]], [OFFSETS[0] + translation]
    for child, parent in enumerate(PARENTS[1:], start=1):
        placed.append(placed[parent] + turned[parent] @ OFFSETS[child].double())
        turned.append(turned[parent] @ local[:, child])
    torch.testing.assert_close(forward_kinematics(rotations, translation), torch.stack(placed, dim=1))


def test_leading_axes_and_another_body_are_kept():
    rotations, translation = random_pose(3, frames=6)
    body = 2 * OFFSETS.double()
    whole = forward_kinematics(rotations.view(2, 3, NUM_JOINTS, 6), translation.view(2, 3, 3), offsets=body)
    assert whole.shape == (2, 3, NUM_JOINTS, 3)
    single = 2 * forward_kinematics(rotations, translation / 2)
    torch.testing.assert_close(whole.flatten(0, 1), single)


def test_foot_contacts_follow_the_displacement_to_the_next_frame():
    positions = rest_joints().repeat(4, 1, 1)
    positions[2:, FEET[1], 2] += 0.02  # the second contact joint jumps between frames 1 and 2
    expected = torch.ones(4, 4)
    expected[1, 1] = 0
    torch.testing.assert_close(foot_contacts(positions), expected)
    assert foot_contacts(positions, threshold=0.03).all()


def test_contacts_agree_with_the_official_ones_of_a_real_take():
    golden = os.environ.get("MASKMOTION_GOLDEN")
    if not golden:
        pytest.skip("MASKMOTION_GOLDEN is unset: the official contacts of a real take are not here")
    take = np.load(Path(golden) / "foot_contact" / "emage_cache_2_scott_0_1_1_f0_120.npz")
    rotations = axis_angle_to_6d(torch.from_numpy(take["poses"]).view(-1, NUM_JOINTS, 3))
    contacts = foot_contacts(forward_kinematics(rotations, torch.from_numpy(take["trans"])))
    agree = (contacts == torch.from_numpy(take["foot_contact"])).double().mean(dim=0)
    # measured: 1.000, .992, .983, .992 for the four joints, .992 overall; always-contact would reach .79
    assert agree.min() >= 0.97
    assert agree.mean() >= 0.985
