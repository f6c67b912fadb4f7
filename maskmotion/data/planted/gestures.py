"""Torso, head, arms and hands: drift, beats, semantic gestures and jolts over a few movement synergies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskmotion.data.planted.noise import drift
from maskmotion.data.planted.parameters import FPS, NUM_CLASSES, SPEAKERS, Planted
from maskmotion.data.planted.script import JOLT_SECONDS, Script

MIRROR = np.array([1.0, -1.0, -1.0])  # right = left with the signs of y and z flipped
# Joint -> resting rotation vector and spread, degrees; left side. Rounded from the figures of one real take.
_TRUNK = {
    3: ((9, 1, 0), (4.0, 2.0, 2.4)),
    6: ((5, -1, 0), (2.9, 1.9, 1.7)),
    9: ((4, 0, 1), (1.2, 0.8, 1.0)),
}
_HEAD = {12: ((6, -2, 0), (3.9, 4.3, 2.9)), 15: ((-2, -2, 2), (2.4, 3.3, 2.4))}
_ARM = {
    13: ((1, -11, -10), (3.5, 5.3, 6.0)),
    16: ((1, -15, -52), (6.6, 7.7, 7.4)),
    18: ((8, -52, 16), (16.0, 27.0, 16.0)),
    20: ((-16, -3, 4), (20.0, 4.2, 8.0)),
}
_FINGER_REST = ((2, 6, -20), (0, -3, -16), (0, 0, -6))
_FINGER_SPREAD = ((4.5, 5.0, 12.0), (4.0, 3.5, 10.0), (3.5, 3.5, 5.0))
_THUMB_REST, _THUMB_SPREAD = (
    ((16, 15, 10), (-18, 8, -13), (26, 11, 7)),
    ((6.0, 5.0, 3.0), (4.0, 5.0, 4.0), (5.0, 5.5, 6.0)),
)
_HAND = {
    25 + 3 * finger + bone: (
        (_THUMB_REST if finger == 4 else _FINGER_REST)[bone],
        (_THUMB_SPREAD if finger == 4 else _FINGER_SPREAD)[bone],
    )
    for finger in range(5)
    for bone in range(3)
}


@dataclass(frozen=True)
class Group:
    """Joints that move together through `rank` synergies; `mirrored` ones share them with the other side's group."""

    joints: tuple[int, ...]
    table: dict
    rank: int
    corner: float  # Hz, of the slow drift
    mirrored: bool = False


GROUPS: tuple[Group, ...] = (
    Group(tuple(_TRUNK), _TRUNK, 3, 0.4),
    Group(tuple(_HEAD), _HEAD, 3, 0.5),
    Group(tuple(_ARM), _ARM, 5, 0.27),
    Group(tuple(joint + 1 for joint in _ARM), _ARM, 5, 0.27, mirrored=True),
    Group(tuple(_HAND), _HAND, 5, 0.35),
    Group(tuple(joint + 15 for joint in _HAND), _HAND, 5, 0.35, mirrored=True),
)
TRUNK, HEAD, LEFT_ARM, RIGHT_ARM, LEFT_HAND, RIGHT_HAND = range(6)
_ENDS = np.cumsum([group.rank for group in GROUPS])
RANK = int(_ENDS[-1])
SLICES = tuple(slice(int(end - group.rank), int(end)) for end, group in zip(_ENDS, GROUPS))
GESTURE_JOINTS: tuple[int, ...] = tuple(
    sorted(j for index in (LEFT_ARM, RIGHT_ARM, LEFT_HAND, RIGHT_HAND) for j in GROUPS[index].joints)
)
_JOLTED = (3, 6, 9, 13, 14, 16, 17)
_DRIFT, _BEAT, _SWING = 0.68, 1.05, 0.45
_FIDGET = np.repeat([0.15, 0.32], 10)  # small quick movements of arms and, more, of hands
_SIZE = (1.0, 0.92, 1.1, 0.98)  # movement amplitude by speaker


@dataclass(frozen=True)
class Repertoire:
    """What is the same in every clip: synergies, the 12 gestures, the beat strokes, each speaker's style."""

    synergies: tuple[np.ndarray, ...]  # per group [rank, joints * 3], degrees
    strokes: np.ndarray  # [12, 2, RANK]: bump and swing directions of each gesture
    swings: np.ndarray  # [12, 2]: cycles and phase of each gesture's swing
    beats: np.ndarray  # [4, RANK]
    style: np.ndarray  # [speakers, RANK, RANK]
    bearing: np.ndarray  # [speakers, 55, 3] degrees added to the resting pose


def _direction(rng: np.random.Generator, side: tuple[float, float], hands: float, trunk: float) -> np.ndarray:
    """A random latent direction [RANK], the two sides alike but for their size."""
    out = np.zeros(RANK)
    for left, right, weight in ((LEFT_ARM, RIGHT_ARM, 1.0), (LEFT_HAND, RIGHT_HAND, hands)):
        shared = rng.standard_normal(GROUPS[left].rank)
        for index, size in ((left, side[0]), (right, side[1])):
            mixed = 0.85 * shared + 0.5 * rng.standard_normal(len(shared))
            out[SLICES[index]] = weight * size * mixed * np.sqrt(len(mixed)) / np.linalg.norm(mixed)
    for index in (TRUNK, HEAD):
        out[SLICES[index]] = trunk * rng.standard_normal(GROUPS[index].rank)
    return out


