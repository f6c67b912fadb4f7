from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid

from maskmotion.data.audio import load_audio, sample_of
from maskmotion.data.beat2 import (
    frame_semantics,
    load_clip,
    load_split,
    read_semantics,
    read_split,
    recordings,
    speaker_index,
)
from maskmotion.data.textgrid import frame_words, read_textgrid, read_transcript, read_words, word_id
from maskmotion.motion.files import write_motion
from maskmotion.types import Word

NAME = "2_scott_0_1_1"


def add(root: Path, name: str, split: str = "train", frames: int | None = 90, samples: int = 48000, rate: int = 16000):
    """A recording of a small BEAT2 tree; frames None: speech only."""
    csv = root / "train_test_split.csv"
    if not csv.exists():
        for folder in ("wave16k", "smplxflame_30", "textgrid", "sem", "labels"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        csv.write_text("id,type\n")
    csv.write_text(csv.read_text() + f"{name},{split}\n")
    rng = np.random.default_rng(samples)
    soundfile.write(root / "wave16k" / f"{name}.wav", rng.normal(0, 0.1, samples), rate)
    if frames is not None:
        time = np.arange(frames)[:, None]
        write_motion(
            root / "smplxflame_30" / f"{name}.npz",
            poses=0.01 * time * np.ones((1, 165)),
            trans=time * np.ones((1, 3)),
            expressions=time * np.ones((1, 100)),
            betas=np.ones(300),
        )


def write_words(path: Path, words: list[tuple[float, float, str]], seconds: float = 3.0) -> Path:
    grid = Textgrid(0, seconds)
    grid.addTier(IntervalTier("words", words, 0, seconds))
    grid.addTier(IntervalTier("phones", words, 0, seconds))
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True)
    return path


@pytest.fixture
def beat2() -> Path:
    root = os.environ.get("MASKMOTION_BEAT2")
    if not root:
        pytest.skip("MASKMOTION_BEAT2 names no BEAT2 tree, so there is no real take to read")
    return Path(root)


def test_the_real_take_is_cropped_to_its_motion_and_carries_words_and_semantics(beat2):
    clip = load_clip(beat2, NAME)
    assert (clip.name, clip.speaker, clip.frames, clip.fps) == (NAME, 1, 1906, 30)
    assert len(clip.audio) == round(1906 * 16000 / 30)
    assert torch.equal(clip.audio, load_audio(beat2 / "wave16k" / f"{NAME}.wav").samples[: len(clip.audio)])
    assert clip.words[0] == Word("the", 1.42, 1.52)
    assert clip.labels["semantic"][100] == pytest.approx(0.7)  # 3.33 s, iconic_h from 3.119 s to 4.785 s
    assert clip.labels["semantic"][90] == pytest.approx(0.1)
    scores = sorted(clip.labels["semantic"].unique().tolist())
    assert scores == pytest.approx([0.1, 0.2, 0.5, 0.6, 0.7, 0.9, 1.0])
    assert clip.labels["words"][44] == word_id("the")  # 1.467 s
    assert clip.labels["words"][0] == 0
    assert clip.betas[:300].count_nonzero() > 10


def test_a_split_holds_its_recordings_in_order(tmp_path):
    for name, split in (("1_a_0_1_1", "train"), ("2_b_0_1_1", "test"), ("3_c_0_1_1", "train")):
        add(tmp_path, name, split)
    assert [row.id for row in recordings(tmp_path)] == ["1_a_0_1_1", "2_b_0_1_1", "3_c_0_1_1"]
    done: list[tuple[int, int]] = []
    clips = load_split(tmp_path, "train", progress=lambda at, total: done.append((at, total)))
    assert [clip.name for clip in clips] == ["1_a_0_1_1", "3_c_0_1_1"]
    assert [clip.speaker for clip in clips] == [0, 2]
    assert done == [(1, 2), (2, 2)]
    assert clips[0].words is None
    assert clips[0].labels == {}


