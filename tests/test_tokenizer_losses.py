"""The losses of the papers, part by part, on the whole body, and of the root: what each measures and what it ignores."""

from __future__ import annotations

import math

import pytest
import torch
from smplx_file import write_random_smplx

from maskmotion.motion.body_model import BodyModel
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import CONTACTS, EXPRESSIONS, SMPLX, TRANSLATION
from maskmotion.motion.rotations import axis_angle_to_6d, matrix_from_6d
from maskmotion.motion.skeleton import FEET, joint
from maskmotion.tokenizers.body_losses import BODY_TERMS, BodyLosses
from maskmotion.tokenizers.losses import TERMS, PartLosses
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS, central_velocity, root_losses

EVERY = dict.fromkeys(TERMS, 1.0)
PLAIN = {"reconstruction", "velocity", "acceleration"}
TURNS = {"geodesic", "rotation_velocity", "rotation_acceleration"}
OF_PART = {
    "face": PLAIN | TURNS | {"expression", "expression_velocity", "expression_acceleration"},
    "upper": PLAIN | TURNS,
    "hands": PLAIN | TURNS,
    "lower": PLAIN | TURNS | {"contact", "translation", "translation_velocity"},
}


def motion(rows: int = 2, frames: int = 9, seed: int = 0) -> torch.Tensor:
    """Random rotations, steps of a few centimetres, contacts of 0 and 1, expressions."""
    torch.manual_seed(seed)
    whole = torch.randn(rows, frames, SMPLX.dim)
    whole[..., :330] = axis_angle_to_6d(0.5 * torch.randn(rows, frames, 55, 3)).flatten(-2)
    whole[..., TRANSLATION] = 0.05 * whole[..., TRANSLATION].cumsum(1)
    whole[..., CONTACTS] = (whole[..., CONTACTS] > 0).float()
    return whole


