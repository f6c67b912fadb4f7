"""The planted corpus moves like a person, and its meanings are there to be found but do not give themselves away."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import fft, ndimage

from maskmotion.data.beat2 import load_split, recordings
from maskmotion.data.planted import GESTURE_JOINTS, planted_root
from maskmotion.motion.files import MotionFile, read_motion
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import CONTACTS, ROTATIONS, TRANSLATION, rotation_columns
from maskmotion.motion.skeleton import FEET
from maskmotion.types import Clip

LIMBS = list(rotation_columns(GESTURE_JOINTS))
# Joints; then mean std, mean |velocity| /s, mean std of velocity, mean std of acceleration /s^2, 1/e correlation time (s)
# of one real take (2_scott_0_1_1, 63.5 s): specs/semtalk.md, section 12.1. Degrees; expressions in their own unit; cm.
REAL = {
    "pelvis": ((0,), 5.7, 9.4, 12.9, 157, 0.83),
    "torso": ((3, 6, 9), 2.0, 4.9, 6.9, 141, 0.80),
    "neck, head": ((12, 15), 3.2, 8.7, 11.9, 218, 0.73),
    "collars": ((13, 14), 4.9, 12.4, 18.1, 246, 0.57),
    "shoulders": ((16, 17), 7.2, 19.0, 26.6, 341, 0.53),
    "elbows": ((18, 19), 19.9, 41.0, 61.7, 763, 0.77),
    "wrists": ((20, 21), 10.9, 32.8, 52.4, 1016, 0.60),
    "fingers": (tuple(range(25, 55)), 6.1, 21.8, 32.3, 660, 0.57),
    "hips": ((1, 2), 6.1, 11.0, 16.6, 247, 0.77),
    "knees": ((4, 5), 7.0, 15.2, 25.8, 370, 0.67),
    "ankles, feet": ((7, 8, 10, 11), 4.4, 11.3, 17.5, 415, None),
    "jaw": ((22,), 0.31, 2.4, 3.8, 110, 0.17),
    "eyes": ((23, 24), 0.73, 2.2, 3.0, 68, None),
    "expression": ((), 0.45, 2.9, 4.5, 140, 0.30),
    "translation x": ((), 12.6, 8.7, 12.7, 44, None),
    "translation y": ((), 2.6, 2.2, 4.7, 37, None),
    "translation z": ((), 24.0, 10.1, 15.1, 51, None),
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_root(tmp_path_factory.getbasetemp() / "planted")  # made once for all test files


@pytest.fixture(scope="session")
def train(root: Path) -> list[Clip]:
    return load_split(root, "train")


@pytest.fixture(scope="session")
def test(root: Path) -> list[Clip]:
    return load_split(root, "test")


def pooled(clips: list[Clip], measure) -> np.ndarray:
    return np.concatenate([measure(clip) for clip in clips])


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    rank = np.empty(len(scores))
    rank[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    hits = int(truth.sum())
    return float((rank[truth].sum() - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))


def correlation_time(track: np.ndarray) -> float:
    centred = track - track.mean(axis=0)
    power = np.abs(np.fft.rfft(centred, 2 * len(track), axis=0)) ** 2
    correlation = np.fft.irfft(power, axis=0)[: len(track)].sum(axis=1)
    return float(np.argmax(correlation < correlation[0] / np.e) / 30)


def figures(track: np.ndarray) -> np.ndarray:
    velocity, acceleration = 30 * np.diff(track, axis=0), 900 * np.diff(track, n=2, axis=0)
    spread = [values.std(axis=0).mean() for values in (track, velocity, acceleration)]
    return np.array([spread[0], np.abs(velocity).mean(), spread[1], spread[2], correlation_time(track)])


@pytest.fixture(scope="session")
def files(root: Path) -> list[MotionFile]:
    return [read_motion(row.motion) for row in recordings(root, "test")]


@pytest.mark.parametrize("group", REAL)
def test_each_group_moves_within_a_factor_of_two_of_a_real_take(files, group):
    joints, *real = REAL[group]

    def track(motion) -> np.ndarray:
        if joints:
            return np.rad2deg(motion.poses).reshape(-1, 55, 3)[:, list(joints)].reshape(motion.frames, -1)
        return motion.expressions if group == "expression" else 100 * motion.trans[:, ["xyz".index(group[-1])]]

    measured = np.mean([figures(track(motion)) for motion in files], axis=0)
    for ours, theirs in zip(measured, real):
        assert theirs is None or 0.5 <= ours / theirs <= 2, f"{group}: {measured} against {real}"


def test_motion_is_low_rank_as_real_motion_is(files):
    for motion in files[:4]:
        power = np.linalg.eigvalsh(np.cov(motion.poses, rowvar=False))[::-1]
        assert 10 <= np.sum(np.cumsum(power) < 0.9 * power.sum()) + 1 <= 20  # 19 in the real take
        assert np.linalg.matrix_rank(motion.expressions) == 51  # as in the real take


def test_right_is_left_mirrored(files):
    rest = np.rad2deg(np.mean([motion.poses.mean(axis=0) for motion in files], axis=0)).reshape(55, 3)
    left, right = rest[[13, 16, 18, 20, *range(25, 40)]], rest[[14, 17, 19, 21, *range(40, 55)]]
    assert np.abs(right - left * [1, -1, -1]).mean() < 4 < np.abs(right - left).mean()


def test_feet_stand_still_where_they_touch_the_floor(test):
    for clip in test[:4]:
        joints = forward_kinematics(clip.motion[:, ROTATIONS].unflatten(-1, (55, 6)), clip.motion[:, TRANSLATION])
        feet = joints[:, list(FEET)]
        contact = clip.motion[:-1, CONTACTS] > 0.5
        speed = 30 * feet.diff(dim=0).norm(dim=-1)  # metres per second
        assert 0.7 < contact.float().mean() < 0.92  # .72 to .87 in real takes
        assert contact.any(dim=1).all()  # one foot always carries
        assert speed[contact].median() < 0.05 < 0.3 < speed[~contact].min()
        assert feet[..., 1].min() > -0.01
        assert feet[:-1][contact][:, 1].quantile(0.98) < 0.1  # a short step may be slow at its highest point


def test_the_mouth_opens_with_the_voice(test):
    def loudness(clip: Clip) -> np.ndarray:
        return np.log(np.sqrt(np.add.reduceat(clip.audio.numpy() ** 2, np.arange(clip.frames) * 1600 // 3)))

    opening = pooled(test, lambda clip: -clip.motion[:, 6 * 22 + 5].numpy())  # sine of the jaw's turn about x
    assert np.corrcoef(pooled(test, loudness), opening)[0, 1] > 0.3


def test_jolts_are_two_to_three_times_as_fast_as_beats(root):
    peaks: dict[str, list[float]] = {"beat": [], "distractor": []}
    for row in recordings(root, "test"):
        turns = np.diff(read_motion(row.motion).poses.reshape(-1, 55, 3)[:, [3, 6, 9, 13, 14, 16, 17]], axis=0)
        speed = np.linalg.norm(turns, axis=(1, 2))
        with np.load(root / "labels" / f"{row.id}.npz") as known:
            jolts, beats = np.flatnonzero(np.diff(known["distractor"] * 1) == 1), np.flatnonzero(known["beat"])
            calm = [apex for apex in beats if not known["distractor"][max(apex - 8, 0) : apex + 9].any()]
        peaks["distractor"] += [speed[start : start + 13].max() for start in jolts]
        peaks["beat"] += [speed[max(apex - 7, 0) : apex + 8].max() for apex in calm]
    assert 2 <= np.median(peaks["distractor"]) / np.median(peaks["beat"]) <= 3  # 2.3


# Sanity: where is the meaning? Held-out clips, pooled over all frames.


def semantic(clip: Clip) -> np.ndarray:
    return clip.labels["semantic"].numpy() > 0.15


def limb_speed(clip: Clip) -> np.ndarray:
    return ndimage.uniform_filter1d(np.linalg.norm(np.gradient(clip.motion[:, LIMBS].numpy(), axis=0), axis=1), 15)


def jerk(clip: Clip) -> np.ndarray:
    return np.linalg.norm(ndimage.convolve1d(clip.motion[:, ROTATIONS].numpy(), [1, -3, 3, -1], axis=0), axis=1)


def log_mel(clip: Clip, context: int = 12) -> np.ndarray:
    """[T, 25 * 26]: 26 mel-like bands of the frames 0.4 s around."""
    at = np.arange(clip.frames) * 1600 // 3
    sound = np.lib.stride_tricks.sliding_window_view(np.pad(clip.audio.numpy(), 512), 1024)[at] * np.hanning(1024)
    power = np.abs(fft.rfft(sound.astype(np.float32), axis=1)) ** 2
    edges = np.unique(np.round(700 / 15.625 * (np.exp(np.linspace(0.1, 2.5, 27)) - 1)).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1e-6)
    return np.concatenate([np.roll(bands, -shift, axis=0) for shift in range(-context, context + 1)], axis=1)


def test_speed_tells_little_and_jerk_nothing(test):
    truth = pooled(test, semantic)
    assert 0.62 <= auroc(pooled(test, limb_speed), truth) <= 0.72  # .67
    assert auroc(pooled(test, jerk), truth) <= 0.6  # .43


def test_audio_alone_finds_the_meaning_in_part(train, test):
    features, held_out = (
        torch.from_numpy(pooled(train, log_mel)).float(),
        torch.from_numpy(pooled(test, log_mel)).float(),
    )
    centre, spread = features.mean(dim=0), features.std(dim=0)
    features, held_out = (features - centre) / spread, (held_out - centre) / spread
    wanted, truth = torch.from_numpy(pooled(train, semantic)).float(), pooled(test, semantic)
    gram = features.T @ features + 3e3 * torch.eye(features.shape[1])
    ridge = auroc((held_out @ torch.linalg.solve(gram, features.T @ (wanted - wanted.mean()))).numpy(), truth)
    torch.manual_seed(0)
    probe = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 1)
    )
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-3, weight_decay=0.1)
    for rows in [rows for _ in range(4) for rows in torch.randperm(len(features)).split(256)]:
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(probe(features[rows])[:, 0], wanted[rows]).backward()
        optimizer.step()
    network = auroc(probe.eval()(held_out)[:, 0].detach().numpy(), truth)
    print(f"audio probes: ridge {ridge:.3f}, network {network:.3f}")
    assert 0.65 <= ridge <= network
    assert 0.72 <= network <= 0.88


def gesture_windows(clips: list[Clip], slack: int = 4, length: int = 26) -> tuple[np.ndarray, np.ndarray]:
    """[gestures, 2 * slack + 1, columns] limb windows around each gesture, minus the mean of the second before; classes."""
    windows, classes = [], []
    for clip in clips:
        shown, limbs = clip.labels["gesture"].numpy(), clip.motion[:, LIMBS].numpy()
        bounds = np.flatnonzero(np.diff(shown, prepend=-1, append=-1))
        for start, end in [(a, b) for a, b in itertools.pairwise(bounds) if shown[a] >= 0]:
            first = (start + end - length) // 2
            if first >= 30 + slack and first + length + slack <= clip.frames:
                shifted = np.lib.stride_tricks.sliding_window_view(
                    limbs[first - slack : first + length + slack], length, axis=0
                )
                windows.append((shifted - limbs[first - 30 : first].mean(axis=0)[:, None]).reshape(2 * slack + 1, -1))
                classes.append(shown[start])
    return np.array(windows), np.array(classes)


def test_gestures_are_told_apart_by_their_prototypes(train, test):
    windows, classes = gesture_windows(train)
    prototypes = np.stack([windows[classes == meaning, 4].mean(axis=0) for meaning in range(12)])
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    seen, truth = gesture_windows(test)
    similarity = seen @ prototypes.T / np.linalg.norm(seen, axis=2, keepdims=True)
    assert (similarity.max(axis=1).argmax(axis=1) == truth).mean() >= 0.85  # .92; chance .08
