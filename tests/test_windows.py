from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from maskmotion.data.beat2 import load_split
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.windows import WindowDataset, split_time, window_starts
from maskmotion.interfaces import Extractor
from maskmotion.motion.layout import SMPLX
from maskmotion.types import Clip, Word


class Loudness(Extractor):
    """RMS and time of each frame: enough to see that features keep their place."""

    key = "test/loudness:rms,t"
    dim = 2

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, audio, frames, fps):
        self.calls += 1
        rms = audio[: frames * 533].view(frames, 533).square().mean(dim=1).sqrt()
        return torch.stack([rms, torch.arange(frames).float()], dim=1)


def make_clip(frames: int, index: int = 0, labels: bool = True, words: bool = True) -> Clip:
    """Motion and labels that say clip and frame: column 330 holds index * 10000 + frame."""
    time = torch.arange(frames)
    motion = SMPLX.rest.repeat(frames, 1)
    motion[:, 330] = index * 10000 + time
    samples = torch.arange(round(frames * 16000 / 30)) + 1.0
    values = {"semantic": time / 1000, "gesture": time % 5, "beat": time % 3 == 0} if labels else {}
    spoken = tuple(Word(f"w{second}", second + 0.2, second + 0.6) for second in range(frames // 30)) if words else None
    return Clip(f"clip{index}", motion, samples, speaker=index, words=spoken, labels=values)


@given(frames=st.integers(1, 500), window=st.integers(1, 80), stride=st.integers(1, 90))
def test_windows_cover_every_frame_that_the_stride_does_not_jump_over_and_always_the_last(frames, window, stride):
    starts = window_starts(frames, window, stride)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert max(0, frames - window) == starts[-1]
    if stride <= window:
        assert {t for first in starts for t in range(first, first + window)} >= set(range(frames))


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    window=st.integers(1, 70),
    stride=st.integers(1, 70),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_batch_holds_the_frames_its_source_names_and_neutral_padding(lengths, window, stride, data):
    clips = [make_clip(frames, i, labels=i % 2 == 0, words=i % 2 == 0) for i, frames in enumerate(lengths)]
    windows = WindowDataset(clips, window, stride, audio=True)
    picked = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=6))
    batch = windows.batch(picked)
    assert batch.audio.shape == (len(picked), round(window * 16000 / 30))
    for row, (name, first) in enumerate(batch.source):
        clip = clips[int(name[4:])]
        count = min(window, clip.frames - first)
        assert batch.valid[row].tolist() == [True] * count + [False] * (window - count)
        assert torch.equal(batch.motion[row, :count], clip.motion[first : first + count])
        assert torch.equal(batch.motion[row, count:], SMPLX.rest.expand(window - count, -1))
        start = round(first * 16000 / 30)
        sound = clip.audio[start : start + batch.audio.shape[1]]
        assert torch.equal(batch.audio[row, : len(sound)], sound)
        assert not batch.audio[row, len(sound) :].any()
        assert batch.speaker[row] == clip.speaker
        for key, neutral in (("semantic", 0), ("gesture", -1), ("beat", False)):
            here = clip.labels[key][first : first + count] if key in clip.labels else torch.tensor([neutral] * count)
            assert batch.labels[key][row, :count].tolist() == here.tolist()
            assert batch.labels[key][row, count:].tolist() == [neutral] * (window - count)


@given(short=st.integers(1, 63), other=st.integers(64, 200))
@settings(max_examples=20, deadline=None)
def test_padding_never_changes_a_valid_value(short, other):
    alone = WindowDataset([make_clip(short)], audio=True, extractors=[Loudness()]).batch([0])
    among = WindowDataset([make_clip(other, 1), make_clip(short)], audio=True, extractors=[Loudness()])
    row = among.batch([len(among) - 1])
    exact = WindowDataset([make_clip(short)], window=short, audio=True, extractors=[Loudness()]).batch([0])
    for batch in (alone, row):
        assert torch.equal(batch.motion[:, :short], exact.motion)
        assert torch.equal(batch.audio[:, : exact.audio.shape[1]], exact.audio)
        assert torch.equal(batch.features[Loudness.key][:, :short], exact.features[Loudness.key])
        assert not batch.features[Loudness.key][:, short:].any()
        assert torch.equal(batch.valid.sum(), torch.tensor(short))