def _directions(rng: np.random.Generator, count: int, hands: float, trunk: float) -> np.ndarray:
    """[count, RANK] directions, both-handed, right- and left-handed in turn, none close to another."""
    chosen: list[np.ndarray] = []
    for i in range(count):
        tries = [_direction(rng, ((1.0, 1.0), (0.3, 1.15), (1.15, 0.3))[i % 3], hands, trunk) for _ in range(40)]
        unit = [t / np.linalg.norm(t) for t in tries]
        nearest = [max((u @ c / np.linalg.norm(c) for c in chosen), default=0.0) for u in unit]
        chosen.append(tries[int(np.argmin(nearest))])
    return np.array(chosen)


def build_repertoire(seed: int) -> Repertoire:
    """The repertoire of a corpus."""
    rng = np.random.default_rng([seed, 14])
    synergies: list[np.ndarray] = []
    for group in GROUPS:
        spread = np.array([group.table[j][1] for j in group.table]).reshape(-1)
        mixing = rng.standard_normal((group.rank, len(spread)))
        if group.table is _HAND:  # hands: the first synergy closes all fingers together
            mixing[0, 2::3] = -2.0
        mixing *= spread / np.linalg.norm(mixing, axis=0)
        synergies.append(
            (synergies[-1].reshape(group.rank, -1, 3) * MIRROR).reshape(group.rank, -1) if group.mirrored else mixing
        )
    strokes = np.stack([_directions(rng, NUM_CLASSES, 1.0, 0.4), _directions(rng, NUM_CLASSES, 1.0, 0.3)], axis=1)
    swings = np.stack([np.tile([0.5, 1.0, 1.5], 4), rng.uniform(0, 2 * np.pi, NUM_CLASSES)], axis=1)
    bearing = rng.standard_normal((len(SPEAKERS), 55, 3)) * 2.0
    return Repertoire(
        tuple(synergies),
        strokes,
        swings,
        beats=_directions(rng, 4, 0.7, 0.5),
        style=np.eye(RANK) + 0.05 * rng.standard_normal((len(SPEAKERS), RANK, RANK)),
        bearing=bearing,
    )


def _bump(phase: np.ndarray) -> np.ndarray:
    """Out and back once for phase 0..1, else 0."""
    return np.where((phase > 0) & (phase < 1), np.sin(np.pi * np.clip(phase, 0, 1)) ** 2, 0.0)


def _window(start: float, end: float, frames: int) -> tuple[slice, np.ndarray]:
    """The frames inside [start, end] seconds and their phase 0..1."""
    first, last = max(int(np.ceil(start * FPS)), 0), min(int(np.floor(end * FPS)) + 1, frames)
    return slice(first, last), (np.arange(first, last) / FPS - start) / (end - start)


def _latents(script: Script, repertoire: Repertoire, parameters: Planted, rng: np.random.Generator) -> np.ndarray:
    """[T, RANK] drift, beats and gestures of a clip, in this speaker's style."""
    frames = parameters.frames
    slow = [drift(rng, frames, group.rank, group.corner) for group in GROUPS]
    for left, right in ((LEFT_ARM, RIGHT_ARM), (LEFT_HAND, RIGHT_HAND)):
        slow[right] = 0.6 * slow[left] + 0.8 * slow[right]
    latents = _DRIFT * np.concatenate(slow, axis=1)
    limbs = slice(SLICES[LEFT_ARM].start, None)
    latents[:, limbs] += _FIDGET * drift(rng, frames, RANK - limbs.start, corner=2.0)
    strokes = np.zeros((frames, RANK))
    for apex in script.beats:
        length = rng.uniform(0.36, 0.5)
        at, phase = _window(apex - length / 2, apex + length / 2, frames)
        weights = repertoire.beats[rng.integers(len(repertoire.beats))] + 0.35 * rng.standard_normal(RANK)
        strokes[at] += _BEAT * np.exp(0.2 * rng.standard_normal()) * np.outer(_bump(phase), weights)
    loudness = _BEAT * parameters.gesture_amplitude
    for gesture in script.gestures:
        at, phase = _window(gesture.start, gesture.end, frames)
        cycles, offset = repertoire.swings[gesture.meaning]
        bump, swing = repertoire.strokes[gesture.meaning] + 0.1 * parameters.variety * rng.standard_normal((2, RANK))
        size = loudness * np.exp(0.1 * parameters.variety * rng.standard_normal())
        envelope = _bump(phase)
        strokes[at] += size * (
            np.outer(envelope, bump) + np.outer(envelope * np.sin(2 * np.pi * cycles * phase + offset), _SWING * swing)
        )
    return latents + _SIZE[script.speaker] * strokes @ repertoire.style[script.speaker]


def upper_body(script: Script, repertoire: Repertoire, parameters: Planted, rng: np.random.Generator) -> np.ndarray:
    """[T, 55, 3] rotation vectors in degrees of trunk, head, arms and hands; other joints 0."""
    frames = parameters.frames
    pose = np.zeros((frames, 55, 3))
    latents = _latents(script, repertoire, parameters, rng)
    for group, columns, synergy in zip(GROUPS, SLICES, repertoire.synergies):
        rest = np.array([group.table[j][0] for j in group.table]) * (MIRROR if group.mirrored else 1.0)
        joints = list(group.joints)
        pose[:, joints] = (
            rest + repertoire.bearing[script.speaker, joints] + (latents[:, columns] @ synergy).reshape(frames, -1, 3)
        )
    for start in script.jolts:
        at, phase = _window(start, start + JOLT_SECONDS, frames)
        kick = rng.standard_normal((len(_JOLTED), 3))
        kick *= np.array([6.0, 6.0, 4.0, 9.0, 9.0, 14.0, 14.0])[:, None] * parameters.distraction
        pose[at][:, list(_JOLTED)] += _bump(phase)[:, None, None] * kick
    return pose
