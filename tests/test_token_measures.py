"""Error by part and depth, and use of codes, on motions whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch

from maskmotion.evaluation.tokens import code_use, errors_by_depth, part_errors, use_of
from maskmotion.motion.layout import SMPLX, BodyLayout, rotation_columns
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import joint
from maskmotion.testing import example_batch, example_generator


def bent(name: str, degrees: float) -> torch.Tensor:
    motion = SMPLX.rest.repeat(5, 1)
    turned = axis_angle_to_6d(torch.tensor([0.0, 0.0, math.radians(degrees)]))
    motion[:, list(rotation_columns((joint(name),)))] = turned
    return motion


def test_one_bent_joint_counts_in_its_part_by_its_share():
    errors = part_errors(SMPLX, SMPLX.rest.repeat(5, 1), bent("left_wrist", 30.0))
    assert errors["upper"].degrees == pytest.approx(30 / 13, rel=1e-3)
    assert errors["lower"].degrees == pytest.approx(0, abs=0.05)
    assert errors["upper"].centimetres == pytest.approx(0, abs=1e-4), "the wrist itself stays where it was"
    assert errors["hands"].centimetres > 1, "its fingers do not"
    assert math.isnan(errors["upper"].expression)


def test_the_mean_face_scores_one_and_the_true_face_zero():
    truth = example_batch().motion[0]
    mean = truth.clone()
    mean[:, 337:] = truth[:, 337:].mean(0)
    assert part_errors(SMPLX, truth, mean)["face"].expression == pytest.approx(1.0, rel=1e-4)
    assert part_errors(SMPLX, truth, truth)["face"].expression == 0


def test_what_no_part_owns_is_not_held_against_a_prediction():
    hands = BodyLayout({"hands": SMPLX.columns["hands"]})
    motion = example_batch().motion[0]
    other = hands.join(hands.split(motion))
    errors = part_errors(hands, motion, other)["hands"]
    assert errors.degrees == pytest.approx(0, abs=0.06)
    assert errors.centimetres == pytest.approx(0, abs=1e-3)


def test_use_counts_codes_and_forgets_padding():
    codes = torch.tensor([[0, 3], [1, 3], [2, -1], [3, 3]])
    use = use_of(codes, 4)
    assert use.perplexity.tolist() == pytest.approx([4.0, 1.0], rel=1e-4)
    assert use.unused.tolist() == [0, 3]


def test_without_codebooks_there_is_no_use_of_codes():
    perplexity, unused = use_of(torch.zeros(7, 0, dtype=torch.long), 0)
    assert perplexity.shape == unused.shape == (0,)


def test_depths_and_use_of_a_body():
    body = example_generator().body
    motion = example_batch().motion[0]
    depths = errors_by_depth(body, motion)
    assert len(depths) == body.num_layers
    tokens = body.encode(motion[None])
    whole = body.decode({part: t.latents for part, t in tokens.items()}, len(motion))[0]
    last = part_errors(SMPLX, motion, whole)
    assert depths[-1]["hands"].degrees == pytest.approx(last["hands"].degrees, rel=1e-4)
    assert depths[0]["hands"].degrees != pytest.approx(last["hands"].degrees, rel=1e-6)
    use = code_use(body, [motion, motion])
    assert set(use) == set(body.parts)
    assert all(1 <= float(p) <= body.codebook_size for one in use.values() for p in one.perplexity)
