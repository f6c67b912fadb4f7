"""Measures over one hour of motion against plain Python loops of the same formulas: clip by clip, joint by joint.

    python benchmarks/metrics.py                # one hour, one thread
    python benchmarks/metrics.py --minutes 6

The hour is made up (smooth rotations, feet that step, onsets at random); both are given the same motion and the same
onsets, as hearing them is the same work for both, and so are the feature vectors of the Frechet distance. The loops are
plain but not foolish: arrays over the frames of one joint in numpy, in double precision. Both run in this process, on one
thread, one after the other; seconds are of the processor. Numbers that differ by more than 1e-6 are an error.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import argrelextrema

from maskmotion.evaluation.accuracy import SemanticRecall
from maskmotion.evaluation.beat import UPPER_BODY, BeatAlignment, BeatConstancy
from maskmotion.evaluation.diversity import L1Diversity
from maskmotion.evaluation.feet import HEIGHT, LOWEST, FootSkating, FootSliding
from maskmotion.evaluation.fgd import Frechet
from maskmotion.evaluation.pairs import Pair, Reference, local_positions
from maskmotion.evaluation.smoothness import Jerk
from maskmotion.motion.kinematics import OFFSETS
from maskmotion.motion.layout import CONTACTS, SMPLX
from maskmotion.motion.skeleton import FEET, NUM_JOINTS, PARENTS
from maskmotion.types import Clip

FPS, SECONDS, WINDOW, SHIFTS = 30, 60, 64, 8

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--minutes", type=int, default=60)


def motion(seed: int) -> torch.Tensor:
    """A minute [1800, 437] of smooth rotations and steps."""
    rng = torch.Generator().manual_seed(seed)
    time_ = torch.arange(SECONDS * FPS)[:, None] / FPS
    rates = 0.1 + 2 * torch.rand(1, 12, generator=rng)
    sources = torch.sin(2 * math.pi * (rates * time_ + torch.rand(1, 12, generator=rng)))
    found = SMPLX.rest.repeat(len(time_), 1)
    found[:, :333] += 0.1 * sources @ torch.randn(12, 333, generator=torch.Generator().manual_seed(0))
    found[:, CONTACTS] = (sources[:, :4] > 0).float()
    return found


def onsets(seed: int) -> torch.Tensor:
    """About two onsets a second."""
    rng = torch.Generator().manual_seed(1000 + seed)
    return (SECONDS * torch.rand(2 * SECONDS, generator=rng)).double().sort().values


# Ours


def ours(
    clips: list[torch.Tensor], heard: list[torch.Tensor], features: list[list[torch.Tensor]]
) -> dict[str, Callable]:
    """Measure -> what takes it; the joints come first, as all others look at them."""
    recorded = [clips[(number + 1) % len(clips)] for number in range(len(clips))]
    pairs: list[Pair] = []
    places: list[torch.Tensor] = []

    def joints() -> float:
        pairs[:] = [Pair(clip, Reference(Clip("", there))) for clip, there in zip(clips, recorded)]
        places[:] = [local_positions(clip) for clip in clips]
        for pair, place in zip(pairs, places):
            pair.__dict__["local"] = place
        return float(sum(pair.world.double().sum() for pair in pairs))

    def over(measure, feed) -> Callable[[], float]:
        def take() -> float:
            for number, pair in enumerate(pairs):
                feed(measure, pair, number)
            return float(measure.result())

        return take

    there = [(number + 1) % len(clips) for number in range(len(clips))]
    scores = (torch.arange(SECONDS * FPS) % 90 < 30).double() * 0.5
    return {
        "joints": joints,
        "fgd": over(Frechet(features[0][0].shape[1]), lambda m, _, n: m.update(features[0][n], features[1][n])),
        "bc": over(BeatConstancy(), lambda m, pair, n: m.update(pair.local, heard[n])),
        "ba": over(BeatAlignment(), lambda m, pair, n: m.update(pair.generated, heard[n])),
        "l1_diversity": over(L1Diversity(), lambda m, pair, _: m.update(pair.local)),
        "srgr": over(SemanticRecall(), lambda m, pair, n: m.update(pair.local, places[there[n]], scores)),
        "foot_skating": over(FootSkating(), lambda m, pair, _: m.update(pair.world)),
        "foot_sliding": over(FootSliding(), lambda m, pair, _: m.update(pair.world, pair.generated[:, CONTACTS])),
        "jerk": over(Jerk(), lambda m, pair, _: m.update(pair.local)),
    }


# Loops


def matrix(rows: np.ndarray) -> np.ndarray:
    """Row-6D [T, 6] of one joint -> [T, 3, 3]."""
    first = rows[:, :3] / np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
    second = rows[:, 3:] - (first * rows[:, 3:]).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def place(clip: np.ndarray, whole: bool) -> np.ndarray:
    """Joints [55, T, 3] of one clip, joint by joint; `whole`: with orientation and translation."""
    bones = OFFSETS.double().numpy()
    turned, placed = [], []
    for joint, parent in enumerate(PARENTS):
        own = matrix(clip[:, 6 * joint : 6 * joint + 6])
        if parent < 0:
            turned.append(own if whole else np.broadcast_to(np.eye(3), own.shape))
            placed.append(np.broadcast_to(bones[0], (len(clip), 3)) + (clip[:, 330:333] if whole else 0))
        else:
            placed.append(placed[parent] + turned[parent] @ bones[joint])
            turned.append(turned[parent] @ own)
    return np.stack(placed)


def nearest(times: np.ndarray, targets: np.ndarray, sigma: float = 0.3) -> float:
    return sum(math.exp(-(np.abs(targets - one).min() ** 2) / (2 * sigma**2)) for one in times) if len(targets) else 0.0


def pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean closeness, and what chance gives, which is part of the measure."""
    count = sum(len(times) for times, _ in pairs)
    for shift in range(1, SHIFTS + 1):
        for times, targets in pairs:
            nearest(times, (targets + shift / (SHIFTS + 2) * SECONDS) % SECONDS)
    return sum(nearest(times, targets) for times, targets in pairs) / count


