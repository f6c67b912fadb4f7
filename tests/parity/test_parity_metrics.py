"""EMAGE's metrics of 2024 and 2025, its feature extractor, and EchoMask's metric values: every array and key a case."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import arrays, files, present, read_json
from recipe import agree, echomask_weights, emage_weights, rows

from maskmotion.data.audio import load_audio
from maskmotion.evaluation.accuracy import FaceError, SemanticRecall
from maskmotion.evaluation.beat import UPPER_BODY, audio_beats
from maskmotion.evaluation.bench import mean_speeds
from maskmotion.evaluation.diversity import mean_absolute_deviation
from maskmotion.evaluation.fgd import RELEASED_EPS, fgd, frechet_distance
from maskmotion.evaluation.released_beat import (
    SCRIPTS_THRESHOLD,
    TOOLS_THRESHOLD,
    ReleasedBeatConstancy,
    onsets_of_scripts,
    onsets_of_tools,
    released_beats,
    released_scores,
)
from maskmotion.evaluation.skeleton_extractor import (
    CHANNELS,
    GROWTH,
    SkeletonExtractor,
    neighbours,
    pooled_edges,
    pooling,
    skeleton_edges,
)
from maskmotion.motion.files import read_motion
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.motion.layout import IDENTITY_6D
from maskmotion.motion.rotations import axis_angle_to_6d
from maskmotion.motion.skeleton import PARENTS
from maskmotion.training.official_extractor import build_extractor, extractor_tables

FOLDER = "emage/metrics"
TAKE = "2_scott_0_1_1"
INPUTS = {
    "bc_synthetic.npz": {"audio": (320000,), "positions": (600, 165)},
    "faces_srgr.npz": {
        **{"pred1": (50, 300), "gt1": (50, 300), "pred2": (31, 300), "gt2": (31, 300)},
        **{"srgr_noise": (600, 165), "srgr_semantic": (600,)},
    },
    "fgd_extractor.npz": {"x": (2, 70, 330)},
    "fgd_random_clips.npz": {"lengths": (30,), "pred": (2771, 55, 3), "target": (2771, 55, 3)},
    "frechet_inputs.npz": {"A": (900, 24), "B": (700, 24)},
}
"""File -> array that other cases measure -> its shape."""
OUTPUTS = {
    "bc_real.npz": (
        *("positions", "audio_onsets", "motion_beats_joint_frame", "per_joint_score", "motion_beats_no_mmae", "mmae"),
        "offsets",
    ),
    "bc_synthetic.npz": ("audio_onsets", "motion_beats_joint_frame", "per_joint_score", "true_click_times"),
    "fgd_extractor.npz": ("feature", "layer0", "layer1", "layer2", "layer3", "rec_pose"),
    "fgd_real_features.npz": ("feat_real", "feat_noisy"),
}
"""File -> arrays that have to come out."""
RESULTS = (
    *("versions", "frechet_fullrank", "frechet_same", "frechet_fullrank_f32", "frechet_rank_deficient"),
    *("frechet_fullrank_paper_era", "fgd_random_30clips", "fgd_random_n_features", "bc_real", "bc_real_sigma0.5"),
    *(
        "bc_real_no_mmae",
        "bc_synthetic",
        "onsets_real_full_count",
        "l1div_real_one",
        "l1div_real_plus_synth",
        "lvd",
        "mse",
    ),
    *(
        "lvd_first_only",
        "mse_first_only",
        "lvd_paper_era_first_only",
        "mse_paper_era_first_only",
        "srgr_none",
        "srgr_sem",
    ),
    *("srgr_avg", "paper_era_bc_clean_positions_real", "paper_era_l1div_real", "paper_era_bc_after_inplace_l1div_real"),
    *("paper_era_bc_clean_positions_synthetic", "paper_era_l1div_synthetic"),
    *("paper_era_bc_after_inplace_l1div_synthetic", "fgd_real_vs_noisy", "fgd_real_n_features"),
)
TOPOLOGY = ("edge_num", "channel_base", "topologies", "pooling_list", "neighbours", "parents")


def array_cases() -> list[tuple[str, str]]:
    """(file, array): what is known and whatever else is found."""
    known = [(file, name) for table in (INPUTS, OUTPUTS) for file, names in table.items() for name in names]
    found = [
        (path.rpartition("/")[2], name)
        for path in files()
        if path.startswith(f"{FOLDER}/") and path.endswith(".npz")
        for name in arrays(path)
    ]
    return list(dict.fromkeys([*known, *found]))


def key_cases(file: str, known: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*known, *read_json(f"{FOLDER}/{file}")]))


def given(file: str, name: str) -> torch.Tensor:
    return present(arrays(f"{FOLDER}/{file}"), name, f"{FOLDER}/{file}")


def joints(file: str) -> torch.Tensor:
    return given(file, "positions").unflatten(-1, (55, 3))


def extractor_weights(fill) -> dict[str, torch.Tensor]:
    """Weights by official name from a recipe; tables of bones as the network is constructed."""
    tables = extractor_tables(SkeletonExtractor())
    file = "echomask_statedict_keys.json"
    shapes = present(read_json(file), "fgd_aeskconv", file)
    filled = fill({name: tuple(shape) for name, shape in shapes.items()})
    return {name: tables.get(name, filled[name]) for name in shapes}


@functools.cache
def emage_extractor() -> SkeletonExtractor:
    return build_extractor(extractor_weights(lambda shapes: emage_weights(shapes, "fgd/AESKConv_240_100")))


@functools.cache
def take(beat2: Path) -> torch.Tensor:
    """Axis-angles [T, 55, 3] of the take that fixtures are from."""
    return torch.from_numpy(read_motion(beat2 / "smplxflame_30" / f"{TAKE}.npz").poses).unflatten(-1, (55, 3)).double()


@functools.cache
def sound(beat2: Path) -> torch.Tensor:
    return load_audio(beat2 / "wave16k" / f"{TAKE}.wav").samples


def noisy(poses: torch.Tensor) -> torch.Tensor:
    return poses + 0.1 * torch.from_numpy(np.random.RandomState(3).standard_normal(tuple(poses.shape)))


def columns(poses: torch.Tensor) -> torch.Tensor:
    return axis_angle_to_6d(poses.float()).flatten(-2)


def test_parity_every_metrics_file_is_known(golden):
    known = {*INPUTS, *OUTPUTS, "results.json", "aeskconv_topology.json"}
    assert {path.rpartition("/")[2] for path in files() if path.startswith(f"{FOLDER}/")} <= known


@pytest.mark.parametrize(("file", "array"), array_cases())
@torch.no_grad()
def test_parity_of_a_metrics_array(file, array, request):
    value = given(file, array)
    if array in INPUTS.get(file, {}):
        assert tuple(value.shape) == INPUTS[file][array]
        assert torch.isfinite(value.double()).all()
        return
    assert array in OUTPUTS.get(file, ()), f"{file} has an array that is not known"
    if file == "fgd_extractor.npz":
        x = given(file, "x")
        stages = emage_extractor().stages(x[:, : len(x[0]) - len(x[0]) % 32])
        ours = {f"layer{number}": stage for number, stage in enumerate(stages)}
        ours |= {"feature": stages[-1].mT, "rec_pose": emage_extractor().decode(stages[-1].mT)}
        assert torch.allclose(ours[array], value, rtol=0, atol=1e-6)
    elif file == "fgd_real_features.npz":
        poses = take(request.getfixturevalue("beat2"))
        ours = emage_extractor().features([columns(poses if array == "feat_real" else noisy(poses))])
        assert torch.allclose(ours, value[0], rtol=0, atol=1e-5)
    else:
        check_beat_array(file, array, value, request)


def check_beat_array(file: str, array: str, value: torch.Tensor, request) -> None:
    positions, speeds = joints(file).double(), given("bc_real.npz", "mmae")
    if array == "positions":
        rotations = columns(take(request.getfixturevalue("beat2"))).unflatten(-1, (55, 6))
        rotations[:, [0, 22, 23, 24]] = torch.tensor(IDENTITY_6D)
        placed = forward_kinematics(rotations, torch.zeros(len(rotations), 3), given(file, "offsets").float())
        assert torch.allclose(placed - placed[:, :1], joints(file) - joints(file)[:, :1], atol=1e-5)
    elif array == "offsets":
        bones = (positions[:, 1:] - positions[:, list(PARENTS[1:])]).norm(dim=-1)
        assert torch.allclose(bones, value[1:].norm(dim=-1).expand_as(bones), atol=1e-5)
    elif array == "mmae":
        assert torch.allclose(mean_speeds(None, request.getfixturevalue("beat2")), value.double(), rtol=1e-6)
    elif array == "audio_onsets":
        heard = given(file, "audio") if file == "bc_synthetic.npz" else sound(request.getfixturevalue("beat2"))
        assert torch.allclose(onsets_of_tools(heard, len(positions)), value, rtol=0, atol=1e-9)
    elif array == "true_click_times":
        heard = audio_beats(given(file, "audio"))
        assert (value[:, None] - heard).abs().min(1).values.max() < 0.08
    elif array.startswith("motion_beats"):
        kept = released_beats(positions, None if array.endswith("no_mmae") else speeds, TOOLS_THRESHOLD)
        assert torch.equal(kept.T.nonzero(), value)
    else:
        kept = released_beats(positions, speeds, TOOLS_THRESHOLD)
        assert torch.allclose(released_scores(kept, given(file, "audio_onsets")), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("key", key_cases("results.json", RESULTS))
@torch.no_grad()
def test_parity_of_a_metric_value(key, request):
    expected = present(read_json(f"{FOLDER}/results.json"), key, f"{FOLDER}/results.json")
    assert key in RESULTS, "results.json has a key that is not known"
    kind, tolerance = key.replace("paper_era_", "").split("_")[0], 1e-9
    if key == "versions":
        assert {"numpy", "scipy", "librosa", "torch"} <= set(expected)
        return
    ours = {
        "frechet": frechet_value,
        "fgd": fgd_value,
        "bc": beat_value,
        "onsets": onset_count,
        "l1div": deviation_value,
    }
    ours |= {"lvd": face_value, "mse": face_value, "srgr": recall_value}
    if kind in ("l1div", "lvd", "mse", "fgd") or key.endswith("f32"):
        tolerance = 1e-6  # the release adds up in single precision
    assert ours[kind](key, request) == pytest.approx(expected, rel=tolerance, abs=1e-9)


def frechet_value(key: str, _) -> float:
    a, b = given("frechet_inputs.npz", "A"), given("frechet_inputs.npz", "B")
    sets = {"same": (a, a), "rank_deficient": (a[:15], b[:13]), "fullrank_f32": (a.float(), b.float())}
    eps = 0.0 if key.endswith("paper_era") else RELEASED_EPS
    return frechet_distance(*sets.get(key.removeprefix("frechet_"), (a, b)), eps=eps)


def fgd_value(key: str, request) -> float:
    if key.startswith("fgd_random"):
        lengths = given("fgd_random_clips.npz", "lengths").tolist()
        sets = [columns(given("fgd_random_clips.npz", name)).split(lengths) for name in ("pred", "target")]
    else:
        poses = take(request.getfixturevalue("beat2"))
        sets = [[columns(poses)], [columns(noisy(poses))]]
    score = fgd(emage_extractor(), *sets, eps=RELEASED_EPS)
    return score.samples[0] if "n_features" in key else float(score)


def beat_value(key: str, request) -> float:
    file = f"bc_{'synthetic' if key.endswith('synthetic') else 'real'}.npz"
    speeds = None if key.endswith("no_mmae") else given("bc_real.npz", "mmae")
    old = key.startswith("paper_era")
    onsets = given(file, "audio_onsets")
    if old and file == "bc_real.npz":  # the scripts hear another part of the sound; here without their change of rate
        onsets = onsets_of_scripts(sound(request.getfixturevalue("beat2")), len(joints(file)), rate=None)
    score = ReleasedBeatConstancy(
        speeds,
        SCRIPTS_THRESHOLD if old else TOOLS_THRESHOLD,
        sigma=0.5 if key.endswith("sigma0.5") else 0.3,
        rectified="inplace" in key,
    )
    score.update(joints(file), onsets)
    return score.result()


def onset_count(_, request) -> float:
    return float(len(audio_beats(sound(request.getfixturevalue("beat2")))))


def deviation_value(key: str, _) -> float:
    names = ["bc_synthetic.npz"] if key.endswith("synthetic") else ["bc_real.npz"]
    return mean_absolute_deviation([joints(f) for f in [*names, *(["bc_synthetic.npz"] if "plus" in key else [])]])


def face_value(key: str, _) -> float:
    error = FaceError("scripts" if "paper_era" in key else "tools")
    for number in (1,) if key.endswith("first_only") else (1, 2):
        clip = [given("faces_srgr.npz", f"{name}{number}") for name in ("pred", "gt")]
        error.update(zip(*(part.split(20) for part in clip)))
    return error.result()[0 if key.startswith("mse") else 1]


def recall_value(key: str, _) -> float:
    recorded = joints("bc_synthetic.npz").double()
    generated = recorded + given("faces_srgr.npz", "srgr_noise").unflatten(-1, (55, 3))
    measure = SemanticRecall("tools")
    if key in ("srgr_none", "srgr_avg"):
        measure.update(generated, recorded)
    if key in ("srgr_sem", "srgr_avg"):
        measure.update(generated, recorded, given("faces_srgr.npz", "srgr_semantic"))
    return measure.result()


@pytest.mark.parametrize("key", key_cases("aeskconv_topology.json", TOPOLOGY))
def test_parity_of_the_extractors_skeleton(key, golden):
    file = f"{FOLDER}/aeskconv_topology.json"
    expected = present(read_json(file), key, file)
    assert key in TOPOLOGY, f"{file} has a key that is not known"
    levels = [skeleton_edges()]
    while len(levels) <= len(GROWTH):
        levels.append(pooled_edges(levels[-1], pooling(levels[-1])))
    ours = {
        "edge_num": [*map(len, levels[:-1]), 0],  # what follows the last layer is not built
        "channel_base": [CHANNELS, *(CHANNELS * int(np.prod(GROWTH[: n + 1])) for n in range(len(GROWTH)))],
        "topologies": [*([list(edge) for edge in level] for level in levels[:-1]), []],
        "pooling_list": [pooling(level) for level in levels[:-1]],
        "neighbours": [neighbours(level) for level in levels[:-1]],
        "parents": list(PARENTS),
    }
    assert ours[key] == expected


FGD_KEY = "fgd_encoder(in seed41 (1,64,330))"
L1_KEY = "l1div(in RandomState(60).standard_normal((300,165)).cumsum(0)*0.01)"
BC_KEY = "bc(avg_vel all 0.2, crop 60..240, onsets [.3,1.1,2,2.9,4.2]s)"
FRECHET_KEY = "frechet(A=RS61 (50,4); B=RS62 (60,4)*1.3+.2)"
BEATS = {"as_in_code(after in-place L1div rectification)": True, "on_raw_joints": False}


def echomask_cases() -> list[tuple[str, ...]]:
    """Path of a key in EchoMask's JSON: what is known and whatever else is found."""
    found = read_json("echomask_golden.json")
    known = [(FGD_KEY,), (L1_KEY,), (FRECHET_KEY,)]
    known += [(BC_KEY, kind, name) for kind in BEATS for name in ("score", "beats_joint20")]
    others = [key for key in found if key.startswith(("fgd_encoder", "l1div", "bc", "frechet")) and key != BC_KEY]
    beats = [(BC_KEY, kind, name) for kind, values in found.get(BC_KEY, {}).items() for name in values]
    return list(dict.fromkeys([*known, *((key,) for key in others), *beats]))