def test_a_label_no_clip_has_is_an_absent_key_and_dtypes_stay():
    plain = WindowDataset([make_clip(80, labels=False, words=False)]).batch([0])
    assert plain.labels == {}
    assert plain.text is None
    assert plain.audio is None
    assert plain.features == {}
    labelled = WindowDataset([make_clip(80, 0, labels=False), make_clip(80, 1)]).batch([0])
    assert {key: label.dtype for key, label in labelled.labels.items()} == {
        "semantic": torch.float32,
        "gesture": torch.int64,
        "beat": torch.bool,
    }


def test_text_is_the_words_of_the_window():
    windows = WindowDataset([make_clip(150, 0), make_clip(90, 1, words=False)], window=60, stride=30)
    texts = windows.batch(range(len(windows))).text
    assert texts[:4] == ("w0 w1", "w1 w2", "w2 w3", "w3 w4")
    assert texts[4:] == ("", "")
    assert windows.batch([2, 0]).text == ("w2 w3", "w0 w1")


def test_batches_come_in_order_and_lose_none():
    windows = WindowDataset([make_clip(200, 0), make_clip(30, 1)])
    assert [first for _, first in windows.batch(range(len(windows))).source] == [0, 20, 40, 60, 80, 100, 120, 136, 0]
    seen = [source for batch in windows.batches(4) for source in batch.source]
    assert seen == list(windows.batch(range(len(windows))).source)
    assert [len(batch.valid) for batch in windows.batches(4)] == [4, 4, 1]


def test_a_torch_loader_gives_batches():
    windows = WindowDataset([make_clip(300)])
    sampler = BatchSampler(RandomSampler(windows, generator=torch.Generator().manual_seed(1)), 4, drop_last=False)
    batches = list(DataLoader(windows, batch_sampler=sampler, collate_fn=lambda batch: batch))
    assert sorted(source for batch in batches for source in batch.source) == sorted(
        source for batch in windows.batches(5) for source in batch.source
    )
    assert windows[0].source == (("clip0", 0),)
    assert windows[-1].source == (("clip0", 236),)
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_what_cannot_make_windows_is_refused():
    clip = make_clip(80)
    silent = Clip("silent", clip.motion)
    with pytest.raises(ValueError, match="no clips"):
        WindowDataset([])
    with pytest.raises(ValueError, match="silent: no audio"):
        WindowDataset([clip, silent], audio=True)
    with pytest.raises(ValueError, match="silent: no audio"):
        WindowDataset([clip, silent], extractors=[Loudness()])
    with pytest.raises(ValueError, match="25 fps, but clip0 has 30"):
        WindowDataset([clip, Clip("slow", clip.motion, fps=25)])
    with pytest.raises(ValueError, match="stride=0"):
        WindowDataset([clip], stride=0)
    with pytest.raises(ValueError, match=r"label 'beat' is \[79\]"):
        WindowDataset([Clip("odd", clip.motion, labels={"beat": torch.zeros(79)})])