def loops(
    clips: list[torch.Tensor], heard: list[torch.Tensor], features: list[list[torch.Tensor]]
) -> dict[str, Callable]:
    """The same measures."""
    arrays = [clip.double().numpy() for clip in clips]
    beats = [one.numpy() for one in heard]
    local: list[np.ndarray] = []
    world: list[np.ndarray] = []

    def joints() -> float:
        local[:] = [place(clip, whole=False) for clip in arrays]
        world[:] = [place(clip, whole=True) for clip in arrays]
        return float(sum(clip.sum() for clip in world))

    def fgd() -> float:
        moments = []
        for side in features:
            rows = np.concatenate([one.double().numpy() for one in side])
            mean = sum(row for row in rows) / len(rows)
            moments.append((mean, sum(np.outer(row - mean, row - mean) for row in rows) / (len(rows) - 1)))
        from scipy.linalg import sqrtm

        (a, first), (b, second) = moments
        return float(((a - b) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real))

    def bc() -> float:
        pairs = []
        for clip, targets in zip(local, beats):
            for joint in UPPER_BODY:
                speed = np.linalg.norm(np.gradient(clip[joint], 1 / FPS, axis=0), axis=1)
                pairs.append((argrelextrema(speed, np.less, order=7)[0] / FPS, targets))
        return pooled(pairs)

    def ba() -> float:
        pairs = []
        for clip, times in zip(arrays, beats):
            turns = matrix(clip[:, 126:132])
            step = np.trace(turns[:-1].transpose(0, 2, 1) @ turns[1:], axis1=1, axis2=2)
            speed = FPS * np.arccos(np.clip((step - 1) / 2, -1, 1))
            pairs.append((times, argrelextrema(np.append(speed, speed[-1]), np.less, order=4)[0] / FPS))
        return pooled(pairs)

    def l1_diversity() -> float:
        cut = [clip[:, n : n + WINDOW] for clip in local for n in range(0, clip.shape[1] - WINDOW + 1, WINDOW)]
        total = 0.0
        for first in range(len(cut)):
            for second in range(first):
                for joint in range(NUM_JOINTS):
                    total += 2 * np.abs(cut[first][joint] - cut[second][joint]).sum() / WINDOW
        return total / (2 * len(cut) * (len(cut) - 1))

    def srgr() -> float:
        score = (np.arange(SECONDS * FPS) % 90 < 30) * 0.5
        total = weight = 0.0
        for number, clip in enumerate(local):
            other = local[(number + 1) % len(local)]
            for joint in range(NUM_JOINTS):
                near = np.linalg.norm(clip[joint] - other[joint], axis=1) < 0.1
                total, weight = total + (near * score).sum(), weight + score.sum()
        return total / weight

    def foot_skating() -> float:
        total = weight = 0.0
        for clip in world:
            for joint in FEET:
                high = (clip[joint][:, 1] - np.quantile(clip[joint][:, 1], LOWEST)) / HEIGHT
                near = 2 - 2 ** np.clip(high[1:], 0, 1)
                pace = 100 * FPS * np.hypot(np.diff(clip[joint][:, 0]), np.diff(clip[joint][:, 2]))
                total, weight = total + (near * pace).sum(), weight + near.sum()
        return total / weight

    def foot_sliding() -> float:
        total = count = 0.0
        for clip, values in zip(world, arrays):
            for number, joint in enumerate(FEET):
                on = values[:, 333 + number] > 0.5
                both = on[1:] & on[:-1]
                pace = 100 * FPS * np.linalg.norm(np.diff(clip[joint], axis=0), axis=1)
                total, count = total + pace[both].sum(), count + both.sum()
        return total / count

    def jerk() -> float:
        total = count = 0.0
        for clip in local:
            for joint in range(NUM_JOINTS):
                third = FPS**3 * np.linalg.norm(np.diff(clip[joint], n=3, axis=0), axis=1)
                total, count = total + third.sum(), count + len(third)
        return total / count

    parts = (joints, fgd, bc, ba, l1_diversity, srgr, foot_skating, foot_sliding, jerk)
    return {part.__name__: part for part in parts}