@given(motion=st.integers(2, 200), samples=st.integers(600, 120_000), rate=st.sampled_from([16000, 22050, 44100]))
@settings(max_examples=20, deadline=None)
def test_motion_and_audio_of_different_length_are_cropped_to_the_shorter(motion, samples, rate, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    frames = min(motion, samples * 30 // rate)
    add(root, NAME, frames=motion, samples=samples, rate=rate)
    if not frames:
        with pytest.raises(ValueError, match="shorter than one motion frame"):
            load_clip(root, NAME)
        return
    clip = load_clip(root, NAME)
    assert clip.frames == frames
    assert len(clip.audio) == round(frames * 16000 / 30)
    assert torch.equal(clip.motion[:, 330], torch.arange(frames).float())


@given(frame=st.integers(0, 10**8))
def test_frames_start_at_the_nearest_sample_at_any_length(frame):
    assert abs(sample_of(frame) * 3 - frame * 1600) <= 1  # 16000 / 30 = 1600 / 3, in whole numbers


def test_label_files_become_labels_of_their_keys(tmp_path):
    add(tmp_path, NAME, frames=90)
    values = {
        "gesture": np.arange(95, dtype=np.int16) - 1,
        "beat": np.arange(95) % 7 == 0,
        "weight": np.linspace(0, 1, 95),
    }
    np.savez(tmp_path / "labels" / f"{NAME}.npz", **values)
    labels = load_clip(tmp_path, NAME).labels
    assert {key: label.dtype for key, label in labels.items()} == {
        "gesture": torch.int64,
        "beat": torch.bool,
        "weight": torch.float32,
    }
    for key, value in values.items():
        assert np.allclose(labels[key].numpy(), value[:90]), key


@pytest.mark.parametrize("bad", [np.zeros(89), np.zeros((90, 2)), np.array([{}], dtype=object), np.full(90, "a")])
def test_label_files_that_do_not_fit_are_refused(bad, tmp_path):
    add(tmp_path, NAME, frames=90)
    np.savez(tmp_path / "labels" / f"{NAME}.npz", gesture=bad)
    with pytest.raises(ValueError, match=rf"labels/{NAME}\.npz"):
        load_clip(tmp_path, NAME)


@pytest.mark.parametrize(
    ("name", "index"), [("2_scott_0_1_1", 1), ("30_k_0_1_1", 7), ("28_a_1", 13), ("27_b_1", 18), ("25_x", 24)]
)
def test_speakers_are_numbered_as_in_beat2(name, index):
    assert speaker_index(name) == index


@pytest.mark.parametrize("name", ["scott", "0_scott", "", "_1", "²_a"])
def test_an_id_without_a_speaker_is_refused(name):
    with pytest.raises(ValueError, match="starts with the speaker's number"):
        speaker_index(name)


def test_speech_only_recordings_are_listed_but_not_loaded_as_motion(tmp_path):
    add(tmp_path, "1_a_0_1_1", frames=None)
    add(tmp_path, "2_b_0_1_1")
    assert len(recordings(tmp_path, "train")) == 2
    assert [clip.name for clip in load_split(tmp_path, "train")] == ["2_b_0_1_1"]
    add(tmp_path, "3_c_0_1_1", "val", frames=None)
    with pytest.raises(ValueError, match="no recording of the split 'val' has motion"):
        load_split(tmp_path, "val")


def test_a_split_csv_naming_absent_files_lists_them_and_the_way_out(tmp_path):
    add(tmp_path, "1_a_0_1_1")
    csv = tmp_path / "train_test_split.csv"
    csv.write_text(csv.read_text() + "".join(f"{i}_gone_0_1_1,train\n" for i in range(2, 9)))
    with pytest.raises(FileNotFoundError) as caught:
        load_split(tmp_path, "train")
    message = str(caught.value)
    assert "names 7 recording(s) whose audio is absent: wave16k/2_gone_0_1_1.wav" in message
    assert message.count("_gone_") == 5
    assert f"maskmotion data check {tmp_path}" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,kind\na,b\n", "must name the columns id,type"),
        ("", "must name the columns id,type"),
        ("id,type\n1_a,trian\n", "line 2: need an id and one of train, val"),
        ("id,type\n../../etc/passwd,train\n", "line 2"),
        ("id,type\n1_a\n", "line 2"),
    ],
)
def test_a_broken_split_csv_is_refused(text, message, tmp_path):
    (tmp_path / "train_test_split.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path)


def test_a_folder_that_is_no_tree_and_an_unknown_split_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="a BEAT2 tree is a folder such as"):
        load_split(tmp_path / "nowhere", "train")
    add(tmp_path, NAME)
    with pytest.raises(ValueError, match="no split named 'dev'; BEAT2 has train, val, test, additional"):
        load_split(tmp_path, "dev")


def test_semantic_rows_may_be_set_apart_by_tabs_or_spaces_and_score_their_frames(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "01_beat_align\t0\t1.0\t1.0\t0.1\n10_metaphoric_h 1.0 1.5 0.5 1.0 Monday to Friday\n\n05_iconic_l 1.5 1.6\n"
    )
    rows = read_semantics(path)
    assert [row.score for row in rows] == [0.1, 1.0, 0.5]
    scores = frame_semantics(rows, 60)
    assert scores[:30].tolist() == pytest.approx([0.1] * 30)
    assert scores[30:45].tolist() == [1.0] * 15
    assert scores[45:48].tolist() == [0.5] * 3
    assert not scores[48:].any()


@given(first=st.integers(0, 500), length=st.integers(1, 60))
def test_times_in_milliseconds_give_the_frames_they_came_from(first, length):
    start, end = round(first / 30, 3), round((first + length) / 30, 3)
    words = frame_words((Word("there", start, end),), 600)
    assert torch.equal(words.nonzero()[:, 0], torch.arange(first, first + length))


