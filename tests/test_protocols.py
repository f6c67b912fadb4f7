"""Protocols against plain loops of their formulas, in any grouping of clips, on two processes, and what is absent."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import argrelextrema
from smplx_file import write_random_smplx
from test_distributed import launch

from maskmotion.evaluation.evaluation import Evaluation, between
from maskmotion.evaluation.extractor import FeatureExtractor
from maskmotion.evaluation.measures import Setup
from maskmotion.evaluation.pairs import Pair, Reference
from maskmotion.evaluation.protocols import PROTOCOLS, protocol
from maskmotion.evaluation.semantics import GestureClassifier
from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor
from maskmotion.motion.body_model import BodyModel
from maskmotion.motion.layout import EXPRESSIONS, IDENTITY_6D, SMPLX
from maskmotion.motion.skeleton import FEET
from maskmotion.types import Clip

UPPER = [3, 6, 9, *range(12, 22)]
LENGTHS = (150, 131, 170)


def motion(frames: int, seed: int) -> torch.Tensor:
    """A motion [T, 437] of a few sinusoids in every column."""
    rng = torch.Generator().manual_seed(seed)
    time = torch.arange(frames)[:, None] / 30
    sources = torch.sin(
        2 * math.pi * ((0.3 + 2 * torch.rand(1, 8, generator=rng)) * time + torch.rand(1, 8, generator=rng))
    )
    found = SMPLX.rest.repeat(frames, 1)
    found += 0.15 * sources @ torch.randn(8, 437, generator=torch.Generator().manual_seed(0))
    found[:, 333:337] = (sources[:, :4] > 0).float()
    return found


def recording(frames: int, seed: int) -> Clip:
    """A clip with clicks, semantic scores, gestures and a body shape."""
    rng = torch.Generator().manual_seed(100 + seed)
    samples = round((frames + 40) / 30 * 16000)
    sound = 0.001 * torch.randn(samples, generator=rng)
    for start in range(5000, samples - 1000, 7000 + 900 * seed):
        sound[start : start + 600] += torch.randn(600, generator=rng) * torch.linspace(1, 0, 600)
    labels = {"semantic": (torch.arange(frames) % 50 < 20) * 0.6, "gesture": torch.full((frames,), -1)}
    for number, first in enumerate(range(20, frames - 40, 60)):
        labels["gesture"][first : first + 25] = number % 2
    betas = 0.5 * torch.randn(300, generator=rng)
    return Clip(f"clip{seed}", motion(frames, seed), sound, labels=labels, betas=betas)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [recording(frames, seed) for seed, frames in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def generated() -> list[torch.Tensor]:
    """Motion of other lengths than the recordings: shorter, equal, longer."""
    return [motion(length, seed + 50) for seed, length in enumerate((140, 131, 180))]


def extractors() -> dict[str, FeatureExtractor]:
    found = {}
    for reads in ("body", "motion", "face"):
        torch.manual_seed(0)
        found[reads] = FeatureExtractor(reads=reads).eval()
    return found


class FewVertices(BodyModel):
    """Joints moved by the first expressions, for vertices: a mesh that costs nothing."""

    def forward(self, rotations, expressions=None, betas=None, translation=None):
        joints = self.joints(rotations, betas)
        moved = 0 if expressions is None else 0.01 * expressions[:, None, :3]
        return joints + moved, joints


@pytest.fixture(scope="module")
def body_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("body") / "model.npz"
    write_random_smplx(path)
    return path


@pytest.fixture(scope="module")
def quick(setup, body_file) -> Setup:
    """The setup with a mesh that costs nothing."""
    return replace(setup, body=FewVertices(body_file))


@pytest.fixture(scope="module")
def setup(body_file) -> Setup:
    speeds = torch.linspace(0.5, 1.5, 55, dtype=torch.float64)
    many = [recording(400, seed) for seed in range(4)]
    return Setup(extractors(), BodyModel(body_file), speeds, GestureClassifier.fit(many))


@pytest.fixture(params=["few vertices", pytest.param("SMPL-X layout", marks=pytest.mark.slow)])
def either(request, setup, quick) -> Setup:
    """With the mesh of a random file of SMPL-X's layout, and with one that costs nothing."""
    return quick if request.param == "few vertices" else setup


