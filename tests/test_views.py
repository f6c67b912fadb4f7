"""Views: files that are whole, show what they say, and errors that help."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from maskmotion.motion.layout import SMPLX, TRANSLATION
from maskmotion.motion.skeleton import joint
from maskmotion.storage import atomic
from maskmotion.types import SAMPLE_RATE, Clip, Word
from maskmotion.views import plot_losses, plot_masks, render_video
from maskmotion.views.canvas import envelope, runs
from maskmotion.views.figure import joint_positions
from maskmotion.views.masks import _meant
from maskmotion.views.video import HEIGHT, PERSON, SPEECH, Scene

pytest.importorskip("matplotlib")
ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

FPS = 30


def make_clip(frames=20, name="wave", **fields):
    """A person who raises the left arm."""
    motion = SMPLX.rest.repeat(frames, 1)
    angle = torch.linspace(0, 1.2, frames)
    turn = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], dim=1)
    shoulder = joint("left_shoulder")
    motion[:, 6 * shoulder : 6 * shoulder + 6] = turn
    motion[:, TRANSLATION] = torch.tensor([0.0, 1.3, 0.0])
    time = torch.arange(frames * SAMPLE_RATE // FPS) / SAMPLE_RATE
    given = {"audio": 0.4 * torch.sin(2 * torch.pi * 300 * time), "fps": FPS}
    return Clip(name=name, motion=motion, **{**given, **fields})


def probe(path):
    return subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True, check=False).stderr


def decode(path, width, height):
    """Every picture of a video, [frames, height, width, 3]."""
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def decode_sound(path):
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE), "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16) / 32768


def picture(path):
    from matplotlib.image import imread

    return imread(path)


# ------------------------------------------------------------------------------------------------ video


def test_a_video_has_every_frame_and_the_clips_sound(tmp_path):
    path = render_video(tmp_path / "deep" / "clip.mp4", make_clip(45))
    pictures = decode(path, PERSON + SPEECH, HEIGHT)
    assert len(pictures) == 45
    about = probe(path)
    assert re.search(r"Video: h264.*yuv420p.*768x432.*30 fps", about)
    assert "Audio: aac" in about
    sound = decode_sound(path)
    assert abs(len(sound) / SAMPLE_RATE - 1.5) < 0.1
    assert 0.2 < np.sqrt((sound[2000:20000] ** 2).mean()) < 0.35  # RMS of a sine of 0.4 is 0.28
    assert list(path.parent.iterdir()) == [path]  # nothing temporary stays


def test_the_figure_moves_and_the_cursor_runs(tmp_path):
    pictures = decode(render_video(tmp_path / "clip.mp4", make_clip(20)), PERSON + SPEECH, HEIGHT).astype(int)
    change = np.abs(pictures[-1] - pictures[0]).sum(axis=2)
    assert (change[:, :PERSON] > 100).sum() > 300
    red = (pictures[..., 0] - pictures[..., 2] > 50)[:, 160:260, PERSON + 5 :]  # the cursor's vermillion
    columns = [float(np.nonzero(moment)[1].mean()) for moment in red[1:]]
    assert (np.diff(columns) > 0).all()


def test_a_clip_without_sound_makes_a_silent_video(tmp_path):
    path = render_video(tmp_path / "clip.mp4", make_clip(6, audio=None))
    assert "Audio:" not in probe(path)
    assert len(decode(path, PERSON + SPEECH, HEIGHT)) == 6


def test_a_second_clip_stands_beside_the_first_as_long_as_both_last(tmp_path):
    path = render_video(tmp_path / "clip.mp4", make_clip(12), other=make_clip(8, name="ground truth"))
    pictures = decode(path, 2 * PERSON + SPEECH, HEIGHT)
    assert len(pictures) == 8
    dark = (pictures[0].max(axis=2) < 90).sum(axis=0)
    assert dark[:PERSON].sum() > 500
    assert dark[PERSON : 2 * PERSON].sum() > 500


def test_the_whole_body_stays_inside_the_picture():
    clip = make_clip(30)
    clip.motion[:, TRANSLATION.start] = torch.linspace(-2, 2, 30)  # walks four metres
    for image in Scene([clip], 30).images():
        person = image[:, :PERSON, :3].min(axis=2) < 120
        assert person[5:].sum() > 300
        assert not person[:, :3].any()
        assert not person[:, -3:].any()


def test_the_left_hand_is_at_the_viewers_right():
    positions = joint_positions(make_clip(2))
    assert positions[0, joint("left_wrist"), 0] > positions[0, joint("right_wrist"), 0]
    (first, *_) = Scene([make_clip(2)], 2).images()
    pixels = first[:, :PERSON, :3].astype(int)
    blue, red = pixels[..., 2] - pixels[..., 0] > 100, pixels[..., 0] - pixels[..., 2] > 100
    assert np.nonzero(blue)[1].mean() > np.nonzero(red)[1].mean() + 50


def test_words_and_meaning_change_the_picture():
    plain = make_clip(4)
    labels = {"semantic": torch.tensor([0.1, 0.1, 0.8, 0.8])}
    rich = make_clip(4, words=(Word("hello", 0.0, 0.05),), labels=labels)
    images = [[image.copy() for image in Scene([clip], 4).images()] for clip in (plain, rich)]
    assert not np.array_equal(images[0][3], images[1][3])  # the shaded frames
    assert (images[1][0] != images[1][3])[80:140, PERSON:].any()  # the word is gone when it has been said


def test_bad_clips_are_refused_and_leave_nothing_behind(tmp_path):
    broken = make_clip(6)
    broken.motion[3, 5] = torch.nan
    with pytest.raises(ValueError, match="wave: the motion is not finite from frame 3"):
        render_video(tmp_path / "clip.mp4", broken)
    with pytest.raises(ValueError, match=r"ends in \.mp4"):
        render_video(tmp_path / "clip.avi", make_clip(6))
    with pytest.raises(ValueError, match="without frames"):
        render_video(tmp_path / "clip.mp4", make_clip(0))
    with pytest.raises(ValueError, match="30 and 25 frames a second"):
        render_video(tmp_path / "clip.mp4", make_clip(6), other=make_clip(6, fps=25))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["matplotlib", "imageio_ffmpeg"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{missing.replace('_', '-')}.*pip install maskmotion\[viz\]"):
        render_video(tmp_path / "clip.mp4", make_clip(3))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ masks


def mask_rows(frames):
    scores = torch.linspace(0, 1, frames)
    return {"random": (scores.flip(0), scores < 0.4), "speech_queried with meaning": (scores, scores > 0.6)}


def test_mask_picture_has_a_row_for_every_strategy(tmp_path):
    clip = make_clip(60)
    semantic = torch.full((60,), 0.1)
    semantic[40:50] = 0.9
    words = (Word("big", 1.3, 1.6), Word("early", 0.1, 0.4))
    given = {"audio": clip.audio, "fps": FPS, "semantic": semantic, "words": words, "title": "planted"}
    gesture = torch.where(semantic > 0.15, 3, -1)
    one = plot_masks(tmp_path / "one.png", rows=dict([*mask_rows(60).items()][:1]), gesture=gesture, **given)
    two = plot_masks(tmp_path / "two.png", rows=mask_rows(60), gesture=gesture, **given)
    assert picture(one).shape[1] == 1200  # 12 inches at 100 dpi
    assert picture(two).shape[0] > picture(one).shape[0]
    assert picture(two).std() > 0.05


def test_mask_picture_shows_which_frames_are_hidden(tmp_path):
    clip = make_clip(60)
    mask = torch.zeros(60, dtype=torch.bool)
    mask[15:30] = True
    path = plot_masks(tmp_path / "m.png", audio=clip.audio, fps=FPS, rows={"span": (torch.zeros(60), mask)})
    pixels = picture(path)[217:277, 175:1065, :3]  # the strategy's axes: margins are 1.75 and 1.35 inches
    blue = ((pixels[..., 2] - pixels[..., 0]) > 0.25).any(axis=0)
    assert runs(blue) == [(pytest.approx(890 * 0.25, abs=3), pytest.approx(890 * 0.5, abs=3))]


def test_a_semantic_stretch_is_named_by_the_word_that_fills_it():
    words = (Word("before", 0.0, 1.1), Word("big", 1.1, 1.6), Word("after", 1.6, 3.0))
    assert _meant(words, [(1.0, 1.7), (4.0, 5.0)]) == [words[1]]
    assert _meant((), [(1.0, 1.7)]) == []


def test_mask_picture_takes_scores_of_any_kind(tmp_path):
    clip = make_clip(30)
    hidden = torch.zeros(30, dtype=torch.bool)
    rows = {
        "constant": (torch.ones(30), hidden),
        "padding": (torch.where(torch.arange(30) < 9, 1.0, -torch.inf), ~hidden),
        "nothing": (torch.full((30,), torch.nan), hidden),
    }
    path = plot_masks(tmp_path / "m.png", audio=clip.audio[:0], fps=FPS, semantic=torch.full((30,), 0.1), rows=rows)
    assert picture(path).shape[1] == 1200


def test_mask_picture_refuses_rows_that_do_not_fit(tmp_path):
    clip = make_clip(30)
    short = (torch.zeros(30), torch.zeros(29, dtype=torch.bool))
    for rows, kind in (({}, "one length"), ({"random": short}, "one length")):
        with pytest.raises(ValueError, match=kind):
            plot_masks(tmp_path / "m.png", audio=clip.audio, fps=FPS, rows=rows)
    with pytest.raises(ValueError, match="semantic has 7 frames, the rows have 30"):
        plot_masks(tmp_path / "m.png", audio=clip.audio, fps=FPS, rows=mask_rows(30), semantic=torch.zeros(7))
    with pytest.raises(ValueError, match=r"ends in \.png"):
        plot_masks(tmp_path / "m.jpg", audio=clip.audio, fps=FPS, rows=mask_rows(30))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ curves


def test_every_named_loss_of_every_stage_has_its_panel(tmp_path):
    few = [{"stage": "generator", "step": step, "losses": {"code": 3.0 / step}} for step in range(1, 50)]
    many = [
        *few,
        *({"stage": "tokenizer", "step": step, "losses": {f"loss{i}": 1.0 for i in range(5)}} for step in (1, 2)),
        {"stage": "generator", "step": 25, "validation": {"code": 0.4, "lift": float("nan")}},
    ]
    small, large = plot_losses(tmp_path / "few.png", few), plot_losses(tmp_path / "many.png", many, title="demo")
    assert picture(large).shape[0] > picture(small).shape[0]
    assert picture(large).shape[1] > picture(small).shape[1]


@pytest.mark.parametrize("log", [[], [{"stage": "a", "step": 1, "losses": {"code": float("nan")}}]])
def test_an_empty_log_says_what_a_log_is(tmp_path, log):
    with pytest.raises(ValueError, match="nothing to draw: a log has rows like"):
        plot_losses(tmp_path / "c.png", log)


# ------------------------------------------------------------------------------------------------ parts


def test_runs_are_the_maximal_stretches():
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, dtype=bool)) == []


@pytest.mark.parametrize("samples", [0, 1, 7, 1000])
def test_the_envelope_holds_every_extreme(samples):
    audio = np.sin(np.arange(samples)).astype(np.float32)
    low, high = envelope(audio, 10)
    assert len(low) <= 10
    assert low.min() == audio.min(initial=np.inf) if samples else low.max() == 0
    assert high.max() == audio.max(initial=-np.inf) if samples else high.max() == 0


def test_a_failed_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "a.png"
    target.write_text("old")

    def fail():
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
