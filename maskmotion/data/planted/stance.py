"""Pelvis and legs: the body wanders and sways, the feet step after it and otherwise stay where they are.

Legs follow by inverse kinematics of the generic skeleton, so foot contacts agree with forward kinematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maskmotion.data.planted.noise import drift
from maskmotion.data.planted.parameters import FPS
from maskmotion.motion.kinematics import OFFSETS
from maskmotion.motion.skeleton import joint

_BONES = OFFSETS.double().numpy()
_ANKLE_HEIGHT = 0.08  # metres above the floor, foot flat
_SWING = 0.42  # seconds a foot is in the air


@dataclass(frozen=True)
class Stance:
    """trans [T, 3] metres; poses: joint index -> rotation vectors [T, 3] in degrees."""

    trans: np.ndarray
    poses: dict[int, np.ndarray]


def _smooth(phase: np.ndarray) -> np.ndarray:
    phase = np.clip(phase, 0, 1)
    return phase**3 * (10 - 15 * phase + 6 * phase**2)


def _lifts(rng: np.random.Generator, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Times at which the left and the right foot leave the floor, in turn."""
    gaps = rng.uniform(0.6, 1.1, int(seconds / 0.6) + 2)
    times = 0.4 + np.cumsum(gaps)
    times = times[times < seconds - 1.0]
    return times[0::2], times[1::2]


def _foot_track(lifts: np.ndarray, goals: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Step from goal to goal [steps + 1, channels]: track [T, channels] and swing phase [T], 0 on the floor."""
    phase = (np.arange(frames)[:, None] / FPS - lifts) / _SWING
    track = goals[0] + _smooth(phase) @ np.diff(goals, axis=0)
    inside = np.where((phase > 0) & (phase < 1), phase, 0.0)
    return track, inside.sum(axis=1)


def _feet(
    rng: np.random.Generator, ground: np.ndarray, yaw: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Left and right: ankle position [T, 3], foot yaw [T] radians, swing phase [T]."""
    frames = len(ground)
    sides = []
    for sign, lifts in zip((1.0, -1.0), _lifts(rng, frames / FPS)):
        aim = np.concatenate([[0], np.clip((lifts + _SWING + 0.6) * FPS, 0, frames - 1)]).astype(
            int
        )  # ahead: mid-stance
        beside = sign * 0.105 + 0.01 * rng.standard_normal(len(aim))
        turn = yaw[aim] + sign * np.deg2rad(8) + 0.05 * rng.standard_normal(len(aim))
        spot = ground[aim] + beside[:, None] * np.stack([np.cos(yaw[aim]), -np.sin(yaw[aim])], axis=1)
        track, phase = _foot_track(lifts, np.concatenate([spot, turn[:, None]], axis=1), frames)
        lift = _ANKLE_HEIGHT + 0.07 * np.sin(np.pi * phase) ** 2
        sides.append((np.stack([track[:, 0], lift, track[:, 1]], axis=1), track[:, 2], phase))
    return sides


def _leg(side: str, reach: np.ndarray) -> tuple[Rotation, Rotation]:
    """Hip and knee rotations that put the ankle at `reach` [T, 3], seen from the hip in the pelvis' frame."""
    thigh, shank = _BONES[joint(f"{side}_knee")], _BONES[joint(f"{side}_ankle")]
    distance = np.linalg.norm(reach, axis=1)
    # |thigh + Rx(angle) shank|^2 = distance^2, solved for the flexion angle about x
    even = thigh[1] * shank[1] + thigh[2] * shank[2]
    odd = thigh[2] * shank[1] - thigh[1] * shank[2]
    rest = (distance**2 - thigh @ thigh - shank @ shank) / 2 - thigh[0] * shank[0]
    angle = np.arctan2(odd, even) + np.arccos(np.clip(rest / np.hypot(even, odd), -1, 1))
    knee = Rotation.from_rotvec(angle[:, None] * np.array([1.0, 0.0, 0.0]))
    bent = thigh + knee.apply(shank)
    axis = np.cross(bent, reach)
    sine = np.linalg.norm(axis, axis=1)
    turn = np.arctan2(sine, np.sum(bent * reach, axis=1))
    return Rotation.from_rotvec(axis * (turn / np.maximum(sine, 1e-12))[:, None]), knee


def _longest_leg(side: str) -> float:
    thigh, shank = _BONES[joint(f"{side}_knee")], _BONES[joint(f"{side}_ankle")]
    return float(np.hypot(thigh[0] + shank[0], np.hypot(*thigh[1:]) + np.hypot(*shank[1:])))


def _height(wish: np.ndarray, ground: np.ndarray, hips: list[np.ndarray], ankles: list[np.ndarray]) -> np.ndarray:
    """Pelvis height [T]: as wished, but low enough that both feet reach the floor."""
    limits = [wish]
    for side, hip, ankle in zip(("left", "right"), hips, ankles):
        flat = ankle[:, [0, 2]] - ground - hip[:, [0, 2]]
        drop = np.sqrt(np.maximum((0.992 * _longest_leg(side)) ** 2 - np.sum(flat**2, axis=1), 0.3))
        limits.append(ankle[:, 1] + drop - hip[:, 1])
    low = ndimage.minimum_filter1d(np.min(limits, axis=0), 13)
    return ndimage.gaussian_filter1d(low, 2.5, radius=6)  # a mean over the filtered frames cannot rise above the limit


def stand_and_step(rng: np.random.Generator, frames: int) -> Stance:
    """Root translation, pelvis and legs of a clip."""
    ground = drift(rng, frames, 2, corner=0.18, power=5.5) * np.array([0.12, 0.17]) + 0.008 * drift(
        rng, frames, 2, corner=0.7
    )
    tilt = np.deg2rad(drift(rng, frames, 3, corner=0.42) * np.array([3.5, 8.5, 2.8]) + np.array([-7.0, 2.0, -1.0]))
    pelvis = Rotation.from_euler("YXZ", tilt[:, [1, 0, 2]])
    hips = [pelvis.apply(_BONES[joint(f"{side}_hip")]) for side in ("left", "right")]
    feet = _feet(rng, ground, tilt[:, 1])
    wish = 0.92 + 0.032 * drift(rng, frames, 1, corner=0.28)[:, 0]
    height = _height(wish, ground, hips, [ankle for ankle, _, _ in feet])
    place = np.stack([ground[:, 0], height, ground[:, 1]], axis=1)
    poses = {0: np.rad2deg(pelvis.as_rotvec())}
    for side, hip, (ankle, yaw, phase) in zip(("left", "right"), hips, feet):
        thigh, knee = _leg(side, pelvis.inv().apply(ankle - place - hip))
        pitch = np.deg2rad(12) * np.sin(np.pi * phase) ** 2
        sole = Rotation.from_euler("YX", np.stack([yaw, pitch], axis=1))
        for name, rotation in (("hip", thigh), ("knee", knee), ("ankle", (pelvis * thigh * knee).inv() * sole)):
            poses[joint(f"{side}_{name}")] = np.rad2deg(rotation.as_rotvec())
        toes = np.array([-4.0, 2.0, 2.0]) + drift(rng, frames, 3, corner=0.6) * np.array([2.5, 3.0, 3.0])
        poses[joint(f"{side}_foot")] = toes + 8 * np.sin(np.pi * phase)[:, None] ** 2 * np.array([-1.0, 0.0, 0.0])
    return Stance(place - _BONES[0], poses)