@pytest.mark.parametrize(
    "line", ["iconic 1 2 1 0.5x", "05_iconic_l", "05_iconic_l 2 1 -1 0.5", "07_iconic_l nan 2 1 .5", "what 1 2"]
)
def test_a_semantic_row_that_cannot_be_read_is_named(line, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"01_beat_align 0 1 1 0.1\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: need `label start end duration score`"):
        read_semantics(path)


def test_a_textgrid_gives_its_tiers_without_silence(beat2):
    tiers = read_textgrid(beat2 / "textgrid" / f"{NAME}.TextGrid")
    assert {name: len(marks) for name, marks in tiers.items()} == {"words": 199, "phones": 663}


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid", "textgrid_json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_form_of_textgrid_is_read(form, encoding, tmp_path):
    path = write_words(tmp_path / "a.TextGrid", [(0.5, 1.0, "grüß"), (1.0, 1.4, 'sa"id')])
    grid = textgrid.openTextgrid(str(path), False)
    grid.save(str(path), form, includeBlankSpaces=True)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert read_words(path)[0] == Word("grüß", 0.5, 1.0)
    assert len(read_words(path)) == 2


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
def test_a_textgrid_cut_anywhere_is_refused(form, tmp_path):
    path = write_words(tmp_path / "a.TextGrid", [(0.1 * i, 0.1 * i + 0.08, f"word{i}") for i in range(20)])
    textgrid.openTextgrid(str(path), False).save(str(path), form, includeBlankSpaces=True)
    text = path.read_text().rstrip()
    cut = tmp_path / "cut.TextGrid"
    for end in range(0, len(text), len(text) // 90):
        cut.write_text(text[:end])
        with pytest.raises(ValueError, match=r"cut\.TextGrid.*copy it again"):
            read_textgrid(cut)


def test_the_real_textgrid_cut_in_half_is_refused(beat2, tmp_path):
    whole = (beat2 / "textgrid" / f"{NAME}.TextGrid").read_bytes()
    for share in (0.1, 0.5, 0.505, 0.51, 0.9):
        (tmp_path / "half.TextGrid").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"half\.TextGrid"):
            read_words(tmp_path / "half.TextGrid")


def test_a_cut_textgrid_stops_the_clip_with_its_name(tmp_path):
    add(tmp_path, NAME)
    path = write_words(tmp_path / "textgrid" / f"{NAME}.TextGrid", [(0.5, 1.0, "hello"), (2.0, 2.5, "there")])
    shutil.copy(path, tmp_path / "whole.TextGrid")
    assert [word.text for word in load_clip(tmp_path, NAME).words] == ["hello", "there"]
    path.write_text(path.read_text()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=NAME):
        load_clip(tmp_path, NAME)


def test_plain_words_are_spread_in_proportion_to_their_letters(tmp_path):
    (tmp_path / "a.txt").write_text("Ab, cdef --\nghij!\n")
    words = read_transcript(tmp_path / "a.txt", 5.0)
    assert [word.text for word in words] == ["Ab", "cdef", "ghij"]
    assert [word.start for word in words] == pytest.approx([0, 1, 3])
    assert [word.end for word in words] == pytest.approx([1, 3, 5])
    (tmp_path / "none.txt").write_text(" \n")
    assert read_transcript(tmp_path / "none.txt", 5.0) == ()


def test_plain_words_follow_the_speech_when_it_is_given(tmp_path):
    (tmp_path / "a.txt").write_text("aaaa bbbb")
    sound = np.random.default_rng(0).normal(0, 0.2, 16000 * 4)
    sound[16000 : 3 * 16000] = 0  # a second of speech, two of silence, a second of speech
    soundfile.write(tmp_path / "a.wav", sound, 16000)
    first, second = read_transcript(tmp_path / "a.txt", 4.0, load_audio(tmp_path / "a.wav"))
    assert first.end <= 3.01
    assert first.start == pytest.approx(0, abs=0.02)
    assert second.end == pytest.approx(4, abs=0.02)
    middle = frame_words((first, second), 120)
    assert (middle[:29] == word_id("aaaa")).all()
    assert (middle[91:119] == word_id("bbbb")).all()


def test_other_transcripts_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a transcript is a \.TextGrid or a plain \.txt"):
        read_transcript(tmp_path / "a.srt", 1.0)
    with pytest.raises(FileNotFoundError, match="no such transcript"):
        read_transcript(tmp_path / "a.txt", 1.0)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_transcript(tmp_path / "b.txt", 1.0)


def test_word_numbers_are_stable_and_ignore_case():
    assert word_id("Hello") == word_id("hello") == 907060870  # CRC-32 of b"hello"
    assert word_id("hello") != word_id("help")