@pytest.mark.parametrize("path", echomask_cases(), ids=lambda path: "-".join(path))
@torch.no_grad()
def test_parity_of_echomasks_metric_values(path, golden):
    expected = read_json("echomask_golden.json")
    for name in path:
        expected = present(expected, name, "echomask_golden.json")
    walk = torch.from_numpy(np.random.RandomState(60).standard_normal((300, 165)).cumsum(0) * 0.01).unflatten(
        -1, (55, 3)
    )
    if path == (FGD_KEY,):
        extractor = build_extractor(extractor_weights(echomask_weights))
        assert agree(extractor(rows(41, 1, 64, 330)), expected) == []
    elif path == (L1_KEY,):
        assert mean_absolute_deviation([walk]) == pytest.approx(expected, rel=1e-9)
    elif path == (FRECHET_KEY,):
        a, b = (np.random.RandomState(seed).standard_normal(size) for seed, size in ((61, (50, 4)), (62, (60, 4))))
        assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b * 1.3 + 0.2)) == pytest.approx(
            expected, rel=1e-9
        )
    else:
        assert path[0] == BC_KEY, f"a key that is not known: {path[0]}"
        assert path[1] in BEATS
        clip = (walk - walk.mean(0)).abs() if BEATS[path[1]] else walk
        kept = released_beats(clip, torch.full((55,), 0.2), SCRIPTS_THRESHOLD)
        if path[2] == "beats_joint20":
            assert kept[:, 20].nonzero()[:, 0].tolist() == expected
        else:
            assert path[2] == "score"
            onsets = torch.tensor([0.3, 1.1, 2.0, 2.9, 4.2], dtype=torch.float64)
            assert float(released_scores(kept[:, list(UPPER_BODY)], onsets).mean()) == pytest.approx(expected, rel=1e-9)