def pair(part: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A prediction with an error in every column, its target, and the scale of the columns."""
    target = SMPLX.split(motion(seed=seed))[part]
    return target + 0.1 * torch.randn_like(target), target, 0.5 + torch.rand(target.shape[-1])


@pytest.mark.parametrize("part", SMPLX.parts)
def test_a_part_has_the_terms_of_its_columns(part):
    losses = PartLosses(EVERY, SMPLX.columns[part])(*pair(part))
    assert set(losses) == OF_PART[part]
    assert all(loss.ndim == 0 and loss > 0 for loss in losses.values())
    assert set(TERMS) == set().union(*OF_PART.values())


def test_every_term_says_what_it_measures():
    assert all((term.__doc__ or "").strip().endswith(".") for term in (*TERMS.values(), *BODY_TERMS.values()))


def test_plain_terms_are_squared_errors_of_scaled_columns_and_their_differences():
    predicted, target, scale = pair("lower")
    losses = PartLosses(EVERY, SMPLX.columns["lower"])(predicted, target, scale)
    error = (predicted - target) / scale
    change = error[:, 1:] - error[:, :-1]
    assert losses["reconstruction"].item() == pytest.approx(error.square().mean().item())
    assert losses["velocity"].item() == pytest.approx(change.square().mean().item())
    assert losses["acceleration"].item() == pytest.approx((change[:, 1:] - change[:, :-1]).square().mean().item())


def test_weights_multiply_and_zero_leaves_a_term_out():
    given = pair("upper")
    once = PartLosses({"geodesic": 1.0, "velocity": 1.0}, SMPLX.columns["upper"])(*given)
    twice = PartLosses({"geodesic": 2.0, "velocity": 0.0}, SMPLX.columns["upper"])(*given)
    assert set(twice) == {"geodesic"}
    assert twice["geodesic"].item() == pytest.approx(2 * once["geodesic"].item())


def test_geodesic_is_the_angle_between_rotations():
    axis_angle = torch.randn(1, 5, 13, 3)
    axis_angle *= torch.linspace(0.1, 3.0, 13)[:, None] / axis_angle.norm(dim=-1, keepdim=True)
    target = SMPLX.rest[:78].expand(1, 5, 78)
    losses = PartLosses({"geodesic": 1.0}, SMPLX.columns["upper"])
    angle = losses(axis_angle_to_6d(axis_angle).flatten(-2), target, torch.ones(78))["geodesic"]
    assert angle.item() == pytest.approx(torch.linspace(0.1, 3.0, 13).mean().item(), rel=1e-4)
    stretched = 3 * target  # Gram-Schmidt forgives length
    assert losses(stretched, target, torch.ones(78))["geodesic"].item() == pytest.approx(math.acos(1 - 1e-6), rel=0.02)


@pytest.mark.parametrize("angle", [0.0, 1e-4, math.pi])
def test_the_geodesic_gradient_is_finite_where_the_arccos_is_clamped(angle):
    turned = axis_angle_to_6d(torch.tensor([angle, 0.0, 0.0])).repeat(13).expand(1, 3, 78).clone().requires_grad_()
    target = SMPLX.rest[:78].expand(1, 3, 78)
    PartLosses({"geodesic": 1.0}, SMPLX.columns["upper"])(turned, target, torch.ones(78))["geodesic"].backward()
    assert turned.grad.isfinite().all()
    assert turned.grad.abs().max() < 1e-3


@pytest.mark.parametrize(("difference", "measure"), [("l1", torch.abs), ("l2", torch.square)])
def test_differences_of_rotations_and_expressions_are_measured_by_the_chosen_norm(difference, measure):
    predicted, target, scale = pair("face")
    losses = PartLosses(EVERY, SMPLX.columns["face"], difference)(predicted, target, scale)
    turns = matrix_from_6d(predicted[..., :6]) - matrix_from_6d(target[..., :6])
    faces = predicted[..., 6:] - target[..., 6:]
    for name, error in (("rotation", turns), ("expression", faces)):
        change = error[:, 1:] - error[:, :-1]
        assert losses[f"{name}_velocity"].item() == pytest.approx(measure(change).mean().item())
        again = change[:, 1:] - change[:, :-1]
        assert losses[f"{name}_acceleration"].item() == pytest.approx(measure(again).mean().item())
    assert losses["expression"].item() == pytest.approx(faces.square().mean().item())


def test_translation_is_supervised_in_metres_and_contacts_as_they_are():
    _, target, scale = pair("lower")
    away = target.clone()
    away[..., 54:57] += torch.tensor([0.3, 0.0, -0.6])
    away[..., 57:61] += 0.5
    losses = PartLosses(EVERY, SMPLX.columns["lower"])(away, target, scale)
    assert losses["translation"].item() == pytest.approx(0.3, rel=1e-5)
    assert losses["translation_velocity"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["contact"].item() == pytest.approx(0.25)
    away = target.clone()
    away[..., 54] += 0.03 * torch.arange(9)
    losses = PartLosses(EVERY, SMPLX.columns["lower"])(away, target, scale)
    assert losses["translation_velocity"].item() == pytest.approx(0.01, rel=1e-4)


def test_a_perfect_prediction_costs_nothing_but_the_clamp_of_the_angle():
    for part in SMPLX.parts:
        _, target, scale = pair(part)
        losses = PartLosses(EVERY, SMPLX.columns[part])(target, target, scale)
        assert losses.pop("geodesic").item() == pytest.approx(math.acos(1 - 1e-6), rel=0.05)
        assert all(loss.item() == 0 for loss in losses.values())


@pytest.mark.parametrize("part", SMPLX.parts)
@pytest.mark.parametrize("junk", [0.0, 50.0, float("nan")])
def test_padding_never_counts_in_a_part(part, junk):
    predicted, target, scale = pair(part)
    losses = PartLosses(EVERY, SMPLX.columns[part])
    valid = torch.arange(9)[None].expand(2, 9) < 6
    dirty = [torch.where(valid[..., None], x, junk).requires_grad_() for x in (predicted, target)]
    padded, alone = losses(*dirty, scale, valid), losses(predicted[:, :6], target[:, :6], scale)
    assert {n: x.item() for n, x in padded.items()} == pytest.approx({n: x.item() for n, x in alone.items()}, rel=1e-5)
    sum(padded.values()).backward()
    assert (dirty[0].grad[:, 6:] == 0).all()
    assert dirty[0].grad.isfinite().all() and dirty[0].grad[:, :6].abs().sum() > 0


def test_a_difference_counts_where_all_its_frames_are_valid():
    predicted, target, scale = pair("upper")
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[:, 4] = False  # velocities 3-4 and 4-5 are out, accelerations 2-4, 3-5 and 4-6 too
    losses = PartLosses(EVERY, SMPLX.columns["upper"])(predicted, target, scale, valid)
    change = ((predicted - target) / scale).diff(dim=1)
    assert losses["velocity"].item() == pytest.approx(change[:, [0, 1, 2, 5, 6, 7]].square().mean().item())
    again = change.diff(dim=1)
    assert losses["acceleration"].item() == pytest.approx(again[:, [0, 1, 5, 6]].square().mean().item())


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_windows_too_short_for_a_difference_cost_nothing_there(frames):
    for valid in (None, torch.ones(2, frames, dtype=torch.bool), torch.zeros(2, frames, dtype=torch.bool)):
        for part in SMPLX.parts:
            predicted, target, scale = pair(part)
            losses = PartLosses(EVERY, SMPLX.columns[part])(predicted[:, :frames], target[:, :frames], scale, valid)
            assert all(loss.isfinite() for loss in losses.values())
            assert (losses["acceleration"] > 0) == (frames == 3 and (valid is None or bool(valid.all())))


def test_columns_are_found_wherever_a_part_keeps_them():
    whole, order = motion(), list(SMPLX.columns["lower"])
    scrambled = torch.randperm(len(order), generator=torch.Generator().manual_seed(1)).tolist()
    predicted, target, scale = pair("lower")
    straight = PartLosses(EVERY, order)(predicted, target, scale)
    losses = PartLosses(EVERY, [order[i] for i in scrambled])
    turned = losses(predicted[..., scrambled], target[..., scrambled], scale[scrambled])
    assert {n: x.item() for n, x in turned.items()} == pytest.approx({n: x.item() for n, x in straight.items()})
    half = PartLosses(EVERY, (*range(6, 12), *range(18, 21), 331))  # a joint, half a joint, the height
    assert set(half.weights) == OF_PART["lower"] - {"contact"}
    wide = whole[..., [*range(6, 12), *range(18, 21), 331]]
    broken = wide.clone()
    broken[..., 6:9] += 1  # the half joint has no rotation to compare
    assert half(broken, wide, torch.ones(10))["rotation_velocity"].item() == 0


def test_bad_weights_are_refused():
    with pytest.raises(ValueError, match="no loss term named 'geodesics'; known: reconstruction, velocity"):
        PartLosses({"geodesics": 1.0}, SMPLX.columns["upper"])
    with pytest.raises(ValueError, match="0 or more, got contact=-1"):
        PartLosses({"contact": -1.0}, SMPLX.columns["upper"])
    with pytest.raises(ValueError, match="0 or more, got contact=nan"):
        PartLosses({"contact": float("nan")}, SMPLX.columns["upper"])
    with pytest.raises(
        Exception, match="huber"
    ):  # refused by the annotations before the ValueError, where they are checked
        PartLosses(EVERY, SMPLX.columns["upper"], "huber")
    with pytest.raises(ValueError, match="no loss term named 'geodesic'; known: joints, foot_sliding"):
        BodyLosses({"geodesic": 1.0})
    with pytest.raises(
        ValueError, match=r"vertices need the SMPL-X mesh: pip install 'maskmotion\[body\]'.*NEUTRAL_2020"
    ):
        BodyLosses({"vertices": 1.0})
    assert BodyLosses({"vertices": 0.0})(motion(), motion()) == {}


def test_joints_are_compared_in_metres_without_the_translation():
    target = motion()
    away = target.clone()
    away[..., TRANSLATION] += 5.0
    losses = BodyLosses({"joints": 2.0})
    assert losses(away, target)["joints"].item() == 0
    away[..., :330] = motion(seed=1)[..., :330]
    posed = [forward_kinematics(m[..., :330].unflatten(-1, (55, 6)), torch.zeros(2, 9, 3)) for m in (away, target)]
    assert losses(away, target)["joints"].item() == pytest.approx(2 * (posed[0] - posed[1]).square().mean().item())


def test_a_wrist_pays_for_its_shoulder():
    predicted = SMPLX.rest.expand(1, 4, SMPLX.dim).clone().requires_grad_()
    target = SMPLX.rest.expand(1, 4, SMPLX.dim).clone()
    shoulder, wrist = (slice(6 * joint(name), 6 * joint(name) + 6) for name in ("left_shoulder", "left_wrist"))
    target[..., shoulder] = axis_angle_to_6d(torch.tensor([0.0, 0.0, 0.5]))
    BodyLosses({"joints": 1.0})(predicted, target)["joints"].backward()
    assert predicted.grad[..., shoulder].abs().max() > 1e-5
    assert predicted.grad[..., wrist].abs().max() > 1e-5, "the wrist could make up for a part of it"
    assert predicted.grad[..., 6 * joint("right_wrist") :][..., :6].abs().max() < 1e-9


def standing(frames: int = 5, step: float = 0.0) -> torch.Tensor:
    """A body at rest that slides along x by `step` metres a frame, both feet on the ground."""
    whole = SMPLX.rest.expand(2, frames, SMPLX.dim).clone()
    whole[..., TRANSLATION.start] = step * torch.arange(frames)
    whole[..., CONTACTS] = 1.0
    return whole


def test_feet_on_the_ground_pay_for_sliding_with_the_body():
    losses = BodyLosses({"foot_sliding": 1.0})
    still, sliding = standing(), standing(step=0.03)
    assert losses(still, sliding)["foot_sliding"].item() == 0, "the predicted body stands"
    assert losses(sliding, still)["foot_sliding"].item() == pytest.approx(0.01, rel=1e-4)  # 3 cm on one axis of three
    denies = sliding.clone()
    denies[..., CONTACTS] = 0.0
    assert losses(denies, still)["foot_sliding"].item() == pytest.approx(0.01, rel=1e-4), "the target's contact decides"
    assert losses(sliding, denies)["foot_sliding"].item() == 0, "no foot of the target is on the ground"
    one = still.clone()
    one[..., CONTACTS] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert losses(sliding, one)["foot_sliding"].item() == pytest.approx(0.01, rel=1e-4), (
        "a mean over feet on the ground"
    )
    bent = still.clone()
    bent[:, 2:, 6 : 6 * 2] = axis_angle_to_6d(torch.tensor([0.4, 0.0, 0.0]))  # the left hip moves ankle 7 and foot 10
    feet = forward_kinematics(bent[..., :330].unflatten(-1, (55, 6)), bent[..., TRANSLATION])[..., list(FEET), :]
    expected = feet.diff(dim=1).abs().mean()
    assert expected > 0.001
    assert losses(bent, still)["foot_sliding"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.fixture(scope="module")
def body_model(tmp_path_factory) -> BodyModel:
    """A random body of the SMPL-X layout with few shape directions."""
    pytest.importorskip("smplx", reason="SMPL-X meshes need the extra `body`")
    path = tmp_path_factory.mktemp("smplx") / "small.npz"
    write_random_smplx(path, directions=20)
    return BodyModel(path)


def test_vertices_are_compared_in_time(body_model):
    losses = BodyLosses(dict.fromkeys(BODY_TERMS, 1.0), body_model)
    target, predicted = motion(1, 4), motion(1, 4, seed=1)
    shown = [body_model(m[..., :330].unflatten(-1, (55, 6)), m[..., EXPRESSIONS])[0] for m in (predicted, target)]
    error = shown[0] - shown[1]
    got = losses(predicted, target)
    assert got["vertices"].item() == pytest.approx(error.square().mean().item(), rel=1e-5)
    change = error[:, 1:] - error[:, :-1]
    assert got["vertex_velocity"].item() == pytest.approx(change.abs().mean().item(), rel=1e-5)
    again = change[:, 1:] - change[:, :-1]
    assert got["vertex_acceleration"].item() == pytest.approx(again.abs().mean().item(), rel=1e-5)
    frozen = [m[:, :1].expand(-1, 4, -1) for m in (predicted, target)]
    constant = losses(*frozen)  # a wrong pose held still: neighbouring vertices differ, frames do not
    assert constant["vertices"] > 1e-3
    assert constant["vertex_velocity"] < 1e-6 and constant["vertex_acceleration"] < 1e-6


def test_the_joints_of_a_body_model_are_its_own(body_model):
    target, predicted = motion(1, 4), motion(1, 4, seed=1)
    generic = BodyLosses({"joints": 1.0})(predicted, target)["joints"]
    with torch.no_grad():
        body_model.layer.v_template.mul_(2.0)
        grown = BodyLosses({"joints": 1.0}, body_model)(predicted, target)["joints"]
        body_model.layer.v_template.div_(2.0)
    assert grown.item() == pytest.approx(4 * generic.item(), rel=1e-4)  # the random body has the generic joints


@pytest.mark.parametrize("junk", [0.0, float("nan")])
def test_padding_never_counts_on_the_whole_body(body_model, junk):
    losses = BodyLosses(dict.fromkeys(BODY_TERMS, 1.0), body_model)
    target, predicted = motion(2, 5), motion(2, 5, seed=1)
    valid = torch.arange(5)[None].expand(2, 5) < 4
    dirty = [torch.where(valid[..., None], x, junk).requires_grad_() for x in (predicted, target)]
    padded, alone = losses(*dirty, valid), losses(predicted[:, :4], target[:, :4])
    assert {n: x.item() for n, x in padded.items()} == pytest.approx({n: x.item() for n, x in alone.items()}, rel=1e-4)
    assert set(padded) == set(BODY_TERMS) and all(x > 0 for x in padded.values())
    sum(padded.values()).backward()
    assert (dirty[0].grad[:, 4:] == 0).all()
    assert dirty[0].grad[:, :4].isfinite().all() and dirty[0].grad[:, :4, EXPRESSIONS].abs().sum() > 0


def walk(frames: int = 8) -> torch.Tensor:
    """Positions in metres, not starting at zero."""
    torch.manual_seed(2)
    return 1.0 + 0.02 * torch.randn(2, frames, 3).cumsum(1)


def test_root_losses_follow_their_definitions():
    translation, predicted, contacts = walk(), torch.randn(2, 8, 3), (torch.rand(2, 8, 4) > 0.5).float()
    velocity, guess = central_velocity(translation), torch.rand(2, 8, 4)
    got = root_losses(predicted, translation, velocity, guess, contacts, weights=dict.fromkeys(ROOT_WEIGHTS, 1.0))
    path = torch.zeros(2, 8, 3)
    path[:, 0] = translation[:, 0]
    for frame in range(1, 8):
        path[:, frame] = path[:, frame - 1] + predicted[:, frame - 1] / 30
    path[..., 1] = predicted[..., 1]
    for order, suffix in enumerate(("", "_change", "_curvature")):
        error = (path - translation).diff(n=order, dim=1).abs().mean()
        assert got[f"position{suffix}"].item() == pytest.approx(error.item(), rel=1e-4)
        speed = (predicted - velocity).diff(n=order, dim=1).abs()
        expected = speed[..., 0].mean() + speed[..., 2].mean()
        assert got[f"velocity{suffix}"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert got["contact"].item() == pytest.approx((guess - contacts).square().mean().item(), rel=1e-5)
    weighted = root_losses(predicted, translation, velocity, guess, contacts)
    assert {name: weighted[name].item() for name in got} == pytest.approx(
        {name: ROOT_WEIGHTS[name] * loss.item() for name, loss in got.items()}
    )
    assert "contact" not in root_losses(predicted, translation, velocity)
    with pytest.raises(ValueError, match="no loss term named 'speed'; known: .*velocity_curvature"):
        root_losses(predicted, translation, velocity, weights={"speed": 1.0})


def test_central_velocities_are_one_sided_at_the_ends_of_what_is_valid():
    translation = walk()
    whole = central_velocity(translation)
    assert torch.allclose(whole[:, 1:-1], (translation[:, 2:] - translation[:, :-2]) * 15, atol=1e-5)
    assert torch.allclose(whole[:, 0], (translation[:, 1] - translation[:, 0]) * 30, atol=1e-5)
    assert torch.allclose(whole[:, -1], (translation[:, -1] - translation[:, -2]) * 30, atol=1e-5)
    valid = torch.arange(8)[None].expand(2, 8) < 6
    assert torch.allclose(central_velocity(translation, valid)[:, :6], central_velocity(translation[:, :6]), atol=1e-5)


def test_padding_never_counts_for_the_root():
    translation, predicted, contacts = walk(), torch.randn(2, 8, 3), torch.rand(2, 8, 4)
    valid = torch.arange(8)[None].expand(2, 8) < 6
    velocity = central_velocity(translation, valid)
    junk = torch.where(valid[..., None], torch.zeros(3), torch.full((3,), 40.0))
    more = torch.where(valid[..., None], torch.zeros(4), torch.full((4,), 40.0))
    padded = root_losses(predicted + junk, translation + junk, velocity, contacts + more, 1 - contacts, valid)
    short = (predicted[:, :6], translation[:, :6], velocity[:, :6], contacts[:, :6], 1 - contacts[:, :6])
    alone = root_losses(*short)
    assert {n: x.item() for n, x in padded.items()} == pytest.approx({n: x.item() for n, x in alone.items()}, rel=1e-4)
