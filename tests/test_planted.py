from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import time
import wave
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskmotion.data.beat2 import load_clip, load_split, recordings
from maskmotion.data.planted import GESTURE_JOINTS, Planted, planted_root
from maskmotion.data.planted.corpus import labels as planted_labels
from maskmotion.data.planted.lexicon import PHONES, build_lexicon
from maskmotion.data.planted.script import write_scripts
from maskmotion.motion.layout import rotation_columns
from maskmotion.types import Clip

FOLDERS = {"smplxflame_30": "npz", "wave16k": "wav", "textgrid": "TextGrid", "sem": "txt", "labels": "npz"}
LIMBS = list(rotation_columns(GESTURE_JOINTS))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_root(tmp_path_factory.getbasetemp() / "planted")  # made once for all test files


@pytest.fixture(scope="session")
def splits(root: Path) -> dict[str, list[Clip]]:
    return {split: load_split(root, split) for split in ("train", "val", "test")}


@pytest.fixture(scope="session")
def small(root: Path) -> Path:
    return planted_root(root.parent, "planted-v1-small")


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def semantic(clip: Clip) -> np.ndarray:
    return clip.labels["semantic"].numpy() > 0.15


def pooled(clips: list[Clip], measure) -> np.ndarray:
    return np.concatenate([measure(clip) for clip in clips])


def test_it_is_a_beat2_tree_that_the_readers_read(root, splits):
    assert {split: len(clips) for split, clips in splits.items()} == {"train": 20, "val": 2, "test": 10}
    for clip in (*splits["train"], *splits["val"], *splits["test"]):
        assert clip.motion.shape == (1800, 437)
        assert clip.audio is not None
        assert clip.audio.shape == (960000,)
        assert set(clip.labels) >= {"semantic", "words", "gesture", "word_class", "beat", "distractor"}
        assert all(len(label) == 1800 for label in clip.labels.values())
        assert torch.isfinite(clip.motion).all()
        assert clip.words is not None
        assert len(clip.words) > 80
    ids = [row.id for row in recordings(root)]
    assert len(set(ids)) == 32
    assert all((root / folder / f"{name}.{ending}").is_file() for name in ids for folder, ending in FOLDERS.items())
    assert all({clip.speaker for clip in splits[split]} == {0, 1, 2, 3} for split in ("train", "test"))


def test_files_are_what_beat2s_are(root):
    name = recordings(root, "test")[0].id
    with wave.open(str(root / "wave16k" / f"{name}.wav")) as audio:
        assert (audio.getframerate(), audio.getsampwidth(), audio.getnchannels()) == (16000, 2, 1)
    with np.load(root / "smplxflame_30" / f"{name}.npz") as motion:
        assert motion["poses"].dtype == np.float32
        assert motion["expressions"].dtype == np.float64
    rows = [row.split("\t") for row in (root / "sem" / f"{name}.txt").read_text().splitlines()]
    assert rows[0][1] == "0.000"
    assert all(a[2] == b[1] for a, b in itertools.pairwise(rows))
    assert all(float(row[2]) > float(row[1]) for row in rows)
    from praatio import textgrid

    grid = textgrid.openTextgrid(str(root / "textgrid" / f"{name}.TextGrid"), includeEmptyIntervals=False)
    assert grid.tierNames == ("words", "phones")
    description = json.loads((root / "planted.json").read_text())
    assert {entry.label for entry in grid.getTier("phones").entries} <= set(description["phones"])
    assert {entry.label for entry in grid.getTier("words").entries} <= set(description["lexicon"])
    assert len(description["lexicon"]) == 60
    assert len(description["classes"]) == 12
    assert description["parameters"] == asdict(Planted())


def test_semantic_words_share_their_phones_with_other_words():
    lexicon = build_lexicon(1)
    phones = [{phone for syllable in word.syllables for phone in syllable} for word in lexicon]
    assert len({word.text for word in lexicon}) == 60
    assert len(PHONES) == 24
    assert all(2 <= len(word.syllables) <= 3 for word in lexicon[:12])
    assert set().union(*phones[:12]) <= set().union(*phones[12:])