def references(clips: list[Clip]) -> list[Reference]:
    return [Reference(clip) for clip in clips]


def evaluated(name: str, setup: Setup, generated, clips, grouping=((0, 1, 2),)) -> dict[str, float]:
    evaluation = Evaluation(protocol(name), setup)
    refs = references(clips)
    for group in grouping:
        evaluation.update([generated[n] for n in group], [refs[n] for n in group])
    return dict(evaluation.result().values)


# Formulas, by plain loops


def posed(
    setup: Setup, values: torch.Tensor, clip: Clip, keep: range | tuple[int, ...], face: bool = False
) -> np.ndarray:
    """SMPL-X joints (or vertices) with every joint at rest but those of `keep`."""
    rotations = torch.tensor(IDENTITY_6D).repeat(len(values), 55, 1)
    rotations[:, list(keep)] = values[:, :330].unflatten(-1, (55, 6))[:, list(keep)]
    if face:
        return setup.body(rotations, values[:, EXPRESSIONS], clip.betas)[0].double().numpy()
    return setup.body.joints(rotations, clip.betas).double().numpy()


def plain_beats(positions: np.ndarray, onsets: np.ndarray, mean: np.ndarray, threshold: float) -> float:
    speed = np.linalg.norm(np.gradient(positions, 1 / 30, axis=0), axis=-1) / mean
    scores = []
    for joint in UPPER:
        minima = argrelextrema(speed[60:-60, joint], np.less, order=7)[0]
        kept = [frame / 30 for frame in minima if speed[frame, joint] > threshold]
        near = [min(abs(onset - beat) for beat in kept) if kept else np.inf for onset in onsets]
        scores.append(np.mean([math.exp(-(d**2) / (2 * 0.3**2)) for d in near]))
    return float(np.mean(scores))


def plain_onsets(sound: np.ndarray, first: int, end: int) -> np.ndarray:
    return librosa.onset.onset_detect(y=sound[first:end], sr=16000, hop_length=512, units="time")


def cut(generated, clips) -> list[tuple[torch.Tensor, torch.Tensor, Clip, int]]:
    lengths = [min(len(own), clip.frames) for own, clip in zip(generated, clips)]
    return [(own[:t], clip.motion[:t], clip, t) for own, clip, t in zip(generated, clips, lengths)]


def test_evaltools_are_their_formulas(either, generated, clips):
    found = evaluated("evaltools-v1", either, generated, clips)
    beats = spread = squares = moved = recalled = frames = weights = 0.0
    for own, true, clip, t in cut(generated, clips):
        positions = posed(either, own, clip, (*range(1, 22), *range(25, 55)))
        there = posed(either, true, clip, (*range(1, 22), *range(25, 55)))
        sound = plain_onsets(clip.audio.numpy(), 32000, int((t - 60) / 30 * 16000))
        beats += (t - 120) * plain_beats(positions, sound, either.mean_speed.numpy(), 0.1)
        spread += np.abs(positions - positions.mean(0)).sum()
        a, b = posed(either, own, clip, (22,), face=True), posed(either, true, clip, (22,), face=True)
        squares += ((a - b) ** 2).sum() / a[0].size
        moved += np.abs(np.diff(a, axis=0) - np.diff(b, axis=0)).sum() / a[0].size
        near = np.linalg.norm(positions - there, axis=-1) < 0.1
        recalled += (near.mean(1) * clip.labels["semantic"][:t].numpy() / 0.165).sum()
        frames, weights = frames + t, weights + t - 120
    assert found["bc"] == pytest.approx(beats / weights, rel=1e-6)
    assert found["l1_diversity"] == pytest.approx(spread / frames, rel=1e-5)
    assert found["mse"] == pytest.approx(squares / frames, rel=1e-5)
    assert found["lvd"] == pytest.approx(moved / frames, rel=1e-5)
    assert found["srgr"] == pytest.approx(recalled / frames, rel=1e-6)


