from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_beat2 import NAME, add, write_words

from maskmotion.data.beat2 import load_split
from maskmotion.data.check import check


@pytest.fixture
def tree(tmp_path) -> Path:
    add(tmp_path, NAME)
    write_words(tmp_path / "textgrid" / f"{NAME}.TextGrid", [(0.5, 1.0, "hello"), (1.0, 1.4, "there")])
    (tmp_path / "sem" / f"{NAME}.txt").write_text("01_beat_align 0 3 3 0.1\n")
    add(tmp_path, "3_c_0_1_1", "test")
    return tmp_path


def test_a_sound_tree_has_no_problems(tree):
    report = check(tree)
    assert report.problems == []
    assert report.notes == []
    assert report.splits == {"train": 1, "val": 0, "test": 1, "additional": 0}
    row = report.rows[0]
    assert (row.id, row.split, row.fps, row.words, row.semantic_rows) == (NAME, "train", 30, 2, 1)
    assert row.motion_seconds == row.audio_seconds == 3.0
    assert row.difference == 0
    text = report.render()
    assert NAME in text
    assert "No problems." in text
    assert "1 train, 0 val, 1 test, 0 additional" in text


def damage_audio(tree: Path) -> None:
    (tree / "wave16k" / f"{NAME}.wav").unlink()


def damage_silent(tree: Path) -> None:
    soundfile.write(tree / "wave16k" / f"{NAME}.wav", np.zeros(0), 16000)


def damage_nan(tree: Path) -> None:
    path = tree / "smplxflame_30" / f"{NAME}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["trans"][7] = np.nan
    np.savez(path, **arrays)


def damage_npz(tree: Path) -> None:
    path = tree / "smplxflame_30" / f"{NAME}.npz"
    path.write_bytes(path.read_bytes()[:1000])


def damage_textgrid(tree: Path) -> None:
    path = tree / "textgrid" / f"{NAME}.TextGrid"
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def damage_semantics(tree: Path) -> None:
    (tree / "sem" / f"{NAME}.txt").write_text("this is no label\n")


def damage_labels(tree: Path) -> None:
    np.savez(tree / "labels" / f"{NAME}.npz", gesture=np.zeros(12))


def damage_tiny(tree: Path) -> None:
    soundfile.write(tree / "wave16k" / f"{NAME}.wav", np.zeros(500), 16000)


DAMAGES = {
    damage_audio: "no such audio file",
    damage_silent: "0 samples",
    damage_nan: "trans has NaN or infinite values, first at frame 7",
    damage_npz: "not an npz file",
    damage_textgrid: "TextGrid",
    damage_semantics: "line 1",
    damage_labels: "label 'gesture'",
    damage_tiny: "shorter than one motion frame",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_each_bad_file_is_one_problem_of_its_recording_and_stops_loading_too(damage, tree):
    damage(tree)
    report = check(tree)
    (problem,) = report.problems
    assert problem.startswith(f"{NAME}: ")
    assert DAMAGES[damage] in problem
    assert [bool(row.problems) for row in report.rows] == [True, False]
    assert "Problems (1)" in report.render()
    with pytest.raises((ValueError, FileNotFoundError)):
        load_split(tree, "train")


def test_all_problems_are_collected_at_once(tree):
    damage_silent(tree)
    damage_nan(tree)
    damage_textgrid(tree)
    damage_semantics(tree)
    assert len(check(tree).problems) == 4


def test_lengths_rates_and_gaps_are_noted(tmp_path):
    add(tmp_path, NAME, frames=30)  # 1 s of motion, 3 s of audio
    add(tmp_path, "3_c_0_1_1", frames=None)
    (tmp_path / "sem" / f"{NAME}.txt").write_text("05_iconic_l 0.2 0.5 0.3 0.5\n05_iconic_l 0.4 0.6 0.2 0.5\n")
    path = tmp_path / "smplxflame_30" / f"{NAME}.npz"
    with np.load(path) as file:
        np.savez(path, **{**file, "mocap_frame_rate": np.int32(29)})
    soundfile.write(tmp_path / "wave16k" / "9_z_0_1_1.wav", np.zeros(100), 16000)
    report = check(tmp_path)
    assert report.problems == []
    text = "\n".join(report.notes)
    assert "the audio is 1.97 s longer and is cropped" in text
    assert "29 frames per second, resampled to 30" in text
    assert "the semantic rows cover 0.40 s of 1.03 s" in text
    assert "3_c_0_1_1: speech only" in text
    assert "1 recording(s) in wave16k/ are in no split: 9_z_0_1_1" in text


def test_duplicates_are_a_problem(tree):
    add(tree, NAME, "test")
    assert any("stands 2 times in train_test_split.csv (train, test)" in problem for problem in check(tree).problems)


@pytest.mark.parametrize("text", [None, "", "a,b\n", "id,type\nx,trian\n", "id,type\n"])
def test_a_tree_without_a_readable_split_csv_is_a_report_too(text, tmp_path):
    if text is not None:
        (tmp_path / "train_test_split.csv").write_text(text)
    report = check(tmp_path)
    assert len(report.problems) == 1
    assert "train_test_split.csv" in report.render()


def test_names_with_brackets_are_printed_as_they_are(tree):
    add(tree, "4_[red]_1")
    assert "4_[red]_1" in check(tree).render()


def test_progress_is_told(tree):
    seen: list[tuple[int, int]] = []
    check(tree, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_the_real_tree_is_usable():
    root = os.environ.get("MASKMOTION_BEAT2")
    if not root:
        pytest.skip("MASKMOTION_BEAT2 names no BEAT2 tree, so there is no real take to read")
    report = check(root)
    assert report.problems == []
    (row,) = report.rows
    assert row.difference == pytest.approx(0.564, abs=1e-3)
    assert (row.words, row.semantic_rows) == (199, 21)