def test_every_class_is_shown_often_enough_and_meaning_has_its_share(splits):
    gestures = np.zeros(12, dtype=int)
    for clip in splits["train"]:
        shown = clip.labels["gesture"].numpy()
        first = shown[(shown >= 0) & (np.r_[-1, shown[:-1]] != shown)]
        gestures += np.bincount(first, minlength=12)
    assert gestures.min() >= 20
    for split in ("train", "test"):
        assert 0.16 <= pooled(splits[split], semantic).mean() <= 0.21
        jolts = pooled(splits[split], lambda clip: clip.labels["distractor"].numpy())
        assert 0.03 <= jolts.mean() <= 0.08
        assert not (jolts & pooled(splits[split], semantic)).any()


def test_labels_agree_with_each_other(splits):
    for clip in splits["test"]:
        shown = clip.labels["gesture"].numpy()
        assert np.mean((shown >= 0) == semantic(clip)) > 0.995  # sem/*.txt rounds to milliseconds
        said = clip.labels["word_class"].numpy()
        both = (shown >= 0) & (said >= 0)
        assert both.any()
        assert (shown[both] == said[both]).mean() > 0.99
        assert not (clip.labels["beat"].numpy() & (shown >= 0)).any()


def test_the_same_parameters_give_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    again = planted_root(tmp_path, Planted.small())
    assert digest(again) == digest(small)
    other = planted_root(tmp_path, replace(Planted.small(), seed=2))
    assert other.name != again.name
    assert digest(other) != digest(again)


def test_two_processes_at_once_share_one_corpus(tmp_path):
    program = "import sys; from maskmotion.data.planted import planted_root; print(planted_root(sys.argv[1], 'planted-v1-small'))"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    finished = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], finished
    assert [path.name for path in tmp_path.iterdir()] == ["planted-v1-small"]
    assert {(out.strip(), err) for out, err in finished} == {(str(tmp_path / "planted-v1-small"), "")}


def test_a_minute_is_made_a_hundred_times_faster_than_it_lasts(small, tmp_path):
    start = time.process_time()  # after `small`: imports and first calls are not what is timed
    planted_root(tmp_path, Planted(train=2, val=1, test=1))
    assert 4 * 60 / (time.process_time() - start) >= 100  # about 400 on one core


def test_a_broken_folder_or_an_unknown_name_is_explained(tmp_path):
    with pytest.raises(ValueError, match="planted-v1-small"):
        planted_root(tmp_path, "planted-v9")
    (tmp_path / "planted-v1-small").mkdir()
    (tmp_path / "planted-v1-small" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"):
        planted_root(tmp_path, "planted-v1-small")
    assert [path.name for path in tmp_path.iterdir()] == ["planted-v1-small"]


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"seconds": 5}, {"gesture_chance": 1.2}, {"audio_noise": -1.0}, {"seed": -1}]
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Planted(**wrong)


def test_each_knob_changes_its_own_layer_only(small, tmp_path):
    name = recordings(small, "test")[0].id
    base = load_clip(small, name)
    noisy = load_clip(planted_root(tmp_path, replace(Planted.small(), audio_noise=1.0)), name)
    assert torch.equal(noisy.motion, base.motion)
    assert noisy.words == base.words
    assert (noisy.audio - base.audio).std() > base.audio.std() / 2
    calm = load_clip(planted_root(tmp_path, replace(Planted.small(), distraction=0.0)), name)
    assert torch.equal(calm.audio, base.audio)
    assert not calm.labels["distractor"].any()
    changed = (calm.motion != base.motion).any(dim=1)
    assert changed.any()
    assert not (changed & ~base.labels["distractor"]).any()
    large = load_clip(planted_root(tmp_path, replace(Planted.small(), gesture_amplitude=2.0)), name)
    changed = (large.motion[:, LIMBS] != base.motion[:, LIMBS]).any(dim=1)
    assert torch.equal(changed, base.labels["gesture"] >= 0)


def test_a_script_never_overlaps_gestures_whatever_the_variety():
    parameters = replace(Planted.small(), variety=4.0, gesture_chance=1.0)
    for scripts in write_scripts(parameters, build_lexicon(1)).values():
        for script in scripts:
            ends = [gesture.end for gesture in script.gestures]
            assert all(gesture.start > end for gesture, end in zip(script.gestures[1:], ends))
            assert planted_labels(script, parameters.frames)["gesture"].max() < 12