def test_the_scripts_of_2024_are_their_formulas_with_their_flaws(either, generated, clips):
    found = evaluated("emage-v1", either, generated, clips)
    beats = spread = squares = placed = frames = weights = 0.0
    for own, true, clip, t in cut(generated, clips):
        positions = posed(either, own, clip, (*range(22), *range(25, 55)))
        away = np.abs(positions - positions.mean(0))
        there = librosa.resample(clip.audio.numpy(), orig_sr=16000, target_sr=22050)
        sound = librosa.resample(there, orig_sr=22050, target_sr=16000)
        end = int((len(sound) / 16000 * 30 - 60) / 30 * 16000)
        onsets = plain_onsets(sound[: int(t / 30 * 16000)], 32000, end)
        beats += (t - 120) * plain_beats(away, onsets, either.mean_speed.numpy(), 0.3)
        spread += away.sum()
        a, b = posed(either, own, clip, (22,), face=True), posed(either, true, clip, (22,), face=True)
        squares += t * ((a - b) ** 2).mean()
        placed += t * np.abs(a[1:] - b[1:]).mean()
        frames, weights = frames + t, weights + t - 120
    assert found["bc"] == pytest.approx(beats / weights, rel=1e-6)
    assert found["l1_diversity"] == pytest.approx(spread / frames, rel=1e-5)
    assert found["mse"] == pytest.approx(squares / frames, rel=1e-5)
    assert found["lvd"] == pytest.approx(placed / frames, rel=1e-5)
    assert "srgr" not in found


def test_our_protocol_is_the_formulas_of_the_papers(either, generated, clips):
    found = evaluated("maskmotion-v1", either, generated, clips)
    moved = steps = squares = frames = recalled = weights = jerk = skated = standing = 0.0
    for own, true, clip, t in cut(generated, clips):
        a, b = posed(either, own, clip, (22,), face=True), posed(either, true, clip, (22,), face=True)
        squares += ((a - b) ** 2).sum() / a[0].size
        moved += np.abs(np.diff(a - b, axis=0)).sum() / a[0].size
        here, there = (Pair(m, Reference(Clip("", m))) for m in (own, true))
        near = (here.local - there.local).norm(dim=-1) < 0.1
        score = clip.labels["semantic"][:t].double()
        recalled, weights = recalled + float((near.double().mean(1) * score).sum()), weights + float(score.sum())
        joints = here.local.double()
        third = joints[3:] - 3 * joints[2:-1] + 3 * joints[1:-2] - joints[:-3]
        jerk += 30**3 * float(third.norm(dim=-1).mean(1).sum())
        feet = here.world[:, list(FEET)].double().numpy()
        high = np.clip((feet[1:, :, 1] - np.quantile(feet[..., 1], 0.05, axis=0)) / 0.025, 0, 1)
        pace = 3000 * np.hypot(np.diff(feet[..., 0], axis=0), np.diff(feet[..., 2], axis=0))
        skated, standing = skated + ((2 - 2**high) * pace).sum(), standing + (2 - 2**high).sum()
        frames, steps = frames + t, steps + t - 1
    thirds = frames - 3 * len(clips)
    assert found["mse"] == pytest.approx(squares / frames, rel=1e-5)
    assert found["lvd"] == pytest.approx(moved / steps, rel=1e-5)
    assert found["srgr"] == pytest.approx(recalled / weights, rel=1e-6)
    assert found["jerk"] == pytest.approx(jerk / thirds, rel=1e-4)
    assert found["foot_skating"] == pytest.approx(skated / standing, rel=1e-5)
    assert {"fgd", "fmd", "fed", "ba", "gesture_accuracy", "foot_sliding"} <= set(found)


def test_joints_in_the_world_are_those_of_forward_kinematics(generated):
    from maskmotion.evaluation.feet import world_positions

    pair = Pair(generated[0], Reference(Clip("", generated[0])))
    assert torch.allclose(pair.world, world_positions(generated[0]), atol=1e-5)


def test_faces_are_the_vertices_of_jaw_and_expression_alone(setup, clips):
    own, true = motion(9, 7), clips[0].motion[:9]
    ((first, second),) = Pair(own, Reference(clips[0])).faces(setup.body)
    assert first.shape == (9, 10475, 3)
    assert np.allclose(first.numpy(), posed(setup, own, clips[0], (22,), face=True), atol=1e-6)
    assert np.allclose(second.numpy(), posed(setup, true, clips[0], (22,), face=True), atol=1e-6)
    elsewhere = own.clone()
    elsewhere[:, : 22 * 6] = motion(9, 8)[:, : 22 * 6]
    elsewhere[:, 23 * 6 : 337] = motion(9, 9)[:, 23 * 6 : 337]
    ((third, _),) = Pair(elsewhere, Reference(clips[0])).faces(setup.body)
    assert torch.equal(first, third)