@given(frames=st.integers(2, 400), share=st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_a_clip_cut_in_time_keeps_everything_in_place(frames, share):
    clip = make_clip(frames)
    cut = round(share * frames / 30 * 30)
    if not 0 < cut < frames:
        with pytest.raises(ValueError, match="both parts need a frame"):
            split_time(clip, cut / 30)
        return
    before, after = split_time(clip, cut / 30)
    assert torch.equal(torch.cat([before.motion, after.motion]), clip.motion)
    assert torch.equal(torch.cat([before.audio, after.audio]), clip.audio)
    assert len(before.audio) == round(cut * 16000 / 30)
    for key, label in clip.labels.items():
        assert torch.equal(torch.cat([before.labels[key], after.labels[key]]), label)
    for part, start, end in ((before, 0.0, cut / 30), (after, cut / 30, frames / 30)):
        whole = {word.text: word for word in clip.words}
        assert {word.text for word in part.words} == {
            word.text for word in clip.words if word.end > start and word.start < end
        }
        for word in part.words:
            assert word.start + start == pytest.approx(max(whole[word.text].start, start))
            assert word.end + start == pytest.approx(min(whole[word.text].end, end))
    assert before.name != after.name


def test_features_are_computed_once_and_kept(tmp_path):
    clip, cache = make_clip(60), FeatureCache(tmp_path)
    first, second = Loudness(), Loudness()
    kept = cache.get(first, clip.audio, 60, 30, clip.name)
    assert torch.equal(cache.get(second, clip.audio, 60, 30, clip.name), kept)
    assert (first.calls, second.calls) == (1, 0)
    cache.get(second, clip.audio * 2, 60, 30, clip.name)  # another waveform
    cache.get(second, clip.audio, 59, 30, clip.name)  # another length
    other = Loudness()
    other.key = "test/loudness:other"
    cache.get(other, clip.audio, 60, 30, clip.name)
    assert (second.calls, other.calls) == (2, 1)
    assert all(path.is_dir() or path.stat().st_size > 0 for path in tmp_path.rglob("*"))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bits"])
def test_a_damaged_cache_file_is_computed_again(damage, tmp_path):
    clip, cache, extractor = make_clip(60), FeatureCache(tmp_path), Loudness()
    expected = cache.get(extractor, clip.audio, 60, 30, clip.name)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = path.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 64]) + content[-8:]
    path.write_bytes({"cut": content[:-9], "empty": b"", "text": b"no tensors", "bits": flipped}[damage])
    assert torch.equal(cache.get(extractor, clip.audio, 60, 30, clip.name), expected)
    assert extractor.calls == 2
    cache.get(extractor, clip.audio, 60, 30, clip.name)
    assert extractor.calls == 2


def test_without_a_folder_nothing_is_written_and_an_unwritable_one_warns(tmp_path):
    clip, extractor = make_clip(60), Loudness()
    FeatureCache(None).get(extractor, clip.audio, 60, 30, clip.name)
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="features are not cached.*MASKMOTION_CACHE"):
        FeatureCache(tmp_path / "file").get(extractor, clip.audio, 60, 30, clip.name)
    assert extractor.calls == 2


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("MASKMOTION_CACHE", "/somewhere/else")
    assert default_folder() == Path("/somewhere/else")
    monkeypatch.delenv("MASKMOTION_CACHE")
    assert default_folder() == Path.home() / ".cache" / "maskmotion"


def test_an_extractor_that_breaks_its_promise_is_named(tmp_path):
    clip, extractor = make_clip(60), Loudness()
    extractor.dim = 3
    with pytest.raises(
        ValueError, match=r"clip0: extractor 'test/loudness:rms,t' gave \[60, 2\] instead of .*\[60, 3\]"
    ):
        FeatureCache(tmp_path).get(extractor, clip.audio, 60, 30, clip.name)


def test_the_real_take_becomes_windows():
    root = os.environ.get("MASKMOTION_BEAT2")
    if not root:
        pytest.skip("MASKMOTION_BEAT2 names no BEAT2 tree, so there is no real take to read")
    clips = load_split(root, "train")
    windows = WindowDataset(clips, audio=True)
    assert len(windows) == len(range(0, 1906 - 64 + 1, 20)) + 1
    batch = windows.batch([3, 40])
    assert batch.valid.all()
    assert torch.equal(batch.motion[1], clips[0].motion[800:864])
    assert torch.equal(batch.labels["words"][1], clips[0].labels["words"][800:864])
    assert batch.text[0].split() == [w.text for w in clips[0].words if w.end > 2 and w.start < 2 + 64 / 30]
    before, after = split_time(clips[0], 48)
    assert (before.frames, after.frames) == (1440, 466)
    assert np.isclose(len(after.audio) / 16000, 466 / 30, atol=1e-3)