def compare(minutes: int) -> dict[str, tuple[float, float, float, float]]:
    """Measure -> our number, theirs, our seconds, theirs."""
    clips, heard = [motion(n) for n in range(minutes)], [onsets(n) for n in range(minutes)]
    rng = torch.Generator().manual_seed(0)
    features = [[torch.randn(112, 32, generator=rng) + 0.1 * side for _ in clips] for side in range(2)]
    found = {}
    own, plain = ours(clips, heard, features), loops(clips, heard, features)
    for name in own:
        values, seconds = [], []
        for take in (own[name], plain[name]):
            begun = time.process_time()
            values.append(take())
            seconds.append(time.process_time() - begun)
        found[name] = (*values, *seconds)
    return found


def main() -> None:
    """Print numbers, seconds and ratios."""
    torch.set_num_threads(1)
    minutes = parser.parse_args().minutes
    compare(1)  # libraries load their parts on first use
    found = compare(minutes)
    print(f"| {minutes} minutes of motion | ours | loops | s, ours | s, loops | times |\n" + "|---" * 6 + "|")
    for name, (own, plain, mine, theirs) in found.items():
        shown = ("", "") if name == "joints" else (f"{own:.6f}", f"{plain:.6f}")
        print(f"| {name} | {shown[0]} | {shown[1]} | {mine:.3f} | {theirs:.3f} | {theirs / mine:.1f} |")
    totals = [sum(values[column] for values in found.values()) for column in (2, 3)]
    measured = [sum(values[column] for name, values in found.items() if name != "joints") for column in (2, 3)]
    for title, (mine, theirs) in (("all, from joints on", measured), ("all", totals)):
        print(f"| {title} | | | {mine:.3f} | {theirs:.3f} | {theirs / mine:.1f} |")
    worst = max(abs(own - plain) / max(1.0, abs(plain)) for name, (own, plain, *_) in found.items() if name != "joints")
    print(f"largest difference {worst:.1e}")
    if worst > 1e-6:
        raise SystemExit("the numbers differ by more than 1e-6")


if __name__ == "__main__":
    main()