def test_joints_without_a_mesh_are_those_of_the_body_model(setup, generated):
    rotations = generated[0][:20, :330].unflatten(-1, (55, 6))
    betas = torch.randn(300, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(setup.body.joints(rotations, betas), setup.body(rotations, None, betas)[1][:, :55], atol=1e-5)
    assert torch.allclose(setup.body.joints(rotations), setup.body(rotations)[1][:, :55], atol=1e-5)


# Groupings, processes, merging


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_grouping_of_clips_changes_a_number(name, quick, generated, clips):
    whole = evaluated(name, quick, generated, clips)
    for grouping in (((0,), (1,), (2,)), ((2, 0), (1,)), ((0, 1, 2),)):
        assert evaluated(name, quick, generated, clips, grouping) == pytest.approx(
            whole, rel=1e-9, abs=1e-12, nan_ok=True
        )
    parts = [Evaluation(protocol(name), quick) for _ in range(2)]
    refs = references(clips)
    parts[0].update([generated[2]], [refs[2]])
    parts[1].update(generated[:2], refs[:2])
    parts[0].merge(parts[1])
    row = parts[0].result()
    assert dict(row.values) == pytest.approx(whole, rel=1e-9, abs=1e-12, nan_ok=True)
    assert (row.clips, row.frames) == (3, 140 + 131 + 170)
    assert dict(parts[0].gather().result().values) == pytest.approx(dict(row.values), nan_ok=True), "one process"


SPLITS = [[[0, 2], [1]], [[], [0, 1, 2]]]
SHARE = """
import json, torch
torch.set_num_threads(1)
from accelerate import PartialState
from test_protocols import SPLITS, share
rank = PartialState(cpu=True).process_index
rows = [share(split[rank]).gather().result() for split in SPLITS]
with open(f"rank{rank}.json", "w") as file:
    json.dump([[dict(row.values), row.clips, row.frames] for row in rows], file)
"""


def share(numbers: list[int]) -> Evaluation:
    """An evaluation of some of three clips; their sound is heard by a ruler, which costs nothing."""
    evaluation = Evaluation(protocol("maskmotion-v1"), Setup(extractors()))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("hear", "hear_backtracked"):
            patch.setattr(
                f"maskmotion.evaluation.measures.{name}", lambda sound, frames: torch.arange(1, frames / 30, 0.7)
            )
        evaluation.update(
            [motion(150, n + 50) for n in numbers], references([recording(LENGTHS[n], n) for n in numbers])
        )
    return evaluation


def test_two_processes_agree_with_one(tmp_path):
    expected = share([0, 1, 2]).result()
    assert expected.values["bc"] > 0
    (tmp_path / "script.py").write_text(SHARE)
    launch(tmp_path / "script.py")
    for rank in range(2):
        for values, clips, frames in json.loads((tmp_path / f"rank{rank}.json").read_text()):
            assert values == pytest.approx(dict(expected.values), rel=1e-6, abs=1e-9)
            assert (clips, frames) == (expected.clips, expected.frames)


# What is absent


def test_what_cannot_be_measured_is_absent_with_the_reason(generated, clips):
    for name, one in PROTOCOLS.items():
        evaluation = Evaluation(one, Setup(extractors()))
        evaluation.update(generated, references(clips))
        row = evaluation.result()
        assert set(row.absent) | set(row.values) >= set(one.shown), name
        assert not set(row.absent) & set(row.values), name
        assert "--body-model" in row.absent["mse"] and "--body-model" in row.absent["lvd"], name
    silent = [Clip(clip.name, clip.motion) for clip in clips]
    evaluation = Evaluation(protocol("maskmotion-v1"), Setup())
    evaluation.update(generated, references(silent))
    row = evaluation.result()
    assert row.absent["bc"] == row.absent["ba"] == "no recording has sound"
    assert row.absent["srgr"] == "no recording has semantic scores"
    assert "planted" in row.absent["gesture_accuracy"]
    assert "extractor" in row.absent["fgd"]
    assert {"jerk", "l1_diversity", "foot_skating"} <= set(row.values)


def test_the_releases_joints_are_never_taken_from_another_skeleton(generated, clips):
    for name in ("emage-v1", "evaltools-v1"):
        evaluation = Evaluation(protocol(name), Setup(extractors(), mean_speed=torch.ones(55)))
        evaluation.update(generated, references(clips))
        assert set(evaluation.result().values) == {"fgd", "fgd_samples"}


def test_short_clips_and_few_samples_are_told_not_raised(setup):
    evaluation = Evaluation(protocol("maskmotion-v1"), setup)
    evaluation.update([motion(20, 1)], [Reference(recording(20, 1))])
    row = evaluation.result()
    assert "at least 2 feature vectors" in row.absent["fgd"]
    assert math.isnan(row.values["l1_diversity"])
    released = Evaluation(protocol("evaltools-v1"), setup)
    released.update([motion(100, 1)], [Reference(recording(100, 1))])
    assert math.isnan(released.result().values["bc"])


def test_a_protocol_or_a_pairing_that_is_wrong_says_so(generated, clips):
    with pytest.raises(ValueError, match="no protocol 'emage'; there are maskmotion-v1, emage-v1, evaltools-v1"):
        protocol("emage")
    with pytest.raises(ValueError, match="got 3 for 1"):
        Evaluation(protocol("emage-v1"), Setup()).update(generated, references(clips)[:1])


def test_features_of_different_extractors_are_not_added_up(generated, clips):
    torch.manual_seed(1)
    first, second = (
        Evaluation(protocol("emage-v1"), Setup({"body": one})) for one in (extractors()["body"], FeatureExtractor())
    )
    for one in (first, second):
        one.update(generated, references(clips))
    with pytest.raises(ValueError, match="same extractor"):
        first.merge(second)


def test_two_halves_have_frechet_distances_only(generated, clips):
    row = between(protocol("maskmotion-v1"), Setup(extractors()), generated[:1], generated[1:])
    assert {"fgd", "fmd", "fed"} <= set(row.values)
    assert row.absent["jerk"] == "no distance between two sets of clips"


# The skeleton extractor


def test_the_skeleton_extractor_is_saved_loaded_and_cut_to_32_frames(tmp_path):
    from maskmotion.evaluation.features import load_extractor

    torch.manual_seed(0)
    extractor = SkeletonExtractor().eval()
    extractor.about = {"name": "random"}
    found = load_extractor(extractor.save(tmp_path / "extractor"))
    assert isinstance(found, SkeletonExtractor)
    assert (found.fingerprint, found.about) == (extractor.fingerprint, {"name": "random"})
    features = found.features([motion(70, 0), motion(31, 1), motion(64, 0)])
    assert features.shape == (8, 240)
    assert torch.equal(features[:4], features[4:])
    assert features.abs().max() < 1
    assert found.decode(features[None]).shape == (1, 128, 330)
    with pytest.raises(ValueError, match="multiple of 16"):
        found(torch.zeros(1, 20, 330))
    with pytest.raises(ValueError, match="kind 'skeleton'"):
        FeatureExtractor.load(tmp_path / "extractor")
    config = Path(tmp_path / "extractor" / "extractor.json")
    config.write_text(config.read_text().replace('"skeleton"', '"skelton"'))
    with pytest.raises(ValueError, match="known: autoencoder, skeleton"):
        load_extractor(tmp_path / "extractor")


def test_a_bone_sees_its_neighbours_only():
    torch.manual_seed(0)
    layer = SkeletonExtractor().layers[0]
    quiet = torch.randn(1, 330, 32)
    moved = quiet.clone()
    moved[:, 6 * 20 : 6 * 21] += 1  # the left wrist
    changed = (layer.conv(quiet) - layer.conv(moved)).abs().amax((0, 2)) > 0
    bones = changed.unflatten(0, (55, 6)).any(1).nonzero()[:, 0].tolist()
    assert 20 in bones and 18 in bones and 25 in bones
    assert not {21, 19, 0, 15, 54} & set(bones)
